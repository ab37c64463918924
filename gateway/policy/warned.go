package policy

import (
	"slices"
	"time"
)

// warnings are how long before an end it is warned of, in minutes.
var warnings = []int{15, 5}

// Note is what the journal notes about a grant while it is open, or after its end.
type Note struct {
	Kind  string // of the journal's entry
	Grant *Grant
	Until time.Time
	Count int  // of a warning: how many minutes are left
	All   bool // it is about the request, and not about one engineer
}

// Warnings are the warnings of ends that became due later than after and not later than now; a zero
// after is the first look, and has none. An engineer's end is the end of the contiguous union of all
// that is open and follows at once. It is warned of while the engineer is inside. A request's end
// is warned of once for the request, whether anybody is inside or not.
func (p *Plan) Warnings(after, now time.Time, inside func(*Engineer) bool) (notes []Note) {
	if after.IsZero() || p.Policy == nil {
		return nil
	}
	requests := map[string]bool{}
	for _, a := range p.Accesses() {
		for _, g := range a.Grants {
			if w := g.Window; Scope(w.Name).IsRequest() && !requests[w.Name] && g.Contains(now) {
				requests[w.Name] = true
				if left := warns(g.Until, after, now); left > 0 {
					notes = append(notes, Note{Kind: "warned", Grant: g, Until: g.Until, Count: left, All: true})
				}
			}
		}
		end := p.Until(a.Engineer, now)
		if warns(end, after, now) == 0 || !inside(a.Engineer) || p.follows(a.Engineer, end) {
			continue
		}
		for _, g := range a.Grants {
			if g.Until.Equal(end) && !Scope(g.Window.Name).IsRequest() {
				notes = append(notes, Note{Kind: "warned", Grant: g, Until: end, Count: warns(end, after, now)})
				break
			}
		}
	}
	return notes
}

// warns is how many minutes before an end a warning became due; 0: none did. Of several the last
// one counts.
func warns(end, after, now time.Time) (left int) {
	for _, minutes := range warnings {
		if due := end.Add(-time.Duration(minutes) * time.Minute); due.After(after) && !due.After(now) && now.Before(end) {
			left = minutes
		}
	}
	return left
}

// follows reports whether something opens for the engineer at an end at the latest, and lasts
// longer.
func (p *Plan) follows(e *Engineer, end time.Time) bool {
	return slices.ContainsFunc(p.Windows, func(w WindowState) bool {
		return !w.Next.IsZero() && !w.Next.From.After(end) && w.Next.Until.After(end) && w.Window.Vendor.Name == e.Vendor.Name &&
			slices.ContainsFunc(w.Window.Engineers, func(of *Engineer) bool { return of.Key == e.Key })
	})
}
