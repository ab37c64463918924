package gateway

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
	"kidoban/gateway/view"
)

// reach lists the targets that the tunnel's plan opens now for an engineer.
func (w *world) reach(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, g := range w.tunnel.plan.GrantsOf(w.file.Engineer(name)) {
		if !g.Contains(w.wall()) {
			continue
		}
		for _, t := range g.Window.Targets {
			all = append(all, t.Name)
		}
	}
	return strings.Join(all, " ")
}

func TestWindowsThatTouchOrOverlapNeverCut(t *testing.T) {
	for _, c := range []struct {
		name    string
		windows []window
	}{
		{"one ends where the next begins", []window{{name: "acme/a", from: "01:00:00", until: "01:02:00"}, {name: "acme/b", from: "01:02:00", until: "01:03:00"}}},
		{"they overlap", []window{{name: "acme/a", from: "01:00:00", until: "01:02:30"}, {name: "acme/b", from: "01:01:30", until: "01:03:00"}}},
		{"one lies in the other", []window{{name: "acme/a", from: "01:00:00", until: "01:03:00"}, {name: "acme/b", from: "01:01:00", until: "01:02:00"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, site(c.windows...), func(t *testing.T, w *world) {
				w.at("01:00:00")
				w.start()
				brown := w.engineer("acme/brown")
				w.watch = func(p *policy.Plan) {
					if now := w.wall(); now.Before(moment("01:03:00")) && now.After(moment("01:00:00")) && p.Until(brown, now).IsZero() {
						t.Errorf("a plan at %s without access", now)
					}
				}
				w.enter("acme/brown", address)
				w.at("01:01:59.999")
				same(t, "end of the session, before the seam", w.gateway.Snapshot().Sessions[0].Until, moment("01:03:00"))
				w.hear("acme/brown", 1, 1)
				w.at("01:02:59.999")
				same(t, "sessions", len(w.sessions()), 1)
				w.at("01:03:00")
				same(t, "recorded", w.told(journal.SessionOpened, journal.SessionClosed), []string{"session_opened brown", "session_closed brown window_closed"})
			})
		})
	}
}

func TestTheEndKnownBeforeTheLead(t *testing.T) {
	simulate(t, site(window{name: "acme/a", from: "01:00:00", until: "01:02:00"}, window{name: "acme/b", from: "01:02:00", until: "01:03:00"}), func(t *testing.T, w *world) {
		w.at("01:01:00")
		w.start()
		w.enter("acme/brown", address)
		same(t, "end of the session before the second window is recorded", w.gateway.Snapshot().Sessions[0].Until, moment("01:02:00"))
		w.at("01:01:50")
		same(t, "end of the session when it is", w.gateway.Snapshot().Sessions[0].Until, moment("01:03:00"))
	})
}

