package gateway

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
)

// extend is the extension of a request as it is shown now.
func (w *world) extend(id string, until time.Time) policy.Verdict {
	r := w.gateway.Snapshot().Base.Request(id)
	return policy.Verdict{Verb: policy.Extend, ID: id, Until: until, Digest: r.Next(until).Digest()}
}

// gave gives an event on a goroutine of its own. The function waits for the answer.
func (w *world) gave(operator string, event policy.Event) func() (Outcome, error) {
	var out Outcome
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		out, err = w.gateway.Do(w.t.Context(), by(operator), event)
	}()
	synctest.Wait()
	return func() (Outcome, error) { <-done; synctest.Wait(); return out, err }
}

// TestNothingOpensThatIsNotOnDisk: a disk that is dead, full, slow or hangs lets no decision
// open anything. Without the fault the same decision opens.
func TestNothingOpensThatIsNotOnDisk(t *testing.T) {
	for name, fails := range map[string]func(hang chan struct{}) fault{
		"dead":           func(chan struct{}) fault { return fault{err: errFault} },
		"dead just then": func(chan struct{}) fault { return fault{err: errFault, after: true} },
		"slow":           func(chan struct{}) fault { return fault{slow: 20 * time.Second} },
		"hangs":          func(hang chan struct{}) fault { return fault{hang: hang} },
		"in order":       func(chan struct{}) fault { return fault{} },
	} {
		for _, step := range []string{"emergency", "approval", "extension"} {
			t.Run(step+", the disk is "+name, func(t *testing.T) {
				simulate(t, onRequest(), func(t *testing.T, w *world) {
					w.at("12:00:00")
					w.start()
					hang := make(chan struct{})
					breaks := func() { w.do(func() { w.append = fails(hang) }) }
					at := "12:00:10"
					switch step {
					case "emergency":
						breaks()
						a := policy.Ask{Vendor: "acme", Engineers: []string{"brown"}, Targets: []string{"ehr"}, For: time.Hour, Purpose: "fire", Emergency: true}
						terms, err := w.file.Resolve(a, "~1", w.wall())
						if err != nil {
							t.Fatal(err)
						}
						w.gave("tanaka", policy.Requested{Terms: terms})
					case "approval":
						r := w.request("tanaka", "~1")
						breaks()
						w.gave("suzuki", approve(r))
					case "extension":
						r := w.request("tanaka", "~1")
						w.gives("suzuki", approve(r))
						w.at("12:59:55")
						breaks()
						w.gave("suzuki", w.extend(r.ID, r.Until.Add(time.Hour)))
						at = "13:00:01"
					}
					w.at(at)
					if open := len(w.open()) > 0; open != (name == "in order") {
						t.Errorf("open is %q", w.open())
					}
					w.do(func() { w.append = fault{} })
					close(hang)
					time.Sleep(time.Minute)
					synctest.Wait()
					want := name != "dead" && name != "dead just then" // these leave the gateway in doubt
					if open := len(w.open()) > 0; open != want {
						t.Errorf("later open is %q", w.open())
					}
					w.crash() // a decision is there if its entry is
					w.start()
					if open := len(w.open()) > 0; open != (name != "dead") {
						t.Errorf("after a restart open is %q", w.open())
					}
				})
			})
		}
	}
}

