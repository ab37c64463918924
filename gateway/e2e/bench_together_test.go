package e2e

import (
	"context"
	"flag"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kidoban/gateway/lab"
	"kidoban/gateway/view"
)

var together = flag.Int("together", 20, "how many sessions TestEndingTogether ends at once, at most 50000")

// TestEndingTogether ends many live sessions at once: by `close --all`, by a reload that takes their
// windows away, and by the clock. It measures the last packet of each at the hospital's side, by the
// kernel's time, and how long the command takes to answer. It holds that all of them end, and no time.
//
//	go test ./gateway/e2e -run EndingTogether -v -together 1000
func TestEndingTogether(t *testing.T) {
	t.Parallel()
	lab.Require(t)
	c := newCrowd(t, *together)
	g := c.g
	begun := time.Now().Truncate(time.Second).Add(-time.Minute)
	work := func(until time.Time) []string { return []string{window("work", begun, until, "ehr, ehr6")} }
	later := []string{nextYear("later", "pacs")}
	command := func(path string, body any) func() (time.Time, time.Duration) {
		return func() (time.Time, time.Duration) {
			begin := time.Now()
			g.post("", path, body) // as the command does
			return begin, time.Since(begin)
		}
	}
	g.open(work(begun.Add(3*time.Hour)), later)
	c.enter()
	c.ends("by close --all", command("/v1/close", map[string]any{"scope": "all", "reason": "a measurement"}))
	g.post("", "/v1/reopen", map[string]any{"scope": "all", "reason": "a measurement"})
	c.enter()
	g.approve([]string{nextYear("later", "ehr")}, later)
	c.ends("by a reload", command("/v1/reload", nil))
	g.approve(work(begun.Add(3*time.Hour)), later)
	g.post("", "/v1/reload", nil)
	c.enter()
	c.ends("by the clock", func() (time.Time, time.Duration) {
		end := soon(4*time.Second + time.Duration(*together)*2*time.Millisecond)
		g.approve(work(end), later)
		g.post("", "/v1/reload", nil)
		if time.Now().After(end) {
			t.Fatal("a reload took until the end of the window: this machine is too busy to measure")
		}
		until(end)
		return end, 0
	})
}

// crowd is many engineers inside, each of whom sends a packet every pace.
type crowd struct {
	g        *ground
	people   []*person
	sessions []*lab.Session
	packets  [][]byte
}

// pace is how often each of a crowd sends: 1,000 send 10,000 packets a second.
const pace = 100 * time.Millisecond

// elsewhere is how many addresses a crowd comes from, so that no address makes more handshakes than it may.
const elsewhere = 100

func newCrowd(t *testing.T, n int) *crowd {
	if n < 1 || n > 50000 {
		t.Fatalf("-together=%d: allowed is 1 to 50000", n)
	}
	g := newGround(t)
	g.wan.Stop()
	g.names = strings.NewReplacer(smallTunnel, largeTunnel, "203.0.113.0/28", "203.0.113.0/24")
	if out, err := g.medisys.Command(t.Context(), "ip", "route", "add", "local", "203.0.113.128/25", "dev", "lo").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	sink := netip.AddrPortFrom(ehr4, 53)
	if _, err := g.hospital.ListenPacket("udp", sink.String()); err != nil { // nobody reads: what is too much is dropped
		t.Fatal(err)
	}
	c := &crowd{g: g, sessions: make([]*lab.Session, n)}
	for i := range n {
		p := g.oneOfMany(i)
		c.people = append(c.people, p)
		c.packets = append(c.packets, lab.UDPPacket(netip.AddrPortFrom(p.v4, 4000), sink, []byte(strings.Repeat("work ", 10))))
	}
	t.Cleanup(c.leave)
	return c
}

func (c *crowd) leave() {
	for i, s := range c.sessions {
		if s != nil {
			s.Close()
			c.sessions[i] = nil
		}
	}
}

// enter has everybody come in, until the gateway needs the disk for none of them. On a busy machine it
// ends some sessions whose entry is late: these come in again.
func (c *crowd) enter() {
	c.g.t.Helper()
	c.leave()
	begin := time.Now()
	var tried time.Time
	lab.WaitFor(c.g.t, 8*eventually, "all are inside and on record", func() bool {
		outside := c.outside()
		if time.Since(tried) > 3*view.RecordWithin {
			c.handshakes(outside)
			tried = time.Now()
		}
		pause(patience / 4)
		return len(outside) == 0 && time.Since(tried) > 2*view.RecordWithin // nor for whoever came in again
	})
	c.g.t.Logf("%d are inside after %v", len(c.people), time.Since(begin).Round(time.Millisecond))
}

