package e2e

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
	"kidoban/gateway/session"
	"kidoban/gateway/view"
)

// TestPromise5ReloadCutsNobody: what a new policy adds to what somebody uses
// opens when its entry is on disk, and until then nothing is lost of what was
// open; what it takes away closes, and nothing else.
func TestPromise5ReloadCutsNobody(t *testing.T) {
	t.Parallel()
	hold(t, reloadUnderSessions, trial{without: []string{recordLayer}, breaks: []string{"early"}})
}

func reloadUnderSessions(g *ground) {
	g.people[suzuki].sources = "" // the vendor's
	g.serve()
	begin := time.Now().Truncate(time.Second)
	address := ehr4.String()
	write := func(sources, ports, targets string, until time.Duration) {
		text := g.policyText([]string{window("work", begin.Add(-time.Minute), begin.Add(until), targets)}, []string{hour("work", "pacs")})
		for old, new := range map[string]string{
			`sources: [203.0.113.0/28, "2001:db8:1::/64"]`:                         "sources: [" + sources + "]",
			fmt.Sprintf("ehr: {address: %v, ports: [tcp/22, udp/53, icmp]}", ehr4): fmt.Sprintf("ehr: {address: %s, ports: [%s]}", address, ports),
		} {
			if !strings.Contains(text, old) {
				g.t.Fatalf("the policy has no %q", old)
			}
			text = strings.Replace(text, old, new, 1)
		}
		g.write(g.policyFile(), text)
	}
	write("203.0.113.10", "tcp/22, udp/53", "ehr", time.Hour)
	g.startReady()
	client := g.client(g.medisys, sato, 4)
	wire := g.tunnelWire(g.medisys)
	g.mustEnter(client)
	g.mustEnter(g.client(g.scanco, tanaka, 4))
	held := []*echoes{
		g.echo(g.medisys, "tcp", netip.AddrPortFrom(ehr4, 22)),
		g.echo(g.medisys, "udp", netip.AddrPortFrom(ehr4, 53)),
		g.echo(g.scanco, "tcp", netip.AddrPortFrom(pacs4, 104)),
	}
	sessions := func() map[string]string {
		ids := map[string]string{}
		for _, s := range g.status().Sessions {
			ids[s.Vendor+"/"+s.Engineer] = s.ID
		}
		return ids
	}
	g.onRecord(sato, tanaka)
	before := sessions()

	// More of everything, while the disk does not answer.
	digest := g.status().Policy.Digest
	g.write(g.hangFile(), "")
	address = "10.1.0.4/30"
	write("203.0.113.10, 203.0.113.11, 198.18.5.0/24", "tcp/22, udp/53, tcp/8080", "ehr, ehr6, pacs", 2*time.Hour)
	g.signal(syscall.SIGHUP)
	lab.WaitFor(g.t, eventually, "the new policy is in force", func() bool { return g.status().Policy.Digest != digest })
	port := uint16(42000)
	answered := func() bool {
		port++
		g.shoot(prober{g.medisys, netip.AddrPortFrom(medisysB4, port), outside4}, g.initiation(suzuki, time.Now()))
		pause(patience / 2)
		return len(g.wan.Packets(lab.Outgoing, lab.To(medisysB4), toPort(port))) > 0
	}
	added := map[string]func() error{
		"the source that is new": func() error {
			if !answered() {
				return fmt.Errorf("no answer")
			}
			return nil
		},
		"the port that is new": func() error {
			return g.reach(g.medisys, "tcp", netip.AddrPortFrom(ehr4, 8080), patience)
		},
		"the address that is new": func() error {
			return g.reach(g.medisys, "udp", netip.AddrPortFrom(pacs4, 53), patience)
		},
		"the target that is new": func() error {
			return g.reach(g.medisys, "tcp", netip.AddrPortFrom(pacs4, 104), patience)
		},
	}
	for what, open := range added {
		tried := open()
		if len(g.without) > 0 { // it is to be found that it opens
			tried = lab.Wait(g.within(g.eventually()), open)
		}
		if tried == nil {
			g.breaks("early: %s is open, and its entry is not on disk", what)
		}
	}
	g.check(os.Remove(g.hangFile()))
	for what, open := range added {
		g.holds(lab.Wait(g.within(eventually), open), "opened: %s does not open when the disk answers", what)
	}
	pause(patience)
	for _, e := range held {
		e.check(g, "kept")
	}
	if after := sessions(); after[sato] != before[sato] || after[tanaka] != before[tanaka] {
		g.breaks("kept: the sessions are %v, before the reload they were %v", after, before)
	}

	// Less: first addresses of the target that sato does not use, while the disk
	// does not answer again, then the target under sato's hands, then where sato
	// comes from.
	digest = g.status().Policy.Digest
	g.write(g.hangFile(), "")
	address = ehr4.String()
	write("203.0.113.10, 203.0.113.11, 198.18.5.0/24", "tcp/22, udp/53, tcp/8080", "ehr, ehr6, pacs", 2*time.Hour)
	g.signal(syscall.SIGHUP)
	lab.WaitFor(g.t, eventually, "the narrower policy is in force", func() bool { return g.status().Policy.Digest != digest })
	pause(oneLag)
	if g.reach(g.medisys, "udp", netip.AddrPortFrom(pacs4, 53), patience) == nil {
		g.breaks("address: one that is no target's any more is open")
	}
	for _, e := range held {
		e.check(g, "kept")
	}
	g.check(os.Remove(g.hangFile()))
	write("203.0.113.10, 203.0.113.11", "udp/53", "ehr", time.Hour)
	g.must("reload")
	loaded := *g.status().Policy.LoadedAt
	pause(oneLag + patience)
	held[0].stopped(g, wire, "port", loaded)
	held[1].check(g, "kept")
	held[2].check(g, "kept")
	write("203.0.113.11", "udp/53", "ehr", time.Hour)
	g.must("reload")
	loaded = *g.status().Policy.LoadedAt
	pause(oneLag + patience)
	held[1].stopped(g, wire, "source", loaded)
	held[2].check(g, "kept")
	closed := g.entries(journal.SessionClosed)
	if len(g.without) == 0 {
		lab.WaitFor(g.t, eventually, "the end of a session is in the journal", func() bool {
			closed = g.entries(journal.SessionClosed)
			return len(closed) > 0
		})
	}
	if len(g.without) == 0 && (len(closed) != 1 || closed[0].Engineer != "sato" || closed[0].Reason != string(session.PolicyChanged)) {
		g.breaks("source: these sessions were closed in the journal: %+v", closed)
	}
}

