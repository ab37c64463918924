package gateway

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// everybody is a policy under which all of acme and medisys may enter from
// 01:00 to 02:00, with acme's vendor and engineer named otherwise.
func everybody(vendor, engineer string) *policy.Policy {
	p := site(window{name: "acme/night", from: "01:00:00", until: "02:00:00"}, window{name: "medisys/night", from: "01:00:00", until: "02:00:00"})
	p.Vendors[0].Name, p.Vendors[0].Engineers[0].Name = vendor, engineer
	p.Digest += vendor + engineer
	return p
}

// TestRenamingDoesNotReopen: whoever was closed stays closed under every other
// name, in a process that lives and in every one that follows, whatever became
// of the journal.
func TestRenamingDoesNotReopen(t *testing.T) {
	renamed := everybody("acme2", "brown2")
	for _, c := range []struct {
		name string
		do   func(*world) // the shut has been commanded with this journal
		// and the new name comes
		journal fault
	}{
		{"by a reload", func(w *world) { w.reload(renamed) }, fault{}},
		{"by a reload, and then the process is killed", func(w *world) { w.reload(renamed); w.crash(); w.start() }, fault{}},
		{"while no process runs", func(w *world) { w.crash(); w.file = renamed; w.start() }, fault{}},
		{"while no process runs, and the journal was dead", func(w *world) { w.crash(); w.append, w.file = fault{}, renamed; w.start() }, fault{err: errFault}},
		{"by a reload, while the journal is dead", func(w *world) { w.reload(renamed); w.crash(); w.append = fault{}; w.start() }, fault{err: errFault}},
		{"after a recovery with a new journal", func(w *world) {
			w.do(func() { w.append, w.damage = fault{}, errFault })
			w.recover()
			w.crash()
			w.file = renamed
			w.start()
		}, fault{err: errFault}},
		{"while the journal does not verify", func(w *world) {
			w.crash()
			w.damage, w.file = errFault, renamed
			w.start()
			w.recover()
		}, fault{}},
	} {
		for _, scope := range []policy.Scope{"acme", "acme/brown"} {
			t.Run(c.name+": "+string(scope), func(t *testing.T) {
				simulate(t, everybody("acme", "brown"), func(t *testing.T, w *world) {
					w.at("01:30:00")
					w.start()
					w.do(func() { w.append = c.journal })
					w.shut(scope)
					c.do(w)
					synctest.Wait()
					w.at("01:40:00")
					if why := w.notReady(); why != "" {
						w.do(func() { w.append = fault{} })
						w.recover()
					}
					reason := policy.VendorShut
					if scope != "acme" {
						reason = policy.EngineerShut
					}
					brown := policy.Query{Key: renamed.Engineer("acme2/brown2").Key, Proven: true, Fault: policy.Admitted}
					same(t, "brown2 is refused for", w.plan().Decide(brown, w.wall()).Reason, reason)
					same(t, "open", w.open(), []string{"medisys/sato/night", "medisys/suzuki/night"})
					st := w.gateway.Snapshot().Shut()
					same(t, "shut", append(st.Vendors, st.Engineers...), []string{string(scope)})
					same(t, "shut by key", st.ByKey, []policy.Held{{Engineer: "acme2/brown2", Scope: scope}})
					if scope == "acme" {
						same(t, "the metric of acme2", w.scrape()["kidoban_vendor_shut{vendor=acme2}"], 1)
					}
					var none *policy.NoMatchError
					if _, err := w.gateway.Do(t.Context(), yamada, policy.Reopened{Scope: "acme2", Reason: "a test"}); !errors.As(err, &none) || !strings.Contains(err.Error(), fmt.Sprintf("closed as %q", scope)) {
						t.Errorf("reopen acme2: %v, want the scope that can be reopened", err)
					}
					w.reopen(scope)
					same(t, "brown2, when what was closed is reopened", w.plan().Decide(brown, w.wall()).Reason, policy.Admitted)
					w.crash()
					w.start()
					same(t, "brown2, after a restart", w.plan().Decide(brown, w.wall()).Reason, policy.Admitted)
				})
			})
		}
	}
}