func TestReload(t *testing.T) {
	night := func(from, until, targets string) *policy.Policy {
		return site(window{name: "acme/night", from: from, until: until, targets: targets})
	}
	before := night("01:00:00", "02:00:00", "ehr")
	moved := night("01:00:00", "02:00:00", "ehr")
	moved.Vendors[0].Engineers[0].Sources = prefixes("198.51.100.1/32")
	rekeyed := night("01:00:00", "02:00:00", "ehr")
	rekeyed.Vendors[0].Engineers[0].Key = policy.Key{200}
	for _, c := range []struct {
		name      string
		next      *policy.Policy
		atOnce    string   // targets within reach while the disk has not answered yet
		then      string   // and when it has
		cut       bool     // the session
		endAtOnce string   // of the session
		endThen   string   // of the session
		changes   []string // as the command answers
	}{
		{"unchanged", night("01:00:00", "02:00:00", "ehr"), "ehr", "ehr", false, "02:00:00", "02:00:00", nil},
		{"a target more waits for the disk", night("01:00:00", "02:00:00", "ehr pacs"), "ehr", "ehr pacs", false, "02:00:00", "02:00:00", []string{"changed window acme/night: targets + pacs", "opened now: acme/brown: pacs tcp/104, until 2000-01-01 02:00:00 UTC"}},
		{"a target exchanged closes at once and opens after the disk", night("01:00:00", "02:00:00", "pacs"), "", "pacs", false, "02:00:00", "02:00:00", []string{"changed window acme/night: targets ehr -> pacs", "closed now: acme/brown: ehr tcp/22", "opened now: acme/brown: pacs tcp/104, until 2000-01-01 02:00:00 UTC"}},
		{"a later end waits for the disk", night("01:00:00", "03:00:00", "ehr"), "ehr", "ehr", false, "02:00:00", "03:00:00", []string{"changed window acme/night: once 2000-01-01T01:00..2000-01-01T02:00 -> 2000-01-01T01:00..2000-01-01T03:00"}},
		{"an earlier end holds at once", night("01:00:00", "01:59:00", "ehr"), "ehr", "ehr", false, "01:59:00", "01:59:00", []string{"changed window acme/night: once 2000-01-01T01:00..2000-01-01T02:00 -> 2000-01-01T01:00..2000-01-01T01:59"}},
		{"an end that is over closes at once", night("01:00:00", "01:30:00", "ehr"), "", "", true, "", "", []string{"changed window acme/night: once 2000-01-01T01:00..2000-01-01T02:00 -> 2000-01-01T01:00..2000-01-01T01:30", "closed now: acme/brown: ehr tcp/22"}},
		{"no window closes at once", site(), "", "", true, "", "", []string{"removed window acme/night", "closed now: acme/brown: ehr tcp/22"}},
		{"another source closes at once", moved, "", "ehr", true, "", "", []string{"changed engineer acme/brown: sources 203.0.113.0/28 -> 198.51.100.1", "closed now: acme/brown: from 203.0.113.0/28", "opened now: acme/brown: from 198.51.100.1, until 2000-01-01 02:00:00 UTC"}},
		{"another key closes at once", rekeyed, "", "ehr", true, "", "", []string{"changed engineer acme/brown: public_key " + before.Vendors[0].Engineers[0].Key.String() + " -> " + policy.Key{200}.String(), "closed now: acme/brown: ehr tcp/22", "opened now: acme/brown: ehr tcp/22, until 2000-01-01 02:00:00 UTC"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, before, func(t *testing.T, w *world) {
				w.at("01:57:00")
				w.start()
				w.enter("acme/brown", address)
				w.do(func() { w.append.slow = time.Second; w.file = c.next })
				answered := make(chan Outcome, 1)
				go func() {
					out, err := w.gateway.Reload(t.Context(), yamada)
					if err != nil {
						t.Error(err)
					}
					answered <- out
				}()
				time.Sleep(time.Millisecond)
				w.step(0)
				end := func() string {
					if s := w.gateway.Snapshot().Sessions; len(s) > 0 {
						return s[0].Until.Format(time.TimeOnly)
					}
					return ""
				}
				same(t, "within reach at once", w.reach("acme/brown"), c.atOnce)
				same(t, "cut", len(w.sessions()) == 0, c.cut)
				same(t, "end of the session at once", end(), c.endAtOnce)
				out := <-answered
				same(t, "changes", out.Changes, c.changes)
				same(t, "the messages of them", append([]string(nil), view.Texts(out.ChangeMessages)...), c.changes)
				time.Sleep(2 * time.Second)
				w.step(0)
				same(t, "within reach when it is on disk", w.reach("acme/brown"), c.then)
				same(t, "end of the session when it is on disk", end(), c.endThen)
			})
		})
	}
}

// What a policy took away and a later one gives back was approved anew, and
// is recorded anew before it opens.
func TestATargetTakenAwayAndGivenBackIsRecordedAnew(t *testing.T) {
	both := site(window{name: "acme/night", from: "01:00:00", until: "02:00:00", targets: "ehr pacs"})
	simulate(t, both, func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.reload(oneHour())
		same(t, "within reach without it", w.reach("acme/brown"), "ehr")
		w.do(func() { w.file, w.append.slow = both, time.Second })
		go w.gateway.Reload(t.Context(), yamada)
		time.Sleep(500 * time.Millisecond)
		same(t, "within reach before the disk has it again", w.reach("acme/brown"), "ehr")
		time.Sleep(3 * time.Second)
		same(t, "within reach after", w.reach("acme/brown"), "ehr pacs")
	})
}

func TestAnOpeningOvertakenByAReloadIsNotClosedInTheJournal(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.append.slow = time.Second
		w.start()
		w.do(func() {
			w.file = site(window{name: "acme/night", from: "01:00:00", until: "02:00:00", targets: "ehr pacs"})
		})
		go w.gateway.Reload(t.Context(), yamada)
		w.at("01:30:20")
		same(t, "open", w.open(), []string{"acme/brown/night"})
		if told := w.told(journal.WindowOpened, journal.WindowClosed); told[len(told)-1] != "window_opened brown night" {
			t.Errorf("recorded %q of a grant that is open", told)
		}
	})
}

