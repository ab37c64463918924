package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Ask is a request as it is given: by names.
type Ask struct {
	Vendor    string
	Engineers []string // short names
	Targets   []string
	From      time.Time     // zero: now
	Until     time.Time     // zero: For counts
	For       time.Duration // counted from From; without From, from the last approval
	Purpose   string
	Ticket    string
	Source    string // an address, or empty
	Emergency bool
}

// Bounds of a request.
const (
	engineersMost = 50
	targetsMost   = 500
	PurposeMost   = 1000 // bytes, as a reason
	TicketMost    = 200  // bytes
	// termsMost leaves room in a journal entry, in bytes.
	termsMost = 48 << 10
)

// Resolve gives the terms of what is asked, by the policy now. The error lists all mistakes; it is a
// *RefusedError if the vendor comes by a plain line.
func (p *Policy) Resolve(a Ask, id string, now time.Time) (Terms, error) {
	v := p.Vendor(a.Vendor)
	if v != nil && v.Plain() {
		return Terms{}, &RefusedError{Code: "requests_plain", Name: v.Name}
	}
	if v == nil || v.OnRequest == nil {
		return Terms{}, fmt.Errorf("vendor: nothing of %q can be requested: allowed is %s%s", a.Vendor, oneOf(p.requestable()), didYouMean(Nearest(a.Vendor, p.requestable())))
	}
	o := v.OnRequest
	t := Terms{Emergency: a.Emergency, ID: id, Purpose: a.Purpose, Site: p.Site, Ticket: a.Ticket, Vendor: v.Name, Version: 1}
	mistakes := t.people(a, o)
	mistakes = append(mistakes, t.places(a, o)...)
	mistakes = append(mistakes, t.source(a, o)...)
	mistakes = append(mistakes, t.times(a, o, now, p.Zone)...)
	switch {
	case strings.TrimSpace(a.Purpose) == "":
		mistakes = append(mistakes, errors.New("purpose: there is none: say what the work is, it is kept in the journal"))
	case len(a.Purpose) > PurposeMost:
		mistakes = append(mistakes, fmt.Errorf("purpose: %d bytes: allowed are %d", len(a.Purpose), PurposeMost))
	}
	if len(a.Ticket) > TicketMost {
		mistakes = append(mistakes, fmt.Errorf("ticket: %d bytes: allowed are %d", len(a.Ticket), TicketMost))
	}
	if a.Emergency && o.Emergency == nil {
		mistakes = append(mistakes, fmt.Errorf("emergency: the policy has none for %s", v.Name))
	}
	if len(mistakes) == 0 && len(t.Canonical()) > termsMost {
		mistakes = append(mistakes, fmt.Errorf("the request takes %d bytes of the journal: allowed are %d; ask for fewer targets or engineers", len(t.Canonical()), termsMost))
	}
	return t, errors.Join(mistakes...)
}

func (t *Terms) people(a Ask, o *OnRequest) []error {
	found, mistakes := chosen("engineers", a.Engineers, o.Engineers, engineersMost, func(e *Engineer) string { return e.Name })
	for _, e := range found {
		t.Engineers = append(t.Engineers, AskedEngineer{e.Key, e.Name, e.Sources})
		for _, s := range e.Sources {
			if !slices.Contains(t.Sources, s) {
				t.Sources = append(t.Sources, s)
			}
		}
	}
	slices.SortFunc(t.Sources, netip.Prefix.Compare)
	return mistakes
}

func (t *Terms) places(a Ask, o *OnRequest) []error {
	found, mistakes := chosen("targets", a.Targets, o.Targets, targetsMost, func(t *Target) string { return t.Name })
	for _, of := range found {
		asked := AskedTarget{Name: of.Name, Prefix: of.Prefix}
		for _, s := range of.Services {
			asked.Services = append(asked.Services, s.String())
		}
		t.Targets = append(t.Targets, asked)
	}
	if zones := (&Window{Targets: found}).Zones(); len(zones) > 1 {
		mistakes = append(mistakes, fmt.Errorf("targets: they lie in the zones %s, which one machine would join: allowed are targets of one zone", oneOf(zones)))
	}
	return mistakes
}

