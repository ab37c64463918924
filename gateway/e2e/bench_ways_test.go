package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway/lab"
)

// What the first byte asks of the hospital's servers: of a connection, or of a datagram.
const (
	swallow  = 'u' // streams and datagrams are counted
	give     = 'd' // a stream without end; datagrams to who asked, by rig.smallDown
	giveBack = 'p' // the datagram itself
)

// serve has the hospital swallow and give streams, and count and return datagrams.
func (r *rig) serve(at netip.Addr) {
	r.g.t.Helper()
	l, err := r.g.hospital.Listen("tcp", netip.AddrPortFrom(at, 22).String())
	r.g.check(err)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go r.serveStream(c)
		}
	}()
	p, err := r.g.hospital.ListenPacket("udp", netip.AddrPortFrom(at, 53).String())
	r.g.check(err)
	r.hospital = p.(*net.UDPConn)
	_ = r.hospital.SetReadBuffer(1 << 20) // what the machine allows of it will do
	go r.serveDatagrams()
}

func (r *rig) serveStream(c net.Conn) {
	defer c.Close()
	asked := make([]byte, 1)
	if _, err := io.ReadFull(c, asked); err != nil {
		return
	}
	if asked[0] == swallow {
		count(c, &r.received)
		return
	}
	_, _ = io.Copy(c, zeros{}) // until the other end has enough
}

func (r *rig) serveDatagrams() {
	buffer := make([]byte, 1500)
	for {
		n, from, err := r.hospital.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		switch {
		case n > 0 && buffer[0] == give:
			r.asked.Store(&from)
		case n > 0 && buffer[0] == giveBack:
			_, _ = r.hospital.WriteToUDPAddrPort(buffer[:n], from) // lost as any datagram may be
		default:
			r.arrived.Add(1)
		}
	}
}