// TestClosingHoldsOverARestart: a revocation while the journal is dead, and a shortening whose record
// fails, are kept by the latch. Without the latch the request opens again.
func TestClosingHoldsOverARestart(t *testing.T) {
	for _, close := range []string{"revoke", "shorten"} {
		for _, latch := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, latch %t", close, latch), func(t *testing.T) {
				simulate(t, onRequest(), func(t *testing.T, w *world) {
					w.at("12:00:00")
					w.start()
					r := w.request("tanaka", "~1")
					w.gives("suzuki", approve(r))
					w.do(func() { w.append = fault{err: errFault} })
					out, err := Outcome{}, error(nil)
					if close == "revoke" {
						out, err = w.gave("", policy.Shut{Scope: r.Scope(), Reason: "wrong server"})()
						if !out.Kept {
							t.Errorf("not kept: %+v", out)
						}
					} else {
						out, err = w.gave("ito", policy.Verdict{Verb: policy.Shorten, ID: r.ID, Until: w.wall().Add(30 * time.Minute), Reason: "done by then"})()
					}
					if err != nil || out.Recorded {
						t.Fatalf("%+v, %v", out, err)
					}
					time.Sleep(2 * heartbeat)
					synctest.Wait()
					same(t, "then", w.stage(r.ID), policy.StageRevoked)
					w.crash()
					w.do(func() {
						w.append = fault{}
						if !latch {
							w.latch = nil
						}
					})
					w.start()
					w.at("12:01:00")
					if open := len(w.open()) > 0; open == latch {
						t.Errorf("after a restart open is %q", w.open())
					}
					if !latch {
						return
					}
					same(t, "after a restart", w.stage(r.ID), policy.StageRevoked)
					w.crash() // the journal has it now
					w.do(func() { w.latch = nil })
					w.start()
					same(t, "after another one", w.stage(r.ID), policy.StageRevoked)
				})
			})
		}
	}
}

