package policy

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	ledgerSeeds = flag.Uint64("ledgers", 20, "how many seeds TestRequestsAgreeWithTheirLedger walks through")
	ledgerSeed  = flag.Uint64("ledger", 0, "walk through this seed alone, and tell its steps; 0: through all")
)

// TestRequestsAgreeWithTheirLedger lets operators, the policy's author, a slow disk, crashes and the
// clock act at random, and compares after every step: what a replay of the journal gives with the
// state that lives, and both with the ledger, about stages and about what is open to whom from where.
// In every other seed nobody is asked whether they may: what opens does not depend on that.
func TestRequestsAgreeWithTheirLedger(t *testing.T) {
	first, last := uint64(1), *ledgerSeeds
	if *ledgerSeed > 0 {
		first, last = *ledgerSeed, *ledgerSeed
	}
	done := map[string]int{}
	for seed := first; seed <= last && !t.Failed(); seed++ {
		walker := newLedgerWalker(t, seed, done)
		walker.walk(70)
	}
	for _, what := range []string{"open", "frozen", "scheduled", "void", "expired", "requested", "closed", "revoked", "denied", "withdrawn",
		"admitted", "approved", "extended", "shortened", "extension_asked", "overtaken", "crash with a queue", "emergency", "for", "one-time source"} {
		if done[what] == 0 && *ledgerSeed == 0 {
			t.Errorf("there was no %q: the walk shows nothing: %v", what, done)
		}
	}
	t.Log(done)
}

type ledgerWalker struct {
	t      *testing.T
	random *rand.Rand
	name   string
	asks   bool // operators are asked whether they may
	now    time.Time
	policy *Policy
	live   *State
	disk   []told
	queue  []queued
	number int
	steps  []string
	done   map[string]int
}

// queued is an entry that is not on disk yet.
type queued struct {
	told
	apply func() // once it is
}

func newLedgerWalker(t *testing.T, seed uint64, done map[string]int) *ledgerWalker {
	w := &ledgerWalker{t: t, random: rand.New(rand.NewPCG(seed, 11)), name: fmt.Sprintf("seed %d (-ledger %[1]d)", seed), asks: seed%2 == 0,
		now: time.Date(2026, 12, 1, 9, 0, 0, 0, mustZone(t, "Asia/Tokyo")), done: done}
	w.live = NewState()
	w.reloads()
	return w
}

