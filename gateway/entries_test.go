package gateway

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
)

// Whatever a policy says, what is recorded about it fits into entries.
func TestEntriesAreBounded(t *testing.T) {
	var many []window
	for i := range 1000 {
		many = append(many, window{name: fmt.Sprintf("acme/work-%d-%s", i, strings.Repeat("x", 50)), from: "01:00:00", until: "02:00:00"})
	}
	long := oneHour()
	long.Vendors[0].Windows[0].ApprovedBy = strings.Repeat("院長\"", 20000)
	for _, c := range []struct {
		name string
		do   func(*world)
		file func(*world)
		open int
	}{
		{"a session that stands on a thousand grants", func(w *world) { w.file = site(many...) }, nil, 1000},
		{"an approval of many words", func(w *world) { w.file = long }, nil, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("01:30:00")
				c.do(w)
				w.start()
				w.enter("acme/brown", address)
				w.at("01:30:10")
				same(t, "not ready", w.notReady(), "")
				same(t, "open", len(w.open()), c.open)
				same(t, "sessions", len(w.sessions()), 1)
				w.shut("acme")
				same(t, "recorded", w.told(journal.SessionOpened, journal.SessionClosed), []string{"session_opened brown", "session_closed brown vendor_shut"})
				for _, e := range w.durable() {
					if e.Kind != journal.SessionOpened || c.open == 1 {
						continue
					}
					if len(e.Grants) != grantsMax || e.Text != "and 800 more grants, each with an entry of its own" {
						t.Errorf("the session's entry names %d grants and says %q", len(e.Grants), e.Text)
					}
				}
			})
		})
	}
}

// The greatest names, lists, reasons and errors, in the characters that JSON
// makes most of, fit: a grant or an admission whose entry the journal refused
// would wait for it for ever.
func TestTheGreatestEntriesFit(t *testing.T) {
	worst := func(n int) string { return strings.Repeat("\x01", n) } // six bytes each
	long := func(i int) string { return fmt.Sprintf("%03d-%s", i, strings.Repeat("x", 59)) }
	var windows []window
	for i := range grantsMax + 10 {
		windows = append(windows, window{name: "acme/" + long(i), from: "01:00:00", until: "02:00:00", engineers: "brown"})
	}
	p := site(windows...)
	for i := range store.TargetsMax + 10 {
		p.Targets = append(p.Targets, &policy.Target{Name: long(i), Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}), 32), Services: p.Targets[0].Services})
	}
	acme := p.Vendors[0]
	const namesMax = 200 // characters, of up to four bytes, as package config allows
	acme.Name, acme.DisplayName = long(1), worst(namesMax)
	brown := acme.Engineers[0]
	brown.Name, brown.DisplayName, brown.Sources = long(2), worst(namesMax), nil
	for i := range store.SourcesMax + 10 {
		brown.Sources = append(brown.Sources, netip.MustParsePrefix(fmt.Sprintf("2001:db80:ffff:ffff:ffff:ffff:ffff:f%03d/128", i)))
	}
	brown.Sources = append(brown.Sources, acme.Sources...)
	acme.Windows[0].Targets = p.Targets
	for _, w := range acme.Windows {
		w.ApprovedBy, w.Ticket = worst(store.TextMax), worst(store.TextMax)
	}
	for i := range 2*store.KeysMax + 10 {
		e := &policy.Engineer{Vendor: acme, Name: fmt.Sprintf("e%04d", i), Sources: acme.Sources}
		binary.BigEndian.PutUint16(e.Key[30:], uint16(i)+1)
		acme.Engineers = append(acme.Engineers, e)
	}
	simulate(t, p, func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		same(t, "open", len(w.open()), grantsMax+10)
		same(t, "refused", w.knock(brown.String(), "198.51.100.1:1000"), 0)
		w.enter(brown.String(), address)
		to := netip.MustParseAddrPort("[2001:db80:ffff:ffff:ffff:ffff:ffff:ffff]:65535")
		w.firewall.facts <- policy.Fact{Kind: policy.Refusal, Engineer: brown, To: to, Proto: policy.UDP, Count: 1 << 30, Decision: policy.Decision{Reason: policy.UnlistedTarget, Engineer: brown}}
		w.firewall.facts <- policy.Fact{Kind: policy.Drift, Err: errors.New(worst(2 * store.TextMax))}
		w.step(time.Minute)
		time.Sleep(2 * heartbeat)
		synctest.Wait()
		w.tunnel.facts <- policy.Fact{Kind: policy.Failure, Err: errors.New(worst(2 * store.TextMax))}
		synctest.Wait()
		reason := worst(ReasonMax)
		for _, scope := range []policy.Scope{policy.Scope(acme.Name), policy.Scope(brown.String()), policy.All} {
			if out, err := w.gateway.Do(t.Context(), yamada, policy.Shut{Scope: scope, Reason: reason}); err != nil || !out.Recorded {
				t.Errorf("close %s: %+v, %v", scope, out, err)
			}
		}
		for i := range 3 { // what cannot be read is another thing each time
			w.crash()
			w.damage, w.lost, w.latch = errors.New(worst(2*store.TextMax)), fmt.Errorf("%d%s", i, worst(2*store.TextMax)), nil
			w.start()
			if out, err := w.gateway.Recover(t.Context(), yamada, reason); err != nil || !out.Recorded {
				t.Errorf("recover: %+v, %v", out, err)
			}
			synctest.Wait()
			w.do(func() { same(t, "records in the latch", len(w.latch), 3) })
		}
		for _, scope := range []policy.Scope{policy.All, policy.Scope(brown.String()), policy.Scope(acme.Name)} {
			if out, err := w.gateway.Do(t.Context(), yamada, policy.Reopened{Scope: scope, Reason: reason}); err != nil || !out.Recorded {
				t.Errorf("reopen %s: %+v, %v", scope, out, err)
			}
		}
		synctest.Wait()
		same(t, "open in the end", len(w.open()), grantsMax+10)
		w.do(func() { same(t, "entries that the journal refused", w.tooLong, nil) })
		seen := map[journal.Kind]int{}
		for _, disk := range append(w.archived, w.disk) {
			for _, e := range disk {
				line, err := json.Marshal(e)
				if err != nil {
					t.Fatal(err)
				}
				seen[e.Kind] = max(seen[e.Kind], len(line))
			}
		}
		t.Log("the longest of each kind:", seen)
		for _, kind := range []journal.Kind{journal.WindowOpened, journal.WindowClosed, journal.SessionOpened, journal.SessionClosed, journal.Admission, journal.Refused,
			journal.Shut, journal.Reopened, journal.Drift, journal.ClockStep, journal.Recovery, journal.Doubt} {
			if seen[kind] == 0 {
				t.Errorf("no entry of kind %s was seen", kind)
			}
		}
	})
}

