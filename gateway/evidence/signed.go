package evidence

import (
	"slices"
	"strings"
	"time"

	"kidoban/gateway/view"
)

// login returns the login name of an actor, as the journal has it; empty: root, which many persons may use.
func login(actor string) string {
	if name, _, _ := strings.Cut(actor, " "); name == "root" || name == "gateway" {
		return ""
	}
	return unnumbered(actor)
}

// byWhom returns the login of the person behind an actor. For root it is the login that called sudo;
// empty: there was none.
func byWhom(actor string) string {
	_, behind, sudo := strings.Cut(actor, "root (login ")
	if !sudo {
		return login(actor)
	}
	return unnumbered(strings.TrimSuffix(behind, ")"))
}

// unnumbered is a login as policy.Actor.ID has it: for a user without a name the number alone.
func unnumbered(login string) string { return strings.TrimPrefix(login, "uid ") }

// SessionsDigest is the digest that a review of sessions signs. For one session it is the digest of that
// session; for several it is the hex SHA-256 of the sorted JSON list of their digests.
func SessionsDigest(digests []string) string {
	if len(digests) == 1 {
		return digests[0]
	}
	all := slices.Clone(digests)
	slices.Sort(all)
	return digestOf(all)
}

// sessionsDigest is the SessionsDigest of today's facts; empty: a session is unknown.
func (r *Record) sessionsDigest(ids []string) string {
	var digests []string
	for _, id := range ids {
		s := r.is.sessions[id]
		if s == nil {
			return ""
		}
		digests = append(digests, r.factsOf(s).digest())
	}
	return SessionsDigest(digests)
}

// digestOf is the digest of today's facts of a vendor's month.
func (b *monthly) digestOf(vendor string) string {
	if b.today[vendor] == "" {
		b.today[vendor] = b.vendorFacts(vendor).digest()
	}
	return b.today[vendor]
}

// todayOf is the digest of today's facts of a review. It is computed once, since a review may cover
// thousands of sessions.
func (b *monthly) todayOf(v Signed[Review]) string {
	if len(v.Is.Sessions) == 0 {
		return b.digestOf(v.Is.Vendor)
	}
	today, known := b.reviewed[v.Entry]
	if !known {
		today = b.r.sessionsDigest(v.Is.Sessions)
		b.reviewed[v.Entry] = today
	}
	return today
}

// signatures are the two reviews that count for a session, or for a vendor's month; nil: there is none.
type signatures struct{ checked, confirmed *signature }

// signature is a review. It is stale if the facts have changed since.
type signature struct {
	Signed[Review]
	stale bool
}

// is reports whether there is a signature that is not stale.
func (s *signature) is() bool { return s != nil && !s.stale }

// done reports whether there are both, and neither is stale.
func (s signatures) done() bool { return s.checked.is() && s.confirmed.is() }

// stale reports whether one of them is stale.
func (s signatures) stale() bool {
	return s.checked != nil && s.checked.stale || s.confirmed != nil && s.confirmed.stale
}

// signaturesOf finds the newest signatures of a session, or, with s nil, of the vendor's month. It takes
// a stale one only if there is no other.
func (b *monthly) signaturesOf(s *Session, vendor string) (both signatures) {
	for _, v := range b.r.Reviews {
		month := v.Is.Month == b.m.name && v.Is.Vendor == vendor && len(v.Is.Sessions) == 0
		if !month && (s == nil || !slices.Contains(v.Is.Sessions, s.ID)) {
			continue
		}
		x := &signature{v, v.Is.Digest != b.todayOf(v)}
		switch {
		case v.Is.As == Checked && (!x.stale || !both.checked.is()):
			both.checked = x
		case v.Is.As == Confirmed && login(v.Actor) != "" && (!x.stale || !both.confirmed.is()):
			x.stale = x.stale || !both.checked.is() // the check that it confirmed is stale
			both.confirmed = x
		}
	}
	return both
}

