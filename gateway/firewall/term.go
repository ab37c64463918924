package firewall

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// A term is one phrase of a rule: the words of nft's own language, and the
// kernel expressions that mean the same. A test lists the ruleset with nft,
// which knows nothing of these words, and compares.
type term struct {
	text        string
	expressions []expression
}

// expression is one marshalled nf_tables expression (NFTA_LIST_ELEM).
type expression []byte

// rule is a list of terms.
type rule []term

func (r rule) String() string {
	words := make([]string, 0, len(r))
	for _, t := range r {
		if t.text != "" {
			words = append(words, t.text)
		}
	}
	return strings.Join(words, " ")
}

// The kernel names registers twice: four of 16 bytes, sixteen of 4 bytes that
// overlay them.
const (
	register1      = unix.NFT_REG_1
	register2      = unix.NFT_REG_2
	register3      = unix.NFT_REG_3
	quarter1       = unix.NFT_REG32_00 + 1 // the second 4 bytes of register1; 2 and 3 follow
	quarterOfThree = unix.NFT_REG32_00 + 9 // the second 4 bytes of register3
)

func express(name string, data ...attribute) expression {
	attributes := []attribute{text(unix.NFTA_EXPR_NAME, name)}
	if data != nil {
		attributes = append(attributes, nest(unix.NFTA_EXPR_DATA, data...))
	}
	return marshal(attributes...)
}

func meta(key uint32) expression {
	return express("meta", be32(unix.NFTA_META_KEY, key), be32(unix.NFTA_META_DREG, register1))
}

func compare(op uint32, data []byte) expression {
	return express("cmp", be32(unix.NFTA_CMP_SREG, register1), be32(unix.NFTA_CMP_OP, op),
		nest(unix.NFTA_CMP_DATA, raw(unix.NFTA_DATA_VALUE, data)))
}

func equal(data ...byte) expression { return compare(unix.NFT_CMP_EQ, data) }

func payload(base, offset, length, register uint32) expression {
	return express("payload", be32(unix.NFTA_PAYLOAD_DREG, register), be32(unix.NFTA_PAYLOAD_BASE, base),
		be32(unix.NFTA_PAYLOAD_OFFSET, offset), be32(unix.NFTA_PAYLOAD_LEN, length))
}

func network(offset, length, register uint32) expression {
	return payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, length, register)
}

func transport(offset, length, register uint32) expression {
	return payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, offset, length, register)
}

func mask(bits []byte) expression {
	return express("bitwise", be32(unix.NFTA_BITWISE_SREG, register1), be32(unix.NFTA_BITWISE_DREG, register1),
		be32(unix.NFTA_BITWISE_LEN, uint32(len(bits))),
		nest(unix.NFTA_BITWISE_MASK, raw(unix.NFTA_DATA_VALUE, bits)),
		nest(unix.NFTA_BITWISE_XOR, raw(unix.NFTA_DATA_VALUE, make([]byte, len(bits)))))
}

func conntrack(key, register uint32) expression {
	return express("ct", be32(unix.NFTA_CT_KEY, key), be32(unix.NFTA_CT_DREG, register))
}

// original loads a field of the tuple with which the flow began.
func original(key, register uint32) expression {
	return express("ct", be32(unix.NFTA_CT_KEY, key), be32(unix.NFTA_CT_DREG, register), raw(unix.NFTA_CT_DIRECTION, []byte{0}))
}

func lookup(set string) expression {
	return express("lookup", text(unix.NFTA_LOOKUP_SET, set), be32(unix.NFTA_LOOKUP_SREG, register1))
}

func immediate(register uint32, data []byte) expression {
	return express("immediate", be32(unix.NFTA_IMMEDIATE_DREG, register), nest(unix.NFTA_IMMEDIATE_DATA, raw(unix.NFTA_DATA_VALUE, data)))
}

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
func big16(v uint16) []byte    { return binary.BigEndian.AppendUint16(nil, v) }

// interfaceName compares the whole name, as 16 bytes.
func interfaceName(key uint32, word, name string, is bool) term {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	op, sign := uint32(unix.NFT_CMP_EQ), ""
	if !is {
		op, sign = unix.NFT_CMP_NEQ, "!= "
	}
	return term{fmt.Sprintf("%s %s%q", word, sign, name), []expression{meta(key), compare(op, padded)}}
}