// TestARevocationOfALostRequest: a start from a damaged journal, which has lost the request, keeps
// its revocation. The journal that is read again has the request, but not the revocation.
func TestARevocationOfALostRequest(t *testing.T) {
	simulate(t, onRequest(), func(t *testing.T, w *world) {
		w.at("12:00:00")
		w.start()
		r := w.request("tanaka", "~1")
		w.gives("suzuki", approve(r))
		w.do(func() { w.append = fault{err: errFault} })
		w.gave("", policy.Shut{Scope: r.Scope(), Reason: "wrong server"})()
		w.crash()
		w.do(func() {
			w.append, w.damage, w.lost, w.gone = fault{}, errFault, errFault, map[int]bool{}
			for i, e := range w.disk {
				w.gone[i] = e.Request != ""
			}
		})
		w.start()
		w.do(func() { w.damage, w.lost, w.gone = nil, nil, nil })
		if _, err := w.gateway.Recover(t.Context(), yamada, "the disk is back"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		same(t, "not ready", w.notReady(), "")
		same(t, "the request", w.stage(r.ID), policy.StageRevoked)
		same(t, "open", len(w.open()), 0)
	})
}

// TestADecisionThatSeemedLost: the journal fails after it has taken an approval. A recovery finds
// it, as a restart does.
func TestADecisionThatSeemedLost(t *testing.T) {
	simulate(t, onRequest(), func(t *testing.T, w *world) {
		w.at("12:00:00")
		w.start()
		r := w.request("tanaka", "~1")
		w.do(func() { w.append = fault{err: errFault, after: true} })
		if _, err := w.gave("suzuki", approve(r))(); err == nil {
			t.Error("approved, and not recorded")
		}
		same(t, "open", len(w.open()), 0)
		w.do(func() { w.append = fault{} })
		if _, err := w.gateway.Recover(t.Context(), yamada, "the disk is back"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		live := requestTexts(w.gateway.Snapshot().Base)
		same(t, "open then", len(w.open()), 1)
		w.crash()
		w.start()
		same(t, "after a restart", requestTexts(w.gateway.Snapshot().Base), live)
		same(t, "open after a restart", len(w.open()), 1)
	})
}

// TestOvertaken: what closes counts, also if it came while the record of what opens was on its way.
// A restart says the same.
func TestOvertaken(t *testing.T) {
	for name, overtakes := range map[string]policy.Event{
		"denied":    policy.Verdict{Verb: policy.Deny, ID: "~1", Reason: "no"},
		"withdrawn": policy.Verdict{Verb: policy.Withdraw, ID: "~1", Reason: "no"},
		"revoked":   policy.Shut{Scope: "~1", Reason: "no"},
		"nothing":   nil,
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, onRequest(), func(t *testing.T, w *world) {
				w.at("12:00:00")
				w.start()
				r := w.request("tanaka", "~1")
				w.do(func() { w.append = fault{slow: 2 * time.Second} })
				answer := w.gave("suzuki", approve(r))
				if overtakes != nil {
					w.gave("ito", overtakes)
				}
				if out, err := answer(); (err == nil) != (overtakes == nil) {
					t.Errorf("%+v, %v", out, err)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				same(t, "open", len(w.open()) > 0, overtakes == nil)
				live := requestTexts(w.gateway.Snapshot().Base)
				w.crash()
				w.start()
				time.Sleep(10 * time.Second)
				synctest.Wait()
				same(t, "open after a restart", len(w.open()) > 0, overtakes == nil)
				same(t, "after a restart", requestTexts(w.gateway.Snapshot().Base), live)
			})
		})
	}
	t.Run("shortened", func(t *testing.T) {
		simulate(t, onRequest(), func(t *testing.T, w *world) {
			w.at("12:00:00")
			w.start()
			r := w.request("tanaka", "~1")
			w.gives("suzuki", approve(r))
			w.do(func() { w.append = fault{slow: 2 * time.Second} })
			longer := w.gave("suzuki", w.extend(r.ID, r.Until.Add(time.Hour)))
			w.gave("ito", policy.Verdict{Verb: policy.Shorten, ID: r.ID, Until: w.wall().Add(30 * time.Minute), Reason: "enough"})
			if _, err := longer(); err == nil {
				t.Error("extended, and shortened meanwhile")
			}
			w.do(func() { w.append = fault{} })
			time.Sleep(time.Minute)
			synctest.Wait()
			w.gives("suzuki", w.extend(r.ID, r.From.Add(45*time.Minute))) // of a version that a replay has too
			live := requestTexts(w.gateway.Snapshot().Base)
			w.crash()
			w.start()
			same(t, "after a restart", requestTexts(w.gateway.Snapshot().Base), live)
			w.at("12:44:00")
			same(t, "open", len(w.open()), 1)
			w.at("12:45:01")
			same(t, "over", len(w.open()), 0)
		})
	})
	t.Run("by another policy", func(t *testing.T) {
		simulate(t, onRequest(), func(t *testing.T, w *world) {
			w.at("12:00:00")
			w.start()
			r := w.request("tanaka", "~1")
			w.do(func() { w.append = fault{slow: 5 * time.Second} })
			w.gave("suzuki", approve(r))
			next := onRequest()
			next.Vendor("acme").OnRequest.Approvers, next.Digest = next.Operators[:1], "without suzuki"
			w.do(func() { w.file = next })
			if _, err := w.gateway.Reload(t.Context(), yamada); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			same(t, "approvals in the journal", len(w.told(journal.Approved)), 1)
			same(t, "open", len(w.open()), 0)
		})
	})
}

// TestTwoApproversAtOnce: two of two open it, in the same turn too; one of them, twice, does not.
func TestTwoApproversAtOnce(t *testing.T) {
	for _, who := range [][2]string{{"suzuki", "ito"}, {"suzuki", "suzuki"}, {"suzuki", "tanaka"}} {
		t.Run(strings.Join(who[:], " and "), func(t *testing.T) {
			p := onRequest()
			p.Vendor("acme").OnRequest.Approvals = 2
			simulate(t, p, func(t *testing.T, w *world) {
				w.at("12:00:00")
				w.start()
				r := w.request("tanaka", "~1")
				w.do(func() { w.append = fault{slow: time.Second} })
				var both sync.WaitGroup
				for _, name := range who {
					both.Go(func() { _, _ = w.gateway.Do(t.Context(), by(name), approve(r)) })
				}
				both.Wait()
				time.Sleep(10 * time.Second)
				synctest.Wait()
				same(t, "open", len(w.open()) > 0, who[1] == "ito")
				live := requestTexts(w.gateway.Snapshot().Base)
				w.crash()
				w.start()
				time.Sleep(10 * time.Second)
				synctest.Wait()
				same(t, "after a restart", requestTexts(w.gateway.Snapshot().Base), live)
				same(t, "open after a restart", len(w.open()) > 0, who[1] == "ito")
			})
		})
	}
}

