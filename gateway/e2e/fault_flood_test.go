package e2e

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"

	"kidoban/gateway/lab"
)

// floodPackets is how many different packets a flood repeats.
const floodPackets = 512

// floodKind is a flood from one kind of source.
type floodKind struct {
	name   string
	packet func(g *ground, from netip.AddrPort) []byte
}

// floodKinds are what somebody who knows the gateway's public key, an
// engineer's public key, and the vendors' addresses can send. Nothing of it
// is worth an answer.
var floodKinds = []floodKind{
	{"garbage", func(g *ground, from netip.AddrPort) []byte {
		p := make([]byte, 200)
		rand.Read(p)
		return lab.UDPPacket(from, outside4, p)
	}},
	{"initiations with a valid MAC1", func(g *ground, from netip.AddrPort) []byte {
		p := make([]byte, device.MessageInitiationSize)
		rand.Read(p)
		binary.LittleEndian.PutUint32(p, device.MessageInitiationType)
		var macs device.CookieGenerator
		macs.Init(g.publicKey)
		macs.AddMacs(p)
		return lab.UDPPacket(from, outside4, p)
	}},
	{"data with guessed indices", func(g *ground, from netip.AddrPort) []byte {
		p := make([]byte, 1300)
		rand.Read(p)
		binary.LittleEndian.PutUint32(p, device.MessageTransportType)
		return lab.UDPPacket(from, outside4, p)
	}},
	{"TCP SYN", func(_ *ground, from netip.AddrPort) []byte { return synchronize(from, outside4) }},
	{"fragments", func(_ *ground, from netip.AddrPort) []byte {
		var id [3]byte
		rand.Read(id[:])
		p := lab.UDPPacket(from, outside4, make([]byte, 1200))
		binary.BigEndian.PutUint16(p[4:], binary.BigEndian.Uint16(id[:]))
		binary.BigEndian.PutUint16(p[6:], 0x2000) // the first of several
		if id[2]&1 == 1 {
			binary.BigEndian.PutUint16(p[6:], 160) // the last, without ports
		}
		return p
	}},
}

// claims are initiations that claim sato's key, whose sender owns it not: the
// dearest packet that a stranger can make the gateway open.
var claims = floodKind{"initiations that claim the engineer's key", func(g *ground, from netip.AddrPort) []byte {
	thief, _ := lab.NewKey()
	victim := g.people[sato].public
	return lab.UDPPacket(from, outside4, initiation(g.t, thief, g.publicKey, time.Now(), &victim))
}}

// oneAttempt is how long a handshake may take that must succeed at once:
// WireGuard tries again after 5 s.
const oneAttempt = 4500 * time.Millisecond

// figures are what a live session measured for a while.
type figures struct {
	flood          float64 // packets a second that were sent against it
	sent, lost     int     // round trips
	median, slow   time.Duration
	rekeys, failed int
	throughput     float64 // bytes a second that arrived at the hospital
	stalled        bool
	drawn          int // packets that came to who floods
	conntrack      int // entries in the gateway
}

func (f figures) String() string {
	return fmt.Sprintf("%7.0f/s   lost %d of %d, rekeys %d of %d   p50 %6.2f ms, p99 %6.2f ms   %6.1f Mbit/s", f.flood, f.lost, f.sent, f.rekeys-f.failed, f.rekeys,
		float64(f.median.Microseconds())/1000, float64(f.slow.Microseconds())/1000, f.throughput*8/1e6)
}