func (w *ledgerWalker) note(format string, args ...any) {
	w.steps = append(w.steps, w.now.Format("01-02 15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (w *ledgerWalker) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Errorf("%s: %s\n%s", w.name, fmt.Sprintf(format, args...), strings.Join(w.steps, "\n"))
}

func (w *ledgerWalker) one(n int) bool { return w.random.IntN(n) == 0 }

// anyPolicy differs from seed to seed, and a little from the last one.
func (w *ledgerWalker) anyPolicy() *Policy {
	p := &Policy{Site: "site", Zone: mustZone(w.t, "Asia/Tokyo"), Digest: fmt.Sprint(w.random.Uint64())}
	pick := func(of ...string) string { return of[w.random.IntN(len(of))] }
	prefixes := func(text string) (all []netip.Prefix) {
		for f := range strings.FieldsSeq(text) {
			all = append(all, netip.MustParsePrefix(f))
		}
		return all
	}
	mostly := func(usual string, other ...string) string {
		if w.one(9) {
			return pick(other...)
		}
		return usual
	}
	tcp := func(first, last uint16) Service { return Service{TCP, first, last} }
	services := [][]Service{{tcp(22, 22)}, {tcp(22, 22), {ICMP, 0, 0}}, {tcp(20, 30)}, {tcp(443, 443)}, {{UDP, 22, 22}}}
	for _, name := range []string{"ehr", "lab", "pacs"} {
		usual := map[string]string{"ehr": "10.1.0.5/32", "lab": "10.1.1.0/28", "pacs": "10.1.2.7/32"}[name]
		s := services[0]
		if w.one(9) {
			s = services[w.random.IntN(len(services))]
		}
		p.Targets = append(p.Targets, &Target{Name: name, Services: s,
			Prefix: netip.MustParsePrefix(mostly(usual, "10.1.0.5/32", "10.1.0.0/28", "10.1.1.3/32", "10.1.2.7/32"))})
	}
	for _, name := range []string{"ito", "suzuki", "tanaka", "yamada"} {
		if w.one(24) {
			continue
		}
		o := &Operator{Name: name, User: name, Rights: []Right{MayRecord, MayApprove}}
		if w.one(6) {
			o.Rights = o.Rights[w.random.IntN(2):][:1]
		}
		if name == "ito" || w.one(3) {
			o.Rights = append(slices.Clip(o.Rights), MayRatify, MayReview)
		}
		p.Operators = append(p.Operators, o)
	}
	for i, vendor := range []string{"acme", "medisys"} {
		v := &Vendor{Name: vendor, Sources: prefixes(mostly("203.0.113.0/28", "203.0.113.0/30", "203.0.113.2/32 198.51.100.1/32", "203.0.112.0/22"))}
		for j, name := range []string{"brown", "green"} {
			e := &Engineer{Vendor: v, Name: name, Sources: v.Sources, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 99, byte(i), byte(j)})}}
			e.Key[0], e.Key[1] = byte(i+1), byte(j+1)
			v.Engineers = append(v.Engineers, e)
		}
		if w.one(8) {
			v.Engineers[0].Key, v.Engineers[1].Key = v.Engineers[1].Key, v.Engineers[0].Key
		}
		if w.one(8) {
			v.Engineers[0].Key[2] = byte(1 + w.random.IntN(2))
		}
		today := DateOf(w.now.In(p.Zone))
		date := func() Date {
			if w.one(14) {
				return today.AddDays(w.random.IntN(4) - 1)
			}
			return Date{}
		}
		v.ContractUntil = date()
		if w.one(2) {
			hour := TimeOfDay(w.random.IntN(24) * 3600)
			v.Windows = []*Window{{Vendor: v, Name: "daily", Schedule: &Days{Weekdays: [7]bool{true, true, true, true, true, true, true}, From: hour, To: (hour + 7200) % 86400},
				Targets: p.Targets[:1], Engineers: v.Engineers[:1+w.random.IntN(2)], ApprovedBy: "boss"}}
		}
		if p.Vendors = append(p.Vendors, v); w.one(24) {
			continue
		}
		o := &OnRequest{Targets: p.Targets[w.random.IntN(2):], Engineers: v.Engineers, ValidFrom: date(), ValidUntil: date(), Approvals: 1 + w.random.IntN(3)/2,
			SelfApproval: w.one(4), MaxDuration: time.Duration(2+w.random.IntN(4)) * time.Hour, Ahead: 14 * 24 * time.Hour, Undecided: 24 * time.Hour, Grace: 15 * time.Minute}
		o.MaxTotal = o.MaxDuration * 2
		if w.one(6) {
			o.Engineers = v.Engineers[1:]
		}
		if w.one(6) {
			o.Undecided = time.Hour
		}
		if w.one(3) {
			o.Grace = 0
		}
		for _, a := range p.Operators {
			if a.May(MayApprove) && !w.one(8) {
				o.Approvers = append(o.Approvers, a)
			}
		}
		if !w.one(4) {
			o.OneTimeSource = prefixes(mostly("198.51.100.0/24", "203.0.113.0/24", "198.51.100.0/29"))
		}
		if !w.one(4) {
			o.Emergency = &Emergency{MaxDuration: time.Duration(1+w.random.IntN(2)) * time.Hour, RatifyWithin: 72 * time.Hour}
		}
		v.OnRequest = o
	}
	return p
}

func (w *ledgerWalker) reloads() {
	w.policy = w.anyPolicy()
	w.note("policy %s", w.policy.Digest)
	w.load(w.live)
}

func (w *ledgerWalker) load(s *State) {
	if err := s.Apply(w.now, "test", PolicyLoaded{Digest: w.policy.Digest, Policy: w.policy}); err != nil {
		w.fail("policy: %v", err)
	}
}

// decide does what the gateway does: what opens counts once it is on disk, what closes at once.
func (w *ledgerWalker) decide(e Event, by string) {
	at := w.now
	r, isRequest := e.(RequestEvent)
	if isRequest {
		r = Signed(r, by, Actor{Via: "test"}, at)
		e = r
		if err := w.live.May(at, by, r); w.asks && err != nil {
			return
		}
		if err := w.live.Copy().Apply(at, by, e); err != nil {
			return
		}
	}
	closes := !isRequest
	if d, ok := e.(Verdict); ok {
		closes = d.Verb.Closes()
		w.done[string(d.Verb)]++
		w.note("%s %s of %s by %s until %s", d.Verb, d.Digest, d.ID, by, d.Until.Format("15:04:05"))
	}
	entry := queued{told: told{at, e}}
	if closes {
		if err := w.live.Apply(at, by, e); err != nil {
			return // it is not known yet
		}
	} else {
		shortenings := w.live.Shortenings(r.Request())
		entry.apply = func() {
			late := w.live.Late(r, shortenings)
			if d, ok := late.(Verdict); ok && d.later > 0 {
				w.done["overtaken"]++
			}
			_ = w.live.Apply(at, by, late)
		}
	}
	w.queue = append(w.queue, entry)
}