// TestReloadSaysWhoStaysShut: once, when the name is new.
func TestReloadSaysWhoStaysShut(t *testing.T) {
	simulate(t, everybody("acme", "brown"), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.shut("acme")
		line := "acme2/brown stays shut: it was closed as acme"
		told := func(p *policy.Policy) int {
			return strings.Count(strings.Join(w.reload(p).Changes, "\n"), line)
		}
		same(t, "lines that say so", told(everybody("acme2", "brown")), 1)
		same(t, "lines when nothing is renamed", told(everybody("acme2", "brown")), 0)
		same(t, "lines when it is as before", told(everybody("acme", "brown")), 0)
	})
}

// TestAKeyThatComesToAShutVendorIsShutWithIt, and is recorded as such: not as
// something that an operator did.
func TestAKeyThatComesToAShutVendorIsShutWithIt(t *testing.T) {
	simulate(t, everybody("acme", "brown"), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.shut("acme")
		rekeyed := everybody("acme", "brown")
		rekeyed.Vendors[0].Engineers[0].Key, rekeyed.Digest = policy.Key{77}, "rekeyed"
		w.reload(rekeyed)
		again := everybody("acme2", "brown")
		again.Vendors[0].Engineers[0].Key = policy.Key{77}
		w.crash()
		w.file = again
		w.start()
		q := policy.Query{Key: policy.Key{77}, Proven: true, Fault: policy.Admitted}
		same(t, "the new key under the new name", w.plan().Decide(q, w.wall()).Reason, policy.VendorShut)
		r := w.gateway.Snapshot().Shut().Records[0]
		same(t, "shut by, and since", fmt.Sprint(r.Actor, r.At.Format(" 15:04"), r.Keys), "yamada 01:30[]")
		var events []string
		for _, e := range w.durable() {
			if e.Kind == journal.Shut {
				events = append(events, e.Text+string(e.Event))
			}
		}
		brown := everybody("acme", "brown").Vendors[0].Engineers[0].Key
		same(t, "events in the journal", events, []string{
			`{"scope":"acme","reason":"a test","keys":["` + brown.String() + `"]}`,
			`1 keys more{"scope":"acme","reason":"a test","keys":["` + policy.Key{77}.String() + `"],"added":true}`,
		})
	})
}

// TestAReopenedScopeTakesNoKeysBack: those that came to it while the reopening
// was on its way to the disk are no new shut at a restart.
func TestAReopenedScopeTakesNoKeysBack(t *testing.T) {
	simulate(t, everybody("acme", "brown"), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.shut("acme")
		w.do(func() { w.append.slow = time.Second })
		go w.gateway.Do(t.Context(), yamada, policy.Reopened{Scope: "acme", Reason: "a test"})
		time.Sleep(100 * time.Millisecond)
		rekeyed := everybody("acme", "brown")
		rekeyed.Vendors[0].Engineers[0].Key, rekeyed.Digest = policy.Key{77}, "rekeyed"
		w.reload(rekeyed)
		w.at("01:40:00")
		same(t, "open", w.open(), []string{"acme/brown/night", "medisys/sato/night", "medisys/suzuki/night"})
		w.crash()
		w.do(func() { w.append = fault{} })
		w.start()
		same(t, "open after a restart", w.open(), []string{"acme/brown/night", "medisys/sato/night", "medisys/suzuki/night"})
	})
}

