package policy

import (
	"net/netip"
	"slices"
	"time"
)

// told is an entry of a journal.
type told struct {
	at    time.Time
	event Event
}

// ledger answers what Stands, Plan and Decide answer about requests: by reading, each time anew, all
// that was told from the first entry on, and comparing it with the policy of today.
type ledger struct {
	told   []told
	policy *Policy
}

// facts is what a ledger tells of one request.
type facts struct {
	Requested
	approvals                  []Sign // the first of each name, of the right digest
	ends                       []laterEnd
	revoked, denied, withdrawn bool
}

// laterEnd is an extension or a shortening.
type laterEnd struct {
	until   time.Time
	short   bool
	version int
	signs   []Sign
}

func (l *ledger) ids() (all []string) {
	for _, x := range l.told {
		if q, ok := x.event.(Requested); ok && !slices.Contains(all, q.ID) {
			all = append(all, q.ID)
		}
	}
	return all
}

func (l *ledger) facts(id string) (f facts) {
	version, known := 1, false
	for _, x := range l.told {
		switch e := x.event.(type) {
		case Requested:
			if e.ID == id && !known {
				f.Requested, known = e, true
			}
		case Shut:
			f.revoked = f.revoked || known && string(e.Scope) == id
		case Verdict:
			if e.ID != id || !known {
				continue
			}
			sign := Sign{By: e.By, At: e.Given}
			switch e.Verb {
			case Approve:
				if e.Digest == f.Terms.Digest() {
					f.approvals = signed(f.approvals, sign)
				}
			case Deny:
				f.denied = true
			case Withdraw:
				f.withdrawn = true
			case Shorten:
				f.ends = append(f.ends, laterEnd{until: e.Until, short: true})
			case AskExtension:
				version++
				f.ends = append(f.ends, laterEnd{until: e.Until, version: version})
			case Extend:
				last := len(f.ends) - 1
				if last < 0 || f.ends[last].short || !f.ends[last].until.Equal(e.Until) {
					if e.Digest != f.digest(version+1, e.Until) {
						continue
					}
					version++
					f.ends = append(f.ends, laterEnd{until: e.Until, version: version, signs: []Sign{sign}})
				} else if e.Digest == f.digest(version, e.Until) {
					f.ends[last].signs = signed(f.ends[last].signs, sign)
				}
			}
		}
	}
	return f
}

func signed(all []Sign, by Sign) []Sign {
	if slices.ContainsFunc(all, func(s Sign) bool { return s.By == by.By }) {
		return all
	}
	return append(all, by)
}

// digest is that of the request with another version and end.
func (f *facts) digest(version int, until time.Time) string {
	t := f.Terms
	t.Version, t.Until, t.For = version, until.UTC(), 0
	return t.Digest()
}

// of finds what may be requested, or nil.
func (l *ledger) of(vendor string) *OnRequest {
	for _, v := range l.policy.Vendors {
		if v.Name == vendor {
			return v.OnRequest
		}
	}
	return nil
}

// distinct are the signs of people who approve by the policy of today, and did not record it.
func (f *facts) distinct(o *OnRequest, signs []Sign) (all []Sign) {
	for _, s := range signs {
		for _, a := range o.Approvers {
			if a.Name == s.By && (o.SelfApproval || s.By != f.By) {
				all = append(all, s)
			}
		}
	}
	return all
}

// span is from when until when a request opens by all decisions and bounds, and whether there are
// enough of them. Before that it is the time that was asked for.
func (l *ledger) span(f *facts, o *OnRequest) (s Span, approved bool) {
	s = Span{f.From, f.Until}
	names := f.distinct(o, f.approvals)
	longest := o.MaxDuration
	if f.Emergency {
		approved, longest = true, o.Emergency.MaxDuration
	} else if approved = len(names) >= o.Approvals; approved && f.For > 0 {
		s.From = names[o.Approvals-1].At.Truncate(time.Second)
		s.Until = s.From.Add(time.Duration(f.For) * time.Second)
	}
	first := func(a, b time.Time) time.Time {
		if a.Before(b) {
			return a
		}
		return b
	}
	s.Until = first(s.Until, s.From.Add(longest))
	for _, e := range f.ends {
		switch signs := len(f.distinct(o, e.signs)); {
		case e.short:
			s.Until = first(s.Until, e.until)
		case !e.until.After(s.From.Add(longest)):
			if signs >= 1 {
				s.Until = e.until
			}
		case f.Emergency:
			if signs >= 1 {
				s.Until = s.From.Add(longest)
			}
		case signs >= o.Approvals:
			s.Until = first(e.until, s.From.Add(o.MaxTotal))
		}
	}
	for _, last := range []Date{o.ValidUntil, l.policy.Vendor(f.Vendor).ContractUntil} {
		if !last.IsZero() {
			s.Until = first(s.Until, l.midnight(last.AddDays(1)))
		}
	}
	if begin := l.midnight(o.ValidFrom); !o.ValidFrom.IsZero() && begin.After(s.From) {
		s.From = begin
	}
	return s, approved
}

