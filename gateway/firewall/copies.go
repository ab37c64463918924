package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"kidoban/gateway/policy"
)

// Initiation is a WireGuard handshake initiation that the kernel refused.
type Initiation struct {
	Source netip.AddrPort // the outer address, unmapped
	Packet [initiationLength]byte
}

// copies reads what rules copy to NFLOG (linux/netfilter/nfnetlink_log.h).
type copies struct {
	conn        *netlink.Conn
	initiations chan Initiation
	done        chan struct{}
}

// Numbers of nfnetlink_log that golang.org/x/sys lacks.
const (
	logPacket = 0 // NFULNL_MSG_PACKET
	logConfig = 1 // NFULNL_MSG_CONFIG

	logCommand   = 1 // NFULA_CFG_CMD
	logMode      = 2 // NFULA_CFG_MODE
	logThreshold = 5 // NFULA_CFG_QTHRESH

	logBind       = 1 // NFULNL_CFG_CMD_BIND
	logCopyPacket = 2 // NFULNL_COPY_PACKET

	logPayload = 9  // NFULA_PAYLOAD
	logPrefix  = 10 // NFULA_PREFIX
)

// openCopies binds the group. flow is called for each copy of a refused
// flow, on a goroutine of its own.
func openCopies(group uint16, flow func(source netip.Addr, to netip.AddrPort, protocol uint8)) (*copies, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("NFLOG: %w", err)
	}
	// Without it a burst costs copies, not packets.
	_ = conn.SetReadBuffer(1 << 20)
	configure := func(what string, a ...netlink.Attribute) error {
		if err := conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
			return err
		}
		_, err := conn.Execute(netlink.Message{
			Header: netlink.Header{Type: unix.NFNL_SUBSYS_ULOG<<8 | logConfig, Flags: netlink.Request | netlink.Acknowledge},
			Data:   append([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, byte(group >> 8), byte(group)}, marshal(a...)...),
		})
		if err != nil {
			return fmt.Errorf("NFLOG group %d: %s: %w", group, what, err)
		}
		return nil
	}
	mode := append(binary.BigEndian.AppendUint32(nil, copyLength), logCopyPacket, 0)
	err = configure("bind (another program may hold it)", raw(logCommand, []byte{logBind}))
	if err == nil {
		// Each copy at once, none waits for company.
		err = configure("copy packets", raw(logMode, mode), be32(logThreshold, 1))
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	c := &copies{conn: conn, initiations: make(chan Initiation, 64), done: make(chan struct{})}
	go c.run(flow)
	return c, nil
}

func (c *copies) close() error {
	err := c.conn.Close()
	<-c.done
	return err
}

func (c *copies) run(flow func(netip.Addr, netip.AddrPort, uint8)) {
	defer close(c.done)
	for {
		messages, err := c.conn.Receive()
		if errors.Is(err, unix.ENOBUFS) {
			continue // some copies are lost
		}
		if err != nil {
			return // closed
		}
		for _, m := range messages {
			if m.Header.Type != unix.NFNL_SUBSYS_ULOG<<8|logPacket || len(m.Data) < 4 {
				continue
			}
			a := unmarshal(m.Data[4:])
			p, ok := parsePacket(find(a, logPayload))
			if !ok {
				continue
			}
			switch stringOf(find(a, logPrefix)) {
			case copiedInitiation:
				c.initiation(p)
			case copiedFlow:
				flow(p.source.Addr(), p.to, p.protocol)
			}
		}
	}
}

func (c *copies) initiation(p packet) {
	if p.protocol != unix.IPPROTO_UDP || len(p.payload) < 8+initiationLength {
		return
	}
	i := Initiation{Source: p.source}
	copy(i.Packet[:], p.payload[8:])
	select {
	case c.initiations <- i:
	default: // who reads is behind; this is for people, and bounded
	}
}

// packet is what a refusal says about a packet.
type packet struct {
	source, to netip.AddrPort // ports are 0 where the protocol has none or they cannot be read
	protocol   uint8
	payload    []byte // from the transport header on
}

// parsePacket reads an IP packet, which may be cut short. It goes through
// IPv6's extension headers (RFC 8200, section 4) and no deeper.
func parsePacket(b []byte) (packet, bool) {
	var p packet
	var source, destination netip.Addr
	first := true // a later fragment has no ports
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		header := int(b[0]&15) * 4
		if header < 20 || header > len(b) {
			return p, false
		}
		source, destination = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		p.protocol, p.payload = b[9], b[header:]
		first = binary.BigEndian.Uint16(b[6:])&0x1fff == 0
	case len(b) >= 40 && b[0]>>4 == 6:
		source, destination = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		p.protocol, p.payload = b[6], b[40:]
		for extension(p.protocol) && len(p.payload) >= 8 {
			length := 8 + int(p.payload[1])*8
			if p.protocol == unix.IPPROTO_FRAGMENT {
				length = 8
				first = binary.BigEndian.Uint16(p.payload[2:])>>3 == 0
			}
			p.protocol = p.payload[0]
			p.payload = p.payload[min(length, len(p.payload)):]
			if !first {
				break
			}
		}
	default:
		return p, false
	}
	var from, to uint16
	if (p.protocol == unix.IPPROTO_TCP || p.protocol == unix.IPPROTO_UDP) && first && len(p.payload) >= 4 {
		from, to = binary.BigEndian.Uint16(p.payload), binary.BigEndian.Uint16(p.payload[2:])
	}
	p.source, p.to = netip.AddrPortFrom(source, from), netip.AddrPortFrom(destination, to)
	return p, true
}

func extension(protocol uint8) bool {
	switch protocol {
	case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_FRAGMENT, unix.IPPROTO_DSTOPTS:
		return true
	}
	return false
}

// refused reports a flow that the kernel refused to an engineer. The reason
// is the plan's. What the plan admits is no refusal: it was on its way while
// the plan changed.
func (f *Firewall) refused(source netip.Addr, to netip.AddrPort, protocol uint8) {
	p := f.plan.Load()
	if p == nil || p.Policy == nil {
		return
	}
	fact := policy.Fact{Kind: policy.Refusal, At: time.Now(), To: to, Proto: protocol, Count: 1}
	q := policy.Query{To: to, Proto: protocol}
	if e := p.ByAddress(source); e != nil {
		q.Key, q.Proven = e.Key, true
	}
	if fact.Decision = p.Decide(q, fact.At); fact.Decision.Reason == policy.Admitted {
		return
	}
	fact.Engineer = fact.Decision.Engineer
	f.reports.refusal(fact)
}