// TestManyKeysAreShut: a shut of more keys than an entry takes is several
// entries, durable together.
func TestManyKeysAreShut(t *testing.T) {
	crowd := func(name string) *policy.Policy {
		p := everybody(name, "brown")
		v := p.Vendors[0]
		for i := range 1700 {
			e := &policy.Engineer{Vendor: v, Name: fmt.Sprintf("e%04d", i), Sources: v.Sources}
			binary.BigEndian.PutUint16(e.Key[30:], uint16(i)+1)
			v.Engineers = append(v.Engineers, e)
		}
		v.Windows[0].Engineers = v.Engineers
		return p
	}
	simulate(t, crowd("acme"), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		same(t, "open", len(w.open()), 1703)
		w.shut("acme")
		keys := 0
		for _, e := range w.durable() {
			if e.Kind != journal.Shut {
				continue
			}
			var event policy.Shut
			if err := json.Unmarshal(e.Event, &event); err != nil {
				t.Fatal(err)
			}
			keys += len(event.Keys)
			if line, err := json.Marshal(e); err != nil || len(line) > journal.MaxEntry/2 {
				t.Errorf("an entry of %d bytes, %v", len(line), err)
			}
		}
		same(t, "keys in the journal", keys, 1701)
		w.crash()
		w.file = crowd("acme2")
		w.start()
		same(t, "open under another name", w.open(), []string{"medisys/sato/night", "medisys/suzuki/night"})
		same(t, "held by key", len(w.gateway.Snapshot().Shut().ByKey), 1701)
	})
}

// TestFault108SecondClose: whoever reopens has to know every reason, also after a
// crash, by the journal or by the latch, and in a journal that begins anew.
func TestFault108SecondClose(t *testing.T) {
	dead := fault{err: errFault}
	for _, c := range []struct {
		name          string
		first, second fault // the journal during the closes
		then          func(*world)
	}{
		{"", fault{}, fault{}, func(*world) {}},
		{"after a crash", fault{}, fault{}, func(w *world) { w.crash(); w.start() }},
		{"the second in the latch alone", fault{}, dead, func(w *world) { w.crash(); w.append = fault{}; w.start() }},
		{"both in the latch alone", dead, dead, func(w *world) { w.crash(); w.append = fault{}; w.start() }},
		{"in a new journal", fault{}, dead, func(w *world) {
			w.do(func() { w.append, w.damage = fault{}, errFault })
			w.recover()
			w.crash()
			w.latch = nil // the new journal has both itself
			w.start()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, everybody("acme", "brown"), func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.start()
				by := func(actor, reason string, journal fault) Outcome {
					w.do(func() { w.append = journal })
					out, err := w.gateway.Do(t.Context(), policy.Actor{ID: actor, Text: actor}, policy.Shut{Scope: "acme", Reason: reason})
					if err != nil {
						t.Fatal(err)
					}
					return out
				}
				said := func(r *policy.ShutRecord) (all []string) {
					if r != nil {
						for _, c := range r.Closes() {
							all = append(all, c.Actor+": "+c.Reason)
						}
					}
					return all
				}
				same(t, "before the first close", said(by("tanaka", "stolen laptop", c.first).Was), nil)
				w.at("01:31:00")
				same(t, "before the second close", said(by("mori", "invoice unpaid", c.second).Was), []string{"tanaka: stolen laptop"})
				c.then(w)
				synctest.Wait()
				both := []string{"tanaka: stolen laptop", "mori: invoice unpaid"}
				records := w.gateway.Snapshot().StatusAt(w.wall()).Shut.Records
				same(t, "records", len(records), 1)
				same(t, "in status", said(&records[0]), both)
				if records[0].Keys != nil {
					t.Error("status has the keys")
				}
				told := w.told(journal.Shut)
				for _, reason := range []string{"stolen laptop", "invoice unpaid"} {
					same(t, "entries of "+reason, strings.Count(strings.Join(told, "\n"), "shut acme "+reason), 1)
				}
				same(t, "taken back", said(w.reopen("acme").Was), both)
				same(t, "shut after the reopening", len(w.gateway.Snapshot().Shut().Records), 0)
			})
		})
	}
}