// same reports whether one person checked and confirmed.
func (s signatures) same() bool {
	return s.checked != nil && s.confirmed != nil && byWhom(s.checked.Actor) == byWhom(s.confirmed.Actor)
}

// signed returns the signatures in the form of the report.
func (b *monthly) signed(s signatures) (checked, confirmed *ReportSigned) {
	row := func(x *signature) *ReportSigned {
		if x == nil {
			return nil
		}
		return &ReportSigned{Entry: x.Entry, At: b.m.local(x.At), By: x.Actor, For: x.Is.For, Note: x.Is.Note}
	}
	if checked, confirmed = row(s.checked), row(s.confirmed); confirmed != nil {
		confirmed.Same = s.same()
	}
	return checked, confirmed
}

// sign fills in the signatures of sessions and months.
func (b *monthly) sign() {
	for i, s := range b.sessions {
		x := &b.report.Sessions[i]
		both := b.signaturesOf(s, s.Vendor)
		b.both = append(b.both, both)
		x.Checked, x.Confirmed = b.signed(both)
		x.Stale = both.stale()
	}
	for i := range b.report.Vendors {
		v := &b.report.Vendors[i]
		both := b.signaturesOf(nil, v.Vendor)
		v.Checked, v.Confirmed = b.signed(both)
		v.Stale = both.stale()
	}
}

// CheckReview returns nil if the review may be signed, else a *view.Error with the reason. login is the
// login of the person who signs; empty: root, which may check and not confirm. With distinct, a person
// who checked may not confirm. now is the gateway's time.
func (r *Record) CheckReview(v Review, login string, now time.Time, distinct bool) error {
	refuse := func(m view.Message) error { return &view.Error{Message: m} }
	switch {
	case v.As != Checked && v.As != Confirmed:
		return refuse(view.Say("review_as", view.Args{"as": string(v.As)}))
	case (v.Month == "") != (v.Vendor == "") || (v.Month == "") == (len(v.Sessions) == 0):
		return refuse(view.Say("review_what", nil))
	case v.As == Confirmed && login == "":
		return refuse(view.Say("review_root", nil))
	}
	var err error
	var of reviewed
	if len(v.Sessions) > 0 {
		of, err = r.reviewedSessions(v.Sessions)
	} else {
		of, err = r.reviewedMonth(v.Month, v.Vendor, now)
	}
	switch {
	case err != nil:
		return err
	case v.Digest != of.digest:
		return refuse(view.Say("review_stale", view.Args{"given": v.Digest, "digest": of.digest}))
	case v.As == Confirmed && len(of.unchecked) > 0:
		return refuse(view.Say("review_unchecked", view.Args{"sessions": view.Few(of.unchecked, namedMost)}))
	case v.As == Confirmed && distinct && slices.Contains(of.by, login):
		return refuse(view.Say("review_same", view.Args{"login": login}))
	}
	return of.explained(v)
}

// namedMost is how many sessions and mismatches a message names.
const namedMost = 20

// reviewed has the facts that a review covers.
type reviewed struct {
	digest     string
	unchecked  []string // sessions, or the month
	by         []string // logins of those who checked
	mismatches []Mismatch
}

// checked adds the signatures of a session or a month.
func (x *reviewed) checked(name string, s signatures) {
	if !s.checked.is() {
		x.unchecked = append(x.unchecked, name)
		return
	}
	x.by = append(x.by, byWhom(s.checked.Actor))
}

