package evidence

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// index finds the subject of an entry.
type index struct {
	openings map[string][]*Opening  // by grant, in order
	sessions map[string]*Session    // by id
	requests map[string]*Request    // by id
	incident map[string]*Incident   // by id
	admitted map[string]admission   // by engineer: the newest
	newest   map[string]*Session    // by engineer
	open     map[string][]*Opening  // by engineer
	lasting  []*Span                // of Doubts
	refused  map[time.Time]refusals // by slot
	rows     map[rowsOf]int
	marks    []mark
	strings  map[string]string
	lists    map[string][]string
	heard    time.Time // of the newest entry that no later process wrote for an earlier one
	waits    backlog
}

// admission is the newest admission of an engineer.
type admission struct {
	entry     int64
	source    string
	timestamp string
}

// mark is the first entry of a slot.
type mark struct {
	slot  time.Time
	entry int64
}

func newIndex() index {
	return index{openings: map[string][]*Opening{}, sessions: map[string]*Session{}, requests: map[string]*Request{}, incident: map[string]*Incident{},
		admitted: map[string]admission{}, newest: map[string]*Session{}, open: map[string][]*Opening{}, refused: map[time.Time]refusals{}, rows: map[rowsOf]int{}, strings: map[string]string{}, lists: map[string][]string{}, waits: newBacklog()}
}

// one keeps each string once: most entries have the same few.
func (r *Record) one(s string) string {
	if s == "" {
		return ""
	}
	if known, ok := r.is.strings[s]; ok {
		return known
	}
	s = strings.Clone(s)
	r.is.strings[s] = s
	return s
}

// list keeps each list once.
func (r *Record) list(all []string) []string {
	if len(all) == 0 {
		return nil
	}
	name := strings.Join(all, "\x00")
	known, ok := r.is.lists[name]
	if !ok {
		for _, s := range all {
			known = append(known, r.one(s))
		}
		r.is.lists[name] = known
	}
	return known
}

// Add takes the next entry. What a newer version wrote, and this one does not know, changes nothing
// but the range and the time.
func (r *Record) Add(e journal.Entry) {
	if r.Entries.To < 0 {
		r.Entries.From, r.Begins = e.Index, e.Time
	}
	r.Entries.To, r.Now = e.Index, e.Time
	if at := slot(e.Time); len(r.is.marks) == 0 || !r.is.marks[len(r.is.marks)-1].slot.Equal(at) {
		r.is.marks = append(r.is.marks, mark{at, e.Index})
	}
	switch e.Kind {
	case journal.PolicyText:
		r.past.add(e)
	case journal.PolicyLoaded:
		r.loaded(e)
	case journal.WindowOpened, journal.WindowClosed:
		r.opening(e)
	case journal.Admission, journal.SessionOpened, journal.Used, journal.SessionClosed:
		r.session(e)
	case journal.Refused:
		r.refuse(e)
	case journal.Start, journal.Stop, journal.Doubt, journal.Trusted:
		r.span(e)
	case journal.ClockStep, journal.Recovery, journal.Restored:
		r.Steps = append(r.Steps, r.note(e))
	case journal.Drift:
		r.Drifts = append(r.Drifts, r.note(e))
	case journal.Shut, journal.Reopened, journal.SwitchShut, journal.SwitchOpened:
		r.Shuts = append(r.Shuts, r.note(e))
	default:
		r.people(e)
	}
	if e.Reason != crashed {
		r.is.heard = e.Time
	}
	r.touch(e)
}

// people adds decisions and statements of people.
func (r *Record) people(e journal.Entry) {
	switch e.Kind {
	case journal.Review:
		stated(r, &r.Reviews, e)
	case journal.WorkReport:
		stated(r, &r.Work, e)
	case journal.Answer:
		stated(r, &r.Answers, e)
	case journal.Mirrored:
		stated(r, &r.Mirrored, e)
	case journal.Probe:
		r.probed(e)
	case journal.Incident, journal.Sent:
		r.incident(e)
	case journal.Reported:
		if e.Request == "" {
			stated(r, &r.Reported, e)
			return
		}
		r.decision(e)
	default:
		r.decision(e)
	}
}

// signed reads the statement in an entry; false: there is none.
func signed[T any](r *Record, e journal.Entry) (Signed[T], bool) {
	s := Signed[T]{Entry: e.Index, At: e.Time, Actor: r.one(e.Actor)}
	return s, json.Unmarshal(e.Event, &s.Is) == nil
}

func stated[T any](r *Record, all *[]Signed[T], e journal.Entry) {
	if s, ok := signed[T](r, e); ok {
		*all = append(*all, s)
	}
}

func (r *Record) probed(e journal.Entry) {
	if s, ok := signed[Probed](r, e); ok {
		if r.Probed = &s; s.Is.Broken() == 0 {
			r.ProbeKept = s.At
		}
	}
}