// count reads until there is no more.
func count(c net.Conn, total *atomic.Int64) {
	buffer := make([]byte, 1<<18)
	for {
		n, err := c.Read(buffer)
		total.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// figure is what was measured once.
type figure struct {
	rate float64 // bytes, packets, or turns, a second
	cost float64 // seconds of processor time of the gateway for each of them; 0: there is no gateway
}

// way is a kind of traffic.
type way struct {
	flag    string // its name on the command line
	name    string
	measure func(r *rig, warm, each time.Duration) figure
	unit    string // of what is shown
	scale   float64
	cost    string // its unit
	costs   float64
	// The bars: of the rate's ratio to plain wireguard-go's at least, and of the
	// processor time's at most. 0: there is none.
	least, most float64
}

// smallPacket is the payload of a small packet, in bytes; inFlight is how many
// of them may be on the way at a time, few enough for every queue. streams is
// how many go at once in the way of many.
const smallPacket, inFlight, streams = 100, 256, 8

var ways = []way{
	{"tcp-up", "TCP to the hospital", (*rig).up, "Mbit/s", 8e-6, "ms/MB", 1e9, 1.10, 0.80},
	{"streams-up", fmt.Sprintf("%d TCP streams to the hospital", streams), (*rig).streamsUp, "Mbit/s", 8e-6, "ms/MB", 1e9, 1.15, 0},
	{"tcp-down", "TCP to the engineer", (*rig).down, "Mbit/s", 8e-6, "ms/MB", 1e9, 1.00, 0.95},
	{"small-up", fmt.Sprintf("UDP of %d bytes to the hospital", smallPacket), (*rig).smallUp, "packets/s", 1, "us/packet", 1e6, 1.05, 0.75},
	{"small-down", fmt.Sprintf("UDP of %d bytes to the engineer", smallPacket), (*rig).smallDown, "packets/s", 1, "us/packet", 1e6, 1.25, 0.60},
	{"ping-pong", fmt.Sprintf("one datagram of %d bytes to and fro", smallPacket), (*rig).pingPong, "turns/s", 1, "us/turn", 1e6, 0, 0},
}

// up sends a stream to the hospital for a while.
func (r *rig) up(warm, each time.Duration) figure { return r.send(1, warm, each) }

// streamsUp sends several at once.
func (r *rig) streamsUp(warm, each time.Duration) figure { return r.send(streams, warm, each) }

func (r *rig) send(streams int, warm, each time.Duration) figure {
	var all []net.Conn
	var sending sync.WaitGroup
	for range streams {
		c := r.dial("tcp", 22)
		defer c.Close()
		_, err := c.Write([]byte{swallow})
		r.g.check(err)
		sending.Go(func() { _, _ = io.Copy(c, zeros{}) }) // until the deadline
		all = append(all, c)
	}
	f := r.over(warm, each, &r.received)
	for _, c := range all {
		_ = c.SetWriteDeadline(time.Now())
	}
	sending.Wait()
	return f
}

// down has the hospital send a stream to the engineer for a while.
func (r *rig) down(warm, each time.Duration) figure {
	c := r.dial("tcp", 22)
	defer c.Close()
	_, err := c.Write([]byte{give})
	r.g.check(err)
	var total atomic.Int64
	var reading sync.WaitGroup
	reading.Go(func() { count(c, &total) })
	f := r.over(warm, each, &total)
	_ = c.SetReadDeadline(time.Now())
	reading.Wait()
	return f
}

// smallUp sends small datagrams to the hospital for a while.
func (r *rig) smallUp(warm, each time.Duration) figure {
	c := r.dial("udp", 53)
	defer c.Close()
	packet := datagram(swallow)
	return r.flood(warm, each, &r.arrived, func() error { _, err := c.Write(packet); return err })
}

// smallDown has the hospital send small datagrams to the engineer for a while.
func (r *rig) smallDown(warm, each time.Duration) figure {
	c := r.dial("udp", 53)
	defer c.Close()
	_ = c.(*net.UDPConn).SetReadBuffer(1 << 20) // what the machine allows of it will do
	own := netip.MustParseAddrPort(c.LocalAddr().String())
	r.g.check(lab.Wait(r.g.within(eventually), func() error {
		if at := r.asked.Load(); at != nil && *at == own {
			return nil
		}
		_, err := c.Write([]byte{give})
		return errors.Join(err, errors.New("the hospital was not asked for datagrams"))
	}))
	var arrived atomic.Int64
	go func() {
		buffer := make([]byte, 1500)
		for {
			if _, err := c.Read(buffer); err != nil {
				return
			}
			arrived.Add(1)
		}
	}()
	packet := datagram(swallow)
	return r.flood(warm, each, &arrived, func() error { _, err := r.hospital.WriteToUDPAddrPort(packet, own); return err })
}

func datagram(asks byte) []byte {
	d := make([]byte, smallPacket)
	d[0] = asks
	return d
}

// flood sends datagrams as fast as they arrive: a sender that does not care
// would take the processors from those who are measured.
func (r *rig) flood(warm, each time.Duration, arrived *atomic.Int64, send func() error) figure {
	var enough atomic.Bool
	sent := make(chan error, 1)
	go func() {
		gone, last := arrived.Load(), time.Now()
		for seen := gone; !enough.Load(); {
			if now := arrived.Load(); now > seen {
				seen, last = now, time.Now()
			}
			switch {
			case gone-seen < inFlight:
				if err := send(); err != nil {
					sent <- err
					return
				}
				gone++
			case time.Since(last) > 20*time.Millisecond:
				gone = seen // they are lost
			default:
				time.Sleep(20 * time.Microsecond)
			}
		}
		sent <- nil
	}()
	f := r.over(warm, each, arrived)
	enough.Store(true)
	r.g.check(<-sent)
	return f
}

// pingPong has one datagram go to and fro for a while.
func (r *rig) pingPong(warm, each time.Duration) figure {
	c := r.dial("udp", 53)
	defer c.Close()
	var turns atomic.Int64
	var playing sync.WaitGroup
	var enough atomic.Bool
	playing.Go(func() {
		packet := datagram(giveBack)
		for !enough.Load() {
			_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // then it is lost
			if _, err := c.Write(packet); err != nil {
				continue
			}
			if _, err := c.Read(packet); err == nil {
				turns.Add(1)
			}
		}
	})
	f := r.over(warm, each, &turns)
	enough.Store(true)
	playing.Wait()
	return f
}

// over measures how a count grows, and what that takes of the gateway.
func (r *rig) over(warm, each time.Duration, total *atomic.Int64) figure {
	time.Sleep(warm)
	if r.profile != "" {
		r.signal(syscall.SIGUSR1)
	}
	n, worked, begin := total.Load(), r.worked(), time.Now()
	time.Sleep(each - time.Since(begin))
	// A machine may take all of that time away.
	if err := lab.Wait(r.g.within(eventually), func() error {
		if total.Load() == n {
			return errors.New("nothing has arrived")
		}
		return nil
	}); err != nil {
		r.g.t.Fatalf("%s: %v", r.name, err)
	}
	took := time.Since(begin)
	n, worked = total.Load()-n, r.worked()-worked
	if r.profile != "" {
		r.signal(syscall.SIGUSR2)
	}
	return figure{float64(n) / took.Seconds(), worked.Seconds() / float64(n)}
}

func (r *rig) signal(s syscall.Signal) {
	r.g.check(syscall.Kill(r.process, s))
}

// profileTo moves the profile of the last measurement to a file.
func (r *rig) profileTo(file string) {
	r.g.t.Helper()
	r.g.check(lab.Wait(r.g.within(eventually), func() error {
		text, err := os.ReadFile(r.profile) // it is there when it is whole
		if err != nil {
			return err
		}
		return errors.Join(os.WriteFile(file, text, 0o644), os.Remove(r.profile))
	}))
}

func (r *rig) dial(network string, port uint16) net.Conn {
	r.g.t.Helper()
	c, err := r.from.Dial(r.g.within(5*time.Second), network, netip.AddrPortFrom(r.target(), port).String())
	if err != nil {
		r.g.t.Fatalf("%s: %v", r.name, err)
	}
	if s, ok := c.(*net.TCPConn); ok {
		_ = s.SetLinger(0) // what is left unsent shall not meet the next measurement
	}
	return c
}

// worked is the processor time that the gateway has used, in user and kernel
// mode: its clock, as clock_getcpuclockid(3) names it.
func (r *rig) worked() time.Duration {
	if r.process == 0 {
		return 0
	}
	const scheduled = 2 // CPUCLOCK_SCHED of linux/posix-timers.h: precise, and of all threads
	var ts unix.Timespec
	if err := unix.ClockGettime(^int32(r.process)<<3|scheduled, &ts); err != nil {
		r.g.t.Fatalf("%s: the processor clock of process %d: %v", r.name, r.process, err)
	}
	return time.Duration(ts.Nano())
}
