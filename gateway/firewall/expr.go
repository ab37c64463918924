package firewall

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A term is one phrase of a rule: the words of nft's own language, and the
// kernel expressions that mean the same. A test lists the ruleset with nft,
// which knows nothing of these words, and compares.
type term struct {
	text        string
	expressions []expr.Any
}

// rule is a list of terms.
type rule []term

func (r rule) String() string {
	words := make([]string, len(r))
	for i, t := range r {
		words[i] = t.text
	}
	return strings.Join(words, " ")
}

// expressions are those of all terms. Several terms may test the packet's family
// or protocol; only the first test is kept.
func (r rule) expressions() []expr.Any {
	known := map[string]bool{}
	var list []expr.Any
	for _, t := range r {
		for rest := t.expressions; len(rest) > 0; {
			n, test := 1, asks(rest)
			if test != "" {
				n = 2
			}
			if !known[test] {
				list = append(list, rest[:n]...)
			}
			known[test], rest = test != "", rest[n:]
		}
	}
	return list
}

// asks gives the key and value of a test of the family or protocol with which
// expressions begin; empty: they begin with none.
func asks(list []expr.Any) string {
	load, isLoad := list[0].(*expr.Meta)
	if !isLoad || len(list) < 2 || load.Key != expr.MetaKeyNFPROTO && load.Key != expr.MetaKeyL4PROTO {
		return ""
	}
	is, isCompare := list[1].(*expr.Cmp)
	if !isCompare || is.Op != expr.CmpOpEq {
		return ""
	}
	return fmt.Sprint(load.Key, is.Data)
}

// Registers of 16 bytes. Sixteen of 4 bytes overlay them.
const (
	register1 = unix.NFT_REG_1
	register2 = unix.NFT_REG_2
)

func meta(key expr.MetaKey) expr.Any { return &expr.Meta{Key: key, Register: register1} }

func compare(op expr.CmpOp, data []byte) expr.Any {
	return &expr.Cmp{Op: op, Register: register1, Data: data}
}

func equal(data ...byte) expr.Any { return compare(expr.CmpOpEq, data) }

func network(offset, length, register uint32) expr.Any {
	return &expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length, DestRegister: register}
}

func transport(offset, length, register uint32) expr.Any {
	return &expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: length, DestRegister: register}
}

func mask(bits []byte) expr.Any {
	return &expr.Bitwise{SourceRegister: register1, DestRegister: register1, Len: uint32(len(bits)), Mask: bits, Xor: make([]byte, len(bits))}
}

// conntrack loads a field of the flow. Tuple fields are those of the original
// tuple.
func conntrack(key expr.CtKey, register uint32) expr.Any {
	return &expr.Ct{Key: key, Register: register, Direction: expr.CtDirOriginal}
}

func lookup(set string) expr.Any { return &expr.Lookup{SourceRegister: register1, SetName: set} }

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
func big16(v uint16) []byte    { return binary.BigEndian.AppendUint16(nil, v) }

// paddedName is an interface's name as the kernel loads it.
func paddedName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// interfaceName compares the whole name, as 16 bytes.
func interfaceName(key expr.MetaKey, word, name string, is bool) term {
	op, sign := expr.CmpOpEq, ""
	if !is {
		op, sign = expr.CmpOpNeq, "!= "
	}
	return term{fmt.Sprintf("%s %s%q", word, sign, name), []expr.Any{meta(key), compare(op, paddedName(name))}}
}

func from(name string) term    { return interfaceName(expr.MetaKeyIIFNAME, "iifname", name, true) }
func notFrom(name string) term { return interfaceName(expr.MetaKeyIIFNAME, "iifname", name, false) }
func to(name string) term      { return interfaceName(expr.MetaKeyOIFNAME, "oifname", name, true) }
func notTo(name string) term   { return interfaceName(expr.MetaKeyOIFNAME, "oifname", name, false) }

// toOthers matches packets to another host's unicast address; notToOthers the
// rest, which the host might take in.
func toOthers() term    { return destination(expr.CmpOpEq, "") }
func notToOthers() term { return destination(expr.CmpOpNeq, "!= ") }

func destination(op expr.CmpOp, sign string) term {
	return term{"fib daddr type " + sign + "unicast", []expr.Any{
		&expr.Fib{Register: register1, ResultADDRTYPE: true, FlagDADDR: true},
		compare(op, native32(unix.RTN_UNICAST)),
	}}
}

