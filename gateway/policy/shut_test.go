package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestShutOutlivesNames: whoever was closed stays so, whatever a later policy
// calls the vendor, the engineer, or the owner of the key, until exactly what
// was closed is reopened.
func TestShutOutlivesNames(t *testing.T) {
	// The keys: sato 1, suzuki 2, tanaka of other 3.
	renamed := func(p *Policy) { p.Vendor("medisys").Name = "medisys2" }
	satoRenamed := func(p *Policy) { p.Engineer("medisys/sato").Name = "sato2" }
	given := func(p *Policy) { // sato's key to tanaka, and the other way round
		sato, tanaka := p.Engineer("medisys/sato"), p.Engineer("other/tanaka")
		sato.Key, tanaka.Key = tanaka.Key, sato.Key
	}
	newKey := func(p *Policy) { p.Engineer("medisys/sato").Key = Key{7} }
	newKeyRenamed := func(p *Policy) { newKey(p); renamed(p) }
	load := func(change func(*Policy)) any { return change }
	for _, c := range []struct {
		name string
		do   []any    // events, and changes of the example policy that are loaded
		want []string // of the keys 1, 2, 3 and 7, if somebody has them: who, why, by what scope; nothing: not shut
		held []string
	}{
		{"the vendor is renamed", []any{Shut{Scope: "medisys"}, load(renamed)},
			[]string{"medisys2/sato vendor_shut medisys", "medisys2/suzuki vendor_shut medisys", "other/tanaka"}, []string{"medisys2/sato medisys", "medisys2/suzuki medisys"}},
		{"and back", []any{Shut{Scope: "medisys"}, load(renamed), load(func(*Policy) {})},
			[]string{"medisys/sato vendor_shut medisys", "medisys/suzuki vendor_shut medisys", "other/tanaka"}, nil},
		{"the engineer is renamed", []any{Shut{Scope: "medisys/sato"}, load(satoRenamed)},
			[]string{"medisys/sato2 engineer_shut medisys/sato", "medisys/suzuki", "other/tanaka"}, []string{"medisys/sato2 medisys/sato"}},
		{"the engineer's vendor is renamed", []any{Shut{Scope: "medisys/sato"}, load(renamed)},
			[]string{"medisys2/sato engineer_shut medisys/sato", "medisys2/suzuki", "other/tanaka"}, []string{"medisys2/sato medisys/sato"}},
		{"the key goes to another vendor, and another comes", []any{Shut{Scope: "medisys"}, load(given)},
			[]string{"other/tanaka vendor_shut medisys", "medisys/suzuki vendor_shut medisys", "medisys/sato vendor_shut medisys"}, []string{"other/tanaka medisys"}},
		{"of an engineer", []any{Shut{Scope: "medisys/sato"}, load(given)},
			[]string{"other/tanaka engineer_shut medisys/sato", "medisys/suzuki", "medisys/sato engineer_shut medisys/sato"}, []string{"other/tanaka medisys/sato"}},
		{"what came to a shut vendor stays shut when it leaves", []any{Shut{Scope: "medisys"}, load(given), load(func(*Policy) {})},
			[]string{"medisys/sato vendor_shut medisys", "medisys/suzuki vendor_shut medisys", "other/tanaka vendor_shut medisys"}, []string{"other/tanaka medisys"}},
		{"a new key under the old name", []any{Shut{Scope: "medisys"}, load(newKey)},
			[]string{"medisys/suzuki vendor_shut medisys", "other/tanaka", "medisys/sato vendor_shut medisys"}, nil},
		{"which then has another name", []any{Shut{Scope: "medisys"}, load(newKey), load(newKeyRenamed)},
			[]string{"medisys2/suzuki vendor_shut medisys", "other/tanaka", "medisys2/sato vendor_shut medisys"}, []string{"medisys2/sato medisys", "medisys2/suzuki medisys"}},
		{"a new key under a new name was never shut", []any{Shut{Scope: "medisys"}, load(newKeyRenamed)},
			[]string{"medisys2/suzuki vendor_shut medisys", "other/tanaka", "medisys2/sato"}, []string{"medisys2/suzuki medisys"}},
		{"a vendor closes before its engineer, by key and name", []any{Shut{Scope: "medisys"}, load(renamed), Shut{Scope: "medisys2/sato"}},
			[]string{"medisys2/sato vendor_shut medisys", "medisys2/suzuki vendor_shut medisys", "other/tanaka"}, []string{"medisys2/sato medisys", "medisys2/suzuki medisys"}},
		{"closed under both names", []any{Shut{Scope: "medisys"}, load(renamed), Shut{Scope: "medisys2"}},
			[]string{"medisys2/sato vendor_shut medisys2", "medisys2/suzuki vendor_shut medisys2", "other/tanaka"}, []string{"medisys2/sato medisys", "medisys2/suzuki medisys"}},
		{"one of two is reopened", []any{Shut{Scope: "medisys"}, load(renamed), Shut{Scope: "medisys2"}, Reopened{Scope: "medisys2"}},
			[]string{"medisys2/sato vendor_shut medisys", "medisys2/suzuki vendor_shut medisys", "other/tanaka"}, []string{"medisys2/sato medisys", "medisys2/suzuki medisys"}},
		{"everything closes before all", []any{Shut{Scope: "medisys"}, load(renamed), Shut{Scope: All}},
			[]string{"medisys2/sato gateway_shut all", "medisys2/suzuki gateway_shut all", "other/tanaka gateway_shut all"}, []string{"medisys2/sato medisys", "medisys2/suzuki medisys"}},
		{"reopened by the name that it was closed by", []any{Shut{Scope: "medisys"}, load(renamed), Reopened{Scope: "medisys"}},
			[]string{"medisys2/sato", "medisys2/suzuki", "other/tanaka"}, nil},
		{"reopened, then renamed", []any{Shut{Scope: "medisys"}, Reopened{Scope: "medisys"}, load(renamed)},
			[]string{"medisys2/sato", "medisys2/suzuki", "other/tanaka"}, nil},
		{"keys that are added to what is not shut", []any{Shut{Scope: "medisys", Keys: []Key{{3}}, Added: true}},
			[]string{"medisys/sato", "medisys/suzuki", "other/tanaka"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _ := example(t)
			at := time.Date(2026, 12, 7, 10, 0, 0, 0, time.UTC)
			for _, x := range c.do {
				e, ok := x.(Event)
				if !ok {
					_, p := example(t)
					x.(func(*Policy))(p)
					e = PolicyLoaded{Digest: "digest", Policy: p}
				}
				if err := s.Apply(at, "test", e); err != nil {
					t.Fatal(err)
				}
			}
			var got, held []string
			plan := s.Plan(at)
			for _, k := range []Key{{1}, {2}, {3}, {7}} {
				e := plan.ByKey(k)
				if e == nil {
					continue
				}
				text := e.String()
				record, reason := plan.ShutBy(e)
				if reason != Admitted {
					text += fmt.Sprintf(" %s %s", reason, record.Scope)
				}
				got = append(got, text)
				if d := plan.Decide(Query{Key: k, Proven: true}, at); d.Reason != reason && (d.Reason < WrongSource || reason != Admitted) {
					t.Errorf("%s is refused for %s, ShutBy says %s", e, d.Reason, reason)
				}
				if shut := len(plan.GrantsOf(e)) == 0 && plan.NextOpening(e, at).IsZero(); reason != Admitted && !shut {
					t.Errorf("%s is shut, and holds a grant", e)
				}
			}
			for _, h := range s.Held() {
				held = append(held, fmt.Sprintf("%s %s", h.Engineer, h.Scope))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("who is shut (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.held, held); diff != "" {
				t.Errorf("held by key (-want +got):\n%s", diff)
			}
		})
	}
}

// TestShutWithoutKeys: what an older version recorded closes by name, and from
// the first policy on by key.
func TestShutWithoutKeys(t *testing.T) {
	s := NewState()
	at := time.Date(2026, 12, 7, 10, 0, 0, 0, time.UTC)
	var old Shut
	if err := json.Unmarshal([]byte(`{"scope":"medisys","reason":"phone call"}`), &old); err != nil {
		t.Fatal(err)
	}
	_, first := example(t)
	_, second := example(t)
	second.Vendor("medisys").Name = "medisys2"
	for _, e := range []Event{old, PolicyLoaded{Digest: "first", Policy: first}, PolicyLoaded{Digest: "second", Policy: second}} {
		if err := s.Apply(at, "test", e); err != nil {
			t.Fatal(err)
		}
	}
	if d := s.Plan(at).Decide(Query{Key: Key{1}, Proven: true}, at); d.Reason != VendorShut {
		t.Errorf("sato of medisys2: %v, want vendor_shut", d.Reason)
	}
	want := `[{"scope":"medisys","at":"2026-12-07T10:00:00Z","actor":"test","reason":"phone call","keys":["` +
		strings.Join([]string{Key{1}.String(), Key{2}.String()}, `","`) + `"]}]`
	if text, err := json.Marshal(s.Shuts()); err != nil || string(text) != want {
		t.Errorf("kept as %s, %v\nwant %s", text, err, want)
	}
}

// TestReopenUnderTheNewName says by what name it was closed.
func TestReopenUnderTheNewName(t *testing.T) {
	s, _ := example(t)
	at := time.Date(2026, 12, 7, 10, 0, 0, 0, time.UTC)
	_, p := example(t)
	p.Vendor("medisys").Name = "medisys2"
	for _, e := range []Event{Shut{Scope: "medisys"}, PolicyLoaded{Digest: "digest", Policy: p}} {
		if err := s.Apply(at, "test", e); err != nil {
			t.Fatal(err)
		}
	}
	for scope, want := range map[Scope]string{
		"medisys2":      `"medisys2" is not shut itself: medisys2/sato was closed as "medisys", which can be reopened`,
		"medisys2/sato": `"medisys2/sato" is not shut itself: medisys2/sato was closed as "medisys", which can be reopened`,
		"other":         `"other" is not shut`,
	} {
		err := s.Apply(at, "test", Reopened{Scope: scope})
		var noMatch *NoMatchError
		if !errors.As(err, &noMatch) || err.Error() != want {
			t.Errorf("reopen %s: %v, want %s", scope, err, want)
		}
	}
	if err := s.Apply(at, "test", Reopened{Scope: "medisys"}); err != nil {
		t.Errorf("reopen medisys, whom the policy no longer has: %v", err)
	}
}

// TestFault108ClosesAreKept: each close of a scope keeps operator, time and reason,
// until one reopening takes all of them back.
func TestFault108ClosesAreKept(t *testing.T) {
	s, _ := example(t)
	at := time.Date(2026, 12, 7, 10, 0, 0, 0, time.UTC)
	closes := func() (all []Close) {
		if r, ok := s.Shut("medisys"); ok {
			return r.Closes()
		}
		return nil
	}
	apply := func(minute int, actor string, e Event) {
		t.Helper()
		if err := s.Apply(at.Add(time.Duration(minute)*time.Minute), actor, e); err != nil {
			t.Fatal(err)
		}
	}
	close := func(minute int, actor, reason string) Close {
		return Close{at.Add(time.Duration(minute) * time.Minute), actor, reason}
	}
	apply(0, "tanaka", Shut{Scope: "medisys", Reason: "stolen laptop"})
	before, _ := s.Plan(at).Shut("medisys")
	apply(1, "mori", Shut{Scope: "medisys", Reason: "invoice unpaid"})
	apply(2, "mori", Shut{Scope: "medisys", Reason: "invoice unpaid"}) // a retry
	apply(3, "tanaka", Shut{Scope: "medisys", Reason: "a second laptop"})
	if diff := cmp.Diff([]Close{close(0, "tanaka", "stolen laptop"), close(1, "mori", "invoice unpaid"), close(3, "tanaka", "a second laptop")}, closes()); diff != "" {
		t.Errorf("closes (-want +got):\n%s", diff)
	}
	if len(before.Again) != 0 {
		t.Errorf("the plan made before says %+v", before)
	}
	for i := range 2 * mostAgain { // what repeats without end takes no room without end
		apply(4+i, "script", Shut{Scope: "medisys", Reason: strings.Repeat("x", i)})
	}
	if got := closes(); len(got) != 1+mostAgain || got[0] != close(0, "tanaka", "stolen laptop") || len(got[mostAgain].Reason) != 2*mostAgain-1 {
		t.Errorf("after %d more: %+v", 2*mostAgain, got)
	}
	r, _ := s.Shut("medisys")
	if only, ok := r.Without("tanaka"); !ok || only.Actor != "script" || len(only.Again) != mostAgain-1 {
		t.Errorf("without tanaka: %+v", only)
	}
	if _, ok := (ShutRecord{Actor: "a", Again: []Close{{Actor: "a"}}}).Without("a"); ok {
		t.Error("a record without its only actor has closes left")
	}
	apply(60, "mori", Reopened{"medisys", "both are settled"})
	if got := closes(); got != nil {
		t.Errorf("reopened: %+v", got)
	}
}
