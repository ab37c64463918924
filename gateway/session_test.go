package gateway

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

const address, otherAddress = "203.0.113.1:1000", "203.0.113.2:1000"

func TestSession(t *testing.T) {
	for _, c := range []struct {
		name     string
		do       func(*world)
		sessions []string
		told     []string // of sessions, in the journal
	}{
		{"an admission alone is none", func(w *world) { w.knock("acme/brown", address) }, []string{}, []string{}},
		{"a confirmed admission opens it", func(w *world) { w.enter("acme/brown", address) },
			[]string{"acme/brown from 203.0.113.1"}, []string{"session_opened brown"}},
		{"a rekey continues it", func(w *world) { w.enter("acme/brown", address); w.enter("acme/brown", address) },
			[]string{"acme/brown from 203.0.113.1"}, []string{"session_opened brown"}},
		{"another port continues it", func(w *world) { w.enter("acme/brown", address); w.enter("acme/brown", "203.0.113.1:2000") },
			[]string{"acme/brown from 203.0.113.1"}, []string{"session_opened brown"}},
		{"another address supersedes it", func(w *world) { w.enter("acme/brown", address); w.enter("acme/brown", otherAddress) },
			[]string{"acme/brown from 203.0.113.2"}, []string{"session_opened brown", "session_closed brown superseded", "session_opened brown"}},
		{"engineers have their own", func(w *world) { w.enter("acme/brown", address); w.enter("medisys/sato", address) },
			[]string{"acme/brown from 203.0.113.1", "medisys/sato from 203.0.113.1"}, []string{"session_opened brown", "session_opened sato"}},
		{"a confirmation without an admission opens none", func(w *world) { w.confirm(1<<40, "acme/brown", address) }, []string{}, []string{}},
		{"a confirmation after the end opens none", func(w *world) {
			n := w.knock("acme/brown", address)
			w.at("02:00:00")
			w.confirm(n, "acme/brown", address)
		}, []string{}, []string{}},
		{"its window's end closes it", func(w *world) { w.at("01:59:00"); w.enter("acme/brown", address); w.at("02:00:00") },
			[]string{}, []string{"session_opened brown", "session_closed brown window_closed"}},
		{"silence closes it after 180 s", func(w *world) { w.enter("acme/brown", address); w.at("01:58:00") },
			[]string{}, []string{"session_opened brown", "session_closed brown idle"}},
		{"a byte received keeps it", func(w *world) {
			w.enter("acme/brown", address)
			w.at("01:57:30")
			w.hear("acme/brown", 1, 0)
			w.at("01:59:00")
		},
			[]string{"acme/brown from 203.0.113.1"}, []string{"session_opened brown"}},
		{"a byte transmitted does not keep it", func(w *world) {
			w.enter("acme/brown", address)
			w.at("01:57:30")
			w.hear("acme/brown", 0, 1)
			w.at("01:58:00")
		}, []string{}, []string{"session_opened brown", "session_closed brown idle"}},
		{"shutting everything closes it", func(w *world) { w.enter("acme/brown", address); w.shut("all") },
			[]string{}, []string{"session_opened brown", "session_closed brown gateway_shut"}},
		{"shutting the vendor closes it", func(w *world) { w.enter("acme/brown", address); w.shut("acme") },
			[]string{}, []string{"session_opened brown", "session_closed brown vendor_shut"}},
		{"shutting the engineer closes it", func(w *world) { w.enter("acme/brown", address); w.shut("acme/brown") },
			[]string{}, []string{"session_opened brown", "session_closed brown engineer_shut"}},
		{"shutting another does not", func(w *world) { w.enter("acme/brown", address); w.shut("medisys") },
			[]string{"acme/brown from 203.0.113.1"}, []string{"session_opened brown"}},
		{"a policy without its window closes it", func(w *world) { w.enter("acme/brown", address); w.reload(site()) },
			[]string{}, []string{"session_opened brown", "session_closed brown policy_changed"}},
		{"a doubt closes it", func(w *world) {
			w.enter("acme/brown", address)
			w.tunnel.facts <- policy.Fact{Kind: policy.Failure, Err: errFault}
			synctest.Wait()
		}, []string{}, []string{"session_opened brown", "session_closed brown gateway_shut"}},
		{"a clock set back to before the opening closes it", func(w *world) {
			w.reload(site(window{name: "acme/night", from: "01:55:10", until: "02:00:00"}))
			w.at("01:55:11")
			w.enter("acme/brown", address)
			w.step(-3 * time.Second)
		}, []string{}, []string{"session_opened brown", "session_closed brown window_closed"}},
		{"stopping the gateway closes it", func(w *world) {
			w.enter("acme/brown", address)
			if err := w.stop(); err != nil {
				w.t.Error(err)
			}
		}, []string{}, []string{"session_opened brown", "session_closed brown gateway_stopped"}},
		{"a crash is found at the next start", func(w *world) { w.enter("acme/brown", address); w.crash(); w.start() },
			[]string{}, []string{"session_opened brown", "session_closed brown crashed"}},
		{"a stop that was recorded is no crash", func(w *world) {
			w.enter("acme/brown", address)
			if err := w.stop(); err != nil {
				w.t.Error(err)
			}
			w.start()
		}, []string{}, []string{"session_opened brown", "session_closed brown gateway_stopped"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := site(window{name: "acme/night", from: "01:00:00", until: "02:00:00"}, window{name: "medisys/late", from: "01:00:00", until: "02:00:00"})
			simulate(t, p, func(t *testing.T, w *world) {
				w.at("01:55:00")
				w.start()
				c.do(w)
				synctest.Wait()
				same(t, "sessions", w.sessions(), c.sessions)
				same(t, "recorded", w.told(journal.SessionOpened, journal.SessionClosed), c.told)
			})
		})
	}
}