// writes brings the first entries of the queue to the disk.
func (w *ledgerWalker) writes(n int) {
	for _, q := range w.queue[:n] {
		w.disk = append(w.disk, q.told)
		if q.apply != nil {
			q.apply()
		}
	}
	w.queue = w.queue[n:]
}

func (w *ledgerWalker) replay() *State {
	s := NewState()
	var last time.Time
	for _, x := range w.disk {
		if x.at.Before(last) { // as a journal does
			x.at = last
		}
		last = x.at
		// What an event carries goes through JSON.
		kind := "requested"
		switch e := x.event.(type) {
		case Verdict:
			kind = string(e.Verb)
		case Shut:
			kind = "revoked"
		}
		raw, err := json.Marshal(x.event)
		if err != nil {
			w.fail("%v", err)
		}
		e, err := DecodeEvent(kind, raw)
		if err != nil {
			w.fail("%v", err)
		}
		_ = s.Apply(x.at, "test", e)
	}
	w.load(s)
	return s
}

func (w *ledgerWalker) asksFor() {
	a := Ask{Vendor: []string{"acme", "medisys"}[w.random.IntN(2)], Purpose: "work", Targets: []string{"ehr", "lab", "pacs"}[w.random.IntN(3):], Engineers: []string{"brown", "green"}[w.random.IntN(2):]}
	length := time.Duration(1+w.random.IntN(24)) * 10 * time.Minute
	a.Emergency = w.one(5)
	if w.one(2) && !a.Emergency {
		a.From = w.now.Add(time.Duration(w.random.IntN(600)) * time.Minute)
	}
	if a.For = length; w.one(2) {
		from := a.From
		if from.IsZero() {
			from = w.now
		}
		a.For, a.Until = 0, from.Add(length)
	}
	if w.one(4) {
		a.Source = []string{"198.51.100.1", "198.51.100.9", "203.0.113.2"}[w.random.IntN(3)]
	}
	w.number++
	terms, err := w.policy.Resolve(a, fmt.Sprintf("~%d", w.number), w.now)
	if err != nil {
		return
	}
	if by := w.somebody(); by != "" {
		w.note("asked by %s: %s", by, terms.Canonical())
		w.done["emergency"] += map[bool]int{true: 1}[terms.Emergency]
		w.done["for"] += map[bool]int{true: 1}[terms.For > 0]
		w.done["one-time source"] += map[bool]int{true: 1}[terms.Source != nil]
		w.decide(Requested{Terms: terms}, by)
	}
}

func (w *ledgerWalker) somebody() string {
	return []string{"ito", "suzuki", "tanaka", "yamada"}[w.random.IntN(4)]
}

func (w *ledgerWalker) anyRequest() *Request {
	all := w.live.Requests()
	if len(all) == 0 {
		return nil
	}
	return all[max(len(all)-1-w.random.IntN(4), 0)]
}

func (w *ledgerWalker) decides() {
	r := w.anyRequest()
	if r == nil {
		return
	}
	x := w.live.Stands(r, w.now)
	until := []time.Time{x.Until, x.MaxUntil, w.now, x.From, r.Current().Until}[w.random.IntN(5)].Add(time.Duration(w.random.IntN(12)-4) * 15 * time.Minute).UTC().Truncate(time.Second)
	d := Verdict{ID: r.ID, Reason: "a reason", Verb: []Verb{Approve, Approve, Approve, Extend, Extend, AskExtension, Shorten, Ratify, Deny, Withdraw}[w.random.IntN(10)]}
	switch d.Verb {
	case Approve:
		d.Digest = r.Terms.Digest()
	case Extend:
		if e := r.Extending(); e != nil && w.one(2) {
			until = e.Until
		}
		d.Until, d.Digest = until, r.Next(until).Digest()
	case Ratify:
		d.Digest = r.Current().Digest()
	case AskExtension, Shorten:
		d.Until = until
	case Deny, Withdraw:
		if !w.one(6) {
			return
		}
	}
	if d.Digest != "" && w.one(10) {
		d.Digest = r.Next(until.Add(time.Minute)).Digest()
	}
	w.decide(d, w.somebody())
}

func (w *ledgerWalker) walk(steps int) {
	for range steps {
		switch n := w.random.IntN(20); {
		case n < 4:
			w.asksFor()
		case n < 13:
			w.decides()
		case n < 14:
			if r := w.anyRequest(); r != nil && w.one(5) {
				w.note("revoke %s", r.ID)
				w.decide(Shut{Scope: r.Scope(), Reason: "a reason"}, w.somebody())
			}
		case n < 16:
			w.reloads()
		case n < 17 && w.one(2):
			if w.writes(w.random.IntN(len(w.queue) + 1)); len(w.queue) > 0 {
				w.done["crash with a queue"]++
			}
			w.queue, w.live = nil, w.replay()
			w.note("crash")
		case n < 18 && w.one(3):
			w.now = w.now.Add(time.Duration(w.random.IntN(10000)-5000) * time.Millisecond)
			w.note("step")
		}
		if w.random.IntN(3) > 0 {
			w.writes(w.random.IntN(len(w.queue) + 1))
		}
		if w.one(2) {
			w.writes(len(w.queue))
		}
		if w.one(2) {
			w.now = w.now.Add(time.Duration(w.random.IntN(7000)) * time.Second)
		} else {
			w.now = w.now.Add(time.Duration(w.random.IntN(3000)) * time.Millisecond)
		}
		if w.compare(); w.t.Failed() {
			return
		}
	}
}