// family tests the family. nft adds this test by itself where a term needs it,
// and does not print it.
func family(f int) []expr.Any {
	protocol := byte(unix.NFPROTO_IPV4)
	if f == 6 {
		protocol = unix.NFPROTO_IPV6
	}
	return []expr.Any{meta(expr.MetaKeyNFPROTO), equal(protocol)}
}

func carries(protocol byte) []expr.Any {
	return []expr.Any{meta(expr.MetaKeyL4PROTO), equal(protocol)}
}

// portTerm matches "udp dport", "udp sport" and the same of tcp.
func portTerm(protocol byte, word string, number uint16) term {
	return term{fmt.Sprintf("%s %s %d", protocolWord(protocol), word, number),
		append(carries(protocol), transport(portOffset(word), 2, register1), equal(big16(number)...))}
}

func portOffset(word string) uint32 {
	if word == "dport" {
		return 2
	}
	return 0
}

// fragment matches every fragment of a family: an offset, or more to come, or
// the fragment header of IPv6. whole matches all other packets.
func fragment(f int) term { return inPieces(f, true) }
func whole(f int) term    { return inPieces(f, false) }

func inPieces(f int, is bool) term {
	op, sign, there, word := expr.CmpOpEq, "==", byte(0), "missing"
	if is {
		op, sign, there, word = expr.CmpOpNeq, "!=", 1, "exists"
	}
	if f == 4 {
		return term{"ip frag-off & 16383 " + sign + " 0", append(family(4),
			network(6, 2, register1), mask([]byte{0x3f, 0xff}), compare(op, []byte{0, 0}))}
	}
	return term{"exthdr frag " + word, append(family(6),
		&expr.Exthdr{Op: expr.ExthdrOpIpv6, Type: unix.IPPROTO_FRAGMENT, Len: 1, Flags: unix.NFT_EXTHDR_F_PRESENT, DestRegister: register1},
		equal(there))}
}

func familyWord(f int) string {
	if f == 6 {
		return "ip6"
	}
	return "ip"
}

func addressBits(f int) int {
	if f == 6 {
		return 128
	}
	return 32
}

func prefixMask(f, bits int) []byte { return net.CIDRMask(bits, addressBits(f)) }

// within matches addresses of a prefix.
func within(word string, p netip.Prefix) term {
	f := familyOf(p.Addr())
	return term{fmt.Sprintf("%s %s %s", familyWord(f), word, p.Masked()), append(family(f),
		address(f, word).load(register1), mask(prefixMask(f, p.Bits())), equal(p.Masked().Addr().AsSlice()...))}
}

// listed looks an address up, masked to the length that the set holds.
func listed(word string, f, bits int, set string) term {
	if bits == addressBits(f) {
		return in(set, address(f, word)).of(f)
	}
	m := prefixMask(f, bits)
	a, _ := netip.AddrFromSlice(m)
	return term{fmt.Sprintf("%s %s & %s == @%s", familyWord(f), word, a, set), append(family(f), address(f, word).load(register1), mask(m), lookup(set))}
}

// field is a part of a key: its words, how many 4 bytes it takes, and how it is
// loaded.
type field struct {
	text string
	size uint32
	load func(register uint32) expr.Any
	mask []byte // of the first field of a key; nil: all of it counts
}

// in looks fields up in a set, as one key. The kernel names a register of 4
// bytes by the one of 16 bytes that begins there, if any.
func in(set string, fields ...field) term {
	var words []string
	var list []expr.Any
	position := uint32(0)
	for _, x := range fields {
		register := unix.NFT_REG32_00 + position
		if position%4 == 0 {
			register = register1 + position/4
		}
		words, list, position = append(words, x.text), append(list, x.load(register)), position+x.size
		if x.mask != nil {
			list = append(list, mask(x.mask))
		}
	}
	return term{strings.Join(words, " . ") + " @" + set, append(list, lookup(set))}
}

// of is the term for packets of a family.
func (t term) of(f int) term { return term{t.text, append(family(f), t.expressions...)} }

// address is a packet's source or destination.
func address(f int, word string) field {
	offset := map[string]uint32{"4 saddr": 12, "4 daddr": 16, "6 saddr": 8, "6 daddr": 24}[fmt.Sprint(f, " ", word)]
	length := uint32(addressBits(f) / 8)
	return field{text: familyWord(f) + " " + word, size: length / 4, load: func(register uint32) expr.Any { return network(offset, length, register) }}
}