func TestFault51ABadReloadLeavesThePolicyInForce(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.enter("acme/brown", address)
		same(t, "file_ok before", w.gateway.Snapshot().StatusAt(w.wall()).Policy.FileOK, true)
		w.do(func() { w.fileError = errors.New("policy.yaml:3:1: site: what a pity") })
		time.Sleep(2 * heartbeat)
		w.step(0)
		same(t, "file_ok before anyone reloads it", w.gateway.Snapshot().StatusAt(w.wall()).Policy.FileOK, false)
		_, err := w.gateway.Reload(t.Context(), yamada)
		if err == nil || err.Error() != "policy.yaml:3:1: site: what a pity" {
			t.Errorf("reload: %v, want the file's error", err)
		}
		time.Sleep(2 * heartbeat)
		w.step(0)
		st := w.gateway.Snapshot().StatusAt(w.wall())
		same(t, "ready", st.Ready, true)
		same(t, "file_ok", st.Policy.FileOK, false)
		same(t, "file_error", st.Policy.Error, "policy.yaml:3:1: site: what a pity")
		same(t, "open", w.open(), []string{"acme/brown/night"})
		same(t, "sessions", len(w.sessions()), 1)
		w.do(func() { w.fileError = nil })
		w.reload(oneHour())
		same(t, "file_ok after a good one", w.gateway.Snapshot().StatusAt(w.wall()).Policy.FileOK, true)
		same(t, "sessions after a good one", len(w.sessions()), 1)
	})
}

func TestAFileThatIsNotInForceIsHintedAt(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.start()
		w.do(func() { w.file = site() })
		time.Sleep(2 * heartbeat)
		w.step(0)
		if hints := strings.Join(w.gateway.Snapshot().StatusAt(w.wall()).Hints, "\n"); !strings.Contains(hints, "is not the policy in force") {
			t.Errorf("hints %q", hints)
		}
		w.reload(site())
		same(t, "hints after a reload", w.hints(), []string{})
	})
}

func TestABadPolicyAtStart(t *testing.T) {
	for _, c := range []struct {
		name  string
		error string
	}{
		{"with an error", "policy.yaml:1:1: version: 2"},
		{"with more errors than an entry takes", strings.Repeat("policy.yaml:1:1: 木戸\n", 10000)},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.fileError = errors.New(c.error)
				w.start()
				same(t, "open", w.open(), []string{})
				if got := w.notReady(); !strings.Contains(got, "there is no policy in force") || !strings.Contains(got, "kidoban reload") {
					t.Errorf("not ready because %q: want what is wrong and what leads out", got)
				}
				for _, e := range w.durable() {
					if len(e.Text) > store.TextMax+20 {
						t.Errorf("an entry of kind %s with %d bytes of text", e.Kind, len(e.Text))
					}
				}
				w.do(func() { w.fileError = nil })
				w.reload(oneHour())
				same(t, "not ready after a good reload", w.notReady(), "")
				same(t, "open after a good reload", w.open(), []string{"acme/brown/night"})
			})
		})
	}
}

// A reading of the file that is slow must not take back what was read later.
func TestASlowReloadDoesNotOvertakeANewerOne(t *testing.T) {
	bad := errors.New("policy.yaml:3:1: site: what a pity")
	for _, c := range []struct {
		name         string
		older, newer error // what the slow reading finds, and the fast one; nil: the policy with the window, and one without
		open         []string
	}{
		{"the newer takes a window away", nil, nil, []string{}},
		{"the newer finds errors, so that the policy in force stays", nil, bad, []string{"acme/brown/night"}},
		{"the older finds errors", bad, nil, []string{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, site(), func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.start()
				var readings atomic.Int32
				w.gateway.cfg.PolicyFile = slowFile{w.gateway.cfg.PolicyFile, func() (*policy.Policy, []view.Message, error) {
					if readings.Add(1) == 1 {
						time.Sleep(time.Second)
						return oneHour(), nil, c.older
					}
					return site(), nil, c.newer
				}}
				first := make(chan error, 1)
				go func() {
					_, err := w.gateway.Reload(t.Context(), policy.Actor{Via: "signal", Text: "SIGHUP"})
					first <- err
				}()
				time.Sleep(100 * time.Millisecond)
				_, err := w.gateway.Reload(t.Context(), yamada)
				if !errors.Is(err, c.newer) {
					t.Errorf("the newer reload: %v, want %v", err, c.newer)
				}
				if err := <-first; !errors.Is(err, c.older) {
					t.Errorf("the older reload: %v, want %v", err, c.older)
				}
				time.Sleep(heartbeat) // what opens is on disk
				w.step(0)
				same(t, "open", w.open(), c.open)
			})
		})
	}
}