func from(name string) term { return interfaceName(unix.NFT_META_IIFNAME, "iifname", name, true) }
func notFrom(name string) term {
	return interfaceName(unix.NFT_META_IIFNAME, "iifname", name, false)
}
func to(name string) term    { return interfaceName(unix.NFT_META_OIFNAME, "oifname", name, true) }
func notTo(name string) term { return interfaceName(unix.NFT_META_OIFNAME, "oifname", name, false) }

// toOthers matches packets that the host would not take in itself: their
// destination is somebody else's unicast address.
func toOthers() term {
	return term{"fib daddr type unicast", []expression{
		express("fib", be32(unix.NFTA_FIB_DREG, register1), be32(unix.NFTA_FIB_RESULT, unix.NFT_FIB_RESULT_ADDRTYPE), be32(unix.NFTA_FIB_FLAGS, unix.NFTA_FIB_F_DADDR)),
		equal(native32(unix.RTN_UNICAST)...),
	}}
}

// family is what nft adds by itself where a term needs it, and does not print.
func family(f int) []expression {
	protocol := byte(unix.NFPROTO_IPV4)
	if f == 6 {
		protocol = unix.NFPROTO_IPV6
	}
	return []expression{meta(unix.NFT_META_NFPROTO), equal(protocol)}
}

func carries(protocol byte) []expression {
	return []expression{meta(unix.NFT_META_L4PROTO), equal(protocol)}
}

// portTerm matches "udp dport", "udp sport" and the same of tcp.
func portTerm(protocol byte, word string, number uint16) term {
	offset := uint32(0)
	if word == "dport" {
		offset = 2
	}
	return term{fmt.Sprintf("%s %s %d", protocolWord(protocol), word, number),
		append(carries(protocol), transport(offset, 2, register1), equal(big16(number)...))}
}

// fragment4 matches every IPv4 fragment: an offset, or more to come.
func fragment4() term {
	return term{"ip frag-off & 16383 != 0", append(family(4),
		network(6, 2, register1), mask([]byte{0x3f, 0xff}), compare(unix.NFT_CMP_NEQ, []byte{0, 0}))}
}

// fragment6 matches every IPv6 packet with a fragment header.
func fragment6() term {
	return term{"exthdr frag exists", append(family(6),
		express("exthdr", be32(unix.NFTA_EXTHDR_DREG, register1), raw(unix.NFTA_EXTHDR_TYPE, []byte{unix.IPPROTO_FRAGMENT}),
			be32(unix.NFTA_EXTHDR_OFFSET, 0), be32(unix.NFTA_EXTHDR_LEN, 1), be32(unix.NFTA_EXTHDR_FLAGS, unix.NFT_EXTHDR_F_PRESENT)),
		equal(1))}
}

// addressOffset gives the offset of an address in its header.
func addressOffset(f int, word string) (offset, length uint32) {
	switch {
	case f == 4 && word == "saddr":
		return 12, 4
	case f == 4:
		return 16, 4
	case word == "saddr":
		return 8, 16
	default:
		return 24, 16
	}
}

func familyWord(f int) string {
	if f == 6 {
		return "ip6"
	}
	return "ip"
}

func prefixMask(f, bits int) []byte {
	all := make([]byte, 4)
	if f == 6 {
		all = make([]byte, 16)
	}
	for i := range bits {
		all[i/8] |= 0x80 >> (i % 8)
	}
	return all
}

// within matches addresses of a prefix.
func within(word string, p netip.Prefix) term {
	f := familyOf(p.Addr())
	offset, length := addressOffset(f, word)
	return term{fmt.Sprintf("%s %s %s", familyWord(f), word, p.Masked()), append(family(f),
		network(offset, length, register1), mask(prefixMask(f, p.Bits())), equal(p.Masked().Addr().AsSlice()...))}
}

// listed looks an address up, masked to the length that the set holds.
func listed(word string, f, bits int, set string) term {
	offset, length := addressOffset(f, word)
	t := term{expressions: append(family(f), network(offset, length, register1))}
	if bits == int(length)*8 {
		t.text = fmt.Sprintf("%s %s @%s", familyWord(f), word, set)
	} else {
		m := prefixMask(f, bits)
		address, _ := netip.AddrFromSlice(m)
		t.text = fmt.Sprintf("%s %s & %s == @%s", familyWord(f), word, address, set)
		t.expressions = append(t.expressions, mask(m))
	}
	t.expressions = append(t.expressions, lookup(set))
	return t
}

