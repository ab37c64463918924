package gateway

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/opening"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// The kernel alone closes a target to who may stay inside. As long as it does
// not answer, who has lost one is out at the gate, and nobody else.
func TestFault79KernelThatIsBusy(t *testing.T) {
	acme := func(targets string) []window {
		return []window{{name: "acme/night", from: "01:00:00", until: "02:00:00", targets: targets}, {name: "medisys/night", from: "01:00:00", until: "02:00:00", targets: "ehr pacs"}}
	}
	overlapping := site(
		window{name: "acme/night", from: "01:00:00", until: "02:00:00", targets: "ehr"},
		window{name: "acme/visit", from: "01:00:00", until: "01:45:00", targets: "pacs"},
		window{name: "medisys/night", from: "01:00:00", until: "02:00:00"})
	for _, c := range []struct {
		name   string
		before *policy.Policy
		does   func(w *world)
	}{
		{"a target is taken away", site(acme("ehr pacs")...), func(w *world) { w.reloads(site(acme("ehr")...)) }},
		{"addresses of a target are", site(acme("ehr pacs")...), func(w *world) {
			p := site(acme("ehr")...)
			pacs := *p.Targets[1]
			pacs.Prefix = prefixes("10.1.2.0/30")[0]
			night := p.Vendors[0].Windows[0]
			night.Targets = append(night.Targets, &pacs)
			w.reloads(p)
		}},
		{"one of two windows is", overlapping, func(w *world) { w.reloads(site(acme("ehr")...)) }},
		{"one of two ends by a clock that is set", overlapping, func(w *world) { w.step(20 * time.Minute) }},
		{"a reload after the one that took it away", site(acme("ehr pacs")...), func(w *world) {
			w.reloads(site(acme("ehr")...))
			w.reloads(site(append(acme("ehr"), window{name: "acme/visit", from: "03:00:00", until: "04:00:00"})...))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, c.before, func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.start()
				w.enter("acme/brown", address)
				w.enter("medisys/sato", "203.0.113.2:1000")
				all, others := []string{"acme/brown from 203.0.113.1", "medisys/sato from 203.0.113.2"}, []string{"medisys/sato from 203.0.113.2"}
				release := make(chan struct{})
				w.do(func() { w.firewall.set.hang = release })
				c.does(w)
				time.Sleep(499 * time.Millisecond)
				synctest.Wait()
				same(t, "inside just before it is too long", w.sessions(), all)
				time.Sleep(time.Millisecond)
				synctest.Wait()
				same(t, "inside when it is too long", w.sessions(), others)
				same(t, "open to acme", slices.ContainsFunc(w.open(), func(id string) bool { return strings.HasPrefix(id, "acme/") }), false)
				same(t, "recorded of the session", w.told(journal.SessionClosed), []string{"session_closed brown policy_changed"})
				if hints := strings.Join(w.gateway.Snapshot().StatusAt(w.wall()).Hints, "\n"); !strings.Contains(hints, "engineers kept out until then, because a change took something from them: 1") {
					t.Errorf("hints: %q, want how many are out", hints)
				}
				time.Sleep(10 * time.Second)
				synctest.Wait()
				same(t, "admitted 10 s later", w.knock("acme/brown", address) > 0, false)
				same(t, "recorded of the session 10 s later", w.told(journal.SessionClosed), []string{"session_closed brown policy_changed"})
				if told := w.told(journal.WindowOpened, journal.WindowClosed); told[len(told)-1] != "window_closed brown night policy_changed" {
					t.Errorf("recorded of the windows: %q, want night's closing last", told)
				}
				w.do(func() { w.firewall.set = fault{} })
				close(release)
				synctest.Wait()
				same(t, "within reach of acme when the kernel answers", strings.Fields(w.reach("acme/brown"))[0], "ehr")
				same(t, "the kernel has what the gate has", w.kernel(), w.open())
				if told := w.told(journal.WindowOpened, journal.WindowClosed); told[len(told)-1] != "window_opened brown night" {
					t.Errorf("recorded of the windows: %q, want night's opening last", told)
				}
				w.enter("acme/brown", address)
				same(t, "inside in the end", w.sessions(), all)
				time.Sleep(time.Minute)
				synctest.Wait()
				same(t, "inside a minute later", w.sessions(), all)
			})
		})
	}
}

