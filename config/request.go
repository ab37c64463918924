package config

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"kidoban/gateway/policy"
)

// Bounds of requests. maxDuration bounds one, as it bounds a rule.
const (
	maxApprovals = 5
	maxTotal     = 30 * 24 * time.Hour
	maxNotice    = 90 * 24 * time.Hour // how far ahead a request may begin
	maxUndecided = 14 * 24 * time.Hour
	maxRatify    = 31 * 24 * time.Hour

	// One-time sources lie in prefixes of at least so many bits.
	oneTimeBits4, oneTimeBits6 = 16, 32
)

// onRequest reads the field on_request of a vendor. It gives nil without the field.
func (r *reader) onRequest(vendor *policy.Vendor, engineers map[string]*policy.Engineer, v value) *policy.OnRequest {
	f := r.mapping(v, "targets", "engineers?", "section?", "valid?", "approvals?", "approvers?", "self_approval?", "max_duration", "max_total?",
		"ahead?", "undecided?", "grace?", "one_time_source?", "emergency?")
	if f == nil {
		return nil
	}
	strange := r.strange
	o := &policy.OnRequest{Approvals: 1}
	o.Section = r.display(f["section"])
	o.ValidFrom, o.ValidUntil, _ = r.valid(v, f)
	o.Targets = references(&r.decoder, f["targets"], "target", r.targets)
	slices.SortFunc(o.Targets, func(a, b *policy.Target) int { return strings.Compare(a.Name, b.Name) })
	before := r.told()
	o.Engineers = r.engineersOf(vendor, engineers, f["engineers"])
	r.reaches(v, f["targets"], o.Engineers, o.Targets, r.told() == before && !strange)
	longest := r.durations(o, f)
	o.OneTimeSource = r.oneTimeSource(vendor, f["one_time_source"])
	if r.withoutOperators(v) {
		return o
	}
	before = r.told()
	if f["approvals"].present() {
		o.Approvals = r.number(f["approvals"], maxApprovals, "5")
	}
	if o.SelfApproval = r.boolean(f["self_approval"]); o.SelfApproval {
		r.warn(f["self_approval"], "policy_self_approval", nil)
	}
	approvers, known := r.deciders(f["approvers"], policy.MayApprove)
	o.Approvers = approvers
	if known && !strange && r.told() == before {
		r.checkQuorum(o, v, f)
	}
	o.Emergency = r.emergency(f["emergency"], longest)
	return o
}

// durations reads the durations of requests. longest is the longest duration of one: the bound if it
// could not be read.
func (r *reader) durations(o *policy.OnRequest, f map[string]value) (longest time.Duration) {
	duration := func(field string, absent, most time.Duration) time.Duration {
		if !f[field].present() {
			return absent
		}
		d, ok := read(&r.decoder, f[field], parseDuration(most))
		if !ok {
			return absent
		}
		return d
	}
	if o.MaxDuration = duration("max_duration", 0, maxDuration); o.MaxDuration > 24*time.Hour {
		r.warn(f["max_duration"], "policy_request_long", nil)
	}
	if o.MaxTotal = duration("max_total", o.MaxDuration, maxTotal); o.MaxTotal < o.MaxDuration {
		r.errorf(f["max_total"], "%s is less than max_duration: allowed is from %s to %s", policy.Elapsed(o.MaxTotal), policy.Elapsed(o.MaxDuration), policy.Elapsed(maxTotal))
	}
	o.Ahead = duration("ahead", 14*24*time.Hour, maxNotice)
	o.Undecided = duration("undecided", 24*time.Hour, maxUndecided)
	o.Grace = duration("grace", 0, maxGrace)
	return cmp.Or(o.MaxDuration, maxDuration)
}

// oneTimeSource reads the prefixes in which a one-time source may lie.
func (r *reader) oneTimeSource(vendor *policy.Vendor, v value) (all []netip.Prefix) {
	f := r.mapping(v, "within")
	for _, s := range r.outside(r.sources(f["within"])) {
		widest := oneTimeBits4
		if s.prefix.Addr().Is6() {
			widest = oneTimeBits6
		}
		if s.prefix.Bits() < widest {
			r.errorf(s.value, "%v is wider than /%d: allowed is /%d for IPv4 and /%d for IPv6, or narrower", s.prefix, widest, oneTimeBits4, oneTimeBits6)
			continue
		}
		r.warnRange(vendor, s)
		all = append(all, s.prefix)
	}
	return all
}

// checkQuorum reports approvals that are out of reach. Without self_approval the recorder does not
// count, who may be the approver that is missing.
func (r *reader) checkQuorum(o *policy.OnRequest, v value, f map[string]value) {
	recorders := r.entitled(policy.MayRecord)
	if len(recorders) == 0 {
		return // it is reported for all vendors
	}
	most := 0
	for _, recorder := range recorders {
		n := len(o.Approvers)
		if !o.SelfApproval && slices.Contains(o.Approvers, recorder) {
			n--
		}
		most = max(most, n)
	}
	at := v.named()
	for _, field := range []string{"approvals", "approvers"} {
		if f[field].readable() {
			at = f[field]
			break
		}
	}
	switch {
	case most >= o.Approvals:
	case o.SelfApproval:
		r.errorf(at, "needs %d approvals, and at most %d operators can approve: allowed are fewer approvals, or more approvers", o.Approvals, most)
	default:
		r.errorf(at, "needs %d approvals, and at most %d operators can approve, since the one who records does not count: allowed are fewer approvals, more approvers, or self_approval: true", o.Approvals, most)
	}
}

// emergency reads the field emergency. longest is the longest duration of an ordinary request.
func (r *reader) emergency(v value, longest time.Duration) *policy.Emergency {
	f := r.mapping(v, "max_duration", "ratify_within", "ratifiers?")
	if f == nil {
		return nil
	}
	strange := r.strange
	e := &policy.Emergency{}
	var ok bool
	if e.MaxDuration, ok = read(&r.decoder, f["max_duration"], parseDuration(maxDuration)); ok && e.MaxDuration > longest {
		r.errorf(f["max_duration"], "%s is more than the max_duration of on_request: allowed is up to %s", policy.Elapsed(e.MaxDuration), policy.Elapsed(longest))
	}
	e.RatifyWithin, _ = read(&r.decoder, f["ratify_within"], parseDuration(maxRatify))
	ratifiers, known := r.deciders(f["ratifiers"], policy.MayRatify)
	e.Ratifiers = ratifiers
	at := v.named()
	if f["ratifiers"].present() {
		at = f["ratifiers"]
	}
	switch {
	case !known || strange:
	case len(ratifiers) == 0:
		r.errorf(at, "nobody may ratify: at least one operator needs may: [ratify]")
	case len(ratifiers) == 1 && ratifiers[0].May(policy.MayRecord):
		r.errorf(at, "%s is the only ratifier and may declare an emergency, and nobody ratifies their own: allowed is with a second ratifier", shown(ratifiers[0].Name))
	}
	return e
}