// compare compares live, replayed and told.
func (w *ledgerWalker) compare() {
	l := &ledger{policy: w.policy, told: slices.Clone(w.disk)}
	for _, q := range w.queue { // what closes counts already, after what will be before it
		if q.apply == nil {
			l.told = append(l.told, q.told)
		}
	}
	if len(w.queue) == 0 {
		if a, b := stateText(w.live), stateText(w.replay()); a != b {
			w.fail("the replay differs:\n%s\nlive:\n%s", b, a)
			return
		}
	}
	instants := []time.Time{w.now, w.now.Add(time.Duration(w.random.IntN(36)) * time.Hour)}
	for range 3 {
		if r := w.anyRequest(); r != nil {
			x := w.live.Stands(r, w.now)
			edge := []time.Time{x.From, x.Until, x.MaxUntil, x.Until.Add(15 * time.Minute)}[w.random.IntN(4)]
			instants = append(instants, edge, edge.Add(-time.Nanosecond))
		}
	}
	for _, at := range instants {
		plan := w.live.Plan(at)
		for _, r := range w.live.Requests() {
			got, want := w.live.Stands(r, at).Stage, l.stage(r.ID, at)
			if w.done[string(got)]++; got != want {
				w.fail("%s at %s is %q, by the ledger %q", r.ID, at.Format("01-02 15:04:05.000"), got, want)
				return
			}
		}
		for range 12 {
			w.asked(plan, l, at)
		}
	}
}

// asked compares one answer of a plan with the ledger's.
func (w *ledgerWalker) asked(plan *Plan, l *ledger, at time.Time) {
	v := w.policy.Vendors[w.random.IntN(2)]
	e := v.Engineers[w.random.IntN(2)]
	q := Query{Key: e.Key, Proven: true, Fault: Admitted, Proto: []uint8{TCP, TCP, TCP, UDP, ICMP}[w.random.IntN(5)],
		Source: netip.MustParseAddr([]string{"203.0.113.2", "203.0.113.2", "203.0.113.9", "198.51.100.1", "198.51.100.9"}[w.random.IntN(5)]),
		To: netip.AddrPortFrom(netip.MustParseAddr([]string{"10.1.0.5", "10.1.1.3", "10.1.1.9", "10.1.2.7", "10.1.0.6"}[w.random.IntN(5)]),
			[]uint16{22, 22, 443, 25}[w.random.IntN(4)])}
	spans := l.opens(q, e)
	for _, x := range v.Windows {
		if slices.Contains(x.Engineers, e) && e.MayComeFrom(q.Source) && x.Targets[0].Allows(q.To, q.Proto) {
			spans = append(spans, x.Spans(w.policy.Zone, at.Add(-48*time.Hour), at.Add(48*time.Hour))...)
		}
	}
	var until time.Time
	for _, s := range spans {
		if s.Contains(at) {
			until = at
		}
	}
	for grown := !until.IsZero(); grown; {
		grown = false
		for _, s := range spans {
			if !s.From.After(until) && !s.From.After(at.Add(Lead)) && s.Until.After(until) {
				until, grown = s.Until, true
			}
		}
	}
	d := plan.Decide(q, at)
	if w.done[d.Reason.String()]++; d.Reason == Admitted != !until.IsZero() || !d.Until.Equal(until) {
		w.fail("%s from %s to %s/%d at %s: %s until %s, by the ledger until %s", e, q.Source, q.To, q.Proto, at.Format("01-02 15:04:05.000"), d.Reason, d.Until, until)
	}
}

// stateText is what a state has of requests.
func stateText(s *State) string {
	var b strings.Builder
	for _, r := range s.Requests() {
		c := *r
		c.At = c.At.UTC()
		raw, err := json.Marshal(struct {
			*Request
			At time.Time // which Requested's own fields do not hide
		}{&c, c.At})
		if err != nil {
			panic(errors.Join(err))
		}
		b.Write(append(raw, '\n'))
	}
	for _, r := range s.Shuts() {
		fmt.Fprintln(&b, r.Scope, r.Reason)
	}
	return b.String()
}
