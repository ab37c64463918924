package e2e

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"

	"kidoban/gateway/lab"
)

// TestPromise1Silence: no packet to the WireGuard port from an address that
// no open grant lists gets a byte back.
//
// Gate and kernel each hold it for what WireGuard could answer; TCP, fragments
// and a port that nobody listens on any more are the kernel's alone.
func TestPromise1Silence(t *testing.T) {
	t.Parallel()
	hold(t, silence,
		trial{without: []string{gateLayer}},
		trial{without: []string{kernelLayer}, breaks: []string{"tcp", "fragments", "header", "killed"}},
		trial{without: []string{gateLayer, kernelLayer}, breaks: []string{"initiation", "loaded", "tcp", "fragments", "header", "killed"},
			may: []string{"garbage"}}, // WireGuard answers some of it with cookies, when it is under load
	)
}

// prober sends from one address, and owns the host that has it.
type prober struct {
	host     *lab.Host
	from, to netip.AddrPort
}

func silence(g *ground) {
	work := func(begin, end time.Time) {
		g.approve([]string{window("work", begin, end, "ehr, ehr6")}, []string{nextYear("later", "pacs")})
	}
	begun := time.Now().Truncate(time.Second)
	work(begun.Add(time.Hour), begun.Add(2*time.Hour))
	g.startReady()
	listed := []prober{
		{g.medisys, netip.AddrPortFrom(medisys4, 40001), outside4},
		{g.medisys, netip.AddrPortFrom(medisys6, 40001), outside6},
	}
	unlisted := []prober{
		{g.outsider, netip.AddrPortFrom(outsider4, 40001), outside4}, // never listed
		{g.outsider, netip.AddrPortFrom(outsider6, 40001), outside6},
		{g.scanco, netip.AddrPortFrom(scanco4, 40001), outside4}, // listed by a window that is closed
		{g.scanco, netip.AddrPortFrom(scanco6, 40001), outside6},
	}
	all := append(listed, unlisted...)

	g.silent("before", all)

	// Nor is the window open early: the time of what leaves tells.
	begin := soon(time.Second)
	work(begin, begin.Add(time.Hour))
	g.must("reload")
	g.wan.Forget()
	for time.Now().Before(begin) {
		for _, p := range listed {
			g.shoot(p, g.initiation(sato, time.Now()))
		}
		pause(100 * time.Millisecond)
	}
	for _, p := range listed {
		if early := g.wan.Packets(lab.Outgoing, lab.To(p.from.Addr()), func(p lab.Packet) bool { return p.At.Before(begin) }); len(early) > 0 {
			g.breaks("initiation: before the window opened at %v, %v got\n%s", begin, p.from.Addr(), lab.Lines(early))
		}
	}
	// That a listed address is answered shows that silence is not deafness.
	sato4 := g.client(g.medisys, sato, 4)
	g.mustEnter(sato4)
	g.silent("during", unlisted)

	// A flood that WireGuard alone would answer with cookies.
	g.wan.Forget()
	for range 300 {
		for _, p := range unlisted {
			g.shoot(p, g.initiation(sato, time.Now()))
		}
		for range 3 {
			g.shoot(listed[0], g.initiation(sato, time.Now()))
		}
	}
	pause(patience)
	for _, p := range unlisted {
		g.quiet("loaded", "under a flood", p)
	}

	end := soon(2 * time.Second)
	work(begin, end)
	g.must("reload")
	// What was judged before the end and then waited for a processor may still
	// leave; TestPromise4ClosingLag holds how soon nothing does.
	until(end.Add(oneLag))
	g.wan.Forget()
	// What was inside has no voice left either.
	_ = g.reach(g.medisys, "udp", netip.AddrPortFrom(ehr4, 53), 100*time.Millisecond)
	g.silent("after", all)

	g.kill()
	g.wan.Forget()
	for _, p := range all {
		g.shoot(p, g.initiation(sato, time.Now()))
		_ = g.connect(p)
	}
	pause(patience)
	for _, p := range all {
		g.quiet("killed", "with the process killed", p)
	}
}

// quiet notes what left the gateway for an address.
func (g *ground) quiet(word, when string, p prober) {
	if back := g.wan.Packets(lab.Outgoing, lab.To(p.from.Addr())); len(back) > 0 {
		g.breaks("%s: %s, %v got %d packets back:\n%s", word, when, p.from.Addr(), len(back), lab.Lines(back))
	}
}