// Every entry about an engineer has the names for people, also the closings
// after a crash, and so has the log. A policy without names adds nothing.
func TestEntriesHaveTheNames(t *testing.T) {
	named := oneHour()
	named.Vendors[0].DisplayName, named.Vendors[0].Engineers[0].DisplayName = "株式会社アクメ", "佐藤 太郎"
	type names struct{ Vendor, VendorName, Engineer, EngineerName string }
	for file, want := range map[*policy.Policy]names{named: {"acme", "株式会社アクメ", "brown", "佐藤 太郎"}, oneHour(): {"acme", "", "brown", ""}} {
		simulate(t, file, func(t *testing.T, w *world) {
			var text bytes.Buffer
			w.logger = slog.New(slog.NewJSONHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))
			w.at("01:30:00")
			w.start()
			w.enter("acme/brown", address)
			w.knock("acme/brown", "198.51.100.1:1000")
			time.Sleep(2 * heartbeat)
			w.shut("acme")
			w.reopen("acme")
			w.enter("acme/brown", address)
			w.crash()
			w.file = site() // the closings take the names from the openings
			w.start()
			kinds := map[journal.Kind]int{}
			for _, e := range w.durable() {
				if e.Vendor != "" {
					kinds[e.Kind]++
					same(t, string(e.Kind), names{e.Vendor, e.VendorName, e.Engineer, e.EngineerName}, want)
				}
			}
			same(t, "kinds", kinds, map[journal.Kind]int{journal.WindowOpened: 2, journal.WindowClosed: 2, journal.Admission: 2,
				journal.SessionOpened: 2, journal.SessionClosed: 2, journal.Refused: 1})
			logged := 0
			for lines := json.NewDecoder(&text); lines.More(); {
				var line struct {
					Event, Vendor, Engineer string
					VendorName              *string `json:"vendor_name"`
					EngineerName            *string `json:"engineer_name"`
				}
				if err := lines.Decode(&line); err != nil {
					t.Fatal(err)
				}
				if line.Vendor == "" {
					continue
				}
				logged++
				if (line.VendorName != nil) != (want.VendorName != "") || line.VendorName != nil && (*line.VendorName != want.VendorName || *line.EngineerName != want.EngineerName) {
					t.Errorf("the log says of %s: %v, %v", line.Event, line.VendorName, line.EngineerName)
				}
			}
			if logged < 10 {
				t.Errorf("%d lines about an engineer", logged)
			}
		})
	}
}

// An entry that the journal does not take is no dead disk: it alone is lost,
// and whoever waits for it hears why.
func TestARefusedEntryIsNotAFailedJournal(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		drift := func(text string) journal.Entry {
			return journal.Entry{Kind: journal.Drift, Actor: "gateway", Reason: text}
		}
		huge := drift(strings.Repeat("x", journal.MaxEntry))
		answers := map[string]error{}
		add := func(l *loop, name string, entries ...journal.Entry) {
			answers[name] = errFault
			l.add(store.Record{Entries: entries, Done: func(err error) { answers[name] = err }})
		}
		if err := w.gateway.send(t.Context(), func(l *loop) {
			l.record(drift("before"))
			l.record(drift("beside"), huge, drift("behind"))
			add(l, "whole", drift("never"), huge)
			add(l, "good", drift("after"))
		}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		same(t, "recorded", w.told(journal.Drift), []string{"drift before", "drift beside", "drift behind", "drift after"})
		same(t, "what the good one's waiter hears", answers["good"], nil)
		if !errors.Is(answers["whole"], store.ErrRefused) {
			t.Errorf("the waiter of a record with a huge entry hears %v, want %v", answers["whole"], store.ErrRefused)
		}
		same(t, "not ready", w.notReady(), "")
		same(t, "open", w.open(), []string{"acme/brown/night"})
	})
}

// A grant whose opening the journal does not take stays shut, keeps no other
// shut, and does not drive the loop.
func TestAGrantThatCannotBeRecordedStaysShutAlone(t *testing.T) {
	endless := site(window{name: "acme/" + strings.Repeat("x", journal.MaxEntry), from: "01:00:00", until: "02:00:00"}, window{name: "medisys/night", from: "01:00:00", until: "02:00:00", engineers: "sato"})
	simulate(t, endless, func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		same(t, "open", w.open(), []string{"medisys/sato/night"})
		same(t, "not ready", w.notReady(), "")
		sets := 0
		w.do(func() { sets = w.tunnel.sets })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		w.do(func() { same(t, "plans since", w.tunnel.sets-sets, 0) })
	})
}