// TestFault78OneReadingAtATime: while the disk of the policy file does not
// answer, one reading hangs and no more, whoever asks; who asks for another is
// told; and when the disk answers everything goes on.
func TestFault78OneReadingAtATime(t *testing.T) {
	for _, first := range []string{"a reload", "the check once a second"} {
		t.Run(first+" hangs", func(t *testing.T) {
			simulate(t, site(), func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.start()
				var mu sync.Mutex
				under, most := 0, 0 // readings under way
				disk := make(chan struct{})
				hang := func() {
					mu.Lock()
					under++
					most = max(most, under)
					mu.Unlock()
					<-disk
					mu.Lock()
					under--
					mu.Unlock()
				}
				w.do(func() { w.fileDisk, w.file = hang, oneHour() })
				reloads := make(chan error, 100)
				reload := func() { _, err := w.gateway.Reload(t.Context(), yamada); reloads <- err }
				hung := 0
				if first == "a reload" {
					go reload()
					hung++
				} else {
					time.Sleep(2 * heartbeat)
				}
				synctest.Wait()
				same(t, "readings that hang", under, 1)
				for range 20 {
					go reload()
				}
				time.Sleep(readWait + heartbeat)
				for range 20 {
					select {
					case err := <-reloads:
						if err == nil || !strings.Contains(err.Error(), "nothing was done: the policy file is being read already") {
							t.Errorf("a reload beside it: %v", err)
						}
					default:
						t.Fatalf("a reload beside it has no answer after %v", readWait+heartbeat)
					}
				}
				time.Sleep(10 * heartbeat)
				same(t, "most readings at once", most, 1)
				same(t, "ready", w.notReady(), "")
				close(disk)
				synctest.Wait()
				for range hung {
					if err := <-reloads; err != nil {
						t.Errorf("the reload that hung: %v", err)
					}
				}
				w.reload(oneHour())
				same(t, "open", w.open(), []string{"acme/brown/night"})
			})
		})
	}
}

// A window that begins at another time is another opening by its name. What is
// open by the old one's entry stays so until the new one is on disk; then the
// old one is closed in the journal.
func TestAWindowThatIsMovedUnderASessionIsRecordedAnewWithoutAGap(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.enter("acme/brown", address)
		grants := func() string { return strings.Join(w.gateway.Snapshot().Sessions[0].Grants, " ") }
		w.do(func() { w.append.slow = time.Second })
		w.do(func() { w.file = site(window{name: "acme/night", from: "00:30:00", until: "03:00:00"}) })
		go w.gateway.Reload(t.Context(), yamada)
		time.Sleep(500 * time.Millisecond)
		w.step(0)
		same(t, "the session stands on", grants(), "acme/brown/night@20000101T010000Z")
		same(t, "and lasts until", w.gateway.Snapshot().Sessions[0].Until, moment("02:00:00"))
		time.Sleep(3 * time.Second)
		w.step(0)
		same(t, "the session stands on, when it is on disk", grants(), "acme/brown/night@20000101T003000Z")
		same(t, "and lasts until, then", w.gateway.Snapshot().Sessions[0].Until, moment("03:00:00"))
		var told []string
		for _, e := range w.durable() {
			if e.Kind == journal.WindowOpened || e.Kind == journal.WindowClosed || e.Kind == journal.SessionClosed {
				told = append(told, strings.TrimSpace(string(e.Kind)+" "+e.Grant+" "+e.Reason))
			}
		}
		same(t, "recorded", told, []string{
			"window_opened acme/brown/night@20000101T010000Z",
			"window_opened acme/brown/night@20000101T003000Z",
			"window_closed acme/brown/night@20000101T010000Z policy_changed",
		})
	})
}

