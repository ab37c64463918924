package firewall

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// tableName is the one table of this program; its family is inet.
const tableName = "kidoban"

// Numbers of linux/netfilter/nf_tables.h that golang.org/x/sys lacks.
const (
	tableOwner   = 0x2 // NFT_TABLE_F_OWNER
	tablePersist = 0x4 // NFT_TABLE_F_PERSIST: an owned table outlives its owner

	messageDestroyTable   = 26 // NFT_MSG_DESTROYTABLE: no error if there is none
	messageDestroyElement = 30 // NFT_MSG_DESTROYSETELEM

	setExpression = 17 // NFTA_SET_EXPR

	flowtableTable = 1 // NFTA_FLOWTABLE_TABLE
	flowtableName  = 2 // NFTA_FLOWTABLE_NAME
)

// attribute is a netlink attribute, marshalled, without its header.
type attribute struct {
	kind uint16
	data []byte
}

func raw(kind uint16, data []byte) attribute { return attribute{kind, data} }
func text(kind uint16, s string) attribute   { return attribute{kind, append([]byte(s), 0)} }
func be32(kind uint16, v uint32) attribute {
	return attribute{kind, binary.BigEndian.AppendUint32(nil, v)}
}
func be64(kind uint16, v uint64) attribute {
	return attribute{kind, binary.BigEndian.AppendUint64(nil, v)}
}
func nest(kind uint16, inner ...attribute) attribute {
	return attribute{kind | unix.NLA_F_NESTED, marshal(inner...)}
}

func marshal(attributes ...attribute) []byte {
	size := 0
	for _, a := range attributes {
		size += 4 + (len(a.data)+3)&^3
	}
	b := make([]byte, 0, size)
	for _, a := range attributes {
		b = a.append(b)
	}
	return b
}

func (a attribute) append(b []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(a.data)))
	b = binary.NativeEndian.AppendUint16(b, a.kind)
	b = append(b, a.data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

const kindMask = ^uint16(unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)

// unmarshal splits attributes. A header that does not fit ends the list.
func unmarshal(b []byte) []attribute {
	var list []attribute
	for len(b) >= 4 {
		length := int(binary.NativeEndian.Uint16(b))
		if length < 4 || length > len(b) {
			break
		}
		list = append(list, attribute{binary.NativeEndian.Uint16(b[2:]), b[4:length]})
		b = b[min((length+3)&^3, len(b)):]
	}
	return list
}

// find gives the data of the first attribute of a kind, or nil.
func find(list []attribute, kind uint16) []byte {
	for _, a := range list {
		if a.kind&kindMask == kind {
			return a.data
		}
	}
	return nil
}

func stringOf(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// uintOf reads a big-endian number of up to 8 bytes; none is 0.
func uintOf(b []byte) uint64 {
	if len(b) > 8 {
		return 0
	}
	var v uint64
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

// message is one nf_tables request: nfgenmsg (family, version 0, resource 0)
// and attributes.
func message(kind uint16, flags netlink.HeaderFlags, family byte, attributes ...attribute) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request | flags},
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, marshal(attributes...)...),
	}
}

func newTable(flags uint32) netlink.Message {
	return message(unix.NFT_MSG_NEWTABLE, netlink.Create, unix.NFPROTO_INET,
		text(unix.NFTA_TABLE_NAME, tableName), be32(unix.NFTA_TABLE_FLAGS, flags))
}

func destroyTable() netlink.Message {
	return message(messageDestroyTable, 0, unix.NFPROTO_INET, text(unix.NFTA_TABLE_NAME, tableName))
}

func newCounter(name string) netlink.Message {
	return message(unix.NFT_MSG_NEWOBJ, netlink.Create, unix.NFPROTO_INET,
		text(unix.NFTA_OBJ_TABLE, tableName), text(unix.NFTA_OBJ_NAME, name), be32(unix.NFTA_OBJ_TYPE, unix.NFT_OBJECT_COUNTER),
		nest(unix.NFTA_OBJ_DATA, be64(unix.NFTA_COUNTER_BYTES, 0), be64(unix.NFTA_COUNTER_PACKETS, 0)))
}

func (s *set) attributes() []attribute {
	list := []attribute{be32(unix.NFTA_SET_FLAGS, unix.NFT_SET_TIMEOUT), be32(unix.NFTA_SET_KEY_TYPE, s.kind.keyType()),
		be32(unix.NFTA_SET_KEY_LEN, uint32(s.kind.keyLength()))}
	if s.rate != (rate{}) {
		list = append(list, attribute{setExpression | unix.NLA_F_NESTED, express("limit", s.rate.attributes()...)})
	}
	return list
}

// newSet makes a set. Its number matters only within its batch, where the
// kernel insists on one.
func newSet(s *set, number uint32) netlink.Message {
	return message(unix.NFT_MSG_NEWSET, netlink.Create|netlink.Excl, unix.NFPROTO_INET, append([]attribute{
		text(unix.NFTA_SET_TABLE, tableName), text(unix.NFTA_SET_NAME, s.name), be32(unix.NFTA_SET_ID, number)}, s.attributes()...)...)
}

func deleteSet(name string) netlink.Message {
	return message(unix.NFT_MSG_DELSET, 0, unix.NFPROTO_INET, text(unix.NFTA_SET_TABLE, tableName), text(unix.NFTA_SET_NAME, name))
}