// TestFault32FloodsTakeNothingFromASession floods the gateway with every kind
// of packet, from an address that is not listed, and in the name of a listed
// one, which is the live session's own, while the session works. Nothing of
// the session is lost, its rekeys included. What becomes of its round trips
// and its throughput is logged; the machine that floods is the one that is
// flooded.
//
// It runs alone: others would be disturbed.
func TestFault32FloodsTakeNothingFromASession(t *testing.T) {
	hold(t, func(g *ground) {
		for _, line := range g.floods(*flooding, func(name string, f figures) {
			if f.lost > 0 || f.failed > 0 || f.stalled {
				g.breaks("lost: %s: %v, stalled %v", name, f, f.stalled)
			}
			if f.drawn > 20 { // neighbours asking for each other
				g.breaks("answered: %s: the flood drew %d packets", name, f.drawn)
			}
			if f.conntrack > 50 { // the session's own
				g.breaks("conntrack: %s: %d entries", name, f.conntrack)
			}
		}) {
			t.Log(line)
		}
	})
}

var flooding = flag.Duration("flooding", 500*time.Millisecond, "how long TestFault32FloodsTakeNothingFromASession measures each thing")

// BenchmarkFloods prints the table of that test, with longer measurements.
func BenchmarkFloods(b *testing.B) {
	lab.Require(b)
	test := exec.CommandContext(b.Context(), "/proc/self/exe", "-test.run=^TestFault32FloodsTakeNothingFromASession$", "-test.v", "-flooding=2s")
	out, err := test.CombinedOutput()
	if err != nil {
		b.Fatalf("%v:\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if _, row, ok := strings.Cut(line, "_test.go:"); ok && strings.Contains(row, "Mbit/s") {
			_, row, _ = strings.Cut(row, ": ")
			fmt.Print(row)
		}
	}
	b.ReportMetric(0, "ns/op") // says nothing here
}