// prefix is as many bits of a packet's source or destination.
func prefix(f int, word string, bits int) field {
	x := address(f, word)
	if bits < addressBits(f) {
		x.mask = prefixMask(f, bits)
		a, _ := netip.AddrFromSlice(x.mask)
		x.text += " & " + a.String()
	}
	return x
}

// origin is the source or destination of the original tuple.
func origin(f int, word string) field {
	key := map[string]expr.CtKey{"4 saddr": expr.CtKeySRCIP, "4 daddr": expr.CtKeyDSTIP, "6 saddr": expr.CtKeySRCIP6, "6 daddr": expr.CtKeyDSTIP6}[fmt.Sprint(f, " ", word)]
	x := ofFlow("original "+familyWord(f)+" "+word, key)
	x.size = uint32(addressBits(f) / 32)
	return x
}

// ofFlow is a field that conntrack keeps.
func ofFlow(word string, key expr.CtKey) field {
	return field{text: "ct " + word, size: 1, load: func(register uint32) expr.Any { return conntrack(key, register) }}
}

// interfaceOf is the name of an interface, as 16 bytes.
func interfaceOf(word string, key expr.MetaKey) field {
	return field{text: word, size: 4, load: func(register uint32) expr.Any { return &expr.Meta{Key: key, Register: register} }}
}

// lineOf is the interface by which a packet came from its source ("saddr"), or by
// which it leaves for its destination ("daddr").
func lineOf(word string) field {
	if word == "saddr" {
		return interfaceOf("iifname", expr.MetaKeyIIFNAME)
	}
	return interfaceOf("oifname", expr.MetaKeyOIFNAME)
}

// endpoint looks an outer address and UDP port up, and perhaps more.
func endpoint(addressWord, portWord string, f int, set string, more ...field) term {
	port := field{text: "udp " + portWord, size: 1, load: func(register uint32) expr.Any { return transport(portOffset(portWord), 2, register) }}
	t := in(set, append([]field{address(f, addressWord), port}, more...)...)
	return term{t.text, slices.Concat(family(f), carries(unix.IPPROTO_UDP), t.expressions)}
}

// flow looks the original tuple up. The protocol is conntrack's, not the
// packet's: an ICMP error belongs to the flow that it is about. For ICMP
// queries conntrack keeps type and code where ports have the destination.
func flow(f int, set string) term { return tuple(f, set, ofFlow("protocol", expr.CtKeyPROTOCOL)) }

func tuple(f int, set string, protocol field) term {
	return in(set, origin(f, "saddr"), origin(f, "daddr"), protocol, ofFlow("original proto-dst", expr.CtKeyPROTODST))
}

// plainFlow is flow for packets without options (IPv4) and extension headers
// (IPv6): the flow's own protocol follows the IP header. So it does not match
// ICMPv6 errors about other protocols.
func plainFlow(f int, set string) term {
	if f == 4 {
		return plain4().and(flow(f, set))
	}
	return tuple(f, set, field{text: "ip6 nexthdr", size: 1, load: func(register uint32) expr.Any { return network(6, 1, register) }}).of(6)
}

// plain4 matches IPv4 packets without options.
func plain4() term {
	return term{"ip hdrlength 5", append(family(4), network(0, 1, register1), mask([]byte{0x0f}), equal(5))}
}

// plainError matches ICMP packets without options or extension headers. Related
// packets of a conntrack helper do not match.
func plainError(f int) term {
	if f == 4 {
		return plain4().and(term{"ip protocol icmp", []expr.Any{network(9, 1, register1), equal(unix.IPPROTO_ICMP)}})
	}
	return term{"ip6 nexthdr ipv6-icmp", append(family(6), network(6, 1, register1), equal(unix.IPPROTO_ICMPV6))}
}

// destinationRewritten matches flows whose destination was changed by NAT.
func destinationRewritten() term { return anyBit("status dnat", expr.CtKeySTATUS, 1<<5) }

// confirmed matches flows of which a packet has left already.
func confirmed() term { return anyBit("status confirmed", expr.CtKeySTATUS, 1<<3) }

