package session

import (
	"net/netip"
	"time"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

const (
	// UnrecordedAfter is how long an admission may be without its journal entry.
	UnrecordedAfter = view.RecordWithin
	// unconfirmedAfter is how long an admission waits for its confirmation: as
	// long as WireGuard takes data under its keys (whitepaper, section 6.1).
	unconfirmedAfter = 180 * time.Second
)

// Admission is an initiation that was admitted, until its session is open and
// its entry is on disk.
type Admission struct {
	Number     uint64
	Engineer   *policy.Engineer
	timestamp  [12]byte // of the initiation (TAI64N)
	source     netip.AddrPort
	before     view.Traffic  // the last reading of the key before; later traffic is the session's
	generation uint64        // Table.generation when it was admitted
	at         time.Duration // boot time
	recorded   bool
	confirmed  bool
}

// Admit takes note of an admission.
func (t *Table) Admit(f policy.Fact) *Admission {
	a := &Admission{Number: f.Admission, Engineer: f.Engineer, timestamp: f.Timestamp, source: f.Source, before: t.totals[f.Engineer.Key], generation: t.generation, at: t.clock.Boot}
	t.admissions[a.Number] = a
	h := t.of(a.Engineer)
	h.unconfirmed++
	h.last, h.from = a.at, a.source.Addr()
	return a
}

// Void reports whether the tunnel was rebuilt since an admission.
func (t *Table) Void(a *Admission) bool { return a.generation != t.generation }

// Recorded takes note that an admission is on disk. If it came too late for the
// gate (not inTime), the gate has cut the admission. Recorded reports whether the
// loop must cut it too.
func (t *Table) Recorded(a *Admission, inTime bool) (cut bool) {
	a.recorded = true
	delete(t.overdue, a.Number)
	return !inTime && t.admissions[a.Number] == a
}

// Unrecorded returns the admissions that must be cut, because they have waited
// too long for their entry.
func (t *Table) Unrecorded() (due []*Admission) {
	for _, a := range t.admissions {
		if !a.recorded && t.clock.Boot-a.at >= UnrecordedAfter {
			due = append(due, a)
		}
	}
	return due
}

// Cut takes note that an admission is cut, with the session it had become.
func (t *Table) Cut(a *Admission) (over []Ending) {
	delete(t.admissions, a.Number)
	if !a.recorded {
		t.overdue[a.Number] = a.at
	}
	if s := t.Of(a.Engineer); s != nil {
		t.over(s)
		over = []Ending{{s, Unrecorded}}
	}
	return over
}

// Confirm takes note that an authenticated packet came under an admission, and
// gives the admission; nil: it has been cut.
func (t *Table) Confirm(number uint64) *Admission {
	a := t.admissions[number]
	if a == nil {
		return nil
	}
	a.confirmed = true
	t.of(a.Engineer).unconfirmed = 0
	return a
}

// Forget drops admissions that are recorded, and confirmed or too old for it, and
// handshakes that are too old for a hint.
func (t *Table) Forget() {
	for n, a := range t.admissions {
		if a.recorded && (a.confirmed || t.clock.Boot-a.at > unconfirmedAfter) {
			delete(t.admissions, n)
		}
	}
	t.forgetHandshakes()
}

// ForgetOverdue forgets the overdue admissions. The gate does so too when a plan
// in doubt is set.
func (t *Table) ForgetOverdue() { clear(t.overdue) }

// Overdue returns how long the gate has waited for the entry of an admission
// that it cut; 0: it waits for none.
func (t *Table) Overdue() (waits time.Duration) {
	for _, at := range t.overdue {
		waits = max(waits, t.clock.Boot-at)
	}
	return waits
}

// Next returns the time until an admission must be cut, and at most the given time.
func (t *Table) Next(most time.Duration) time.Duration {
	for _, a := range t.admissions {
		if !a.recorded {
			most = min(most, a.at+UnrecordedAfter-t.clock.Boot)
		}
	}
	return most
}

// Source returns the outer address of an engineer's session or newest admission:
// a flow may be refused before the session's confirmation is heard. A host has one
// address.
func (t *Table) Source(e *policy.Engineer) netip.AddrPort {
	if e.Plain() {
		return netip.AddrPortFrom(e.Addresses[0], 0)
	}
	if s := t.Of(e); s != nil {
		return s.Source
	}
	var newest Admission
	for _, a := range t.admissions {
		if a.Engineer.Key == e.Key && a.Number > newest.Number {
			newest = *a
		}
	}
	return newest.source
}
