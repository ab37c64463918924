package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"kidoban/gateway/lab"
)

// plainName is the name under which this binary is plain wireguard-go.
const plainName = "wireguard-go"

func init() {
	if filepath.Base(os.Args[0]) == plainName {
		if err := plainWireGuard(os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// plainWireGuard is wireguard-go as its own main runs it, on an interface with
// an address, configured from standard input, until it is killed.
func plainWireGuard(name, address string) error {
	native, err := tun.CreateTUN(name, device.DefaultMTU)
	if err != nil {
		return err
	}
	d := device.NewDevice(native, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, ""))
	if err := errors.Join(d.IpcSetOperation(os.Stdin), d.Up()); err != nil {
		return err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	if err := errors.Join(netlink.AddrAdd(link, a), netlink.LinkSetUp(link)); err != nil {
		return err
	}
	<-d.Wait()
	return errors.New("wireguard-go has ended")
}

// rig is a way from an engineer to the hospital, on a ground of its own that
// is built like every other: over vendor, internet, gateway and hospital.
type rig struct {
	name    string
	g       *ground
	from    *lab.Host
	process int // the gateway's, 0: there is none
	profile bool

	received atomic.Int64 // bytes of streams at the hospital
	arrived  atomic.Int64 // datagrams at the hospital
}

// newKidobanRig is the whole gateway: gate, ruleset, journal, and a plan of as
// many engineers as a university hospital has accounts, one of them inside.
func newKidobanRig(t *testing.T, name string, without ...string) *rig {
	g := newGround(t, without...)
	g.staff()
	g.open([]string{hour("work", "ehr, ehr6, pacs")}, []string{hour("work", "ehr, ehr6")})
	r := &rig{name: name, g: g, from: g.medisys, process: g.process.Process.Pid}
	r.begin(g.client(g.medisys, sato, 4))
	return r
}

// staff adds engineers until there are as many as accounts.
func (g *ground) staff() {
	for i := len(g.people); i < accounts; i++ {
		g.person(fmt.Sprintf("medisys/engineer%02d", i), byte(100+i), "")
	}
}

// newPlainRig is wireguard-go of the same version in a process of its own on a
// gateway that forwards, without a ruleset. It knows the same engineers.
func newPlainRig(t *testing.T, name string) *rig {
	g := newGround(t)
	g.gateway.Forward()
	self, err := os.Executable()
	g.check(err)
	path := filepath.Join(g.folder, plainName)
	g.check(os.Symlink(self, path))
	process := g.gateway.Command(context.WithoutCancel(t.Context()), path, g.device, inside4.String()+"/24")
	var configuration strings.Builder
	fmt.Fprintf(&configuration, "private_key=%x\nlisten_port=%d\n", g.privateKey, outside4.Port())
	g.staff()
	for _, engineer := range g.people {
		fmt.Fprintf(&configuration, "public_key=%x\nallowed_ip=%v/32\nallowed_ip=%v/128\n", engineer.public, engineer.v4, engineer.v6)
	}
	process.Stdin = strings.NewReader(configuration.String())
	process.Stderr = os.Stderr
	g.check(process.Start())
	ended := make(chan struct{})
	go func() { _ = process.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = process.Process.Kill() // an error means that it has ended
		<-ended
	})
	r := &rig{name: name, g: g, from: g.medisys, process: process.Process.Pid}
	r.begin(g.client(g.medisys, sato, 4))
	return r
}

// bare is the way without a tunnel, over the hosts and cables of a plain rig.
func (r *rig) bare(name string) *rig {
	b := &rig{name: name, g: r.g, from: r.g.outsider}
	b.serve(pacs4)
	return b
}

// begin has the engineer come in.
func (r *rig) begin(client *lab.Client) {
	r.g.t.Helper()
	// They keep a copy of each packet, and cost more than the gateway does.
	r.g.lan.Stop()
	r.g.wan.Stop()
	r.g.mustEnter(client)
	r.serve(ehr4)
}

// target is where the rig's servers are.
func (r *rig) target() netip.Addr {
	if r.process == 0 {
		return pacs4
	}
	return ehr4
}

// serve has the hospital swallow streams that begin with an u, send without
// end on others, and count datagrams.
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
			go func() {
				defer c.Close()
				way := make([]byte, 1)
				if _, err := io.ReadFull(c, way); err != nil {
					return
				}
				if way[0] == 'u' {
					count(c, &r.received)
					return
				}
				_, _ = io.Copy(c, zeros{}) // until the other end has enough
			}()
		}
	}()
	p, err := r.g.hospital.ListenPacket("udp", netip.AddrPortFrom(at, 53).String())
	r.g.check(err)
	_ = p.(*net.UDPConn).SetReadBuffer(1 << 20) // what the machine allows of it will do
	go func() {
		buffer := make([]byte, 1500)
		for {
			if _, _, err := p.(*net.UDPConn).ReadFromUDPAddrPort(buffer); err != nil {
				return
			}
			r.arrived.Add(1)
		}
	}()
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
	rate float64 // bytes, or packets, a second
	cost float64 // seconds of processor time of the gateway for each of them; 0: there is no gateway
}

