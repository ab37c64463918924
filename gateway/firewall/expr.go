package firewall

import (
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
	words := make([]string, 0, len(r))
	for _, t := range r {
		if t.text != "" {
			words = append(words, t.text)
		}
	}
	return strings.Join(words, " ")
}

// expressions are those of all terms. Several terms may test the packet's family
// or protocol; only the first test is kept.
func (r rule) expressions() []expr.Any {
	type answer struct {
		key  expr.MetaKey
		data string
	}
	known := map[answer]bool{}
	var list []expr.Any
	for _, t := range r {
		for rest := t.expressions; len(rest) > 0; {
			if key, data, ok := asks(rest); ok {
				if !known[answer{key, data}] {
					list = append(list, rest[:2]...)
				}
				known[answer{key, data}] = true
				rest = rest[2:]
				continue
			}
			list = append(list, rest[0])
			rest = rest[1:]
		}
	}
	return list
}

// asks reports whether expressions begin with those of family or carries.
func asks(list []expr.Any) (key expr.MetaKey, data string, ok bool) {
	if len(list) < 2 {
		return 0, "", false
	}
	load, isLoad := list[0].(*expr.Meta)
	is, isCompare := list[1].(*expr.Cmp)
	if !isLoad || !isCompare || is.Op != expr.CmpOpEq || load.Key != expr.MetaKeyNFPROTO && load.Key != expr.MetaKeyL4PROTO {
		return 0, "", false
	}
	return load.Key, string(is.Data), true
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

func from(name string) term { return interfaceName(expr.MetaKeyIIFNAME, "iifname", name, true) }
func notFrom(name string) term {
	return interfaceName(expr.MetaKeyIIFNAME, "iifname", name, false)
}
func to(name string) term    { return interfaceName(expr.MetaKeyOIFNAME, "oifname", name, true) }
func notTo(name string) term { return interfaceName(expr.MetaKeyOIFNAME, "oifname", name, false) }

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
	if f == 4 {
		op, sign := expr.CmpOpNeq, "!="
		if !is {
			op, sign = expr.CmpOpEq, "=="
		}
		return term{"ip frag-off & 16383 " + sign + " 0", append(family(4),
			network(6, 2, register1), mask([]byte{0x3f, 0xff}), compare(op, []byte{0, 0}))}
	}
	there, word := byte(1), "exists"
	if !is {
		there, word = 0, "missing"
	}
	return term{"exthdr frag " + word, append(family(6),
		&expr.Exthdr{Op: expr.ExthdrOpIpv6, Type: unix.IPPROTO_FRAGMENT, Len: 1, Flags: unix.NFT_EXTHDR_F_PRESENT, DestRegister: register1},
		equal(there))}
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
		address(f, word), mask(prefixMask(f, p.Bits())), equal(p.Masked().Addr().AsSlice()...))}
}

// listed looks an address up, masked to the length that the set holds.
func listed(word string, f, bits int, set string) term {
	t := term{fmt.Sprintf("%s %s @%s", familyWord(f), word, set), append(family(f), address(f, word))}
	if bits < addressBits(f) {
		m := prefixMask(f, bits)
		a, _ := netip.AddrFromSlice(m)
		t.text = fmt.Sprintf("%s %s & %s == @%s", familyWord(f), word, a, set)
		t.expressions = append(t.expressions, mask(m))
	}
	t.expressions = append(t.expressions, lookup(set))
	return t
}

// endpoint looks an outer address and UDP port up.
func endpoint(addressWord, portWord string, f int, set string) term {
	return term{fmt.Sprintf("%s %s . udp %s @%s", familyWord(f), addressWord, portWord, set),
		append(append(family(f), carries(unix.IPPROTO_UDP)...), address(f, addressWord), transport(portOffset(portWord), 2, after(f)), lookup(set))}
}

// flow looks the original tuple up. The protocol is conntrack's, not the
// packet's: an ICMP error belongs to the flow that it is about. For ICMP
// queries conntrack keeps type and code where ports have the destination.
func flow(f int, set string) term {
	t := term{text: fmt.Sprintf("ct original %[1]s saddr . ct original %[1]s daddr . ct protocol . ct original proto-dst @%[2]s", familyWord(f), set)}
	if f == 4 {
		t.expressions = []expr.Any{conntrack(expr.CtKeySRCIP, register1), conntrack(expr.CtKeyDSTIP, quarter1),
			conntrack(expr.CtKeyPROTOCOL, quarter1+1), conntrack(expr.CtKeyPROTODST, quarter1+2), lookup(set)}
	} else {
		t.expressions = []expr.Any{conntrack(expr.CtKeySRCIP6, register1), conntrack(expr.CtKeyDSTIP6, register2),
			conntrack(expr.CtKeyPROTOCOL, register3), conntrack(expr.CtKeyPROTODST, quarterOfThree), lookup(set)}
	}
	return t
}