// A tunnel with other addresses of its own is another tunnel: nobody is inside,
// and the admissions that wait for the disk say nothing of those of the new one.
func TestOtherAddressesOfTheTunnelEndEverySession(t *testing.T) {
	tunnel := func(address string) *policy.Policy {
		p := oneHour()
		p.Tunnel.Addresses = prefixes(address)
		p.Digest += address
		return p
	}
	simulate(t, tunnel("10.99.0.1/24"), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.enter("acme/brown", address)
		w.do(func() { w.append.slow = time.Second })
		old := w.knock("acme/brown", address)
		out := w.reload(tunnel("10.99.0.2/24"))
		same(t, "changes", out.Changes, []string{"changed tunnel: addresses 10.99.0.1/24 -> 10.99.0.2/24", "the tunnel has other addresses of its own and is built anew: every session ends"})
		same(t, "sessions that it ended", out.Sessions, 1)
		same(t, "sessions", w.sessions(), []string{})
		time.Sleep(5 * time.Second)
		w.do(func() {
			if _, waits := w.tunnel.due[old]; !waits {
				t.Error("the new tunnel was told that an admission of the old one is on disk")
			}
		})
		same(t, "recorded", w.told(journal.SessionClosed), []string{"session_closed brown policy_changed"})
		w.do(func() { w.append = fault{} })
		w.enter("acme/brown", address)
		same(t, "sessions when brown is back", len(w.sessions()), 1)
		same(t, "changes when they stay", w.reload(tunnel("10.99.0.2/24")).Changes, nil)
		same(t, "sessions after that", len(w.sessions()), 1)
	})
}

// Who gets another's tunnel address enters only when the ruleset has nothing
// open for the other any more: the gate opens first, and would let the new one
// into what the kernel still has open for the old one.
func TestATunnelAddressChangesHandsByWayOfTheRuleset(t *testing.T) {
	windows := []window{{name: "acme/night", from: "01:00:00", until: "03:00:00"}, {name: "medisys/night", from: "01:00:00", until: "03:00:00"}}
	simulate(t, site(windows...), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		all := w.open()
		next := site(windows...)
		next.Digest = "exchanged"
		brown, sato := next.Engineer("acme/brown"), next.Engineer("medisys/sato")
		brown.Addresses, sato.Addresses = sato.Addresses, brown.Addresses
		others := slices.DeleteFunc(slices.Clone(all), func(g string) bool {
			return strings.HasPrefix(g, "acme/brown/") || strings.HasPrefix(g, "medisys/sato/")
		})
		if len(all) != 3 || len(others) != 1 {
			t.Fatalf("open before: %v", all)
		}
		w.do(func() { w.file, w.firewall.set = next, fault{slow: time.Second} })
		go w.gateway.Reload(t.Context(), yamada)
		for range 9 {
			time.Sleep(100 * time.Millisecond)
			w.step(0)
			same(t, "open while the ruleset is set", w.open(), others)
		}
		time.Sleep(2 * time.Second)
		w.step(0)
		same(t, "open then", w.open(), all)
		time.Sleep(2 * time.Second)
		w.step(0)
		same(t, "open in the kernel", w.kernel(), all)
		var told []string
		for _, e := range w.durable() {
			if e.Kind == journal.WindowOpened || e.Kind == journal.WindowClosed {
				told = append(told, string(e.Kind)+" "+e.Engineer)
			}
		}
		slices.Sort(told)
		same(t, "recorded", told, []string{
			"window_closed brown", "window_closed sato",
			"window_opened brown", "window_opened brown", "window_opened sato", "window_opened sato", "window_opened suzuki",
		})
	})
}

// endedOn is what the policy file of a world warns of on a date.
func endedOn(date string) view.Message {
	return view.Say("policy_contract_ended", view.Args{"file": "policy.yaml", "line": 1, "column": 1, "where": "contract", "date": date})
}

// TestWarningsFollowTheDate: a gateway that is not reloaded for weeks warns of
// what there is to warn of today, at the site, and records nothing for it.
func TestWarningsFollowTheDate(t *testing.T) {
	p := site()
	p.Zone = time.FixedZone("JST", 9*60*60)
	simulate(t, p, func(t *testing.T, w *world) {
		hints := w.hints
		w.at("14:00:00")
		w.start()
		w.at("14:59:59")
		entries := len(w.durable())
		same(t, "hints as long as the file was read today", hints(), []string{})
		w.at("15:00:02")
		same(t, "hints after the site's midnight", hints(), []string{endedOn("2000-01-02").String()})
		same(t, "entries for it", len(w.durable())-entries, 0)
		w.reload(p)
		same(t, "hints after a reload", hints(), []string{})
		w.step(-time.Hour)
		time.Sleep(2 * heartbeat)
		synctest.Wait()
		if got := hints(); !slices.Contains(got, endedOn("2000-01-01").String()) {
			t.Errorf("hints after the clock was set back: %q", got)
		}
	})
}

// slowFile is a policy file with another Load.
type slowFile struct {
	PolicyFile
	load func() (*policy.Policy, []view.Message, error)
}

func (f slowFile) Load() (*policy.Policy, []view.Message, error) { return f.load() }