// TestACrashAfterEachEntry: after a crash whatever is open follows from the entries on disk.
func TestACrashAfterEachEntry(t *testing.T) {
	var disk []journal.Entry
	simulate(t, onRequest(), func(t *testing.T, w *world) {
		w.at("12:00:00")
		w.start()
		r := w.request("tanaka", "~1")
		w.gives("suzuki", approve(r))
		w.gives("tanaka", policy.Verdict{Verb: policy.AskExtension, ID: r.ID, Until: r.Until.Add(time.Hour)})
		w.gives("ito", w.extend(r.ID, r.Until.Add(time.Hour)))
		w.gives("ito", policy.Verdict{Verb: policy.Shorten, ID: r.ID, Until: r.Until.Add(time.Minute)})
		w.gives("", policy.Shut{Scope: r.Scope(), Reason: "a test"})
		disk = w.durable()
	})
	open := 0
	for n := range len(disk) + 1 {
		simulate(t, onRequest(), func(t *testing.T, w *world) {
			has := func(kind journal.Kind) bool {
				for _, e := range disk[:n] {
					if e.Kind == kind {
						return true
					}
				}
				return false
			}
			w.at("12:00:01")
			w.do(func() { w.disk = append(w.disk, disk[:n]...) })
			w.start()
			want := has(journal.Approved) && !has(journal.Revoked)
			same(t, fmt.Sprintf("open after %d entries", n), len(w.open()) > 0, want)
			if want {
				open++
				until := w.plan().Grants[0].Until
				end := "13:00:00"
				switch {
				case has(journal.Shortened):
					end = "13:01:00"
				case has(journal.Extended):
					end = "14:00:00"
				}
				same(t, fmt.Sprintf("until, after %d entries", n), until.Format(time.TimeOnly), end)
			}
			past, err := store.Read(func(yield func(journal.Entry, error) bool) {
				for _, e := range w.durable() {
					if !yield(e, nil) {
						return
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			same(t, fmt.Sprintf("replay, after %d entries", n), requestTexts(past.State), requestTexts(w.gateway.Snapshot().Base))
		})
	}
	if open == 0 {
		t.Error("it was never open: the test shows nothing")
	}
}

// TestAskedTwiceWhileTheDiskIsSlow: the client had no answer, and asks again with the same key before
// the first record is on disk. One request comes of it.
func TestAskedTwiceWhileTheDiskIsSlow(t *testing.T) {
	for _, c := range []struct {
		keys [2]string
		want int
	}{{[2]string{"one", "one"}, 1}, {[2]string{"one", "two"}, 2}, {[2]string{"", ""}, 2}} {
		simulate(t, onRequest(), func(t *testing.T, w *world) {
			w.at("12:00:00")
			w.start()
			w.do(func() { w.append = fault{slow: 5 * time.Second} })
			for i, key := range c.keys {
				a := policy.Ask{Vendor: "acme", Engineers: []string{"brown"}, Targets: []string{"ehr"}, For: time.Hour, Purpose: "work"}
				terms, err := w.file.Resolve(a, fmt.Sprintf("~%d", i), w.wall())
				if err != nil {
					t.Fatal(err)
				}
				w.gave("tanaka", policy.Requested{Terms: terms, Idempotency: key, Body: key})
				time.Sleep(time.Second)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			same(t, fmt.Sprintf("requests with the keys %q", c.keys), len(w.gateway.Snapshot().Base.Requests()), c.want)
			w.crash()
			w.start()
			same(t, "after a restart", len(w.gateway.Snapshot().Base.Requests()), c.want)
		})
	}
}
