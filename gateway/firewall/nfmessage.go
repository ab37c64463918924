package firewall

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// tableName is the one table of this program; its family is inet.
const tableName = "kidoban"

// ownership keeps other programs from the table, also between the death of its
// owner and the next one.
const ownership = nftables.TableFlagOwner | nftables.TableFlagPersist

// Numbers of nf_tables.h that golang.org/x/sys lacks.
const (
	msgDestroyTable   = 26 // NFT_MSG_DESTROYTABLE
	msgDestroyElement = 30 // NFT_MSG_DESTROYSETELEM
	setExpression     = 17 // NFTA_SET_EXPR
	flowtableName     = 2  // NFTA_FLOWTABLE_NAME
	inTable           = 1  // the attribute of every object that names its table
)

// encoded unwraps the result of an encoder. Encoders fail only for attributes of
// more than 65,535 bytes.
func encoded(b []byte, err error) []byte {
	if err != nil {
		panic(fmt.Sprintf("netlink attributes: %v", err))
	}
	return b
}

func marshal(attributes ...netlink.Attribute) []byte {
	return encoded(netlink.MarshalAttributes(attributes))
}

func raw(kind uint16, data []byte) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: data}
}

func text(kind uint16, s string) netlink.Attribute { return raw(kind, append([]byte(s), 0)) }

func be32(kind uint16, v uint32) netlink.Attribute {
	return raw(kind, binary.BigEndian.AppendUint32(nil, v))
}

func nest(kind uint16, data []byte) netlink.Attribute { return raw(kind|unix.NLA_F_NESTED, data) }

const kindMask = ^uint16(unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)

// cut splits the first attribute off a list, without copying it.
func cut(b []byte) (kind uint16, data, rest []byte, ok bool) {
	if len(b) < unix.SizeofNlAttr {
		return 0, nil, nil, false
	}
	length := int(binary.NativeEndian.Uint16(b))
	if length < unix.SizeofNlAttr || length > len(b) {
		return 0, nil, nil, false
	}
	return binary.NativeEndian.Uint16(b[2:]), b[unix.SizeofNlAttr:length], b[min((length+3)&^3, len(b)):], true
}

// find gives the data of the first attribute of a kind, or nil. Each further
// kind is looked up in the one before. A list that is cut short has none.
func find(b []byte, path ...uint16) []byte {
	for _, wanted := range path {
		var found []byte
		for len(b) > 0 {
			kind, data, rest, ok := cut(b)
			if !ok {
				return nil
			}
			if kind&kindMask == wanted && found == nil {
				found = data
			}
			b = rest
		}
		b = found
	}
	return b
}

// number reads an unsigned number in network byte order; without data it is 0.
func number(b []byte) (n uint64) {
	for _, x := range b {
		n = n<<8 | uint64(x)
	}
	return n
}

func stringOf(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

// message is one nf_tables request: nfgenmsg (family, version 0, resource 0)
// and attributes.
func message(kind uint16, flags netlink.HeaderFlags, attributes ...netlink.Attribute) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request | flags},
		Data:   append([]byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}, marshal(attributes...)...),
	}
}

// body gives the attributes of an answer.
func body(m netlink.Message) []byte { return m.Data[min(4, len(m.Data)):] }

// ours is a message about an object in the table.
func ours(kind uint16, flags netlink.HeaderFlags, attributes ...netlink.Attribute) netlink.Message {
	return message(kind, flags, append([]netlink.Attribute{text(inTable, tableName)}, attributes...)...)
}

// newTable replaces the table by one with counters alone.
func newTable(flags nftables.TableFlags) []netlink.Message {
	list := []netlink.Message{ours(msgDestroyTable, 0), ours(unix.NFT_MSG_NEWTABLE, netlink.Create, be32(unix.NFTA_TABLE_FLAGS, uint32(flags)))}
	for _, c := range counterNames {
		list = append(list, ours(unix.NFT_MSG_NEWOBJ, netlink.Create, text(unix.NFTA_OBJ_NAME, c),
			be32(unix.NFTA_OBJ_TYPE, unix.NFT_OBJECT_COUNTER), nest(unix.NFTA_OBJ_DATA, nil)))
	}
	return list
}

func newChain(c *chain) netlink.Message {
	return ours(unix.NFT_MSG_NEWCHAIN, netlink.Create, append([]netlink.Attribute{text(unix.NFTA_CHAIN_NAME, c.name)}, c.attributes()...)...)
}

func (c *chain) attributes() []netlink.Attribute {
	if c.kind == "" {
		return nil
	}
	return []netlink.Attribute{
		nest(unix.NFTA_CHAIN_HOOK, marshal(be32(unix.NFTA_HOOK_HOOKNUM, c.hook), be32(unix.NFTA_HOOK_PRIORITY, uint32(c.priority)))),
		be32(unix.NFTA_CHAIN_POLICY, uint32(c.policy())), text(unix.NFTA_CHAIN_TYPE, c.kind)}
}

func deleteChain(name string) netlink.Message {
	return ours(unix.NFT_MSG_DELCHAIN, 0, text(unix.NFTA_CHAIN_NAME, name))
}

func newRule(chain string, r rule) netlink.Message {
	return ours(unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append, text(unix.NFTA_RULE_CHAIN, chain), r.attribute())
}