func (l *ledger) midnight(d Date) time.Time {
	return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, l.policy.Zone)
}

// stage is where a request stands.
func (l *ledger) stage(id string, now time.Time) Stage {
	f, o := l.facts(id), (*OnRequest)(nil)
	if o = l.of(f.Vendor); o != nil && f.Emergency && (o.Emergency == nil || !l.policy.Operator(f.By).May(MayRecord)) {
		o = nil
	}
	switch {
	case f.revoked:
		return StageRevoked
	case f.denied:
		return StageDenied
	case f.withdrawn:
		return StageWithdrawn
	case o == nil:
		return StageVoid
	}
	s, approved := l.span(&f, o)
	anybody, anything := false, false
	for _, a := range f.Engineers {
		for _, e := range o.Engineers {
			for _, source := range slices.Concat(a.Sources, e.Sources) {
				anybody = anybody || l.comesFrom(&f, o, e, source.Addr())
			}
			anybody = anybody || f.Source != nil && l.comesFrom(&f, o, e, *f.Source)
		}
	}
	for _, a := range f.Targets {
		for _, t := range o.Targets {
			for _, s := range t.Services {
				for _, port := range []uint16{s.First, s.Last, askedPort(a)} {
					for _, at := range []netip.Addr{a.Prefix.Addr(), t.Prefix.Addr()} {
						anything = anything || l.goesTo(&f, o, netip.AddrPortFrom(at, port), s.Protocol)
					}
				}
			}
		}
	}
	switch {
	case !anybody || !anything || !s.From.Before(s.Until):
		return StageVoid
	case !approved && !now.Before(s.From.Add(o.Undecided)), !approved && f.For == 0 && !now.Before(s.Until):
		return StageExpired
	case !approved:
		return Undecided
	case now.Before(s.From):
		return Scheduled
	case now.Before(s.Until):
		return StageOpen
	case now.Before(s.Until.Add(o.Grace)):
		return StageFrozen
	}
	return StageClosed
}

// askedPort is the first port that was asked for.
func askedPort(a AskedTarget) uint16 {
	for _, text := range a.Services {
		if s, ok := parseService(text, a.Prefix.Addr()); ok {
			return s.First
		}
	}
	return 0
}

// comesFrom reports whether an engineer may come from a source: asked for, and in the policy.
func (l *ledger) comesFrom(f *facts, o *OnRequest, e *Engineer, source netip.Addr) bool {
	has := func(all []netip.Prefix) bool {
		return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(source) })
	}
	for _, a := range f.Engineers {
		if a.Name != e.Name || a.Key != e.Key || !slices.Contains(o.Engineers, e) {
			continue
		}
		if f.Source != nil {
			return *f.Source == source && has(o.OneTimeSource)
		}
		return has(a.Sources) && has(e.Sources)
	}
	return false
}

// goesTo reports whether a destination was asked for, and is in the policy.
func (l *ledger) goesTo(f *facts, o *OnRequest, to netip.AddrPort, protocol uint8) bool {
	asked := slices.ContainsFunc(f.Targets, func(a AskedTarget) bool {
		return a.Prefix.Contains(to.Addr()) && slices.ContainsFunc(a.Services, func(text string) bool {
			s, _ := parseService(text, a.Prefix.Addr())
			return s.Allows(protocol, to.Port())
		})
	})
	return asked && slices.ContainsFunc(o.Targets, func(t *Target) bool { return t.Allows(to, protocol) })
}

// opens lists the spans in which requests open a destination to an engineer from a source.
func (l *ledger) opens(q Query, e *Engineer) (all []Span) {
	for _, id := range l.ids() {
		f := l.facts(id)
		o := l.of(f.Vendor)
		if f.revoked || f.denied || f.withdrawn || o == nil || f.Vendor != e.Vendor.Name {
			continue
		}
		if f.Emergency && (o.Emergency == nil || !l.policy.Operator(f.By).May(MayRecord)) {
			continue
		}
		if s, approved := l.span(&f, o); approved && s.From.Before(s.Until) && l.comesFrom(&f, o, e, q.Source) && l.goesTo(&f, o, q.To, q.Proto) {
			all = append(all, s)
		}
	}
	return all
}