// anyBit matches any of the bits of a field that conntrack keeps: of its status
// (nf_conntrack_common.h, ip_conntrack_status) or state.
func anyBit(words string, key expr.CtKey, bits uint32) term {
	return term{"ct " + words, []expr.Any{conntrack(key, register1), mask(native32(bits)), compare(expr.CmpOpNeq, native32(0))}}
}

// limitedBy adds the packet's source to a dynamic set. It matches within the
// limit that the set has for each source; a source for which there is no room
// does not match.
func limitedBy(f int, set string) term {
	return term{fmt.Sprintf("add @%s { %s saddr }", set, familyWord(f)), append(family(f), address(f, "saddr").load(register1),
		&expr.Dynset{SrcRegKey: register1, SetName: set, Operation: unix.NFT_DYNSET_OP_ADD})}
}

// sentByOrigin looks up the packet's source and that of the flow that it
// belongs to, in a set of pairs of an address and itself.
func sentByOrigin(f int, set string) term {
	return in(set, address(f, "saddr"), origin(f, "saddr")).of(f)
}

// itself looks up a packet's source or destination in a set of pairs of an address and itself.
func itself(word string, f int, set string) term {
	return in(set, address(f, word), address(f, word)).of(f)
}

// path looks up the target that the flow was begun to, and the interface by
// which the packet came.
func path(f int, set string) term {
	return in(set, origin(f, "daddr"), interfaceOf("iifname", expr.MetaKeyIIFNAME))
}

// way looks up the packet's destination and the interface by which it will leave.
func way(f int, set string) term {
	return in(set, address(f, "daddr"), interfaceOf("oifname", expr.MetaKeyOIFNAME)).of(f)
}

// comesBy looks up a packet's source, a target, and the interface by which it came.
func comesBy(f int, set string) term {
	return in(set, address(f, "saddr"), interfaceOf("iifname", expr.MetaKeyIIFNAME)).of(f)
}

// unansweredTCP matches segments that are neither a connection's first answer
// nor its reset, as long as it is not established (IPS_ASSURED, 1 << 2).
func unansweredTCP() term {
	return term{"tcp flags ! syn,rst ct status ! assured", append(carries(unix.IPPROTO_TCP),
		transport(13, 1, register1), mask([]byte{0x06}), equal(0),
		conntrack(expr.CtKeySTATUS, register1), mask(native32(1<<2)), compare(expr.CmpOpEq, native32(0)))}
}

func direction(word string) term {
	value := map[string]byte{"original": 0, "reply": 1}[word]
	return term{"ct direction " + word, []expr.Any{conntrack(expr.CtKeyDIRECTION, register1), equal(value)}}
}

// state matches one of conntrack's states.
func state(word string) term {
	return anyBit("state "+word, expr.CtKeySTATE, map[string]uint32{"established": expr.CtStateBitESTABLISHED, "related": expr.CtStateBitRELATED,
		"new": expr.CtStateBitNEW, "untracked": expr.CtStateBitUNTRACKED}[word])
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

// tooBig matches the ICMP errors that say that a packet was too big.
func tooBig() []term {
	return []term{icmp(4, 3, "destination-unreachable", 4, "frag-needed"), icmp(6, 2, "packet-too-big", -1, "")}
}

// tooBigButTCP matches those of them that do not quote TCP. For TCP the kernel
// checks the sequence number. For other protocols it believes made-up errors: an
// answer to a ping needs no socket, and a UDP port can be guessed.
func tooBigButTCP() []term {
	list := tooBig()
	for i, offset := range []uint32{8 + 9, 8 + 6} { // of the protocol in the quoted packet
		list[i] = list[i].and(term{fmt.Sprintf("@th,%d,8 != 0x%x", offset*8, unix.IPPROTO_TCP),
			[]expr.Any{transport(offset, 1, register1), compare(expr.CmpOpNeq, []byte{unix.IPPROTO_TCP})}})
	}
	return list
}

// redirects matches ICMP redirects of both families.
func redirects() []term {
	return []term{icmp(4, 5, "redirect", -1, ""), icmp(6, 137, "nd-redirect", -1, "")}
}

// quenchOrRedirect matches the ICMP errors of IPv4 that change how or where a
// flow is sent: source quench (deprecated by RFC 6633) and redirects. Those of
// IPv6 belong to no flow.
func quenchOrRedirect() term {
	return term{"icmp type 4-5", append(append(family(4), carries(unix.IPPROTO_ICMP)...), transport(0, 1, register1),
		compare(expr.CmpOpGte, []byte{4}), compare(expr.CmpOpLte, []byte{5}))}
}

// and is both terms.
func (t term) and(other term) term {
	return term{t.text + " " + other.text, slices.Concat(t.expressions, other.expressions)}
}

// initiation matches packets with the length and the first four bytes of a
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

// midstream matches the segments that are not the first of a TCP connection.
func midstream() term {
	return term{"tcp flags != syn / fin,syn,rst,ack", append(carries(unix.IPPROTO_TCP),
		transport(13, 1, register1), mask([]byte{0x17}), compare(expr.CmpOpNeq, []byte{0x02}))}
}

// clamp lowers the maximum segment size to the MTU of both routes.
func clamp() term {
	return term{"tcp option maxseg size set rt mtu", []expr.Any{
		&expr.Rt{Key: expr.RtTCPMSS, Register: register1},
		&expr.Byteorder{Op: expr.ByteorderHton, Len: 2, Size: 2, SourceRegister: register1, DestRegister: register1},
		&expr.Exthdr{Op: expr.ExthdrOpTcpopt, Type: 2, Offset: 2, Len: 2, SourceRegister: register1},
	}}
}

// rate is packets a second, and how many may come at once.
type rate struct{ packets, burst uint32 }

func (r rate) term() term {
	return term{fmt.Sprintf("limit rate %d/second burst %d packets", r.packets, r.burst),
		[]expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(r.packets), Unit: expr.LimitTimeSecond, Burst: r.burst}}}
}