// endpoint looks an outer address and UDP port up.
func endpoint(addressWord, portWord string, f int, set string) term {
	offset, length := addressOffset(f, addressWord)
	portOffset, portRegister := uint32(0), uint32(quarter1)
	if portWord == "dport" {
		portOffset = 2
	}
	if f == 6 {
		portRegister = register2
	}
	return term{fmt.Sprintf("%s %s . udp %s @%s", familyWord(f), addressWord, portWord, set),
		append(append(family(f), carries(unix.IPPROTO_UDP)...),
			network(offset, length, register1), transport(portOffset, 2, portRegister), lookup(set))}
}

// flow looks the original tuple up. The protocol is conntrack's, not the
// packet's: an ICMP error belongs to the flow that it is about. For ICMP
// queries conntrack keeps type and code where ports have the destination.
func flow(f int, set string) term {
	t := term{text: fmt.Sprintf("ct original %[1]s saddr . ct original %[1]s daddr . ct protocol . ct original proto-dst @%[2]s", familyWord(f), set)}
	if f == 4 {
		t.expressions = []expression{original(unix.NFT_CT_SRC_IP, register1), original(unix.NFT_CT_DST_IP, quarter1),
			conntrack(unix.NFT_CT_PROTOCOL, quarter1+1), original(unix.NFT_CT_PROTO_DST, quarter1+2), lookup(set)}
	} else {
		t.expressions = []expression{original(unix.NFT_CT_SRC_IP6, register1), original(unix.NFT_CT_DST_IP6, register2),
			conntrack(unix.NFT_CT_PROTOCOL, register3), original(unix.NFT_CT_PROTO_DST, quarterOfThree), lookup(set)}
	}
	return t
}

func direction(word string) term {
	value := byte(0)
	if word == "reply" {
		value = 1
	}
	return term{"ct direction " + word, []expression{conntrack(unix.NFT_CT_DIRECTION, register1), equal(value)}}
}

// Bits of conntrack's state, as nf_tables sees them (nf_conntrack_common.h).
const (
	stateRelated   = 4
	stateUntracked = 64
)

func related() term {
	return term{"ct state related", []expression{conntrack(unix.NFT_CT_STATE, register1), mask(native32(stateRelated)),
		compare(unix.NFT_CMP_NEQ, native32(0))}}
}

func tracked() term {
	return term{"ct state != untracked", []expression{conntrack(unix.NFT_CT_STATE, register1), compare(unix.NFT_CMP_NEQ, native32(stateUntracked))}}
}

// icmp matches a type, and a code unless that is negative. nft has one list
// of words for the codes of all types, so the code's may surprise.
func icmp(f int, kind byte, kindWord string, code int, codeWord string) term {
	name, protocol := "icmp", byte(unix.IPPROTO_ICMP)
	if f == 6 {
		name, protocol = "icmpv6", unix.IPPROTO_ICMPV6
	}
	t := term{name + " type " + kindWord, append(append(family(f), carries(protocol)...), transport(0, 1, register1), equal(kind))}
	if code >= 0 {
		t.text += " " + name + " code " + codeWord
		t.expressions = append(t.expressions, transport(1, 1, register1), equal(byte(code)))
	}
	return t
}

// initiation matches what has the length and the first four bytes of a
// WireGuard handshake initiation (whitepaper, section 5.4.2).
func initiation() term {
	return term{"udp length 156 @th,64,32 0x1000000", append(carries(unix.IPPROTO_UDP),
		transport(4, 2, register1), equal(big16(initiationLength+8)...), transport(8, 4, register1), equal(1, 0, 0, 0))}
}

// synchronizing matches the two segments that carry a maximum segment size.
func synchronizing() term {
	return term{"tcp flags syn / syn,rst", append(carries(unix.IPPROTO_TCP),
		transport(13, 1, register1), mask([]byte{0x06}), equal(0x02))}
}