func (r *Record) note(e journal.Entry) Note {
	return Note{e.Index, e.Time, e.Kind, r.one(e.Actor), r.one(e.Scope), r.one(e.Reason), e.Text}
}

// loaded notes a policy in force. A start with the same policy is no change.
func (r *Record) loaded(e journal.Entry) {
	if n := len(r.Policies); e.Digest != "" && (n == 0 || r.Policies[n-1].Digest != e.Digest) {
		r.Policies = append(r.Policies, PolicyInForce{e.Index, e.Time, e.Digest, r.one(e.Actor)})
	}
}

func (r *Record) person(e journal.Entry) Person {
	return Person{r.one(e.Vendor), r.one(e.VendorName), r.one(e.Engineer), r.one(e.EngineerName)}
}

func (p Person) name() string { return p.Vendor + "/" + p.Engineer }

// span takes the beginning or the end of a doubt, or of a time without a gateway.
func (r *Record) span(e journal.Entry) {
	all := func(*Span) bool { return true }
	switch e.Kind {
	case journal.Doubt:
		r.lasts(&Span{Kind: journal.Doubt, Text: e.Text, From: e.Time, First: e.Index, Last: -1})
	case journal.Trusted:
		// Both tell the doubt. Its words may have changed meanwhile; then the oldest ends.
		i := slices.IndexFunc(r.is.lasting, func(s *Span) bool { return s.Text == e.Text })
		if i = max(i, 0); i < len(r.is.lasting) {
			r.is.lasting[i].About = r.one(e.Reason)
			over := r.is.lasting[i]
			r.ends(e, func(s *Span) bool { return s == over })
		}
	case journal.Stop:
		r.ends(e, all)
		r.lasts(&Span{Kind: journal.Stop, From: e.Time, First: e.Index, Last: -1})
	case journal.Start:
		stopped := slices.ContainsFunc(r.is.lasting, func(s *Span) bool { return s.Kind == journal.Stop })
		if !stopped && e.Index > r.Entries.From { // it crashed
			r.lasts(&Span{Kind: journal.Stop, Text: crashed, From: r.is.heard, First: e.Index})
		}
		r.ends(e, all)
	}
}

func (r *Record) lasts(s *Span) {
	r.Doubts, r.is.lasting = append(r.Doubts, s), append(r.is.lasting, s)
}

// ends ends the lasting spans for which over returns true.
func (r *Record) ends(e journal.Entry, over func(*Span) bool) {
	r.is.lasting = slices.DeleteFunc(r.is.lasting, func(s *Span) bool {
		if !over(s) {
			return false
		}
		s.Until, s.Last = e.Time, e.Index
		return true
	})
}

// incident adds an event of an incident.
func (r *Record) incident(e journal.Entry) {
	var what struct{ ID, Verb string }
	if json.Unmarshal(e.Event, &what) != nil || what.ID == "" {
		return
	}
	i := r.is.incident[what.ID]
	switch verb := what.Verb; {
	case e.Kind == journal.Sent:
		if i != nil {
			stated(r, &i.Sent, e)
		}
	case verb == "opened" && i == nil:
		if s, ok := signed[IncidentOpened](r, e); ok {
			i = &Incident{Signed: s}
			r.Incidents, r.is.incident[what.ID] = append(r.Incidents, i), i
		}
	case verb == "bundled" && i != nil:
		stated(r, &i.Bundles, e)
	case verb == "closed" && i != nil:
		if s, ok := signed[IncidentClosed](r, e); ok {
			i.Closed = &s
		}
	}
}

// decision takes an entry about a request.
func (r *Record) decision(e journal.Entry) {
	if e.Request == "" {
		return
	}
	event, err := policy.DecodeEvent(string(e.Kind), e.Event)
	if err != nil || event == nil {
		return
	}
	d := Decision{Entry: e.Index, At: e.Time, Kind: e.Kind, By: r.one(e.Actor), Actor: r.one(e.Actor), Reason: e.Reason}
	switch v := event.(type) {
	case policy.Requested:
		d.By, d.Login = r.one(v.By), r.one(v.Login)
		q := &Request{ID: v.ID, Vendor: r.one(v.Vendor), Terms: v.Terms, Needed: v.Needed, RatifyBy: v.RatifyBy, Recorded: d}
		if r.is.requests[q.ID] == nil {
			r.Requests, r.is.requests[q.ID] = append(r.Requests, q), q
		}
		return
	case policy.Verdict:
		d.By, d.Login, d.Until, d.Reason, d.Files, d.Result = r.one(v.By), r.one(v.Login), v.Until, v.Reason, v.Files, v.Result
	}
	if q := r.is.requests[e.Request]; q != nil {
		q.Decisions = append(q.Decisions, d)
	}
}
