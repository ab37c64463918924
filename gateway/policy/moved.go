package policy

import (
	"slices"
	"strings"
	"time"
)

// Reach is what one engineer can reach, or a part of it.
type Reach struct {
	Engineer string    `json:"engineer"` // vendor/engineer
	Targets  []string  `json:"targets"`  // each with its services, as in "ehr-db tcp/22 icmp"; empty: all that the engineer keeps
	Sources  []string  `json:"sources"`  // empty: all that the engineer keeps
	Until    time.Time `json:"until"`    // the end of everything that is open to the engineer
}

// Moved compares the access that two plans open at an instant: the part that only the first one
// opens, and the part that only the second one opens. Names of windows and targets do not count, nor
// do the ends.
func Moved(before, after *Plan, now time.Time) (closes, opens []Reach) {
	return only(before, after, now), only(after, before, now)
}

// Move is access that only one of two states opens, from an instant until another.
type Move struct {
	From time.Time `json:"from"`
	Reach
}

// MovedWithin compares the access that two states open in a span, as Moved does at an instant. Of
// one engineer's access that stays the same there is one Move, which ends within the span. They are
// sorted by From.
func MovedWithin(before, after *State, span Span) (closes, opens []Move) {
	closing, opening := moves{[]Move{}, map[string]int{}}, moves{[]Move{}, map[string]int{}}
	for at := span.From; at.Before(span.Until); {
		a, b := before.Plan(at), after.Plan(at)
		next := span.Until
		for _, change := range []time.Time{a.NextChange, b.NextChange} {
			if !change.IsZero() {
				next = earlier(next, change)
			}
		}
		closes, opens := Moved(a, b, at)
		closing.add(closes, Span{at, next})
		opening.add(opens, Span{at, next})
		at = next
	}
	return closing.all, opening.all
}

// moves collects what differs in one span after the other.
type moves struct {
	all  []Move
	last map[string]int // the last Move of an engineer
}

func (m *moves) add(reach []Reach, span Span) {
	for _, r := range reach {
		i, ok := m.last[r.Engineer]
		if ok && m.all[i].Until.Equal(span.From) && slices.Equal(m.all[i].Targets, r.Targets) && slices.Equal(m.all[i].Sources, r.Sources) {
			m.all[i].Until = span.Until
			continue
		}
		r.Until = span.Until
		m.last[r.Engineer] = len(m.all)
		m.all = append(m.all, Move{span.From, r})
	}
}

// only returns the access that one plan opens and another does not, in the order of the policy.
func only(plan, other *Plan, now time.Time) []Reach {
	all := []Reach{}
	for _, a := range plan.Accesses() {
		targets := openTargets(a.Grants, now)
		if len(targets) == 0 {
			continue
		}
		r := Reach{Engineer: a.Engineer.String(), Targets: []string{}, Sources: []string{}, Until: ContiguousEnd(a.Grants, now)}
		kept := other.GrantsOf(a.Engineer)
		if len(kept) == 0 || !SamePeer(kept[0].Engineer, a.Engineer) {
			kept = nil
		}
		known := openTargets(kept, now)
		if len(known) > 0 {
			had := openSources(kept, now)
			for _, s := range openSources(a.Grants, now) {
				if !slices.ContainsFunc(had, s.in) {
					r.Sources = append(r.Sources, Short(s.prefix))
				}
			}
		}
		for _, t := range targets {
			if left := t.beyond(known); len(left) > 0 && a.Engineer.Reaches(t.Prefix.Addr()) {
				if text := t.Name + " " + strings.Join(list("", left, Service.String).list, " "); !slices.Contains(r.Targets, text) {
					r.Targets = append(r.Targets, text)
				}
			}
		}
		if len(r.Targets)+len(r.Sources) > 0 {
			all = append(all, r)
		}
	}
	return all
}

func openTargets(grants []*Grant, now time.Time) (targets []*Target) {
	for _, g := range grants {
		if g.Contains(now) {
			targets = append(targets, g.Window.Targets...)
		}
	}
	return targets
}

// openSources are those of any open grant: a request may have another one.
func openSources(grants []*Grant, now time.Time) (sources []listing) {
	for _, g := range grants {
		for _, p := range g.Engineer.Sources {
			if s := (listing{p, g.Engineer.Line.ingress()}); g.Contains(now) && !slices.Contains(sources, s) {
				sources = append(sources, s)
			}
		}
	}
	return sources
}

// in reports whether another listing has all of it.
func (s listing) in(other listing) bool {
	return Within(s.prefix, other.prefix) && (other.ingress == "" || other.ingress == s.ingress)
}

// beyond returns the services of a target that others do not offer for all of its addresses.
func (t *Target) beyond(others []*Target) []Service {
	left := t.Services
	for _, o := range others {
		if Within(t.Prefix, o.Prefix) {
			for _, s := range o.Services {
				left = without(left, s)
			}
		}
	}
	return left
}

func without(services []Service, s Service) (left []Service) {
	for _, x := range services {
		if x.Protocol != s.Protocol || s.Last < x.First || x.Last < s.First {
			left = append(left, x)
			continue
		}
		if x.First < s.First {
			left = append(left, Service{x.Protocol, x.First, s.First - 1})
		}
		if s.Last < x.Last {
			left = append(left, Service{x.Protocol, s.Last + 1, x.Last})
		}
	}
	return left
}