// clamp lowers the maximum segment size to what both routes take.
func clamp() term {
	return term{"tcp option maxseg size set rt mtu", []expression{
		express("rt", be32(unix.NFTA_RT_KEY, unix.NFT_RT_TCPMSS), be32(unix.NFTA_RT_DREG, register1)),
		express("byteorder", be32(unix.NFTA_BYTEORDER_SREG, register1), be32(unix.NFTA_BYTEORDER_DREG, register1),
			be32(unix.NFTA_BYTEORDER_OP, unix.NFT_BYTEORDER_HTON), be32(unix.NFTA_BYTEORDER_LEN, 2), be32(unix.NFTA_BYTEORDER_SIZE, 2)),
		express("exthdr", raw(unix.NFTA_EXTHDR_TYPE, []byte{2}), be32(unix.NFTA_EXTHDR_OFFSET, 2), be32(unix.NFTA_EXTHDR_LEN, 2),
			be32(unix.NFTA_EXTHDR_OP, unix.NFT_EXTHDR_OP_TCPOPT), be32(unix.NFTA_EXTHDR_SREG, register1)),
	}}
}

// rate is packets a second, and how many may come at once.
type rate struct{ packets, burst uint32 }

func (r rate) String() string {
	return fmt.Sprintf("limit rate %d/second burst %d packets", r.packets, r.burst)
}

func (r rate) attributes() []attribute {
	return []attribute{be64(unix.NFTA_LIMIT_RATE, uint64(r.packets)), be64(unix.NFTA_LIMIT_UNIT, 1),
		be32(unix.NFTA_LIMIT_BURST, r.burst), be32(unix.NFTA_LIMIT_TYPE, unix.NFT_LIMIT_PKTS), be32(unix.NFTA_LIMIT_FLAGS, 0)}
}

func (r rate) term() term { return term{r.String(), []expression{express("limit", r.attributes()...)}} }

// copyTo hands the beginning of the packet to NFLOG.
func copyTo(group uint16, prefix string, length uint32) term {
	return term{fmt.Sprintf("log prefix %q group %d snaplen %d", prefix, group, length), []expression{
		express("log", raw(unix.NFTA_LOG_GROUP, big16(group)), text(unix.NFTA_LOG_PREFIX, prefix), be32(unix.NFTA_LOG_SNAPLEN, length))}}
}

func count(name string) term {
	return term{fmt.Sprintf("counter name %q", name), []expression{
		express("objref", be32(unix.NFTA_OBJREF_IMM_TYPE, unix.NFT_OBJECT_COUNTER), text(unix.NFTA_OBJREF_IMM_NAME, name))}}
}

func notrack() term { return term{"notrack", []expression{express("notrack")}} }

func verdict(word string, code uint32, chain string) term {
	data := []attribute{be32(unix.NFTA_VERDICT_CODE, code)}
	if chain != "" {
		data = append(data, text(unix.NFTA_VERDICT_CHAIN, chain))
		word += " " + chain
	}
	return term{word, []expression{express("immediate", be32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT),
		nest(unix.NFTA_IMMEDIATE_DATA, nest(unix.NFTA_DATA_VERDICT, data...)))}}
}

func accept() term { return verdict("accept", 1, "") }
func drop() term   { return verdict("drop", 0, "") }

// follow goes to another chain and does not come back. Verdict codes are
// signed: NFT_GOTO is -4.
func follow(chain string) term { return verdict("goto", 0xfffffffc, chain) }

// masquerade rewrites the source. Ports from first to last keep the new
// source port off the WireGuard port, where its answers would be dropped.
func masquerade(protocol byte, first, last uint16) term {
	if first == 0 {
		return term{"masquerade", []expression{express("masq")}}
	}
	return term{fmt.Sprintf("meta l4proto %s masquerade to :%d-%d", protocolWord(protocol), first, last), append(carries(protocol),
		immediate(register1, big16(first)), immediate(register2, big16(last)),
		express("masq", be32(unix.NFTA_MASQ_FLAGS, unix.NF_NAT_RANGE_PROTO_SPECIFIED),
			be32(unix.NFTA_MASQ_REG_PROTO_MIN, register1), be32(unix.NFTA_MASQ_REG_PROTO_MAX, register2)))}
}

func protocolWord(protocol byte) string {
	switch protocol {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_ICMP:
		return "icmp"
	case unix.IPPROTO_ICMPV6:
		return "ipv6-icmp"
	}
	return fmt.Sprint(protocol)
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}
