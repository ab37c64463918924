package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// InForce is the policy in force, with all that Compare needs.
type InForce struct {
	Digest   string              `json:"digest"`
	LoadedAt time.Time           `json:"loaded_at"`
	Text     string              `json:"text"`
	Ready    bool                `json:"ready"`
	Shut     []policy.ShutRecord `json:"shut"`
	Requests []*policy.Request   `json:"requests"` // that are open, or may open
}

func inForce(s *view.Snapshot, now time.Time) InForce {
	p := s.Plan.Policy
	return InForce{p.Digest, s.Local(s.File.LoadedAt), p.Text, s.Ready(), append([]policy.ShutRecord{}, s.Shuts()...), append([]*policy.Request{}, s.Base.Unfinished(now)...)}
}

// Comparison has the changes that a reload would bring.
type Comparison struct {
	InForce     string          `json:"in_force"`    // the digest of the policy in force
	Ready       bool            `json:"ready"`       // false: a doubt keeps everybody out, so nothing closes or opens now
	Exact       bool            `json:"exact"`       // false: preshared keys are compared by the names of their files
	Differences []policy.Change `json:"differences"` // of the policies
	Closes      []policy.Reach  `json:"would_close"` // at once, and not later by the clock
	Opens       []policy.Reach  `json:"would_open"`
	Requests    []Affected      `json:"requests"` // that would not stand as they do

	states [2]*policy.State // with each policy
}

// Affected is a request that another policy bears on.
type Affected struct {
	ID     string            `json:"id"`
	Vendor string            `json:"vendor"`
	State  policy.Stage      `json:"state"`       // now
	Would  policy.Stage      `json:"would_be"`    // with the other policy
	Lacks  policy.Disallowed `json:"would_lack"`  // what that policy lacks of it; empty: nothing
	Until  time.Time         `json:"would_until"` // its end with that policy
}

// Compare compares another policy with the one in force, of the answer to GET /v1/policy.
// read makes both policies from the text and the digest of the one in force, as
// config.Comparable does.
func Compare(answer []byte, now time.Time, read func(text, digest string) (before, after *policy.Policy, exact bool, err error)) (*Comparison, error) {
	var f InForce
	if err := json.Unmarshal(answer, &f); err != nil {
		return nil, &view.Error{Message: view.Say("answer_unknown", view.Args{"cause": err})}
	}
	before, after, exact, err := read(f.Text, f.Digest)
	if err != nil {
		return nil, err
	}
	return f.compare(before, after, exact, now)
}

// CompareFiles compares two policies of which none needs to be in force.
func CompareFiles(before, after *policy.Policy, now time.Time) (*Comparison, error) {
	return InForce{Digest: before.Digest, Ready: true}.compare(before, after, true, now)
}

func (f InForce) compare(before, after *policy.Policy, exact bool, now time.Time) (*Comparison, error) {
	c := &Comparison{InForce: f.Digest, Ready: f.Ready, Exact: exact, Differences: append([]policy.Change{}, policy.Changes(before, after)...),
		Closes: []policy.Reach{}, Opens: []policy.Reach{}}
	for i, p := range []*policy.Policy{before, after} {
		c.states[i] = policy.NewState()
		c.states[i].Take(f.Requests)
		for _, r := range f.Shut { // a state without a policy takes all
			if err := c.states[i].Apply(r.At, r.Actor, policy.Shut{Scope: r.Scope, Reason: r.Reason, Keys: r.Keys}); err != nil {
				return nil, err
			}
		}
		if err := c.states[i].Apply(now, "", policy.PolicyLoaded{Digest: p.Digest, Policy: p}); err != nil {
			return nil, err
		}
	}
	if f.Ready {
		c.Closes, c.Opens = policy.Moved(c.states[0].Plan(now), c.states[1].Plan(now), now)
	}
	c.affected(f.Requests, now)
	return c, nil
}

func (c *Comparison) affected(requests []*policy.Request, now time.Time) {
	c.Requests = []Affected{}
	for _, r := range requests {
		before, after := c.states[0].Stands(r, now), c.states[1].Stands(r, now)
		if after.Stage != before.Stage || after.Stale != before.Stale || !after.Until.Equal(before.Until) {
			c.Requests = append(c.Requests, Affected{r.ID, r.Vendor, before.Stage, after.Stage, after.Why, after.Until})
		}
	}
}

// affectedMost bounds the messages about requests. JSON has all.
const affectedMost = 20

// requests puts the affected requests into words. zone is the site's.
func (c *Comparison) requests(zone *time.Location) (all []view.Message) {
	for _, a := range c.Requests[:min(len(c.Requests), affectedMost)] {
		m := view.Say("would_end", view.Args{"id": a.ID, "vendor": a.Vendor, "until": a.Until.In(zone).Format(view.Moment)})
		switch lacks := view.Lacks(a.Lacks); {
		case a.Would != a.State && lacks.Empty():
			m = view.Say("would_become", view.Args{"id": a.ID, "vendor": a.Vendor, "before": view.StageName(a.State), "after": view.StageName(a.Would)})
		case a.Would != a.State:
			m = view.Say("would_become_why", view.Args{"id": a.ID, "vendor": a.Vendor, "before": view.StageName(a.State), "after": view.StageName(a.Would), "lacks": lacks})
		case !lacks.Empty():
			m = view.Say("would_lessen", view.Args{"id": a.ID, "vendor": a.Vendor, "lacks": lacks})
		}
		all = append(all, m)
	}
	if more := len(c.Requests) - len(all); more > 0 {
		all = append(all, view.Say("requests_affected_more", view.Args{"count": more}))
	}
	return all
}

// Within has what a comparison says of a span: the access that only the first policy opens, and
// the access that only the second one opens.
func (c *Comparison) Within(span policy.Span) (closes, opens []policy.Move) {
	return policy.MovedWithin(c.states[0], c.states[1], span)
}

// Messages put a comparison into words, below the first message. zone is the site's. A
// nil comparison says nothing.
func (c *Comparison) Messages(zone *time.Location) []view.Message {
	if c == nil {
		return nil
	}
	digest := fmt.Sprintf("%.12s", c.InForce)
	if c.Exact && len(c.Differences) == 0 {
		return []view.Message{view.Say("compared_same", view.Args{"digest": digest})}
	}
	all := append([]view.Message{view.Say("compared", view.Args{"digest": digest})}, view.Changes(c.Differences)...)
	if !c.Exact {
		all = append(all, view.Say("compared_keys", nil))
	}
	all = append(all, c.requests(zone)...)
	switch {
	case !c.Ready:
		return append(all, view.Say("not_ready", nil))
	case len(c.Closes)+len(c.Opens) == 0:
		return append(all, view.Say("compared_unmoved", nil))
	}
	return slices.Concat(all, view.Moved("would_close", c.Closes, zone), view.Moved("would_open", c.Opens, zone))
}
