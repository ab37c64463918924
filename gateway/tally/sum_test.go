package tally

import (
	"net/netip"
	"testing"

	"kidoban/gateway/policy"
)

func TestRefusalsAreSummedAndBounded(t *testing.T) {
	r := &Sum{}
	for i := range 3 * strangerSources {
		a := netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})
		for range 2 {
			r.Add(policy.Fact{Source: netip.AddrPortFrom(a, uint16(i)), Decision: policy.Decision{Reason: policy.Malformed}})
		}
	}
	total, distinct := 0, 0
	full := false
	send := func(f policy.Fact) bool {
		if full {
			return false
		}
		total += f.Count
		distinct++
		full = distinct == 10
		return true
	}
	r.Drain(send)
	if distinct != 10 {
		t.Errorf("reported %d into room for 10", distinct)
	}
	r.Drain(func(f policy.Fact) bool { total += f.Count; distinct++; return true })
	if total != 6*strangerSources || distinct > strangerSources+1 {
		t.Errorf("reported %d packets as %d refusals, want %d as at most %d", total, distinct, 6*strangerSources, strangerSources+1)
	}
}

// TestRefusalsOfAKeyFindRoom: a key's refusals keep its name however many
// strangers came first, and however many addresses another key is used from.
func TestRefusalsOfAKeyFindRoom(t *testing.T) {
	r := &Sum{}
	vendor := &policy.Vendor{Name: "medisys"}
	busy, quiet := &policy.Engineer{Vendor: vendor, Name: "busy"}, &policy.Engineer{Vendor: vendor, Name: "quiet"}
	from := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 1)
	}
	for i := range 3 * strangerSources {
		r.Add(policy.Fact{Source: from(i), Decision: policy.Decision{Reason: policy.UnknownKey}})
		r.Add(policy.Fact{Source: from(i), Engineer: busy, Decision: policy.Decision{Reason: policy.WrongSource, Engineer: busy}})
	}
	r.Add(policy.Fact{Source: from(1), Engineer: quiet, Decision: policy.Decision{Reason: policy.WrongSource, Engineer: quiet}})
	packets, sources := map[*policy.Engineer]int{}, map[*policy.Engineer]int{}
	strangers := false
	r.Drain(func(f policy.Fact) bool {
		packets[f.Engineer] += f.Count
		if f.Source.IsValid() {
			sources[f.Engineer]++
		}
		if f.Engineer != f.Decision.Engineer {
			t.Errorf("the fact names %v, its decision %v", f.Engineer, f.Decision.Engineer)
		}
		if strangers && f.Engineer != nil {
			t.Error("a stranger was reported before an engineer")
		}
		strangers = f.Engineer == nil
		return true
	})
	for _, c := range []struct {
		engineer         *policy.Engineer
		packets, sources int
	}{{nil, 3 * strangerSources, strangerSources}, {busy, 3 * strangerSources, engineerSources}, {quiet, 1, 1}} {
		if packets[c.engineer] != c.packets || sources[c.engineer] != c.sources {
			t.Errorf("%v: %d packets from %d sources, want %d from %d", c.engineer, packets[c.engineer], sources[c.engineer], c.packets, c.sources)
		}
	}
}
