package catalogue

import (
	"net/netip"
	"slices"
	"time"

	"kidoban/gateway/evidence"
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// Version is the version of Inspection's JSON.
const Version = 1

// Live is what only a running gateway knows.
type Live struct {
	At             time.Time        // the gateway's clock; answers expire by it
	Version        string           // of the program
	Synchronized   bool             // the kernel's clock
	RulesetKnown   bool             // the ruleset was read back
	RulesetEqual   bool             // and is the planned one
	Listeners      []netip.AddrPort // on which the program itself serves people; the admin socket is no address
	ListenersKnown bool
	Witnessed      time.Time // the newest cosignature of a witness; zero: none is known
	Copied         time.Time // the newest complete copy; zero: none is known
}

// Options say what to inspect. The zero value asks for the policy's tier, and for all vendors.
type Options struct {
	Tier       int    // 1 to 3; 0: the policy's
	Vendor     string // the vendor whose questions are asked; empty: the site's questions
	Origin     string // of the journal
	Checkpoint string // the signed note that covers the record; empty: it is not known
	Verified   bool   // the entries were compared with it
	Damaged    bool   // they were, and differ
}

// Inspection has the answer to each control of a tier. Times are in the site's zone.
type Inspection struct {
	Version     int                `json:"version"`
	Site        string             `json:"site"`
	Timezone    string             `json:"timezone"`
	Origin      string             `json:"origin"`
	Entries     evidence.Range     `json:"entries"`
	Checkpoint  string             `json:"checkpoint"`
	Verified    bool               `json:"verified"`
	Policy      string             `json:"policy"` // digest of the policy in force
	AsOf        time.Time          `json:"as_of"`
	Live        bool               `json:"live"`              // the running gateway was asked, too
	Program     string             `json:"program,omitempty"` // its version
	Tier        int                `json:"tier"`
	Needed      int                `json:"tier_needed"` // by the policy's own facts
	Reason      string             `json:"tier_reason,omitempty"`
	Size        policy.Size        `json:"size"`
	Sensitivity policy.Sensitivity `json:"sensitivity"`
	Vendor      string             `json:"vendor,omitempty"` // of a vendor's own answers
	VendorName  string             `json:"vendor_name,omitempty"`
	// Counts are of the controls that count.
	Counts     map[Verdict]int `json:"counts"`
	Controls   []Result        `json:"controls"`
	Guidelines []Guideline     `json:"guidelines"` // those that maps name
}

// Result is the answer to one control. A map that is not verified is never in it.
type Result struct {
	ID          string         `json:"id"`
	Requirement Text           `json:"requirement"`
	Answer      Verdict        `json:"answer"`
	Machine     *Machine       `json:"machine"`  // null: no machine can tell
	Question    *Text          `json:"question"` // null: the machine's answer is enough
	Person      *Given         `json:"person"`   // null: there is no answer
	Facts       []view.Message `json:"facts"`    // facts to help the person who answers
	Evidence    Text           `json:"evidence"`
	Counts      bool           `json:"counts"`
	Tiers       []int          `json:"tiers"`
	Every       Period         `json:"every"`     // how often a machine looks, and how far back
	ValidFor    Period         `json:"valid_for"` // how long a person's answer holds
	Maps        []Map          `json:"maps"`
}

// Machine is the result of a check.
type Machine struct {
	Answer   Verdict        `json:"answer"` // never na
	Findings []view.Message `json:"findings"`
	Entries  []int64        `json:"entries"` // that show it, at most the first 20
	From     time.Time      `json:"from"`    // how far back it looked
}

// entriesMost bounds the entries that a finding names.
const entriesMost = 20

// look is what checks and facts look at.
type look struct {
	r        *evidence.Record
	live     *Live
	o        Options
	p        *policy.Policy // in force; nil: the journal has none that can be read
	at, from time.Time      // until when, and from when on
	zone     *time.Location
	months   map[string]evidence.Report
	results  []Result // so far
}

// Inspect answers the controls of a tier from a record. live is nil for a copied journal: what only
// the gateway knows is then not assessed. Unknown tiers and vendors are errors, and so is an empty record.
func Inspect(r *evidence.Record, live *Live, o Options) (Inspection, error) {
	c := &look{r: r, live: live, o: o, p: r.At(r.Now), at: r.Now, zone: time.UTC, months: map[string]evidence.Report{}}
	if live != nil {
		c.at = live.At
	}
	if c.p != nil {
		c.zone = c.p.Zone
	}
	if r.Entries.To < 0 {
		return Inspection{}, &view.Error{Message: view.Say("evidence_no_entries", nil)}
	}
	if o.Tier < 0 || o.Tier > len(data().rhythms) {
		return Inspection{}, &view.Error{Message: view.Say("inspect_tier", view.Args{"tier": o.Tier})}
	}
	i, err := c.head()
	if err != nil {
		return i, err
	}
	for _, control := range data().controls {
		if control.in(i.Tier) && (o.Vendor == "" || control.Vendor != nil) {
			c.results = append(c.results, c.result(control, data().rhythm(i.Tier)))
		}
	}
	i.Controls = c.results
	for n := range i.Controls {
		if x := &i.Controls[n]; x.Counts {
			i.Counts[x.Answer]++
		}
	}
	i.Guidelines = named(i.Controls)
	return i, nil
}

func (c *look) head() (Inspection, error) {
	i := Inspection{Version: Version, Timezone: c.zone.String(), Origin: c.o.Origin, Entries: c.r.Entries, Checkpoint: c.o.Checkpoint, Verified: c.o.Verified && !c.o.Damaged,
		AsOf: c.at.In(c.zone), Live: c.live != nil, Tier: c.o.Tier, Vendor: c.o.Vendor, Counts: map[Verdict]int{Yes: 0, No: 0, NA: 0, NotAssessed: 0}}
	if n := len(c.r.Policies); n > 0 {
		i.Policy = c.r.Policies[n-1].Digest
	}
	if c.live != nil {
		i.Program = c.live.Version
	}
	chosen, needed := policy.Tier2, policy.Tier2 // of a journal without a policy
	if p := c.p; p != nil {
		i.Site, i.Size, i.Sensitivity, i.Reason = p.Site, p.Inspection.Size, p.Inspection.Sensitivity, p.Inspection.Reason
		chosen, needed = p.InspectionTier()
	}
	if i.Needed = int(needed); i.Tier == 0 {
		i.Tier = int(chosen)
	}
	if c.o.Vendor == "" {
		return i, nil
	}
	known := map[string]string{} // names for people
	for _, o := range c.r.Openings {
		known[o.Vendor] = o.VendorName
	}
	for _, s := range c.r.Sessions {
		known[s.Vendor] = s.VendorName
	}
	for _, v := range c.vendors(true) {
		known[v.Name] = v.DisplayName
	}
	name, ok := known[c.o.Vendor]
	if !ok {
		return i, &view.Error{Message: view.Say("evidence_vendor_unknown", view.Args{"vendor": c.o.Vendor, "known": sorted(known)})}
	}
	i.VendorName = name
	return i, nil
}

// result answers a control.
func (c *look) result(k *Control, tier rhythm) Result {
	x := Result{ID: k.ID, Requirement: k.Requirement, Question: k.Question, Facts: []view.Message{}, Evidence: k.Evidence, Counts: k.counts(), Tiers: k.Tiers,
		Every: tier.Every, ValidFor: tier.ValidFor, Maps: k.Printed()}
	if k.ValidFor != (Period{}) {
		x.Every, x.ValidFor = k.ValidFor, k.ValidFor
	}
	if c.o.Vendor != "" {
		x.Question = k.Vendor
	}
	c.from = x.Every.before(c.at)
	if check := checks[k.Check]; check != nil {
		m := check(c)
		m.From = c.from.In(c.zone)
		x.Machine = &m
	}
	if fact := facts[k.Fact]; fact != nil {
		x.Facts = fact(c)
	}
	x.Person = given(c.r, k.ID, c.o.Vendor, x.ValidFor, c.at, c.zone)
	x.Answer = merged(x.Machine, x.Question != nil, x.Person)
	return x
}

// named are the guidelines that the maps of results name, in the order of the catalogue.
func named(results []Result) []Guideline {
	all := []Guideline{}
	for _, g := range data().guidelines {
		if slices.ContainsFunc(results, func(x Result) bool {
			return slices.ContainsFunc(x.Maps, func(m Map) bool { return m.Guideline == g.ID && m.Edition == g.Edition })
		}) {
			all = append(all, *g)
		}
	}
	return all
}

// found is the answer of a check: no if there are entries or else something wrong.
func found(verdict Verdict, entries []int64, findings ...view.Message) Machine {
	if entries == nil {
		entries = []int64{}
	}
	slices.Sort(entries)
	entries = slices.Compact(entries)
	return Machine{Answer: verdict, Findings: findings, Entries: entries[:min(len(entries), entriesMost)]}
}

// unknown is the answer of a check without its data.
func unknown(why view.Message) Machine { return found(NotAssessed, nil, why) }

// blank says why a check has no data, or nothing: the journal must cover the time, and its policy be readable.
func (c *look) blank() view.Message {
	switch {
	case c.p == nil:
		return view.Say("inspect_no_policy", nil)
	case c.r.Now.Before(c.from), slices.ContainsFunc(c.r.Doubts, func(s *evidence.Span) bool {
		return s.Kind == journal.Stop && s.From.Before(c.from) && (s.Until.IsZero() || !s.Until.Before(c.at))
	}):
		return view.Say("inspect_not_running", nil)
	}
	return view.Message{}
}

// vendors are those of the policy: the one that is asked, or all.
func (c *look) vendors(all bool) (vendors []*policy.Vendor) {
	if c.p == nil {
		return nil
	}
	for _, v := range c.p.Vendors {
		if all || c.of(v.Name) {
			vendors = append(vendors, v)
		}
	}
	return vendors
}

// of reports whether the inspection is about a vendor.
func (c *look) of(vendor string) bool { return c.o.Vendor == "" || c.o.Vendor == vendor }

// within reports whether an instant lies in the time that is looked at.
func (c *look) within(at time.Time) bool { return !at.Before(c.from) && !at.After(c.at) }

// reports are those of the months of the time, oldest first.
func (c *look) reports() (all []evidence.Report) {
	from := c.from
	if from.Before(c.r.Begins) {
		from = c.r.Begins
	}
	y, m, _ := from.In(c.zone).Date()
	for at := time.Date(y, m, 1, 0, 0, 0, 0, c.zone); !at.After(c.at); at = at.AddDate(0, 1, 0) {
		name := at.Format("2006-01")
		report, known := c.months[name]
		if !known {
			report, _ = c.r.Month(name, c.o.Vendor) // a month without entries has no rows
			c.months[name] = report
		}
		all = append(all, report)
	}
	return all
}

// sessions are those that opened in the time.
func (c *look) sessions() (all []evidence.ReportSession) {
	for _, r := range c.reports() {
		for _, s := range r.Sessions {
			if c.within(s.OpenedAt) {
				all = append(all, s)
			}
		}
	}
	return all
}

// openings are those that were open in the time.
func (c *look) openings() (all []*evidence.Opening) {
	for _, o := range c.r.Openings {
		if c.of(o.Vendor) && !o.OpenedAt.After(c.at) && (o.Last < 0 || o.ClosedAt.After(c.from)) {
			all = append(all, o)
		}
	}
	return all
}
