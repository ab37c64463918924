package firewall

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// google/nftables cannot write sets with a limit for each element, nor
// masquerade with ports and flags; these are written here. When it reads it
// drops expressions that it has no type for (rt, byteorder), and all expressions
// of sets; so they are compared here as bytes.

const setExpression = 17 // NFTA_SET_EXPR, which golang.org/x/sys lacks

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

// unmarshal splits attributes. Of a list that does not fit none is known.
func unmarshal(b []byte) []netlink.Attribute {
	list, err := netlink.UnmarshalAttributes(b)
	if err != nil {
		return nil
	}
	return list
}

// find gives the data of the first attribute of a kind, or nil.
func find(list []netlink.Attribute, kind uint16) []byte {
	for _, a := range list {
		if a.Type&kindMask == kind {
			return a.Data
		}
	}
	return nil
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

// express writes an expression.
func express(e expr.Any) []byte {
	if p, ok := e.(portRange); ok {
		data := encoded(expr.MarshalExprData(unix.NFPROTO_INET, p.Masq))
		flags := marshal(be32(unix.NFTA_MASQ_FLAGS, unix.NF_NAT_RANGE_PROTO_SPECIFIED))
		return marshal(text(unix.NFTA_EXPR_NAME, "masq"), nest(unix.NFTA_EXPR_DATA, append(data, flags...)))
	}
	return encoded(expr.Marshal(unix.NFPROTO_INET, e))
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

// newSet makes a set. Its number matters only within its batch, where the
// kernel insists on one.
func newSet(s *set, number uint32) netlink.Message {
	return message(unix.NFT_MSG_NEWSET, netlink.Create|netlink.Excl, append([]netlink.Attribute{
		text(unix.NFTA_SET_TABLE, tableName), text(unix.NFTA_SET_NAME, s.name), be32(unix.NFTA_SET_ID, number)}, s.attributes()...)...)
}

func (r rule) attribute() netlink.Attribute {
	var list []netlink.Attribute
	for _, e := range r.expressions() {
		list = append(list, nest(unix.NFTA_LIST_ELEM, express(e)))
	}
	return nest(unix.NFTA_RULE_EXPRESSIONS, marshal(list...))
}

func newRule(c *chain, r rule) netlink.Message {
	return message(unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append,
		text(unix.NFTA_RULE_TABLE, tableName), text(unix.NFTA_RULE_CHAIN, c.name), r.attribute())
}

// clearChain deletes all rules of a chain.
func clearChain(name string) netlink.Message {
	return message(unix.NFT_MSG_DELRULE, 0, text(unix.NFTA_RULE_TABLE, tableName), text(unix.NFTA_RULE_CHAIN, name))
}

// differ names a difference between the attributes that were written and those
// that the kernel has; empty: none. An attribute that only one side has must be
// zero: it is a default.
func differ(written, read []byte) string {
	theirs := unmarshal(read)
	next := map[uint16]int{} // by kind: where to go on, for lists
	used := make([]bool, len(theirs))
	for _, ours := range unmarshal(written) {
		kind := ours.Type & kindMask
		i := next[kind]
		for i < len(theirs) && theirs[i].Type&kindMask != kind {
			i++
		}
		if i == len(theirs) {
			if !zero(ours.Data) {
				return fmt.Sprintf("attribute %d is missing", kind)
			}
			continue
		}
		next[kind], used[i] = i+1, true
		if ours.Type&unix.NLA_F_NESTED != 0 {
			if d := differ(ours.Data, theirs[i].Data); d != "" {
				return d
			}
			continue
		}
		// The library does not end every name with a zero, the kernel does.
		if got, want := string(theirs[i].Data), string(ours.Data); got != want && got != want+"\x00" {
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