// atOnce matches as long as there are up to so many flows at once.
func atOnce(most uint32) term {
	return term{fmt.Sprintf("ct count %d", most), []expr.Any{&expr.Connlimit{Count: most}}}
}

// copyTo hands the beginning of the packet to NFLOG.
func copyTo(group uint16, prefix string, length uint32) term {
	return term{fmt.Sprintf("log prefix %q group %d snaplen %d", prefix, group, length), []expr.Any{&expr.Log{
		Key: 1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_PREFIX | 1<<unix.NFTA_LOG_SNAPLEN, Group: group, Data: []byte(prefix), Snaplen: length}}}
}

func count(name string) term {
	return term{fmt.Sprintf("counter name %q", name), []expr.Any{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: name}}}
}

func notrack() term { return term{"notrack", []expr.Any{&expr.Notrack{}}} }

func accept() term { return verdict("accept", expr.VerdictAccept, "") }
func drop() term   { return verdict("drop", expr.VerdictDrop, "") }

func verdict(word string, kind expr.VerdictKind, chain string) term {
	return term{word, []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}}
}

// reset drops a TCP segment and answers it with a reset.
func reset() term {
	return term{"reject with tcp reset", []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}}
}

// follow goes to another chain and does not come back.
func follow(chain string) term { return verdict("goto "+chain, expr.VerdictGoto, chain) }

// visit goes to another chain, from which back comes back.
func visit(chain string) term { return verdict("jump "+chain, expr.VerdictJump, chain) }

func back() term { return verdict("return", expr.VerdictReturn, "") }

// masquerade rewrites the source. Ports from first to last keep the new
// source port off the WireGuard port, where its answers would be dropped.
func masquerade(protocol byte, first, last uint16) term {
	if first == 0 {
		return term{"masquerade", []expr.Any{&expr.Masq{}}}
	}
	return term{fmt.Sprintf("meta l4proto %s masquerade to :%d-%d", protocolWord(protocol), first, last), append(carries(protocol),
		&expr.Immediate{Register: register1, Data: big16(first)}, &expr.Immediate{Register: register2, Data: big16(last)},
		portRange{&expr.Masq{ToPorts: true, RegProtoMin: register1, RegProtoMax: register2}})}
}

// portRange is masquerade with a range of ports. The kernel heeds the range
// only under a flag (NF_NAT_RANGE_PROTO_SPECIFIED) that the library does not
// write beside it, so rules with it are written by hand.
type portRange struct{ *expr.Masq }

var protocolWords = map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_ICMPV6: "ipv6-icmp"}

func protocolWord(protocol byte) string { return cmp.Or(protocolWords[protocol], fmt.Sprint(protocol)) }

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}