// outside lists those without a session that is on record.
func (c *crowd) outside() (outside []int) {
	inside := map[string]bool{}
	for _, s := range c.g.status().Sessions {
		inside[s.Vendor+"/"+s.Engineer] = time.Since(s.OpenedAt) > 2*view.RecordWithin
	}
	for i, p := range c.people {
		if !inside[p.name] {
			outside = append(outside, i)
		}
	}
	return outside
}

// handshakes has these come in anew, several at a time.
func (c *crowd) handshakes(who []int) {
	var work sync.WaitGroup
	const atOnce = 16
	for first := range atOnce {
		work.Go(func() {
			for k := first; k < len(who); k += atOnce {
				i := who[k]
				if c.sessions[i] != nil {
					c.sessions[i].Close()
				}
				c.sessions[i] = c.enterOne(i)
			}
		})
	}
	work.Wait()
	if slices.Contains(c.sessions, nil) {
		c.g.t.FailNow()
	}
}

// enterOne makes handshakes until one has its answer; nil: none had.
func (c *crowd) enterOne(i int) *lab.Session {
	from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(128 + i%elsewhere)}), 0)
	for ctx := c.g.within(4 * eventually); ; {
		attempt, stop := context.WithTimeout(ctx, time.Second)
		s, err := c.g.medisys.Enter(attempt, c.people[i].private, c.g.publicKey, from, outside4)
		stop()
		if err == nil {
			return s
		}
		if ctx.Err() != nil {
			c.g.t.Errorf("%s cannot enter: %v", c.people[i].name, err)
			return nil
		}
	}
}

// send has everybody send in turn, until the returned function is called. That tells by how much at worst
// the sender was late.
func (c *crowd) send() func() time.Duration {
	ctx, stop := context.WithCancel(c.g.t.Context())
	late := make(chan time.Duration, 1)
	go func() {
		var worst time.Duration
		due, n := time.Now(), len(c.people)
		for k := 0; ctx.Err() == nil; k++ {
			wait := time.Until(due)
			time.Sleep(wait)
			worst = max(worst, -wait)
			if wait < -pace {
				due = time.Now() // what is so late is not caught up with
			}
			due = due.Add(pace / time.Duration(n))
			_ = c.sessions[k%n].Send(c.packets[k%n]) // lost as any datagram may be
		}
		late <- worst
	}()
	return func() time.Duration { stop(); return <-late }
}

// last tells when the last packet of each passed on its way to the hospital, by tunnel address.
func (c *crowd) last() map[netip.Addr]time.Time {
	last := map[netip.Addr]time.Time{}
	for _, p := range c.g.lan.Packets(lab.Outgoing, lab.To(ehr4)) {
		last[p.Source.Addr()] = p.At
	}
	return last
}

// underWay waits until a packet of everybody has passed.
func (c *crowd) underWay() {
	c.g.t.Helper()
	lab.WaitFor(c.g.t, eventually, "a packet of everybody passes", func() bool { return len(c.last()) == len(c.people) })
}

// ends has everybody work until something ends it, which tells when it began and when it had its answer.
func (c *crowd) ends(what string, end func() (begin time.Time, answer time.Duration)) {
	g := c.g
	g.t.Helper()
	stop := c.send()
	c.underWay()
	g.lan.Forget()
	c.underWay()
	begin, answer := end()
	lab.WaitFor(g.t, eventually, what+": nobody's packets pass", func() bool {
		from := time.Now()
		pause(patience)
		return len(g.lan.Packets(lab.Outgoing, lab.After(from), lab.To(ehr4))) == 0
	})
	late := stop()
	last := c.last()
	var lags []time.Duration
	after := 0
	for _, p := range c.people {
		if at := last[p.v4]; at.After(begin.Add(-4 * pace)) { // else it had nothing under way
			lags = append(lags, at.Sub(begin))
			if at.After(begin) {
				after++
			}
		}
	}
	if len(lags) == 0 {
		g.t.Logf("%s: nobody had packets under way: this machine is too busy to measure", what)
		return
	}
	slices.Sort(lags)
	g.t.Logf("%s, last packets of %d of %d sessions: p50 %v, p99 %v, greatest %v; %d of them later than the end; answer after %v; the sender was late by at most %v",
		what, len(lags), len(c.people), lags[len(lags)/2], lags[(len(lags)-1)*99/100], lags[len(lags)-1], after, answer, late)
}
