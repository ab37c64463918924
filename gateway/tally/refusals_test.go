package tally

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestRefusalsForgetTheOldest(t *testing.T) {
	r := New()
	at := time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC)
	for i := range StrangersKept + 10 {
		r.Add(stranger(at.Add(time.Duration(i)*time.Second), i))
	}
	list := r.List()
	same(t, "kept", len(list), StrangersKept)
	same(t, "the newest comes first", list[0].Source.String(), "10.0.2.9")
	same(t, "the oldest that is kept", list[len(list)-1].Source.String(), "10.0.0.10")
}

// TestNoFloodHidesAnother: whatever strangers and other engineers do, and the
// same engineer inside the tunnel, a key that is used from a wrong address is
// listed and recorded by name.
func TestNoFloodHidesAnother(t *testing.T) {
	vendor := &policy.Vendor{Name: "acme"}
	var people []*policy.Engineer
	for i := range 1000 {
		people = append(people, &policy.Engineer{Vendor: vendor, Name: fmt.Sprintf("e%d", i)})
	}
	victim := people[0]
	for _, c := range []struct {
		name    string
		another func(at time.Time, i int) policy.Fact
	}{
		{"strangers", stranger},
		{"one engineer's scan", func(at time.Time, i int) policy.Fact { return scan(at, people[1], i) }},
		{"the victim's own scan", func(at time.Time, i int) policy.Fact { return scan(at, victim, i) }},
		{"one key from many addresses", func(at time.Time, i int) policy.Fact { return stolen(at, people[1], i) }},
		{"scans of many engineers", func(at time.Time, i int) policy.Fact { return scan(at, people[1+i%(len(people)-1)], i) }},
		{"strangers and scans of many engineers", func(at time.Time, i int) policy.Fact {
			if i%2 == 0 {
				return stranger(at, i)
			}
			return scan(at, people[1+i%(len(people)-1)], i)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := New()
			at := time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC)
			perMinute := map[int]int{}
			recorded, total, sum := 0, 0, 0
			for second := range 150 {
				if second == 70 { // in the midst of a minute whose places are long taken
					r.Add(stolen(at, victim, 77))
					total++
				}
				for i := range 100 {
					r.Add(c.another(at, 100*second+i))
					total++
				}
				for _, e := range r.Due(at) {
					perMinute[second/60]++
					sum += int(e.Count)
					if e.Engineer == victim.Name && e.Reason == "wrong_source" {
						recorded++
					}
				}
				at = at.Add(time.Second)
			}
			for _, e := range r.Due(at.Add(time.Minute)) {
				sum += int(e.Count)
			}
			same(t, "refusals recorded in all", sum, total)
			same(t, "entries about the stolen key", recorded, 1)
			for minute, n := range perMinute {
				if n > Recorded+1 {
					t.Errorf("%d entries in minute %d", n, minute)
				}
			}
			list := r.List()
			listed := slices.ContainsFunc(list, func(s view.Refusal) bool {
				return s.Engineer == victim.Name && s.Reason == "wrong_source" && s.Source == netip.MustParseAddr("10.0.0.77")
			})
			if !listed || len(list) > StrangersKept+engineersKept {
				t.Errorf("%d are listed, the stolen key among them: %t", len(list), listed)
			}
			for i, s := range list[1:] {
				if s.Engineer != "" && list[i].Engineer == "" {
					t.Fatal("strangers are listed before engineers")
				}
			}
		})
	}
}

// Where every engineer has one, the one that is oldest makes room.
func TestTheNextEngineerFindsARoom(t *testing.T) {
	r := New()
	vendor := &policy.Vendor{Name: "medisys"}
	at := time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC)
	for i := range engineersKept + 10 {
		at = at.Add(time.Second)
		r.Add(stolen(at, &policy.Engineer{Vendor: vendor, Name: fmt.Sprint("e", i)}, 77))
		if i < engineersKept {
			continue
		}
		if newest := r.List()[0]; newest.Engineer != fmt.Sprint("e", i) {
			t.Fatalf("the newest that is listed after %d engineers is of %s", i+1, newest.Engineer)
		}
	}
	list := r.List()
	same(t, "listed", len(list), engineersKept)
	same(t, "the oldest that is listed", list[len(list)-1].Engineer, "e10")
	same(t, "rooms", len(r.kept), engineersKept)
}

// A client that is left switched on outside its window does not fill the
// journal; nothing of it is uncounted, and after a pause it is news again.
func TestWhoKnocksForDaysIsRecordedMoreRarely(t *testing.T) {
	r := New()
	e := &policy.Engineer{Vendor: &policy.Vendor{Name: "medisys"}, Name: "sato"}
	at := time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC)
	var told, sum, total int
	knock := func(f policy.Fact) {
		f.Timestamp = [12]byte{byte(total >> 16), byte(total >> 8), byte(total)}
		r.Add(f)
		total++
	}
	hear := func(entries []Due) (newest [12]byte) {
		for _, e := range entries {
			told++
			sum += int(e.Count)
			newest = e.Timestamp
		}
		return newest
	}
	for range 24 * 3600 / 5 {
		at = at.Add(5 * time.Second)
		knock(stolen(at, e, 77))
		hear(r.Due(at))
	}
	if most := often + int(24*time.Hour/rarely); told < most-3 || told > most {
		t.Errorf("%d entries in a day, want about %d", told, most)
	}
	newest := hear(r.Due(at.Add(rarely))) // as a stop does
	same(t, "recorded", sum, total)
	same(t, "the newest timestamp", newest, [12]byte{byte((total - 1) >> 16), byte((total - 1) >> 8), byte(total - 1)})

	told = 0
	at = at.Add(time.Hour)
	hear(r.Due(at))
	hear(r.Due(at.Add(time.Minute)))
	at = at.Add(2 * time.Minute)
	knock(stolen(at, e, 77))
	hear(r.Due(at))
	same(t, "entries after a pause", told, 1)
}

// stranger is a refusal of nobody who could be named, from the i-th address.
func stranger(at time.Time, i int) policy.Fact {
	return policy.Fact{At: at, Source: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1),
		Decision: policy.Decision{Reason: policy.UnlistedSource}}
}

// stolen is a refusal of an engineer's key from the i-th address, and scan one
// of the engineer's flow to the i-th port.
func stolen(at time.Time, e *policy.Engineer, i int) policy.Fact {
	f := stranger(at, i)
	f.Engineer, f.Decision.Reason = e, policy.WrongSource
	return f
}

func scan(at time.Time, e *policy.Engineer, i int) policy.Fact {
	f := stolen(at, e, 1)
	f.Decision.Reason, f.To, f.Proto = policy.UnlistedTarget, netip.AddrPortFrom(netip.MustParseAddr("10.1.0.5"), uint16(1+i)), policy.TCP
	return f
}

// The sum of further sources has no address. It is no attempt.
func TestAttemptsHaveAnAddress(t *testing.T) {
	r := New()
	e := &policy.Engineer{Vendor: &policy.Vendor{Name: "medisys"}, Name: "sato"}
	f := stolen(time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC), e, 77)
	r.Add(f)
	f.Source = netip.AddrPort{}
	r.Add(f)
	same(t, "the last attempt", r.Attempts()["medisys/sato"].String(), "10.0.0.77")
}