func TestSessionsAreCounted(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:55:00")
		w.start()
		w.hear("acme/brown", 500, 500) // of an earlier session
		w.at("01:55:02")
		w.enter("acme/brown", address)
		w.hear("acme/brown", 100, 20)
		w.at("01:55:04")
		s := w.gateway.Snapshot().Sessions[0]
		same(t, "received while open", s.Received, 100)
		same(t, "transmitted while open", s.Transmitted, 20)
		w.hear("acme/brown", 11, 7) // within the last second
		w.shut("acme")
		disk := w.durable()
		closed := disk[len(disk)-1]
		for _, e := range disk {
			if e.Kind == journal.SessionClosed {
				closed = e
			}
		}
		same(t, "received, recorded", closed.ReceivedBytes, 111)
		same(t, "transmitted, recorded", closed.TransmittedBytes, 27)
	})
}

func TestAnAdmissionThatIsNotOnDiskIsCut(t *testing.T) {
	for _, c := range []struct {
		name  string
		slow  time.Duration
		cuts  []string
		leads []string
	}{
		{"on disk in time", 900 * time.Millisecond, nil, []string{"acme/brown from 203.0.113.1"}},
		{"on disk too late", 1100 * time.Millisecond, []string{"acme/brown"}, []string{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.start()
				w.at("01:31:00.500")
				w.do(func() { w.append.slow = c.slow })
				w.enter("acme/brown", address)
				time.Sleep(999 * time.Millisecond)
				synctest.Wait()
				same(t, "sessions before a second has passed", len(w.sessions()), 1)
				time.Sleep(time.Millisecond)
				synctest.Wait()
				same(t, "sessions when a second has passed", w.sessions(), c.leads)
				w.do(func() { same(t, "cuts", w.tunnel.cuts, c.cuts) })
				if c.cuts == nil {
					return
				}
				w.confirm(admissions, "acme/brown", address)
				same(t, "sessions when the packet after the cut arrives", w.sessions(), []string{})
				w.at("01:31:30")
				same(t, "recorded in the end", w.told(journal.SessionClosed), []string{"session_closed brown unrecorded"})
			})
		})
	}
}