// chosen finds the things with the names that a field lists, sorted by name.
func chosen[T any](field string, asked []string, all []T, most int, nameOf func(T) string) (found []T, mistakes []error) {
	var names []string
	for _, x := range all {
		names = append(names, nameOf(x))
	}
	if len(asked) == 0 || len(asked) > most {
		mistakes = append(mistakes, fmt.Errorf("%s: %d of them: allowed are 1 to %d", field, len(asked), most))
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(asked))) {
		if i := slices.Index(names, name); i >= 0 {
			found = append(found, all[i])
		} else {
			mistakes = append(mistakes, fmt.Errorf("%s: %q cannot be requested: allowed is %s%s", field, name, oneOf(names), didYouMean(Nearest(name, names))))
		}
	}
	return found, mistakes
}

func (t *Terms) source(a Ask, o *OnRequest) []error {
	if a.Source == "" {
		return nil
	}
	one, err := netip.ParseAddr(a.Source)
	switch one = one.Unmap(); {
	case err != nil || one.Zone() != "":
		return []error{fmt.Errorf("source: %q is not an address: allowed is one IPv4 or IPv6 address, as in 203.0.113.10", a.Source)}
	case len(o.OneTimeSource) == 0:
		return []error{fmt.Errorf("source: the policy has no one_time_source for %s: leave it out, the engineers' own sources count then", a.Vendor)}
	case !slices.ContainsFunc(o.OneTimeSource, func(p netip.Prefix) bool { return p.Contains(one) }):
		return []error{fmt.Errorf("source: %s: allowed is an address in %s", one, oneOf(o.OneTimeSource))}
	}
	t.Source = &one
	t.Sources = []netip.Prefix{netip.PrefixFrom(one, one.BitLen())}
	return nil
}

func (t *Terms) times(a Ask, o *OnRequest, now time.Time, zone *time.Location) (mistakes []error) {
	longest := o.MaxDuration
	if a.Emergency && o.Emergency != nil {
		longest = o.Emergency.MaxDuration
	}
	now = now.UTC().Truncate(time.Second)
	t.From, t.Until = a.From.UTC().Truncate(time.Second), a.Until.UTC().Truncate(time.Second)
	if a.From.IsZero() {
		t.From = now
	}
	switch {
	case a.Until.IsZero() == (a.For == 0):
		return append(mistakes, errors.New("until and for: one of them is needed, and not both"))
	case a.Until.IsZero():
		t.Until = t.From.Add(a.For.Truncate(time.Second))
		if a.From.IsZero() && !a.Emergency {
			t.For = int64(a.For / time.Second)
		}
	}
	local := func(at time.Time) string { return at.In(zone).Format(time.RFC3339) }
	from, until := local(t.From), local(t.Until)
	if !a.From.IsZero() && t.From.Before(now.Add(-time.Minute)) {
		mistakes = append(mistakes, fmt.Errorf("from: %s is over: allowed is from now on", from))
	}
	if t.From.After(now.Add(o.Ahead)) {
		mistakes = append(mistakes, fmt.Errorf("from: %s is too far ahead: allowed is until %s (ahead)", from, local(now.Add(o.Ahead))))
	}
	if a.Emergency && t.From.After(now) {
		mistakes = append(mistakes, fmt.Errorf("from: an emergency begins at once: leave it out"))
	}
	switch {
	case !t.Until.After(t.From) || !t.Until.After(now):
		mistakes = append(mistakes, fmt.Errorf("until: %s is not after %s: allowed is a later end", until, from))
	case t.Until.Sub(t.From) > longest:
		mistakes = append(mistakes, fmt.Errorf("until: %s from %s on: allowed are %s (max_duration)", Elapsed(t.Until.Sub(t.From)), from, Elapsed(longest)))
	}
	return mistakes
}

// oneOf lists the allowed values, for an error text.
func oneOf[T any](all []T) string {
	if len(all) == 0 {
		return "nothing"
	}
	var texts []string
	for _, x := range all {
		texts = append(texts, fmt.Sprint(x))
	}
	return strings.Join(texts, ", ")
}

func didYouMean(near string) string {
	if near == "" {
		return ""
	}
	return "; did you mean " + near + "?"
}
