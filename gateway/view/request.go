package view

import (
	"cmp"
	"net/netip"
	"time"

	"kidoban/gateway/policy"
)

// Request is a request as operators see it. Times are in the site's zone.
type Request struct {
	ID       string       `json:"id"`
	Version  int          `json:"version"`
	Digest   string       `json:"digest"` // of Terms
	Terms    policy.Terms `json:"terms"`  // of the newest version, which an approval is about
	State    policy.Stage `json:"state"`
	Why      string       `json:"why"` // the reason with which an operator ended it, else what the policy lacks of the terms; empty: neither
	Vendor   string       `json:"vendor"`
	Name     string       `json:"vendor_name"`
	Phone    string       `json:"phone"` // to call the vendor back
	Stale    bool         `json:"stale"` // the policy allows less than the terms
	From     time.Time    `json:"from"`  // as it opens, or will open
	Until    time.Time    `json:"until"`
	MaxUntil time.Time    `json:"max_until"` // until when one approver may extend it

	Details
	Signatures
}

// Details are parts of the terms, for those who do not read Terms.
type Details struct {
	Engineers []policy.AskedEngineer `json:"engineers"`
	// EngineerNames are for people, as many as Engineers; empty: the policy has none.
	EngineerNames []string             `json:"engineer_names"`
	Targets       []policy.AskedTarget `json:"targets"`
	Sources       []netip.Prefix       `json:"sources"`
	Purpose       string               `json:"purpose"`
	Ticket        string               `json:"ticket"`
	Versions      []policy.Terms       `json:"versions"` // the first one first
	Grants        []string             `json:"grants"`   // that are in force
}

// Signatures are the decisions about a request.
type Signatures struct {
	RecordedBy   string        `json:"recorded_by"`
	RecordedAt   time.Time     `json:"recorded_at"`
	SelfApproved bool          `json:"self_approved"` // and nobody else has signed it
	Approvals    []policy.Sign `json:"approvals"`     // that count now
	Needed       int           `json:"needed"`
	Emergency    *Emergency    `json:"emergency"` // null: it is none
	Extension    *Extension    `json:"extension"` // that waits for approvals; null: none does
	Ended        *policy.Sign  `json:"ended"`     // who denied, withdrew or revoked it
	Shortened    []Extension   `json:"shortened"`
	Ratified     *policy.Sign  `json:"ratified"`
	Reports      []policy.Sign `json:"reports"`
	Reviews      []policy.Sign `json:"reviews"`
}

// Emergency is an opening that one operator declared.
type Emergency struct {
	RatifyBy time.Time `json:"ratify_by"`
	Ratified bool      `json:"ratified"`
	Overdue  bool      `json:"overdue"`
}

// Extension is another end of a request.
type Extension struct {
	Until     time.Time     `json:"until"`
	Version   int           `json:"version"`
	Digest    string        `json:"digest"`
	Asked     *policy.Sign  `json:"asked"` // null: an approver came first
	Approvals []policy.Sign `json:"approvals"`
	Needed    int           `json:"needed"`
}

// RequestAt gives a request as it stands at an instant.
func (s *Snapshot) RequestAt(r *policy.Request, now time.Time) Request {
	x, t, p := s.Base.Stands(r, now), r.Current(), s.Plan.Policy
	v := Request{ID: r.ID, Version: t.Version, Digest: t.Digest(), Terms: t, State: x.Stage, Why: string(x.Why), Vendor: r.Vendor, Stale: x.Stale,
		From: s.Local(x.From), Until: s.Local(x.Until), MaxUntil: s.Local(x.MaxUntil)}
	v.Details = Details{Engineers: t.Engineers, EngineerNames: make([]string, len(t.Engineers)), Targets: t.Targets, Sources: t.Sources, Purpose: t.Purpose, Ticket: t.Ticket, Versions: r.Versions(), Grants: []string{}}
	v.Signatures = Signatures{RecordedBy: r.By, RecordedAt: s.Local(r.At), SelfApproved: x.Self, Approvals: s.signs(x.Counted), Needed: x.Needed,
		Shortened: []Extension{}, Ratified: s.sign(r.Ratified), Reports: s.signs(r.Reports), Reviews: s.signs(r.Reviews)}
	if p != nil {
		if vendor := p.Vendor(r.Vendor); vendor != nil {
			v.Name, v.Phone = vendor.DisplayName, vendor.Phone
			for i, e := range t.Engineers {
				if e := p.Engineer(r.Vendor + "/" + e.Name); e != nil {
					v.EngineerNames[i] = e.DisplayName
				}
			}
		}
	}
	for _, g := range s.Plan.Grants {
		if policy.RequestOf(g.ID) == r.Scope() && g.Contains(now) {
			v.Grants = append(v.Grants, g.ID)
		}
	}
	if r.Emergency {
		v.Emergency = &Emergency{RatifyBy: s.Local(cmp.Or(r.RatifyBy, r.From)), Ratified: r.Ratified != nil, Overdue: x.Overdue}
	}
	for _, e := range r.Ends {
		end := Extension{Until: s.Local(e.Until), Version: e.Version, Asked: s.sign(e.Asked), Approvals: s.signs(e.Approvals)}
		if e.Shortened != nil {
			end.Asked = s.sign(e.Shortened)
			v.Shortened = append(v.Shortened, end)
		} else if x.Pending != nil && x.Pending.Version == e.Version {
			end.Digest, end.Needed = t.Digest(), x.ExtensionNeeded
			v.Extension = &end
		}
	}
	v.ended(s, r)
	return v
}

// ended says who ended a request early.
func (v *Request) ended(s *Snapshot, r *policy.Request) {
	if by := s.endedBy(r); by.By != "" {
		v.Ended = s.sign(&by)
		v.Why = v.Ended.Reason
	}
}

func (s *Snapshot) sign(sign *policy.Sign) *policy.Sign {
	if sign == nil {
		return nil
	}
	local := *sign
	local.At, local.Login = s.Local(sign.At), "" // operators go by their names
	return &local
}

func (s *Snapshot) signs(all []policy.Sign) []policy.Sign {
	local := []policy.Sign{}
	for _, sign := range all {
		local = append(local, *s.sign(&sign))
	}
	return local
}