// The gate cuts by a clock of its own, a moment before the loop would; the
// loop learns of it when it tells of the record.
func TestAnAdmissionThatTheGateHasCutEndsItsSession(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.do(func() { w.append.slow = 990 * time.Millisecond })
		n := w.knock("acme/brown", address)
		w.do(func() { w.tunnel.due[n] -= 20 * time.Millisecond })
		w.confirm(n, "acme/brown", address)
		same(t, "sessions meanwhile", len(w.sessions()), 1)
		time.Sleep(990 * time.Millisecond)
		synctest.Wait()
		same(t, "sessions when the disk has answered", w.sessions(), []string{})
		w.at("01:31:00")
		same(t, "recorded", w.told(journal.Admission, journal.SessionClosed), []string{"admission brown night admitted", "session_closed brown unrecorded"})
	})
}

func TestTheGateIsToldOfEveryRecord(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.do(func() { w.append.slow = 400 * time.Millisecond })
		w.enter("acme/brown", address)
		w.enter("acme/brown", address)
		w.do(func() { same(t, "waiting before the disk has answered", len(w.tunnel.due), 2) })
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		w.do(func() { same(t, "waiting after", len(w.tunnel.due), 0) })
		same(t, "sessions", len(w.sessions()), 1)
	})
}

func TestLiveAddressesReachTheFirewall(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.enter("acme/brown", address)
		same(t, "when the session opens", w.live(), "[203.0.113.1:1000]")
		w.enter("acme/brown", "203.0.113.1:2000")
		same(t, "when its port changes", w.live(), "[203.0.113.1:2000]")
		w.shut("acme")
		same(t, "when it has ended", w.live(), "[]")
	})
}

// live lists the addresses that the firewall was given last.
func (w *world) live() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprint(w.firewall.live)
}

func (w *world) shut(scope policy.Scope) Outcome {
	w.t.Helper()
	out, err := w.gateway.Do(w.t.Context(), yamada, policy.Shut{Scope: scope, Reason: "a test"})
	if err != nil {
		w.t.Fatalf("close %s: %v", scope, err)
	}
	synctest.Wait()
	return out
}

func (w *world) reopen(scope policy.Scope) Outcome {
	w.t.Helper()
	out, err := w.gateway.Do(w.t.Context(), yamada, policy.Reopened{Scope: scope, Reason: "a test"})
	if err != nil {
		w.t.Fatalf("reopen %s: %v", scope, err)
	}
	synctest.Wait()
	return out
}

func (w *world) reload(p *policy.Policy) Outcome {
	w.t.Helper()
	w.do(func() { w.file = p })
	out, err := w.gateway.Reload(w.t.Context(), yamada)
	if err != nil {
		w.t.Fatalf("reload: %v", err)
	}
	synctest.Wait()
	return out
}

func (w *world) recover() Outcome {
	w.t.Helper()
	out, err := w.gateway.Recover(w.t.Context(), yamada, "a test")
	if err != nil {
		w.t.Fatalf("recover: %v", err)
	}
	synctest.Wait()
	return out
}