// What the kernel takes away in time, or never had to, cuts nobody.
func TestFault79NarrowingThatStandsInTime(t *testing.T) {
	both := site(window{name: "acme/night", from: "01:00:00", until: "02:00:00", targets: "ehr pacs"})
	other := *both.Targets[1]
	other.Masquerade = !other.Masquerade
	masqueraded := site(window{name: "acme/night", from: "01:00:00", until: "02:00:00", targets: "ehr"})
	masqueraded.Vendors[0].Windows[0].Targets = append(masqueraded.Vendors[0].Windows[0].Targets, &other)
	masqueraded.Digest = "masqueraded"
	overlapping := site(window{name: "acme/night", from: "01:00:00", until: "02:00:00"}, window{name: "acme/visit", from: "01:00:00", until: "01:30:05", targets: "pacs"})
	for _, c := range []struct {
		name         string
		before, then *policy.Policy
		slow         time.Duration
	}{
		{"a target is taken away, and the kernel takes 100 ms", both, oneHour(), 100 * time.Millisecond},
		{"nothing is, and it takes 8 s", both, both, 8 * time.Second},
		{"a window is added, and it takes 8 s", oneHour(), overlapping, 8 * time.Second},
		{"masquerading changes, and it takes 8 s", both, masqueraded, 8 * time.Second},
		{"one of two windows reaches its end, and it takes 8 s", overlapping, overlapping, 8 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, c.before, func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.start()
				w.enter("acme/brown", address)
				w.do(func() { w.firewall.set.slow = c.slow })
				w.reloads(c.then)
				for range 20 {
					time.Sleep(time.Second)
					synctest.Wait()
					same(t, "sessions ended", w.told(journal.SessionClosed), []string{})
				}
			})
		})
	}
}

// reloads is reload by somebody who does not wait for its end.
func (w *world) reloads(p *policy.Policy) {
	p.Digest += "2"
	w.do(func() { w.file = p })
	go func() {
		if _, err := w.gateway.Reload(w.t.Context(), yamada); err != nil {
			w.t.Error(err)
		}
	}()
	synctest.Wait()
}

// Whatever operators do while the kernel takes its time: it never lets an
// engineer pass for longer than a second what is not the engineer's any more,
// unless the gate lets nothing of that engineer pass.
func TestFault79AnyChangesWhileTheKernelIsBusy(t *testing.T) {
	behind, out := 0, 0
	for seed := range uint64(5) {
		random := rand.New(rand.NewPCG(seed, 79))
		anyPolicy := func() *policy.Policy {
			var windows []window
			for _, name := range []string{"acme/a", "acme/b", "medisys/a", "medisys/b"} {
				if random.IntN(3) > 0 {
					windows = append(windows, window{name: name, from: "01:00:00", until: []string{"01:40:00", "02:00:00", "09:00:00"}[random.IntN(3)],
						targets: []string{"ehr", "pacs", "ehr pacs"}[random.IntN(3)]})
				}
			}
			p := site(windows...)
			pacs := p.Targets[1]
			pacs.Prefix = netip.PrefixFrom(pacs.Prefix.Addr(), 28+random.IntN(3))
			pacs.Services[0].Last += uint16(random.IntN(3))
			p.Digest = fmt.Sprintf("%x", random.Uint64())
			return p
		}
		simulate(t, anyPolicy(), func(t *testing.T, w *world) {
			w.at("01:30:00")
			w.start()
			since := map[string]time.Time{}
			for range 300 {
				switch random.IntN(4) {
				case 0:
					w.do(func() {
						w.firewall.set.slow = []time.Duration{0, 50 * time.Millisecond, 700 * time.Millisecond, 3 * time.Second, 8 * time.Second}[random.IntN(5)]
					})
				case 1:
					w.reloads(anyPolicy())
				case 2:
					go w.gateway.Do(t.Context(), yamada, policy.Shut{Scope: "acme/brown", Reason: "a test"})
				case 3:
					go w.gateway.Do(t.Context(), yamada, policy.Reopened{Scope: "acme/brown", Reason: "a test"}) // unless it is open
				}
				for range random.IntN(40) {
					time.Sleep(50 * time.Millisecond)
					synctest.Wait()
					stale := w.stale()
					maps.DeleteFunc(since, func(flow string, _ time.Time) bool { return !stale[flow] })
					for flow := range stale {
						behind++
						if since[flow].IsZero() {
							since[flow] = time.Now()
						} else if d := time.Since(since[flow]); d > opening.NarrowedWithin+50*time.Millisecond {
							t.Errorf("%s: for %s the kernel lets %s pass, and the gate its engineer", w.wall(), d, flow)
							return
						}
					}
					if slices.ContainsFunc(w.gateway.Snapshot().StatusAt(w.wall()).Hints, func(h string) bool { return strings.Contains(h, "kept out until then") }) {
						out++
					}
				}
			}
			w.do(func() { w.firewall.set = fault{} })
			_, _ = w.gateway.Do(t.Context(), yamada, policy.Reopened{Scope: "acme/brown", Reason: "a test"}) // unless it is open
			w.reload(oneHour())
			time.Sleep(time.Minute)
			synctest.Wait()
			same(t, "open in the end", w.open(), []string{"acme/brown/night"})
			same(t, "open in the kernel in the end", w.kernel(), []string{"acme/brown/night"})
		})
	}
	if behind == 0 || out == 0 {
		t.Errorf("at %d moments the kernel was behind, and at %d somebody was out: this shows nothing", behind, out)
	}
}