// reviewedSessions collects the facts of sessions. They must have ended.
func (r *Record) reviewedSessions(ids []string) (x reviewed, err error) {
	var unknown, twice []string
	months := map[string]*monthly{}
	for i, id := range ids {
		s := r.is.sessions[id]
		if slices.Contains(ids[:i], id) {
			twice = append(twice, id)
			continue
		}
		if s == nil {
			unknown = append(unknown, id)
			continue
		}
		name := r.monthAt(s.OpenedAt) + " " + s.Vendor
		if months[name] == nil {
			if months[name], err = r.made(r.monthAt(s.OpenedAt), s.Vendor); err != nil {
				return x, err
			}
		}
		x.checked(id, months[name].signaturesOf(s, s.Vendor))
		x.mismatches = append(x.mismatches, slices.DeleteFunc(slices.Clone(months[name].report.Mismatches), func(m Mismatch) bool { return m.Session != id })...)
	}
	if len(unknown) > 0 {
		return x, &view.Error{Message: view.Say("review_sessions_unknown", view.Args{"sessions": view.Few(unknown, namedMost)})}
	}
	if len(twice) > 0 {
		return x, &view.Error{Message: view.Say("review_sessions_twice", view.Args{"sessions": view.Few(twice, namedMost)})}
	}
	x.digest = r.sessionsDigest(ids)
	return x, r.checkOver(slices.DeleteFunc(slices.Clone(r.Sessions), func(s *Session) bool { return !slices.Contains(ids, s.ID) }))
}

// reviewedMonth collects the facts of a vendor's month. It must have ended.
func (r *Record) reviewedMonth(name, vendor string, now time.Time) (x reviewed, err error) {
	b, err := r.made(name, vendor)
	if err != nil {
		return x, err
	}
	if now.Before(b.m.until) {
		return x, &view.Error{Message: view.Say("review_month_lasts", view.Args{"month": name, "until": b.m.until.Format(view.Moment)})}
	}
	x.digest, x.mismatches = b.digestOf(vendor), b.report.Mismatches
	month := b.signaturesOf(nil, vendor)
	for _, s := range b.sessions {
		both := b.signaturesOf(s, vendor)
		x.checked(s.ID, both)
	}
	if month.checked.is() || len(b.sessions) == 0 {
		x.unchecked, x.by = nil, nil
		x.checked(name, month)
	}
	return x, r.checkOver(b.sessions)
}

// checkOver returns an error if a session is open.
func (r *Record) checkOver(all []*Session) error {
	var open []string
	for _, s := range all {
		if s.Last < 0 {
			open = append(open, s.ID)
		}
	}
	if len(open) > 0 {
		return &view.Error{Message: view.Say("review_open", view.Args{"sessions": view.Few(open, namedMost)})}
	}
	return nil
}

// explained returns an error if the review has no note about an open mismatch. Mismatch m11 needs none:
// it is that the review is missing.
func (x reviewed) explained(v Review) error {
	var unsaid, open []string
	for _, m := range x.mismatches {
		if m.State != Open || m.Kind == "m11" {
			continue
		}
		open = append(open, m.Ref())
		if v.Note == "" || len(v.Explained) > 0 && !slices.Contains(v.Explained, m.Ref()) {
			unsaid = append(unsaid, m.Ref())
		}
	}
	strange := slices.DeleteFunc(slices.Clone(v.Explained), func(ref string) bool {
		return slices.ContainsFunc(x.mismatches, func(m Mismatch) bool { return m.Ref() == ref })
	})
	switch {
	case len(strange) > 0:
		return &view.Error{Message: view.Say("review_mismatches_unknown", view.Args{"mismatches": view.Few(strange, namedMost), "open": view.Few(open, namedMost)})}
	case len(unsaid) > 0:
		return &view.Error{Message: view.Say("review_mismatches", view.Args{"mismatches": view.Few(unsaid, namedMost)})}
	}
	return nil
}

// monthAt is the month of an instant, in the zone of the policy in force at the month's end.
func (r *Record) monthAt(at time.Time) string {
	for _, guess := range []time.Time{at, at.Add(15 * time.Hour), at.Add(-15 * time.Hour)} {
		if m, err := r.monthOf(guess.UTC().Format(monthLayout)); err == nil && m.has(at) {
			return m.name
		}
	}
	return at.UTC().Format(monthLayout)
}
