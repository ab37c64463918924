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
}

func inForce(s *view.Snapshot) InForce {
	p := s.Plan.Policy
	return InForce{p.Digest, s.Local(s.File.LoadedAt), p.Text, s.Ready(), append([]policy.ShutRecord{}, s.Shuts()...)}
}

// Comparison has the changes that a reload would bring.
type Comparison struct {
	InForce     string          `json:"in_force"`    // the digest of the policy in force
	Ready       bool            `json:"ready"`       // false: a doubt keeps everybody out, so nothing closes or opens now
	Exact       bool            `json:"exact"`       // false: preshared keys are compared by the names of their files
	Differences []policy.Change `json:"differences"` // of the policies
	Closes      []policy.Reach  `json:"would_close"` // at once, and not later by the clock
	Opens       []policy.Reach  `json:"would_open"`

	states [2]*policy.State // with each policy
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
	return c, nil
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
	switch {
	case !c.Ready:
		return append(all, view.Say("not_ready", nil))
	case len(c.Closes)+len(c.Opens) == 0:
		return append(all, view.Say("compared_unmoved", nil))
	}
	return slices.Concat(all, view.Moved("would_close", c.Closes, zone), view.Moved("would_open", c.Opens, zone))
}
