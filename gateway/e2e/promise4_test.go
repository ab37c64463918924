package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// TestPromise4ClosingCloses: at the end of a window, on a shut, on a policy
// change every flow stops in both directions; if the process is stopped or
// killed, within a second, also for what was buffered meanwhile.
//
// The gate holds it alone; the kernel holds it alone as well, but its timers
// are coarser.
func TestPromise4ClosingCloses(t *testing.T) {
	t.Parallel()
	hold(t, closingCloses,
		trial{without: []string{kernelLayer}},
		trial{without: []string{gateLayer}, may: []string{"end", "engineer", "vendor", "everything", "reload"}},
		trial{without: []string{gateLayer, kernelLayer}, breaks: []string{"end", "late", "engineer", "vendor", "everything", "reload", "resumed"}},
	)
}

const (
	// oneLag is how late the last packet of one closing may be. That 99 of
	// 100 are within 10 ms is held by TestPromise4ClosingLag; a single one
	// may meet a machine that has other things to do, its client's end of the
	// tunnel among them.
	oneLag = timersLag
	// timersLag is the bound for the kernel's own timers.
	timersLag = time.Second
)

func closingCloses(g *ground) {
	begun := time.Now().Truncate(time.Second).Add(-time.Hour)
	approve := func(name string, until time.Time) {
		g.approve([]string{window(name, begun, until, "ehr, ehr6")}, []string{nextYear("later", "pacs")})
	}
	// ends sets the end of the window of flows that are under way, which the
	// machine may have taken any time to begin.
	ends := func(name string) time.Time {
		end := soon(3 * time.Second)
		approve(name, end)
		g.must("reload")
		return end
	}
	g.sinks()
	approve("work", begun.Add(2*time.Hour))
	g.startReady()
	client := g.client(g.medisys, sato, 4)
	wire := g.tunnelWire(g.medisys)

	// Twice the end of a window, the second time with the process stopped
	// over it, so that sockets and queues are full of what came meanwhile.
	g.mustEnter(client)
	flows := g.flow()
	end := ends("work")
	until(end.Add(timersLag + patience))
	flows.stop()
	g.stopped("end", flows, wire, end, oneLag)
	g.stopped("late", flows, wire, end, timersLag)

	approve("again", begun.Add(2*time.Hour))
	g.must("reload")
	g.mustEnter(client)
	flows = g.flow()
	end = ends("again")
	// A packet that has been let pass already, and only has to be written,
	// would pass when the process goes on: there must be none in its hands.
	until(end.Add(-400 * time.Millisecond))
	g.held.Store(true)
	until(end.Add(-200 * time.Millisecond))
	g.signal(syscall.SIGSTOP)
	lab.WaitFor(g.t, eventually, "every thread of the gateway is stopped", g.threadsStopped)
	g.held.Store(false)
	until(end.Add(200 * time.Millisecond))
	g.lan.Forget()
	g.wan.Forget()
	g.signal(syscall.SIGCONT)
	passed := func() []lab.Packet {
		return append(g.lan.Packets(lab.Outgoing, g.ofSato), g.wan.Packets(lab.Outgoing, isData)...)
	}
	pause(2 * patience)
	if len(g.without) == 2 { // it is to be found that they pass
		_ = lab.Wait(g.within(g.eventually()), func() error {
			if len(passed()) == 0 {
				return errors.New("nothing passed")
			}
			return nil
		})
	}
	flows.stop()
	if got := passed(); len(got) > 0 {
		g.breaks("resumed: %d packets that came while the process was stopped passed after the end:\n%s", len(got), lab.Lines(got))
	}

	g.approve([]string{hour("long", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
	g.must("reload")
	for _, x := range []struct {
		word string
		who  string
	}{{"engineer", sato}, {"vendor", "medisys"}, {"everything", "--all"}} {
		g.mustEnter(client)
		flows := g.flow()
		g.must("close", x.who, "--reason", "phone call")
		pause(oneLag + patience)
		flows.stop()
		shut := g.status().Shut.Records
		g.stopped(x.word, flows, wire, shut[len(shut)-1].At, oneLag)
		g.must("reopen", x.who, "--reason", "phone call")
	}

	g.mustEnter(client)
	flows = g.flow()
	g.approve([]string{nextYear("long", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
	g.must("reload")
	pause(oneLag + patience)
	flows.stop()
	g.stopped("reload", flows, wire, *g.status().Policy.LoadedAt, oneLag)

	g.approve([]string{hour("long", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
	g.must("reload")
	g.mustEnter(client)
	flows = g.flow()
	g.kill()
	killed := time.Now()
	until(killed.Add(timersLag + patience))
	flows.stop()
	g.stopped("killed", flows, wire, killed, timersLag)
}

// threadsStopped reports whether the gateway's process has come to a stop, some
// time after the signal.
func (g *ground) threadsStopped() bool {
	g.t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", g.process.Process.Pid))
	if err != nil || len(threads) == 0 {
		g.t.Fatalf("no threads: %v", err)
	}
	for _, name := range threads {
		text, err := os.ReadFile(name)
		_, state, _ := strings.Cut(string(text), ") ") // proc_pid_stat(5)
		if err != nil || !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return true
}

// sinks has the hospital swallow UDP over IPv6, and answer UDP over IPv4 with
// a stream of its own that does not end.
func (g *ground) sinks() {
	g.t.Helper()
	g.hospital.Echo("tcp", netip.AddrPortFrom(ehr4, 22).String())
	if _, err := g.hospital.ListenPacket("udp", netip.AddrPortFrom(ehr6, 53).String()); err != nil {
		g.t.Fatal(err)
	}
	c, err := g.hospital.ListenPacket("udp", netip.AddrPortFrom(ehr4, 53).String())
	g.check(err)
	go func() {
		buffer := make([]byte, 1500)
		var to net.Addr
		for {
			_ = c.SetReadDeadline(time.Now().Add(2 * time.Millisecond))
			_, from, err := c.ReadFrom(buffer)
			switch {
			case err == nil:
				to = from
			case g.t.Context().Err() != nil:
				return
			}
			if to != nil && !g.held.Load() {
				_, _ = c.WriteTo([]byte("an answer that nobody asks for"), to)
			}
		}
	}()
}

// flows are what an engineer has under way.
type flows struct {
	stop  func()
	kinds []flowKind
}

// flowKind is one direction of one flow, as a capture sees it.
type flowKind struct {
	name   string
	inward bool // towards the hospital
	match  func(lab.Packet) bool
}

// flow begins a TCP stream both ways, UDP one way and the other, and pings,
// and returns when all of them are seen to pass.
func (g *ground) flow() *flows {
	g.t.Helper()
	ctx, cancel := context.WithCancel(g.t.Context())
	var work sync.WaitGroup
	every := func(d time.Duration, f func()) {
		work.Go(func() {
			for ctx.Err() == nil {
				if !g.held.Load() {
					f()
				}
				time.Sleep(d)
			}
		})
	}
	dial := func(network string, to netip.Addr, port uint16) net.Conn {
		var c net.Conn
		err := lab.Wait(g.within(eventually), func() (err error) {
			short, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			c, err = g.medisys.Dial(short, network, netip.AddrPortFrom(to, port).String())
			return err
		})
		g.check(err)
		context.AfterFunc(ctx, func() { c.Close() })
		return c
	}
	stream := dial("tcp", ehr4, 22)
	work.Go(func() { _, _ = io.Copy(io.Discard, stream) })
	every(2*time.Millisecond, func() { _, _ = stream.Write([]byte("work")) })
	sink := dial("udp", ehr6, 53)
	every(2*time.Millisecond, func() { _, _ = sink.Write([]byte("work")) })
	source := dial("udp", ehr4, 53)
	_, _ = source.Write([]byte("begin"))
	every(5*time.Millisecond, func() {
		short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		defer cancel()
		_, _ = g.medisys.Ping(short, ehr4)
	})
	own := func(c net.Conn) uint16 { return netip.MustParseAddrPort(c.LocalAddr().String()).Port() }
	withPayload := func(p lab.Packet) bool { return len(p.Payload) > 0 }
	f := &flows{kinds: []flowKind{
		{"TCP to the hospital", true, func(p lab.Packet) bool { return p.Source.Port() == own(stream) && withPayload(p) }},
		{"TCP to the engineer", false, func(p lab.Packet) bool { return p.Destination.Port() == own(stream) && withPayload(p) }},
		{"UDP to the hospital", true, func(p lab.Packet) bool { return p.Source.Port() == own(sink) }},
		{"UDP to the engineer", false, func(p lab.Packet) bool { return p.Destination.Port() == own(source) }},
		// Errors are ICMP as well, and the gateway's own where nothing else is left.
		{"ping", true, func(p lab.Packet) bool { return p.Protocol == policy.ICMP && len(p.Payload) > 0 && p.Payload[0] == 8 }},
		{"answers to pings", false, func(p lab.Packet) bool { return p.Protocol == policy.ICMP && len(p.Payload) > 0 && p.Payload[0] == 0 }},
	}}
	f.stop = func() { cancel(); work.Wait() }
	g.t.Cleanup(f.stop)
	g.lan.Forget()
	g.wan.Forget()
	for _, k := range f.kinds {
		lab.WaitFor(g.t, eventually, k.name+" passes", func() bool {
			return len(g.lan.Packets(k.match)) > 0
		})
	}
	return f
}

// stopped notes what passed more than a lag after an instant, at the
// gateway's side of the hospital, on its way out to the engineer, and at the
// engineer.
func (g *ground) stopped(word string, f *flows, wire *lab.Capture, at time.Time, lag time.Duration) {
	g.t.Helper()
	over := func(p lab.Packet) bool { return p.At.After(at.Add(lag)) }
	for _, k := range f.kinds {
		// That something stops shows only if it was under way until then, but
		// for as long as a machine may take its processors away.
		before := g.lan.Packets(k.match, func(p lab.Packet) bool { return p.At.Before(at) && p.At.After(at.Add(-2*time.Second)) })
		if len(before) == 0 {
			g.breaks("%s: %s did not pass before", word, k.name)
		}
		late := wire.Packets(k.match, lab.Incoming, over)
		if k.inward {
			late = g.lan.Packets(k.match, lab.Outgoing, over)
		}
		if len(late) > 0 {
			g.breaks("%s: %s: the last of %d late packets passed %v after", word, k.name, len(late), late[len(late)-1].At.Sub(at))
		}
	}
	if late := g.wan.Packets(lab.Outgoing, isData, over); len(late) > 0 {
		g.breaks("%s: data left for the engineer until %v after", word, late[len(late)-1].At.Sub(at))
	}
}

// ofSato matches what comes from sato's tunnel.
func (g *ground) ofSato(p lab.Packet) bool {
	return p.Source.Addr() == g.people[sato].v4 || p.Source.Addr() == g.people[sato].v6
}

// isData matches WireGuard's transport data that is no keepalive.
func isData(p lab.Packet) bool {
	return p.Protocol == policy.UDP && len(p.Payload) > device.MessageTransportSize &&
		binary.LittleEndian.Uint32(p.Payload) == device.MessageTransportType
}

var closings = flag.Int("closings", 60, "how many sessions TestPromise4ClosingLag ends")

// TestPromise4ClosingLag: everything stops within 10 ms of the end of a
// window, for 99 of 100 sessions, by gate and kernel and by the gate alone:
// measured are the last packets at the gateway's two sides, at a packet every
// 3 ms in each direction of each session. The figures for 1,000
// sessions take five minutes:
//
//	go test ./gateway/e2e -run ClosingLag -v -closings 1000
func TestPromise4ClosingLag(t *testing.T) {
	t.Run("with every layer", func(t *testing.T) { closingLag(newGround(t)) })
	t.Run("without "+kernelLayer, func(t *testing.T) { closingLag(newGround(t, kernelLayer)) })
}

func closingLag(g *ground) {
	t := g.t
	const engineers, length, every = 20, 2 * time.Second, 3 * time.Second
	rounds := (*closings + engineers - 1) / engineers
	most := 4 * rounds // of those on which a busy machine has nothing under way
	g.hospital.Echo("udp", netip.AddrPortFrom(ehr4, 53).String())
	var clients []*lab.Client
	var devices []string
	var who []*person
	for i := range engineers {
		who = append(who, g.person(fmt.Sprintf("medisys/engineer%02d", i), byte(100+i), ""))
	}
	first := soon(3*time.Second + time.Duration(engineers)*20*time.Millisecond)
	var windows []string
	for r := range most {
		from := first.Add(time.Duration(r) * every)
		windows = append(windows, window(fmt.Sprintf("round%d", r), from, from.Add(length), "ehr, ehr6"))
	}
	g.open(windows, []string{nextYear("later", "pacs")})
	for _, p := range who {
		clients = append(clients, g.client(g.medisys, p.name, 4))
		var device string
		if err := g.medisys.Do(func() (err error) { device, err = routeTo(ehr4); return err }); err != nil {
			t.Fatal(err)
		}
		devices = append(devices, device) // the newest has the route
	}
	var lags, stalls, waits []time.Duration
	idle := 0
	for r := 0; r < rounds || len(lags) < *closings*4/5 && r < most; r++ {
		from := first.Add(time.Duration(r) * every)
		end := from.Add(length)
		until(from)
		var work sync.WaitGroup
		for i, c := range clients {
			work.Go(func() {
				if err := g.enter(c, length-500*time.Millisecond); err != nil {
					t.Logf("round %d: %s cannot enter: %v", r, who[i].name, err) // and has nothing under way
				}
			})
		}
		work.Wait()
		g.lan.Forget()
		g.wan.Forget()
		late := make([]time.Duration, engineers)
		for i, p := range who {
			work.Go(func() { late[i] = g.stream(p, devices[i], end) })
		}
		away := processorsAway(t, end)
		work.Wait()
		stall := away()
		waits = append(waits, late...)
		for i, c := range clients {
			port := c.Status().ListenPort
			in := g.lan.Packets(lab.Outgoing, lab.From(who[i].v4))
			out := g.wan.Packets(lab.Outgoing, isData, toPort(port))
			if len(in) == 0 || len(out) == 0 {
				idle++ // the machine was too busy to send anything
				continue
			}
			lags = append(lags, max(in[len(in)-1].At.Sub(end), out[len(out)-1].At.Sub(end)))
			stalls = append(stalls, stall)
		}
	}
	if len(lags) < *closings*4/5 {
		t.Fatalf("%d sessions had nothing under way at their end, %d had: this machine is too busy to measure", idle, len(lags))
	}
	at := func(all []time.Duration, share float64) time.Duration {
		slices.Sort(all)
		return all[int(share*float64(len(all)-1))]
	}
	machine := at(waits, 0.99)
	over := make([]time.Duration, len(lags)) // what cannot be the machine's
	for i, lag := range lags {
		over[i] = lag - max(machine, stalls[i])
	}
	p99 := at(lags, 0.99)
	t.Logf("last packets of %d sessions, after the end: p50 %v, p99 %v, least %v, greatest %v; this machine lets a goroutine wait for: p99 %v, and takes a processor away for at most %v",
		len(lags), at(lags, 0.5), p99, at(lags, 0), at(lags, 1), machine, slices.Max(stalls))
	// What was checked in time and then waited for a processor is late by
	// what everything here waits, or by as long as the processor was away.
	if beyond := at(over, 0.99); beyond > 10*time.Millisecond {
		t.Errorf("closing lag: p99 is %v of %d sessions, %v beyond what the machine's %v and its stalls of at most %v explain, want at most 10 ms; the greatest: %v",
			p99, len(lags), beyond, machine, slices.Max(stalls), lags[max(0, len(lags)-10):])
	}
}

// processorsAway watches each processor from before an instant until after
// it, and tells for how long at worst a thread that was due on one of them did
// not run there.
func processorsAway(t *testing.T, around time.Time) func() time.Duration {
	t.Helper()
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	var watches sync.WaitGroup
	var mu sync.Mutex
	var worst time.Duration
	for cpu := range 8 * len(all) * int(unsafe.Sizeof(all[0])) {
		if !all.IsSet(cpu) {
			continue
		}
		watches.Go(func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with this
			var one unix.CPUSet
			one.Set(cpu)
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				t.Error(err)
				return
			}
			const step = time.Millisecond
			for until(around.Add(-100 * time.Millisecond)); time.Now().Before(around.Add(100 * time.Millisecond)); {
				begin := time.Now()
				_ = unix.Nanosleep(&unix.Timespec{Nsec: int64(step)}, nil) // an early end is no stall
				late := time.Since(begin) - step
				mu.Lock()
				worst = max(worst, late)
				mu.Unlock()
			}
		})
	}
	return func() time.Duration { watches.Wait(); return worst }
}

// stream sends a packet every 3 ms through a tunnel to the hospital, which
// answers each, from before an instant until after it. It returns how late at
// worst it was woken.
func (g *ground) stream(p *person, device string, around time.Time) (late time.Duration) {
	var c net.Conn
	err := g.medisys.Do(func() (err error) {
		dialer := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.v4, 0)), Control: func(_, _ string, c syscall.RawConn) error {
			var failed error // of many tunnels to one target, this one
			err := c.Control(func(fd uintptr) { failed = unix.BindToDevice(int(fd), device) })
			return errors.Join(err, failed)
		}}
		c, err = dialer.DialContext(g.t.Context(), "udp", netip.AddrPortFrom(ehr4, 53).String())
		return err
	})
	if err != nil {
		g.t.Error(err)
		return 0
	}
	defer c.Close()
	const every = 3 * time.Millisecond
	for until(around.Add(-100 * time.Millisecond)); time.Now().Before(around.Add(100 * time.Millisecond)); {
		_, _ = c.Write([]byte(strings.Repeat("work ", 10)))
		begin := time.Now()
		time.Sleep(every)
		late = max(late, time.Since(begin)-every)
	}
	return late
}