// TestADiskThatDoesNotAnswerIsSaid: who is refused because an admission waits
// for its record hears it from explain and status, before it is a doubt.
func TestADiskThatDoesNotAnswerIsSaid(t *testing.T) {
	simulate(t, site(window{name: "medisys/night", from: "01:00:00", until: "03:00:00"}), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.enter("medisys/sato", address)
		w.at("01:31:00.500")
		release := make(chan struct{})
		w.do(func() { w.append.hang = release })
		w.knock("medisys/suzuki", address)
		const hint = "the disk has not answered for %s: until it does nobody new enters, since no admission lasts without its record"
		answers := func(when string, late bool, waits string) {
			t.Helper()
			s, now := w.gateway.Snapshot(), w.wall()
			want := ""
			if waits != "" {
				want = fmt.Sprintf(hint, waits)
			}
			same(t, when+": said in status", slices.Contains(s.StatusAt(now).Hints, want), waits != "")
			for _, c := range []struct {
				who, to string
				at      time.Time
				refused bool
				hears   string
			}{
				{"medisys/suzuki", "", now, late, want},
				{"medisys/suzuki", "10.1.0.5:22", now, late, want},
				{"medisys/sato", "", now, late, want}, // the session cannot be renewed
				{"medisys/sato", "10.1.0.5:22", now, false, ""},
				{"medisys/suzuki", "", now.Add(time.Hour), false, ""},
			} {
				q := policy.Query{Key: w.engineer(c.who).Key, Proven: true, Fault: policy.Admitted, Proto: policy.TCP}
				if c.to != "" {
					q.To = netip.MustParseAddrPort(c.to)
				}
				reason := policy.Admitted
				if c.refused {
					reason = policy.NotReady
				}
				d := s.Explain(q, c.at, now)
				what := fmt.Sprintf("%s: %s to %q at %v", when, c.who, c.to, c.at)
				same(t, what, d.Reason, reason)
				same(t, what+", who", d.Engineer.String(), c.who)
				same(t, what+", obstacle", strings.Join(view.Texts(s.Obstacles(q, d, c.at, now)), "\n"), c.hears)
			}
		}
		answers("at first", false, "")
		w.at("01:31:02")
		answers("after a second", true, "1s")
		w.at("01:31:20")
		answers("later", true, "19s")
		w.do(func() { w.append.hang = nil; w.append.slow = 3 * time.Second })
		close(release)
		w.at("01:31:21")
		answers("when the record is on disk", false, "")
		go w.gateway.Do(t.Context(), yamada, policy.Shut{Scope: "acme", Reason: "a test"})
		w.at("01:31:23")
		answers("while the next append takes its time", false, "2s")
		w.at("01:31:30")
		answers("when the disk is well", false, "")
		release = make(chan struct{})
		w.do(func() { w.append = fault{hang: release} })
		w.knock("medisys/suzuki", address)
		w.at("01:32:10")
		if got := w.notReady(); !strings.Contains(got, "has not answered for 30s") {
			t.Errorf("not ready because %q, want the disk", got)
		}
		same(t, "hints beside the doubt", strings.Contains(strings.Join(w.gateway.Snapshot().StatusAt(w.wall()).Hints, "\n"), "has not answered"), false)
		close(release)
	})
}

// Sessions that opened at the same instant keep their order in every snapshot.
func TestSessionsKeepTheirOrder(t *testing.T) {
	simulate(t, everybody("acme", "brown"), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.enter("acme/brown", address)
		w.enter("medisys/sato", "203.0.113.2:1000")
		w.enter("medisys/suzuki", "203.0.113.3:1000")
		for range 20 {
			var ids []string
			for _, s := range w.gateway.Snapshot().Sessions {
				ids = append(ids, s.ID)
			}
			same(t, "sessions", len(ids), 3)
			same(t, "in order", slices.IsSorted(ids), true)
			time.Sleep(heartbeat)
			synctest.Wait()
		}
	})
}

// TestFault86NoHandshakeBeforeTheOpening: a session's last handshake is the one that
// opened it or a later one. The last reading may be older, and the device dates a
// handshake before the loop hears of it.
func TestFault86NoHandshakeBeforeTheOpening(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		key := w.engineer("acme/brown").Key
		device := func(clock string) {
			w.do(func() { w.tunnel.traffic[key] = view.Traffic{LastHandshake: moment(clock)} })
		}
		last := func(want string) {
			t.Helper()
			for _, s := range w.gateway.Snapshot().Sessions {
				if s.LastHandshake == nil || !s.LastHandshake.Equal(moment(want)) || s.LastHandshake.Before(s.OpenedAt) {
					t.Errorf("opened at %s, the last handshake was at %v, want %s", s.OpenedAt, s.LastHandshake, want)
				}
			}
			same(t, "sessions", len(w.gateway.Snapshot().Sessions), 1)
		}
		w.at("01:10:00")
		w.start()
		device("01:10:00")
		time.Sleep(2 * heartbeat) // the reading of a session before
		w.at("01:20:00.300")
		device("01:20:00.250")
		w.enter("acme/brown", address)
		last("01:20:00.300")
		time.Sleep(2 * heartbeat)
		w.step(0)
		last("01:20:00.300")
		device("01:20:02")
		time.Sleep(2 * heartbeat)
		w.step(0)
		last("01:20:02")
	})
}