// plainFlow is flow for packets without options (IPv4) and extension headers
// (IPv6): the flow's own protocol follows the IP header. So it does not match
// ICMPv6 errors about other protocols.
func plainFlow(f int, set string) term {
	t := flow(f, set)
	if f == 4 {
		return plain4().and(t)
	}
	t.text = strings.Replace(t.text, "ct protocol", "ip6 nexthdr", 1)
	t.expressions[2] = network(6, 1, register3)
	return term{t.text, append(family(6), t.expressions...)}
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
func destinationRewritten() term { return status("dnat") }

// confirmed matches flows of which a packet has left already.
func confirmed() term { return status("confirmed") }

// status matches a bit of the flow's status in nft's words
// (nf_conntrack_common.h, ip_conntrack_status).
func status(word string) term {
	bit := map[string]uint32{"confirmed": 1 << 3, "dnat": 1 << 5}[word]
	return term{"ct status " + word, []expr.Any{conntrack(expr.CtKeySTATUS, register1), mask(native32(bit)), compare(expr.CmpOpNeq, native32(0))}}
}

// limitedBy adds the packet's source to a dynamic set. It matches within the
// limit that the set has for each source; a source for which there is no room
// does not match.
func limitedBy(f int, set string) term {
	return term{fmt.Sprintf("add @%s { %s saddr }", set, familyWord(f)), append(family(f), address(f, "saddr"),
		&expr.Dynset{SrcRegKey: register1, SetName: set, Operation: unix.NFT_DYNSET_OP_ADD})}
}

// after is the register for a field behind an address in register1.
func after(f int) uint32 {
	if f == 6 {
		return register2
	}
	return quarter1
}

// originKey loads an address of the original tuple.
func originKey(f int, four, six expr.CtKey, register uint32) expr.Any {
	if f == 6 {
		four = six
	}
	return conntrack(four, register)
}

// address loads a packet's source or destination.
func address(f int, word string) expr.Any {
	offset, length := addressOffset(f, word)
	return network(offset, length, register1)
}

// sentByOrigin looks up the packet's source and that of the flow that it
// belongs to, in a set of pairs of an address and itself.
func sentByOrigin(f int, set string) term {
	return term{fmt.Sprintf("%[1]s saddr . ct original %[1]s saddr @%[2]s", familyWord(f), set),
		append(family(f), address(f, "saddr"), originKey(f, expr.CtKeySRCIP, expr.CtKeySRCIP6, after(f)), lookup(set))}
}

// path looks up the target that the flow was begun to, and the interface by
// which the packet came.
func path(f int, set string) term {
	return term{fmt.Sprintf("ct original %s daddr . iifname @%s", familyWord(f), set), []expr.Any{
		originKey(f, expr.CtKeyDSTIP, expr.CtKeyDSTIP6, register1), &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: after(f)}, lookup(set)}}
}

// way looks up the packet's destination and the interface by which it will leave.
func way(f int, set string) term {
	return term{fmt.Sprintf("%s daddr . oifname @%s", familyWord(f), set),
		append(family(f), address(f, "daddr"), &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: after(f)}, lookup(set))}
}

// comesBy looks up a packet's source, a target, and the interface by which it came.
func comesBy(f int, set string) term {
	return term{fmt.Sprintf("%s saddr . iifname @%s", familyWord(f), set),
		append(family(f), address(f, "saddr"), &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: after(f)}, lookup(set))}
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

// state matches any of conntrack's states, in nft's words and order.
func state(words string) term {
	var bits uint32
	for _, word := range strings.Split(words, ",") {
		bits |= map[string]uint32{"established": expr.CtStateBitESTABLISHED, "related": expr.CtStateBitRELATED,
			"new": expr.CtStateBitNEW, "untracked": expr.CtStateBitUNTRACKED}[word]
	}
	return term{"ct state " + words, []expr.Any{conntrack(expr.CtKeySTATE, register1), mask(native32(bits)), compare(expr.CmpOpNeq, native32(0))}}
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
	return []term{list[0].and(quotesNot(9, unix.IPPROTO_TCP)), list[1].and(quotesNot(6, unix.IPPROTO_TCP))}
}

// quotesNot matches unless a byte of the packet that an ICMP error quotes is
// as given.
func quotesNot(offset uint32, b byte) term {
	return term{fmt.Sprintf("@th,%d,8 != 0x%x", (8+offset)*8, b),
		[]expr.Any{transport(8+offset, 1, register1), compare(expr.CmpOpNeq, []byte{b})}}
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

func accept() term { return term{"accept", []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}} }
func drop() term   { return term{"drop", []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}} }

// reset drops a TCP segment and answers it with a reset.
func reset() term {
	return term{"reject with tcp reset", []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}}
}

// follow goes to another chain and does not come back.
func follow(chain string) term {
	return term{"goto " + chain, []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}}
}

// visit goes to another chain, from which back comes back.
func visit(chain string) term {
	return term{"jump " + chain, []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}}
}

func back() term { return term{"return", []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}}} }

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