// floods measures a session undisturbed, under each flood, and undisturbed
// again, for about twice the time each, and gives a table.
func (g *ground) floods(each time.Duration, judge func(string, figures)) (table []string) {
	g.t.Helper()
	g.hospital.Echo("udp", netip.AddrPortFrom(ehr4, 53).String())
	sink, err := g.hospital.Listen("tcp", netip.AddrPortFrom(ehr4, 22).String())
	g.check(err)
	var arrived atomic.Int64
	go func() {
		for {
			c, err := sink.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); count(c, &arrived) }()
		}
	}()
	g.open([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
	client := g.inside()
	port := fmt.Sprintf("203.0.113.10 . %d ", client.Status().ListenPort)
	lab.WaitFor(g.t, 10*time.Second, "the session is known to be live", func() bool {
		out, err := g.gateway.Command(g.within(5*time.Second), "nft", "list", "set", "inet", "kidoban", "live4").CombinedOutput()
		return err == nil && strings.Contains(string(out), port)
	})
	g.lan.Stop() // floods are more than captures keep
	g.wan.Stop()
	run := func(name string, packets [][]byte) {
		f := g.measure(client, &arrived, packets, each)
		judge(name, f)
		table = append(table, fmt.Sprintf("%-75s %v", name, f))
	}
	run("undisturbed", nil)
	for _, source := range []struct {
		name  string
		from  netip.Addr
		kinds []floodKind
	}{
		{"from an address that is not listed", outsider4, append(slices.Clone(floodKinds), claims)},
		{"in the name of the session's address", medisys4, append(slices.Clone(floodKinds), claims)},
		{"in the name of another listed address", netip.MustParseAddr("203.0.113.5"), []floodKind{floodKinds[1], claims}},
	} {
		for _, k := range source.kinds {
			var packets [][]byte
			for i := range floodPackets {
				packets = append(packets, k.packet(g, netip.AddrPortFrom(source.from, uint16(1024+i*31))))
			}
			run(k.name+", "+source.name, packets)
		}
	}
	run("undisturbed again", nil)
	return table
}

// measure has the session exchange a datagram every 5 ms and renew its keys
// once, and then send as fast as TCP can, each for a while.
func (g *ground) measure(client *lab.Client, arrived *atomic.Int64, packets [][]byte, each time.Duration) (f figures) {
	g.t.Helper()
	ctx, stop := context.WithCancel(g.t.Context())
	defer stop()
	var flood sync.WaitGroup
	var shots int
	received := g.received(g.outsider)
	begin := time.Now()
	if len(packets) > 0 {
		flood.Go(func() {
			for ; ctx.Err() == nil; shots++ {
				_ = g.outsider.Send(packets[shots%len(packets)]) // a queue that is full is full
			}
		})
	}
	c, err := g.medisys.Dial(g.within(5*time.Second), "udp", netip.AddrPortFrom(ehr4, 53).String())
	g.check(err)
	defer c.Close()
	const pace = 5 * time.Millisecond
	n := int(each / pace)
	took := make([]time.Duration, n)
	sentAt := make([]time.Time, n)
	var mu sync.Mutex
	answered := make(chan struct{})
	// What waits in queues of a machine that floods itself is late, not lost.
	_ = c.SetReadDeadline(time.Now().Add(each + 10*time.Second))
	go func() {
		defer close(answered)
		buffer := make([]byte, 100)
		for got := 0; got < n; got++ {
			if _, err := c.Read(buffer); err != nil {
				return
			}
			at := time.Now()
			i := binary.BigEndian.Uint32(buffer)
			mu.Lock()
			took[i] = at.Sub(sentAt[i])
			mu.Unlock()
		}
	}()
	rekeyed := make(chan error, 1)
	for i := range n {
		if i == n/3 {
			go func() { rekeyed <- client.Handshake(g.within(oneAttempt)) }()
		}
		mu.Lock()
		sentAt[i] = time.Now()
		mu.Unlock()
		if _, err := c.Write(binary.BigEndian.AppendUint32(nil, uint32(i))); err != nil {
			g.t.Fatal(err)
		}
		time.Sleep(pace)
	}
	<-answered
	f.rekeys = 1
	if err := <-rekeyed; err != nil {
		f.failed++
	}
	mu.Lock()
	f.sent = n
	f.lost = n - len(slices.DeleteFunc(slices.Clone(took), func(d time.Duration) bool { return d == 0 }))
	took = slices.DeleteFunc(took, func(d time.Duration) bool { return d == 0 })
	mu.Unlock()
	if len(took) > 0 {
		slices.Sort(took)
		f.median, f.slow = took[len(took)/2], took[len(took)*99/100]
	}

	stream, err := g.medisys.Dial(g.within(5*time.Second), "tcp", netip.AddrPortFrom(ehr4, 22).String())
	if err != nil {
		f.stalled = true
	} else {
		from, start := arrived.Load(), time.Now()
		_ = stream.SetWriteDeadline(start.Add(each))
		_, err := io.Copy(stream, zeros{})
		if !errors.Is(err, unix.ETIMEDOUT) && !isTimeout(err) {
			f.stalled = true
		}
		f.throughput = float64(arrived.Load()-from) / time.Since(start).Seconds()
		// A machine may take all of that time away.
		f.stalled = f.stalled || lab.Wait(g.within(eventually), func() error {
			if arrived.Load() == from {
				return errors.New("nothing arrived")
			}
			return nil
		}) != nil
		stream.Close()
	}
	stop()
	flood.Wait()
	f.flood = float64(shots) / time.Since(begin).Seconds()
	f.drawn = g.received(g.outsider) - received
	if f.conntrack, err = strconv.Atoi(g.gateway.ReadSysctl("net.netfilter.nf_conntrack_count")); err != nil {
		g.t.Fatal(err)
	}
	return f
}

// received counts the packets that a host has received by eth0.
func (g *ground) received(h *lab.Host) (packets int) {
	g.t.Helper()
	var text []byte
	err := h.Do(func() (err error) { text, err = os.ReadFile("/proc/thread-self/net/dev"); return err })
	for line := range strings.Lines(string(text)) {
		if name, rest, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name == "eth0" {
			var bytes int
			_, err = fmt.Sscan(rest, &bytes, &packets)
		}
	}
	g.check(err)
	return packets
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