// stale are the flows that the kernel lets pass and the gate's plan does not
// have, of engineers for whom that plan has others.
func (w *world) stale() map[string]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	all, now := map[string]bool{}, w.wall()
	for _, g := range w.firewall.plan.Grants {
		q := policy.Query{Key: g.Engineer.Key, Proven: true, Fault: policy.Admitted}
		if !g.Contains(now) || w.tunnel.plan.Decide(q, now).Reason != policy.Admitted {
			continue
		}
		for _, t := range g.Window.Targets {
			last := t.Prefix.Masked().Addr().As4()
			last[3] |= 1<<(32-t.Prefix.Bits()) - 1
			q.To, q.Proto = netip.AddrPortFrom(netip.AddrFrom4(last), t.Services[0].Last), t.Services[0].Protocol
			if w.tunnel.plan.Decide(q, now).Reason != policy.Admitted {
				all[fmt.Sprint(g.Engineer, " to ", q.To)] = true
			}
		}
	}
	return all
}

// TestLost says from when on something must not pass any more.
func TestLost(t *testing.T) {
	night := func(targets string) window {
		return window{name: "acme/night", from: "01:00:00", until: "02:00:00", targets: targets}
	}
	other := func(name, from, until, targets string) window {
		return window{name: "acme/" + name, from: from, until: until, targets: targets}
	}
	policies := func(windows ...window) func() *policy.Policy {
		return func() *policy.Policy { return site(windows...) }
	}
	changed := func(change func(*policy.Policy), windows ...window) func() *policy.Policy {
		return func() *policy.Policy { p := site(windows...); change(p); return p }
	}
	both := policies(night("ehr pacs"))
	pacs := func(text string, last uint16) func(*policy.Policy) {
		return func(p *policy.Policy) {
			p.Targets[1].Prefix, p.Targets[1].Services[0].Last = netip.MustParsePrefix(text), last
		}
	}
	for _, c := range []struct {
		name         string
		before, next func() *policy.Policy
		at           string // when the next plan is made; empty: 01:30:00
		untimed      bool
		lost         string // empty: nothing
	}{
		{name: "nothing changes", before: both, next: both},
		{name: "a target goes", before: both, next: policies(night("ehr")), lost: "01:30:00"},
		{name: "everything goes", before: both, next: policies(), lost: "01:30:00"},
		{name: "a target comes", before: policies(night("ehr")), next: both},
		{name: "the prefix is narrower", before: both, next: changed(pacs("10.1.2.0/29", 104), night("ehr pacs")), lost: "01:30:00"},
		{name: "the prefix is wider", before: both, next: changed(pacs("10.1.0.0/16", 104), night("ehr pacs"))},
		{name: "the prefix is another", before: both, next: changed(pacs("10.1.3.0/28", 104), night("ehr pacs")), lost: "01:30:00"},
		{name: "ports go", before: changed(pacs("10.1.2.0/28", 110), night("ehr pacs")), next: both, lost: "01:30:00"},
		{name: "ports come", before: both, next: changed(pacs("10.1.2.0/28", 110), night("ehr pacs"))},
		{name: "only masquerading is other", before: both, next: changed(func(p *policy.Policy) { p.Targets[1].Masquerade = true }, night("ehr pacs"))},
		{name: "only the sources are others", before: both, next: changed(func(p *policy.Policy) { p.Vendors[0].Engineers[0].Sources = prefixes("198.51.100.1/32") }, night("ehr pacs"))},
		{name: "a target has another name", before: both, next: changed(func(p *policy.Policy) { p.Targets[1].Name = "imaging" }, night("ehr pacs"))},
		{name: "two windows open what one did", before: both, next: policies(other("db", "01:00:00", "02:00:00", "ehr"), other("images", "01:00:00", "03:00:00", "pacs"))},
		{name: "two do for a while", before: both, next: policies(other("db", "01:00:00", "02:00:00", "ehr"), other("images", "01:00:00", "01:50:00", "pacs")), lost: "01:50:00"},
		{name: "two open a part of what one did", before: both, next: policies(other("db", "01:00:00", "02:00:00", "ehr"), other("visit", "01:00:00", "01:50:00", "ehr")), lost: "01:30:00"},
		{name: "the window has another name", before: both, next: policies(other("evening", "01:00:00", "02:00:00", "ehr pacs"))},
		{name: "the key is another", before: both, next: changed(func(p *policy.Policy) { p.Vendors[0].Engineers[0].Key = policy.Key{200} }, night("ehr pacs")), lost: "01:30:00"},
		{name: "one of two windows goes", before: policies(night("ehr"), other("visit", "01:00:00", "02:00:00", "pacs")), next: policies(night("ehr")), lost: "01:30:00"},
		{name: "one of two windows goes, and the other opens the same", before: policies(night("ehr pacs"), other("visit", "01:00:00", "02:00:00", "pacs")), next: both},
		{name: "it does for a while", before: policies(night("ehr pacs"), other("visit", "01:00:00", "03:00:00", "pacs")), next: both, lost: "02:00:00"},
		{name: "the window ends earlier", before: both, next: policies(other("night", "01:00:00", "01:45:00", "ehr pacs")), lost: "01:45:00"},
		{name: "the window ends later", before: both, next: policies(other("night", "01:00:00", "03:00:00", "ehr pacs"))},
		{name: "what is about to open goes", before: policies(night("ehr"), other("visit", "01:30:05", "03:00:00", "pacs")), next: policies(night("ehr")), lost: "01:30:05"},
		{name: "the window reaches its end", before: policies(night("ehr"), other("visit", "01:00:00", "01:40:00", "pacs")), next: policies(night("ehr")), at: "01:40:00"},
		{name: "a clock that was set reaches it", before: policies(night("ehr"), other("visit", "01:00:00", "01:40:00", "pacs")), next: policies(night("ehr")), at: "01:40:00", untimed: true, lost: "01:40:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := c.at
			if at == "" {
				at = "01:30:00"
			}
			plan := func(p *policy.Policy, clock string) *policy.Plan {
				s, err := view.Offline(p, moment(clock))
				if err != nil {
					t.Fatal(err)
				}
				return s.Plan
			}
			got := opening.Lost(plan(c.before(), "01:30:00"), plan(c.next(), at), moment(at), !c.untimed)
			want := map[policy.Key]time.Time{}
			if c.lost != "" {
				want[c.before().Vendors[0].Engineers[0].Key] = moment(c.lost)
			}
			same(t, "lost", got, want)
		})
	}
}