func (r rule) attribute() netlink.Attribute {
	var list []netlink.Attribute
	for _, e := range r.expressions() {
		list = append(list, nest(unix.NFTA_LIST_ELEM, express(e)))
	}
	return nest(unix.NFTA_RULE_EXPRESSIONS, marshal(list...))
}

// express writes an expression.
func express(e expr.Any) []byte {
	if p, ok := e.(portRange); ok {
		data := encoded(expr.MarshalExprData(unix.NFPROTO_INET, p.Masq))
		flags := marshal(be32(unix.NFTA_MASQ_FLAGS, unix.NF_NAT_RANGE_PROTO_SPECIFIED))
		return marshal(text(unix.NFTA_EXPR_NAME, "masq"), nest(unix.NFTA_EXPR_DATA, append(data, flags...)))
	}
	return encoded(expr.Marshal(unix.NFPROTO_INET, e))
}

// clearChain deletes all rules of a chain.
func clearChain(name string) netlink.Message {
	return ours(unix.NFT_MSG_DELRULE, 0, text(unix.NFTA_RULE_CHAIN, name))
}

// rewrite gives a chain its rules, and no others.
func rewrite(c *chain) []netlink.Message {
	batch := []netlink.Message{clearChain(c.name)}
	for _, r := range c.rules {
		batch = append(batch, newRule(c.name, r))
	}
	return batch
}

// newSet makes a set. Its number matters only within its batch, where the
// kernel insists on one.
func newSet(s *set, number uint32) netlink.Message {
	return ours(unix.NFT_MSG_NEWSET, netlink.Create|netlink.Excl, append([]netlink.Attribute{
		text(unix.NFTA_SET_NAME, s.name), be32(unix.NFTA_SET_ID, number)}, s.attributes()...)...)
}

func (s *set) attributes() []netlink.Attribute {
	key := s.kind.datatype()
	flags := uint32(unix.NFT_SET_TIMEOUT)
	if s.dynamic {
		flags = unix.NFT_SET_EVAL
	}
	list := []netlink.Attribute{be32(unix.NFTA_SET_FLAGS, flags), be32(unix.NFTA_SET_KEY_TYPE, key.GetNFTMagic()),
		be32(unix.NFTA_SET_KEY_LEN, key.Bytes)}
	if s.dynamic {
		list = append(list, nest(unix.NFTA_SET_DESC, marshal(be32(unix.NFTA_SET_DESC_SIZE, dynamicSize))))
	}
	if s.limited() {
		list = append(list, nest(setExpression, express(s.each.expressions[0])))
	}
	return list
}

func deleteSet(name string) netlink.Message {
	return ours(unix.NFT_MSG_DELSET, 0, text(unix.NFTA_SET_NAME, name))
}

// elements adds, destroys or asks for elements of a set, as appendElement writes
// them.
func elements(kind uint16, flags netlink.HeaderFlags, set string, list []byte) netlink.Message {
	return ours(kind, flags, text(unix.NFTA_SET_ELEM_LIST_SET, set), nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, list))
}

// appendElement writes an element. Without a timeout it has no end.
func appendElement(list []byte, key string, timeout time.Duration) []byte {
	attribute := func(length int, kind uint16) {
		list = binary.NativeEndian.AppendUint16(list, uint16(unix.SizeofNlAttr+length))
		list = binary.NativeEndian.AppendUint16(list, kind)
	}
	length := 2*unix.SizeofNlAttr + len(key)
	if timeout != 0 {
		length += unix.SizeofNlAttr + 8
	}
	attribute(length, unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED)
	attribute(unix.SizeofNlAttr+len(key), unix.NFTA_SET_ELEM_KEY|unix.NLA_F_NESTED)
	attribute(len(key), unix.NFTA_DATA_VALUE)
	list = append(list, key...)
	if timeout != 0 {
		attribute(8, unix.NFTA_SET_ELEM_TIMEOUT)
		list = binary.BigEndian.AppendUint64(list, uint64(timeout.Milliseconds()))
	}
	return list
}

// differ names a difference between the attributes that were written and those
// that the kernel has; empty: none. An attribute that only one side has must be
// zero: it is a default.
func differ(written, read []byte) string {
	theirs, _ := netlink.UnmarshalAttributes(read)
	ours, _ := netlink.UnmarshalAttributes(written)
	next := map[uint16]int{} // by kind: where to go on, for lists
	used := make([]bool, len(theirs))
	for _, a := range ours {
		kind := a.Type & kindMask
		i := next[kind]
		for i < len(theirs) && theirs[i].Type&kindMask != kind {
			i++
		}
		if i == len(theirs) {
			if !zero(a.Data) {
				return fmt.Sprintf("attribute %d is missing", kind)
			}
			continue
		}
		next[kind], used[i] = i+1, true
		if a.Type&unix.NLA_F_NESTED != 0 {
			if d := differ(a.Data, theirs[i].Data); d != "" {
				return d
			}
			continue
		}
		// The library does not end every name with a zero, the kernel does.
		if got, want := string(theirs[i].Data), string(a.Data); got != want && got != want+"\x00" {
			return fmt.Sprintf("attribute %d is %x, not %x", kind, got, want)
		}
	}
	for i, a := range theirs {
		if !used[i] && !zero(a.Data) {
			return fmt.Sprintf("attribute %d, %x, was not written", a.Type&kindMask, a.Data)
		}
	}
	return ""
}

func zero(b []byte) bool { return strings.Trim(string(b), "\x00") == "" }