func (c *chain) attributes() []attribute {
	if c.kind == "" {
		return nil
	}
	return []attribute{
		nest(unix.NFTA_CHAIN_HOOK, be32(unix.NFTA_HOOK_HOOKNUM, c.hook), be32(unix.NFTA_HOOK_PRIORITY, uint32(c.priority))),
		be32(unix.NFTA_CHAIN_POLICY, c.policyCode()), text(unix.NFTA_CHAIN_TYPE, c.kind)}
}

func newChain(c *chain) netlink.Message {
	return message(unix.NFT_MSG_NEWCHAIN, netlink.Create, unix.NFPROTO_INET, append([]attribute{
		text(unix.NFTA_CHAIN_TABLE, tableName), text(unix.NFTA_CHAIN_NAME, c.name)}, c.attributes()...)...)
}

func (r rule) attributes() attribute {
	var list []attribute
	for _, t := range r {
		for _, e := range t.expressions {
			list = append(list, attribute{unix.NFTA_LIST_ELEM | unix.NLA_F_NESTED, e})
		}
	}
	return nest(unix.NFTA_RULE_EXPRESSIONS, list...)
}

func newRule(c *chain, r rule) netlink.Message {
	return message(unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append, unix.NFPROTO_INET,
		text(unix.NFTA_RULE_TABLE, tableName), text(unix.NFTA_RULE_CHAIN, c.name), r.attributes())
}

// clearChain deletes all rules of a chain.
func clearChain(name string) netlink.Message {
	return message(unix.NFT_MSG_DELRULE, 0, unix.NFPROTO_INET, text(unix.NFTA_RULE_TABLE, tableName), text(unix.NFTA_RULE_CHAIN, name))
}

// clearSet deletes all elements of a set.
func clearSet(name string) netlink.Message {
	return message(unix.NFT_MSG_DELSETELEM, 0, unix.NFPROTO_INET, text(unix.NFTA_SET_ELEM_LIST_TABLE, tableName), text(unix.NFTA_SET_ELEM_LIST_SET, name))
}

// timed is an element and how long it has to live; deletions have no timeout.
type timed struct {
	key     string
	timeout time.Duration
}

func elements(kind uint16, flags netlink.HeaderFlags, set string, list []timed) netlink.Message {
	var inner []byte
	for _, e := range list {
		a := []attribute{nest(unix.NFTA_SET_ELEM_KEY, raw(unix.NFTA_DATA_VALUE, []byte(e.key)))}
		if kind == unix.NFT_MSG_NEWSETELEM {
			a = append(a, be64(unix.NFTA_SET_ELEM_TIMEOUT, uint64(e.timeout.Milliseconds())))
		}
		inner = nest(unix.NFTA_LIST_ELEM, a...).append(inner)
	}
	return message(kind, flags, unix.NFPROTO_INET, text(unix.NFTA_SET_ELEM_LIST_TABLE, tableName), text(unix.NFTA_SET_ELEM_LIST_SET, set),
		raw(unix.NFTA_SET_ELEM_LIST_ELEMENTS|unix.NLA_F_NESTED, inner))
}

// found is an element as the kernel has it.
type found struct {
	key           string
	permanent     bool          // it has no end
	remaining     time.Duration // from some instant between before and after
	before, after time.Duration // boot times of asking and of the answer
}

func parseElements(data []byte) []found {
	var list []found
	for _, e := range unmarshal(find(unmarshal(data), unix.NFTA_SET_ELEM_LIST_ELEMENTS)) {
		inner := unmarshal(e.data)
		key := find(unmarshal(find(inner, unix.NFTA_SET_ELEM_KEY)), unix.NFTA_DATA_VALUE)
		expiration := find(inner, unix.NFTA_SET_ELEM_EXPIRATION)
		list = append(list, found{key: string(key), permanent: expiration == nil, remaining: time.Duration(uintOf(expiration)) * time.Millisecond})
	}
	return list
}

// differ says where what the kernel has is not what was written, or nothing.
// Attributes that the kernel adds must be zero: they are defaults.
func differ(written, read []byte) string {
	theirs := unmarshal(read)
	next := map[uint16]int{} // by kind: where to go on, for lists
	used := make([]bool, len(theirs))
	for _, ours := range unmarshal(written) {
		kind := ours.kind & kindMask
		i := next[kind]
		for i < len(theirs) && theirs[i].kind&kindMask != kind {
			i++
		}
		if i == len(theirs) {
			return fmt.Sprintf("attribute %d is missing", kind)
		}
		next[kind], used[i] = i+1, true
		if ours.kind&unix.NLA_F_NESTED != 0 {
			if d := differ(ours.data, theirs[i].data); d != "" {
				return d
			}
		} else if string(ours.data) != string(theirs[i].data) {
			return fmt.Sprintf("attribute %d is %x, not %x", kind, theirs[i].data, ours.data)
		}
	}
	for i, a := range theirs {
		if used[i] {
			continue
		}
		for _, c := range a.data {
			if c != 0 {
				return fmt.Sprintf("attribute %d, %x, was not written", a.kind&kindMask, a.data)
			}
		}
	}
	return ""
}