// shoot sends a UDP payload to the WireGuard port.
func (g *ground) shoot(p prober, payload []byte) {
	g.t.Helper()
	g.check(p.host.Send(lab.UDPPacket(p.from, p.to, payload)))
}

// connect tries TCP to the WireGuard port's number.
func (g *ground) connect(p prober) error {
	c, err := p.host.DialFrom(g.within(100*time.Millisecond), "tcp", netip.AddrPortFrom(p.from.Addr(), 0), p.to.String())
	if err == nil {
		c.Close()
	}
	return err
}

// silent tries everything that could draw an answer.
func (g *ground) silent(when string, probers []prober) {
	g.t.Helper()
	message := func(kind uint32, size int) []byte {
		b := make([]byte, size)
		binary.LittleEndian.PutUint32(b, kind)
		var macs device.CookieGenerator // a MAC1 that is right, where there is one
		if kind <= device.MessageResponseType && size > device.MessageCookieReplySize {
			macs.Init(g.publicKey)
			macs.AddMacs(b)
		}
		return b
	}
	tries := []struct {
		word string
		each func(p prober)
	}{
		{"initiation", func(p prober) {
			for _, name := range []string{sato, tanaka} {
				g.shoot(p, g.initiation(name, time.Now()))
			}
			stranger, _ := lab.NewKey()
			g.shoot(p, initiation(g.t, stranger, g.publicKey, time.Now(), nil))
		}},
		{"garbage", func(p prober) {
			g.shoot(p, nil)
			g.shoot(p, []byte("good evening"))
			g.shoot(p, message(device.MessageInitiationType, device.MessageInitiationSize))
			g.shoot(p, message(device.MessageResponseType, device.MessageResponseSize))
			g.shoot(p, message(device.MessageCookieReplyType, device.MessageCookieReplySize))
			g.shoot(p, message(device.MessageTransportType, device.MessageTransportSize))
			g.shoot(p, message(device.MessageTransportType, 1200))
			g.shoot(p, message(5, 148))
			g.shoot(p, message(0x01000001, 148)) // all four bytes are the type
		}},
		{"tcp", func(p prober) { _ = g.connect(p) }},
		{"header", g.badHeader},
	}
	for _, try := range tries {
		g.wan.Forget()
		for _, p := range probers {
			try.each(p)
		}
		pause(patience / 2)
		for _, p := range probers {
			g.quiet(try.word, when, p)
		}
	}
	// A datagram whose rest never comes: what a host says of it comes when it
	// gives up, a second later.
	g.wan.Forget()
	for _, p := range probers {
		g.fragment(p)
	}
	pause(1500 * time.Millisecond)
	for _, p := range probers {
		g.quiet("fragments", when, p)
	}
}

// badHeader sends what is no packet for the port until a header is read that
// must be complained about (RFC 8200, section 4.2: option type 10xxxxxx; RFC
// 1812, section 5.2.4.1: a source route that cannot be).
func (g *ground) badHeader(p prober) {
	g.t.Helper()
	datagram := lab.UDPPacket(p.from, p.to, []byte("good evening"))
	if p.from.Addr().Is4() {
		datagram[0] = 0x46 // an option of four bytes: a timestamp with a pointer that cannot be
		header := append(append([]byte{}, datagram[:20]...), 68, 4, 1, 0)
		binary.BigEndian.PutUint16(header[2:], uint16(len(datagram)+4))
		g.check(p.host.Send(append(header, datagram[20:]...)))
		return
	}
	options := []byte{unix.IPPROTO_UDP, 0, 0x80 | 0x1e, 4, 0, 0, 0, 0}
	g.check(p.host.Send(lab.IPPacket(p.from.Addr(), p.to.Addr(), unix.IPPROTO_DSTOPTS, append(options, datagram[40:]...))))
}

// fragment sends the first part of a datagram whose rest never comes.
func (g *ground) fragment(p prober) {
	g.t.Helper()
	datagram := lab.UDPPacket(p.from, p.to, make([]byte, 1200))
	if p.from.Addr().Is4() {
		binary.BigEndian.PutUint16(datagram[4:], 4711)   // of one datagram
		binary.BigEndian.PutUint16(datagram[6:], 0x2000) // more fragments
		g.check(p.host.Send(datagram))
		return
	}
	header := []byte{unix.IPPROTO_UDP, 0, 0, 1, 0, 0, 0x12, 0x67}
	g.check(p.host.Send(lab.IPPacket(p.from.Addr(), p.to.Addr(), unix.IPPROTO_FRAGMENT, append(header, datagram[40:]...))))
}
