package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDecodeEvent(t *testing.T) {
	key := Key{1}
	for _, c := range []struct {
		kind, raw string
		want      Event
	}{
		{"shut", `{"scope":"medisys","reason":"call","keys":["` + key.String() + `"],"added":true}`, Shut{Scope: "medisys", Reason: "call", Keys: []Key{key}, Added: true}},
		{"reopened", `{"scope":"all","reason":"over"}`, Reopened{Scope: All, Reason: "over"}},
		{"policy_loaded", "", PolicyLoaded{}},
		{"policy_loaded", `{"digest":"d","roster":[{"vendor":"medisys","engineer":"sato","key":"` + key.String() + `"}]}`,
			PolicyLoaded{Digest: "d", Roster: []Listed{{Vendor: "medisys", Engineer: "sato", Key: key}}}},
		{"drift", "", nil},
	} {
		got, err := DecodeEvent(c.kind, []byte(c.raw))
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s %s: %v (-want +got)\n%s", c.kind, c.raw, err, diff)
		}
	}
	for _, c := range [][2]string{{"shut", ""}, {"reopened", "[]"}, {"policy_loaded", `{"roster":[{"key":"x"}]}`}} {
		if e, err := DecodeEvent(c[0], []byte(c[1])); err == nil {
			t.Errorf("%s %q gives %v", c[0], c[1], e)
		}
	}
}

// TestRosterFitsIntoEntries: a replay of the parts knows every engineer, and no
// part is longer than an entry of the journal.
func TestRosterFitsIntoEntries(t *testing.T) {
	long := func(n int) string { return fmt.Sprintf("%063d", n) }
	p := &Policy{Zone: time.UTC, Digest: long(0)}
	for n := range 3 {
		v := &Vendor{Name: long(n)}
		for m := range 333 {
			v.Engineers = append(v.Engineers, &Engineer{Vendor: v, Name: long(m), Key: Key{byte(n), byte(m), byte(m >> 8)}})
		}
		p.Vendors = append(p.Vendors, v)
	}
	replayed := NewState()
	for _, part := range (PolicyLoaded{Digest: p.Digest, Policy: p}).Parts() {
		raw, err := json.Marshal(part)
		if err != nil || len(raw) > 64<<10-512 {
			t.Fatalf("a part of %d bytes, %v", len(raw), err)
		}
		e, err := DecodeEvent("policy_loaded", raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := replayed.Apply(time.Time{}, "test", e); err != nil {
			t.Fatal(err)
		}
	}
	if !replayed.Lists(p.Digest) {
		t.Error("the replayed state does not know the policy")
	}
	for n, v := range p.Vendors {
		for _, scope := range []Scope{Scope(v.Name), Scope(v.Engineers[n].String())} {
			if err := replayed.Apply(time.Time{}, "test", Shut{Scope: scope}); err != nil {
				t.Fatal(err)
			}
			if r, _ := replayed.Shut(scope); len(r.Keys) != map[bool]int{true: 333, false: 1}[scope == Scope(v.Name)] || !slices.Contains(r.Keys, v.Engineers[n].Key) {
				t.Errorf("%s is shut with %d keys", scope, len(r.Keys))
			}
		}
	}
}

// TestRosterOfAPolicyLoadedAgain: an entry without a roster keeps that of the
// same policy, and forgets that of another.
func TestRosterOfAPolicyLoadedAgain(t *testing.T) {
	s := NewState()
	for _, c := range []struct {
		event PolicyLoaded
		lists bool
	}{
		{PolicyLoaded{Digest: "old"}, false},
		{PolicyLoaded{Digest: "a", Roster: []Listed{{Vendor: "medisys", Engineer: "sato", Key: Key{1}}}}, true},
		{PolicyLoaded{Digest: "a"}, true},
		{PolicyLoaded{Digest: "b"}, false},
	} {
		if err := s.Apply(time.Time{}, "test", c.event); err != nil || s.Lists(c.event.Digest) != c.lists {
			t.Errorf("after %+v: %v, the state lists its engineers: %v", c.event, err, !c.lists)
		}
	}
}
