package api

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// TestPoliciesAreComparedWithRequests: the policy in force comes with the requests that may
// open something. One that was revoked is no obstacle.
func TestPoliciesAreComparedWithRequests(t *testing.T) {
	zone := time.UTC
	now := time.Date(2030, 12, 9, 20, 0, 0, 0, zone)
	made := func(approvers ...string) *policy.Policy {
		v := &policy.Vendor{Name: "medisys", Sources: []netip.Prefix{netip.MustParsePrefix("198.18.0.10/32")}}
		v.Engineers = []*policy.Engineer{{Vendor: v, Name: "sato", Key: policy.Key{1}, Sources: v.Sources, Addresses: []netip.Addr{netip.MustParseAddr("10.99.0.2")}}}
		p := &policy.Policy{Zone: zone, Vendors: []*policy.Vendor{v}, Targets: []*policy.Target{{Name: "ehr", Prefix: netip.MustParsePrefix("10.1.0.5/32"), Services: []policy.Service{{Protocol: policy.TCP, First: 22, Last: 22}}}}}
		v.OnRequest = &policy.OnRequest{Targets: p.Targets, Engineers: v.Engineers, Approvals: 1, MaxDuration: 4 * time.Hour, MaxTotal: 4 * time.Hour, Ahead: time.Hour, Undecided: time.Hour}
		for _, name := range approvers {
			p.Operators = append(p.Operators, &policy.Operator{Name: name, User: name, Rights: policy.Rights()})
		}
		v.OnRequest.Approvers = p.Operators
		return p
	}
	before := made("mori", "tanaka")
	s := policy.NewState()
	apply := func(e policy.Event) {
		t.Helper()
		if err := s.Apply(now, "mori", e); err != nil {
			t.Fatal(err)
		}
	}
	apply(policy.PolicyLoaded{Digest: "before", Policy: before})
	for _, id := range []string{"~open", "~gone", "~asked"} {
		terms, err := before.Resolve(policy.Ask{Vendor: "medisys", Engineers: []string{"sato"}, Targets: []string{"ehr"}, From: now, For: time.Hour, Purpose: "the index"}, id, now)
		if err != nil {
			t.Fatal(err)
		}
		apply(policy.Requested{Terms: terms, By: "tanaka"})
		if id != "~asked" {
			apply(policy.Verdict{Verb: policy.Approve, ID: id, Digest: terms.Digest(), By: "mori"})
		}
	}
	apply(policy.Shut{Scope: policy.RequestScope("~gone"), Reason: "drill"})
	answer, err := json.Marshal(inForce(&view.Snapshot{Base: s, Plan: s.Plan(now)}, now))
	if err != nil {
		t.Fatal(err)
	}
	c, err := Compare(answer, now, func(string, string) (*policy.Policy, *policy.Policy, bool, error) {
		return before, made("tanaka"), true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Requests) != 1 || c.Requests[0].ID != "~open" || c.Requests[0].State != policy.StageOpen || c.Requests[0].Would != policy.Undecided {
		t.Errorf("affected: %+v", c.Requests)
	}
	if len(c.Closes) != 1 || c.Closes[0].Engineer != "medisys/sato" || len(c.Opens) != 0 {
		t.Errorf("closes %+v, opens %+v", c.Closes, c.Opens)
	}
	closes, opens := c.Within(policy.Span{From: now, Until: now.Add(24 * time.Hour)})
	if len(closes) != 1 || !closes[0].Until.Equal(now.Add(time.Hour)) || len(opens) != 0 {
		t.Errorf("within a day: closes %+v, opens %+v", closes, opens)
	}
}