// TestReloadBySignalIsLogged: nobody hears the answer to a signal, so the log
// has what it would say.
func TestReloadBySignalIsLogged(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.open([]string{hour("work", "ehr")}, []string{nextYear("later", "pacs")})
	text, err := os.ReadFile(g.policyFile())
	g.check(err)
	g.write(g.hangFile(), "") // the disk does not answer
	g.write(g.policyFile(), strings.Replace(string(text), "tcp/104", "tcp/3389", 1))
	g.signal(syscall.SIGHUP)
	for begins, says := range map[string]string{`level=ERROR msg="reload on SIGHUP is not complete"`: "not recorded within 3s", `level=WARN msg="reload on SIGHUP"`: "tcp/3389"} {
		lab.WaitFor(t, eventually, fmt.Sprintf("a line with %s and %q in the log", begins, says), func() bool {
			for line := range strings.Lines(g.log()) {
				if strings.Contains(line, begins) && strings.Contains(line, says) {
					return true
				}
			}
			return false
		})
	}
	g.check(os.Remove(g.hangFile()))
}

// TestCloseOutlivesARename: who was closed does not enter under the name that
// a later policy gives, before and after a restart, and every command says so.
func TestCloseOutlivesARename(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.open([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
	client := g.client(g.medisys, sato, 4)
	g.mustEnter(client)
	g.must("close", "medisys", "--reason", "phone call")
	text := g.policyText([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
	g.write(g.policyFile(), strings.Replace(text, "\n  medisys:\n", "\n  medisys2:\n", 1))
	if out, line := g.must("reload"), "medisys2/sato stays shut: it was closed as medisys"; !strings.Contains(out, line) {
		t.Errorf("reload does not say %q: %s", line, out)
	}
	for _, when := range []string{"after the reload", "after a restart"} {
		if err := g.enter(client, 1500*time.Millisecond); err == nil {
			t.Errorf("sato enters %s", when)
		}
		out, _, exit := g.operator("explain", "medisys2/sato", "--from", medisys4.String())
		if exit != exitNo || !strings.Contains(out, "vendor_shut") || !strings.Contains(out, "closed as medisys by") || !strings.Contains(out, "`kidoban reopen medisys --reason R`") {
			t.Errorf("explain %s: exit %d: %s", when, exit, out)
		}
		if out, line := g.must("status"), "medisys2/sato by its key: it was closed as medisys"; !strings.Contains(out, line) {
			t.Errorf("status %s does not say %q: %s", when, line, out)
		}
		g.kill()
		g.start()
	}
	if _, complaint, exit := g.operator("reopen", "medisys2", "--reason", "phone call"); exit != exitNo || !strings.Contains(complaint, `closed as "medisys"`) {
		t.Errorf("reopen medisys2: exit %d: %s", exit, complaint)
	}
	g.must("reopen", "medisys", "--reason", "phone call")
	g.mustEnter(client)
}

// TestCountsAreOfTheKeyInForce: an engineer who gets another key begins to be
// counted anew, also over a tunnel that is built anew, and metrics, sessions
// and journal say the same.
func TestCountsAreOfTheKeyInForce(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.serve()
	g.open([]string{hour("work", "ehr")}, []string{hour("work", "pacs")})
	client := g.client(g.medisys, sato, 4)
	g.mustEnter(client)
	const moved = 200_000
	if _, err := g.medisys.Exchange(g.within(eventually), "tcp", netip.AddrPortFrom(ehr4, 22).String(), strings.Repeat("x", moved)); err != nil {
		t.Fatal(err)
	}
	session := func() (s view.SessionStatus) {
		for _, s = range g.status().Sessions {
			if s.Vendor+"/"+s.Engineer == sato {
				return s
			}
		}
		return view.SessionStatus{}
	}
	lab.WaitFor(t, eventually, "what sato moved is counted", func() bool { return session().Received > moved })
	client.Close()

	// The counts of what ended stay, those of what is open are at most what
	// the client sent.
	var ended, sum float64
	agree := func(when string, c *lab.Client) {
		t.Helper()
		for range 8 {
			pause(patience)
			s := session()
			all, err := g.metric(`kidoban_session_receive_bytes_total{vendor="medisys"}`)
			g.check(err)
			if sent := c.Status().Transmitted; s.Received > sent || all > ended+float64(sent) {
				t.Fatalf("%s: %d bytes received in the session, %v of the vendor after %v; the client sent %d", when, s.Received, all, ended, sent)
			}
			if all < sum {
				t.Fatalf("%s: %v bytes of the vendor, after %v", when, all, sum)
			}
			sum = all
		}
		if err := lab.Wait(g.within(eventually), func() error {
			s := session()
			if s.Received == 0 || s.LastHandshake == nil {
				return fmt.Errorf("the session is %+v", s)
			}
			all, err := g.metric(`kidoban_session_receive_bytes_total{vendor="medisys"}`)
			if err == nil && all != ended+float64(s.Received) {
				err = fmt.Errorf("%v bytes of the vendor, %v before, %d in the session", all, ended, s.Received)
			}
			return err
		}); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
	closed := func(n int) journal.Entry {
		t.Helper()
		var all []journal.Entry
		lab.WaitFor(t, eventually, fmt.Sprintf("%d sessions of sato are closed in the journal", n), func() bool {
			all = g.entries(journal.SessionClosed)
			return len(all) == n
		})
		ended += float64(all[n-1].ReceivedBytes)
		return all[n-1]
	}

	p := g.people[sato]
	p.private, p.public = lab.NewKey()
	g.approve([]string{hour("work", "ehr")}, []string{hour("work", "pacs")})
	g.must("reload")
	if e := closed(1); e.ReceivedBytes <= moved {
		t.Errorf("the journal has %d bytes received, sato moved %d", e.ReceivedBytes, moved)
	}
	client = g.client(g.medisys, sato, 4)
	g.mustEnter(client)
	agree("with another key", client)
	_, text, err := g.get("/metrics")
	g.check(err)
	if n := strings.Count(text, `name="medisys/sato",public_key=`); n != 1 {
		t.Errorf("%d peers are named sato", n)
	}

	// A tunnel that is built anew goes on with what was counted.
	series := fmt.Sprintf("wireguard_peer_receive_bytes_total{public_key=%q}", base64.StdEncoding.EncodeToString(p.public[:]))
	g.write(g.policyFile(), strings.Replace(g.policyText([]string{hour("work", "ehr")}, []string{hour("work", "pacs")}), "10.99.0.1/24", "10.99.0.200/24", 1))
	g.must("reload")
	before := closed(2).ReceivedBytes
	client.Close()
	client = g.client(g.medisys, sato, 4)
	g.mustEnter(client)
	agree("in a tunnel that was built anew", client)
	if err := lab.Wait(g.within(eventually), func() error {
		all, err := g.metric(series)
		// On a busy machine sato may have knocked more than once: an initiation that
		// became no session is the peer's, and not the session's.
		const initiation = 148
		if s := session(); err == nil && (all < float64(before)+float64(s.Received) || math.Mod(all-float64(before)-float64(s.Received), initiation) != 0) {
			err = fmt.Errorf("%s is %v: %d before the tunnel was built anew, %d since", series, all, before, s.Received)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	g.must("close", sato, "--reason", "phone call")
	closed(3)
	if err := lab.Wait(g.within(eventually), func() error {
		all, err := g.metric(`kidoban_session_receive_bytes_total{vendor="medisys"}`)
		if err == nil && all != ended {
			err = fmt.Errorf("%v bytes of the vendor, %v in the journal", all, ended)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// echoes are numbers sent to an echo server, and what came back.
type echoes struct {
	name      string
	own       uint16 // the port that they are sent from
	sent, got atomic.Int64
	wrong     atomic.Pointer[string]
}

// echo sends a number every few milliseconds until the test ends, and returns
// when some have come back.
func (g *ground) echo(h *lab.Host, network string, to netip.AddrPort) *echoes {
	g.t.Helper()
	ctx, cancel := context.WithCancel(g.t.Context())
	var c net.Conn
	err := lab.Wait(g.within(eventually), func() (err error) {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		c, err = h.Dial(short, network, to.String())
		return err
	})
	if err != nil {
		cancel()
		g.t.Fatal(err)
	}
	context.AfterFunc(ctx, func() { c.Close() })
	e := &echoes{name: fmt.Sprintf("%s from %s to %v", network, h.Name, to), own: netip.MustParseAddrPort(c.LocalAddr().String()).Port()}
	var work sync.WaitGroup
	work.Go(func() {
		for ctx.Err() == nil {
			n := e.sent.Load() + 1
			if _, err := c.Write(binary.BigEndian.AppendUint64(nil, uint64(n))); err == nil {
				e.sent.Store(n)
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	work.Go(func() {
		number := make([]byte, 8)
		for ctx.Err() == nil {
			if _, err := io.ReadFull(c, number); err != nil {
				continue // nobody listens now: it was closed, or is about to be
			}
			n := int64(binary.BigEndian.Uint64(number))
			if got := e.got.Add(1); n != got {
				text := fmt.Sprintf("the %d. that came back was number %d", got, n)
				e.wrong.CompareAndSwap(nil, &text)
			}
		}
	})
	g.t.Cleanup(func() { cancel(); work.Wait() })
	lab.WaitFor(g.t, eventually, "echoes of "+e.name, func() bool { return e.got.Load() > 10 })
	return e
}

// check notes what is lost.
func (e *echoes) check(g *ground, word string) {
	g.t.Helper()
	sent := e.sent.Load()
	err := lab.Wait(g.within(eventually), func() error {
		if got := e.got.Load(); got < sent {
			return fmt.Errorf("%d of %d came back", got, sent)
		}
		return nil
	})
	if wrong := e.wrong.Load(); wrong != nil {
		g.breaks("%s: %s: %s", word, e.name, *wrong)
	}
	if err != nil {
		g.breaks("%s: %s: %v", word, e.name, err)
	}
}

// stopped notes what passed after an instant, in and, on the engineer's side
// of the tunnel, back: when the kernel saw it, since those who send and read
// here may be late themselves.
func (e *echoes) stopped(g *ground, wire *lab.Capture, word string, at time.Time) {
	g.t.Helper()
	over := lab.After(at.Add(oneLag))
	in := g.lan.Packets(lab.Outgoing, g.ofSato, func(p lab.Packet) bool { return p.Source.Port() == e.own })
	back := wire.Packets(lab.Incoming, toPort(e.own))
	if len(in) == 0 || len(back) == 0 {
		g.breaks("%s: %s: %d packets were seen to pass, and %d to come back", word, e.name, len(in), len(back))
	}
	for _, late := range [][]lab.Packet{
		g.lan.Packets(lab.Outgoing, g.ofSato, func(p lab.Packet) bool { return p.Source.Port() == e.own }, over),
		wire.Packets(lab.Incoming, toPort(e.own), over),
	} {
		if len(late) > 0 {
			g.breaks("%s: %s: the last of %d late packets passed %v after", word, e.name, len(late), late[len(late)-1].At.Sub(at))
		}
	}
	if e.sent.Load() == e.got.Load() {
		g.breaks("%s: %s: nothing was under way", word, e.name)
	}
}