// way is a kind of traffic.
type way struct {
	name    string
	measure func(r *rig, warm, each time.Duration) figure
	unit    string // of what is shown
	scale   float64
	cost    string // its unit
	costs   float64
	least   float64 // ratio to plain wireguard-go
}

// smallPacket is the payload of a small packet, in bytes; inFlight is how many
// of them may be on the way at a time, few enough for every queue.
const smallPacket, inFlight = 100, 256

var ways = []way{
	{"TCP to the hospital", (*rig).up, "Mbit/s", 8e-6, "ms/MB", 1e9, leastStreams},
	{"TCP to the engineer", (*rig).down, "Mbit/s", 8e-6, "ms/MB", 1e9, leastStreams},
	{fmt.Sprintf("UDP of %d bytes", smallPacket), (*rig).packets, "packets/s", 1, "us/packet", 1e6, leastPackets},
}

// up sends a stream to the hospital for a while.
func (r *rig) up(warm, each time.Duration) figure {
	c := r.dial("tcp", 22)
	defer c.Close()
	if _, err := c.Write([]byte("u")); err != nil {
		r.g.t.Fatal(err)
	}
	sent := make(chan struct{})
	go func() { _, _ = io.Copy(c, zeros{}); close(sent) }()
	f := r.over(warm, each, &r.received)
	_ = c.SetWriteDeadline(time.Now())
	<-sent
	return f
}

// down has the hospital send a stream to the engineer for a while.
func (r *rig) down(warm, each time.Duration) figure {
	c := r.dial("tcp", 22)
	defer c.Close()
	if _, err := c.Write([]byte("d")); err != nil {
		r.g.t.Fatal(err)
	}
	var total atomic.Int64
	read := make(chan struct{})
	go func() { count(c, &total); close(read) }()
	f := r.over(warm, each, &total)
	_ = c.SetReadDeadline(time.Now())
	<-read
	return f
}

// packets sends small datagrams to the hospital for a while, as fast as they
// arrive: a sender that does not care would take the processors from those
// who are measured.
func (r *rig) packets(warm, each time.Duration) figure {
	c := r.dial("udp", 53)
	defer c.Close()
	var enough atomic.Bool
	sent := make(chan error, 1)
	go func() {
		packet := make([]byte, smallPacket)
		gone, last := r.arrived.Load(), time.Now()
		for seen := gone; ; {
			if now := r.arrived.Load(); now > seen {
				seen, last = now, time.Now()
			}
			if enough.Load() {
				sent <- nil
				return
			}
			if gone-seen < inFlight {
				if _, err := c.Write(packet); err != nil {
					sent <- err
					return
				}
				gone++
				continue
			}
			if time.Since(last) > 20*time.Millisecond {
				gone = seen // they are lost
			} else {
				time.Sleep(20 * time.Microsecond)
			}
		}
	}()
	f := r.over(warm, each, &r.arrived)
	enough.Store(true)
	r.g.check(<-sent)
	return f
}

// over measures how a count grows, and what that takes of the gateway.
func (r *rig) over(warm, each time.Duration, total *atomic.Int64) figure {
	time.Sleep(warm)
	if r.profile {
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
	if r.profile {
		r.signal(syscall.SIGUSR2)
	}
	return figure{float64(n) / took.Seconds(), worked.Seconds() / float64(n)}
}

func (r *rig) signal(s syscall.Signal) {
	r.g.check(syscall.Kill(r.process, s))
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
