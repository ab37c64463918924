package tunnel

import (
	"testing"
	"time"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// An admission of which nobody says that it is on disk ends after a second,
// by the gate alone; nobody new is admitted until that is settled.
func TestNoRecordNoEntry(t *testing.T) {
	for _, test := range []struct {
		name  string
		again bool // the session is on disk; a renewal is not
	}{
		{"a first handshake", false},
		{"a renewal", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t)
			s.open(later(), s.sato, s.tanaka)
			client := s.client(s.medisys, s.sato, medisysEndpoint)
			if test.again {
				s.enter(client)
				entered := time.Now()
				lab.WaitFor(t, 5*time.Second, "past the 20 ms within which WireGuard takes no other initiation", func() bool { return time.Since(entered) > 30*time.Millisecond })
			}
			s.deaf.Store(true)
			s.boot.setSlow(true)
			s.enter(client)
			x := s.streams()
			s.boot.setSlow(false)
			s.boot.advance(recordWithin) // as if so much time had passed
			end := time.Now()
			if inward, outward := s.silent(x, end); inward > late || outward > late {
				t.Errorf("packets passed until %v (to the site) and %v (to the vendor) after the second was over", inward, outward)
			}

			other := s.client(s.other, s.tanaka, otherEndpoint)
			if err := other.Handshake(within(t, time.Second)); err == nil {
				t.Error("tanaka was admitted while an admission was overdue")
			}
			if f := s.refusal(policy.NotReady); f.Engineer != s.tanaka.Engineer && f.Engineer != s.sato.Engineer {
				t.Errorf("refused: %v, want tanaka or sato", f.Engineer)
			}
			s.deaf.Store(false)
			s.recordAll(t, false)
			if err := other.Handshake(within(t, 10*time.Second)); err != nil {
				t.Errorf("tanaka, when it is settled: %v", err)
			}
		})
	}
}

// recordAll answers every admission so far, and holds the answers against
// whether they come in time.
func (s *site) recordAll(t *testing.T, inTime bool) {
	t.Helper()
	s.tunnel.table.mu.Lock()
	var waiting []uint64
	for n := range s.tunnel.table.due {
		waiting = append(waiting, n)
	}
	s.tunnel.table.mu.Unlock()
	if len(waiting) == 0 {
		t.Error("no admission waits for its record")
	}
	for _, n := range waiting {
		if got := s.tunnel.Recorded(n); got != inTime {
			t.Errorf("Recorded(%d) says in time: %v, want %v", n, got, inTime)
		}
	}
}

// What is on disk in time lasts as long as the plan says, and not longer.
func TestARecordedAdmissionLastsAsPlanned(t *testing.T) {
	s := newSite(t)
	s.deaf.Store(true)
	end := time.Now().Add(time.Minute)
	s.open(end, s.sato)
	s.boot.setSlow(true)
	s.enter(s.client(s.medisys, s.sato, medisysEndpoint))
	s.recordAll(t, true)
	s.boot.setSlow(false)
	x := s.streams()
	s.boot.advance(5 * recordWithin)
	s.flowing(x)
	s.boot.advance(time.Minute)
	ended := time.Now()
	if inward, outward := s.silent(x, ended); inward > late || outward > late {
		t.Errorf("packets passed until %v (to the site) and %v (to the vendor) after the plan's end", inward, outward)
	}
}

// A plan that opens nothing, because something is in doubt, settles what was
// not recorded: those who come after the doubt are admitted.
func TestDoubtSettlesWhatWasNotRecorded(t *testing.T) {
	s := newSite(t)
	s.deaf.Store(true)
	s.open(later(), s.sato)
	client := s.client(s.medisys, s.sato, medisysEndpoint)
	s.boot.setSlow(true)
	s.enter(client)
	s.boot.setSlow(false)
	s.boot.advance(2 * recordWithin)
	if err := s.tunnel.Set(s.state.Plan(time.Now()).Doubted("the journal cannot be written")); err != nil {
		t.Fatal(err)
	}
	s.deaf.Store(false)
	s.open(later(), s.sato)
	lab.WaitFor(t, 15*time.Second, "sato enters after the doubt", func() bool { return client.Handshake(within(t, 6*time.Second)) == nil })
}
