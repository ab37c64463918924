package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"kidoban/gateway/evidence"
	"kidoban/gateway/evidence/catalogue"
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// Noted answers a statement that is on disk.
type Noted struct {
	Recorded bool   `json:"recorded"`
	ID       string `json:"id,omitempty"` // of an incident that was opened
}

// IncidentEvent is the body of what is about an incident.
type IncidentEvent struct {
	Verb     string `json:"verb"` // opened, bundled or closed
	ID       string `json:"id,omitempty"`
	Kind     string `json:"kind,omitempty"` // of opened
	Reason   string `json:"reason,omitempty"`
	Exercise bool   `json:"exercise,omitempty"`
	Digest   string `json:"digest,omitempty"` // of bundled
	Size     int64  `json:"size,omitempty"`
}

// IncidentKinds lists the kinds of incidents.
func IncidentKinds() []string {
	return []string{"ransomware", "ddos", "intrusion", "leak", "outage", "other"}
}

func month(r request) (evidence.Report, error) {
	return r.Evidence.Month(r.query.Get("month"), r.query.Get("vendor"), !r.snap.InDoubt(view.Journal))
}

// inspection answers the controls of the catalogue.
func inspection(r request) (answer catalogue.Inspection, err error) {
	tier := 0
	if text := r.query.Get("tier"); text != "" {
		if tier, err = strconv.Atoi(text); err != nil || tier < 1 || tier > 3 {
			return answer, invalid("--tier: %.80q is no tier: allowed is 1 to 3", text)
		}
	}
	live, options := r.Live(), catalogue.Options{Tier: tier, Vendor: r.query.Get("vendor"), Verified: !r.snap.InDoubt(view.Journal)}
	options.Origin, options.Checkpoint = r.Evidence.Signed()
	err = r.Evidence.Ask(func(record *evidence.Record) (err error) {
		answer, err = catalogue.Inspect(record, &live, options)
		return err
	})
	return answer, err
}

// answerControl records a person's answer to a control.
func answerControl(r request, a evidence.Answer) (Noted, error) {
	var mistakes *view.Error
	if errors.As(catalogue.CheckAnswer(a, r.snap.Plan.Policy, r.now), &mistakes) {
		return Noted{}, said(http.StatusBadRequest, mistakes.Message)
	}
	return r.state(journal.Entry{Kind: journal.Answer, Vendor: a.Vendor, Reason: a.Answer}, a)
}

func incidents(r request) (all []*evidence.Incident, err error) {
	all = []*evidence.Incident{}
	err = r.Evidence.Ask(func(record *evidence.Record) error {
		for _, i := range record.Incidents {
			one := *i // the desk goes on writing
			one.Bundles, one.Sent = slices.Clone(i.Bundles), slices.Clone(i.Sent)
			all = append(all, &one)
		}
		return nil
	})
	return all, err
}

// textMost bounds, in bytes, each text of a statement.
const textMost = 4000

// bounded refuses texts that are too long. texts are names and texts in turn.
func bounded(texts ...string) (mistakes []error) {
	for i := 0; i < len(texts); i += 2 {
		if n := len(texts[i+1]); n > textMost {
			mistakes = append(mistakes, fmt.Errorf("%s: %d bytes: allowed are %d", texts[i], n, textMost))
		}
	}
	return mistakes
}

func missing(name, value string) error {
	if strings.TrimSpace(value) == "" {
		return fmt.Errorf("%s is missing", name)
	}
	return nil
}

// wrong joins mistakes to one problem.
func wrong(mistakes ...error) error {
	if err := errors.Join(mistakes...); err != nil {
		return whole(problem(http.StatusBadRequest, "%v", err), err)
	}
	return nil
}

func checkReview(v evidence.Review) error {
	mistakes := bounded("note", v.Note, "for", v.For)
	if v.As != evidence.Checked && v.As != evidence.Confirmed {
		mistakes = append(mistakes, fmt.Errorf("as: %.80q: allowed is checked or confirmed", v.As))
	}
	if (len(v.Sessions) > 0) == (v.Month != "" || v.Vendor != "") || (v.Month == "") != (v.Vendor == "") {
		mistakes = append(mistakes, errors.New("allowed is either sessions, or a month and a vendor"))
	}
	return wrong(append(mistakes, missing("digest", v.Digest))...)
}

// review signs sessions or a vendor's month.
func review(r request, v evidence.Review) (Noted, error) {
	p := r.snap.Plan.Policy
	if err := p.MaySign(r.actor, v.As == evidence.Confirmed); err != nil {
		return Noted{}, err
	}
	err := r.Evidence.Ask(func(record *evidence.Record) error {
		return record.CheckReview(v, r.actor.ID, r.now, p.Reviewing().Distinct)
	})
	if err != nil {
		return Noted{}, err
	}
	return r.state(journal.Entry{Kind: journal.Review, Vendor: v.Vendor, Digest: v.Digest}, v)
}

func checkWork(w evidence.WorkReport) error {
	mistakes := bounded("text", w.Text, "files", w.Files, "present", w.Present)
	mistakes = append(mistakes, missing("vendor", w.Vendor), missing("text", w.Text))
	if w.From.IsZero() || !w.Until.After(w.From) {
		mistakes = append(mistakes, errors.New("from and until: allowed are two times, the later one as until"))
	}
	if !slices.Contains([]string{"", "yes", "no"}, w.PersonalData) {
		mistakes = append(mistakes, fmt.Errorf("personal_data: %.80q: allowed is yes or no, or nothing", w.PersonalData))
	}
	return wrong(mistakes...)
}

// reportWork records what a vendor says of its work.
func reportWork(r request, w evidence.WorkReport) (Noted, error) {
	err := r.Evidence.Ask(func(record *evidence.Record) error { return record.CheckWork(w) })
	if err != nil {
		return Noted{}, err
	}
	return r.state(journal.Entry{Kind: journal.WorkReport, Vendor: w.Vendor, Engineer: w.Engineer}, w)
}

func checkReported(m evidence.Reported) error {
	var mistakes []error
	if len(m.Digest) != 64 || m.Size < 0 {
		mistakes = append(mistakes, errors.New("digest and size: allowed are 64 hex digits, and a number of entries"))
	}
	return wrong(append(mistakes, missing("month", m.Month))...)
}

// madeReport records that the report of a month was made, if it is the gateway's own.
func madeReport(r request, m evidence.Reported) (Noted, error) {
	report, err := r.Evidence.Month(m.Month, m.Vendor, true)
	if err != nil {
		return Noted{}, err
	}
	if report.Digest != m.Digest {
		return Noted{}, &view.Error{Message: view.Say("report_differs", view.Args{"digest": m.Digest, "now": report.Digest})}
	}
	return r.state(journal.Entry{Kind: journal.Reported, Vendor: m.Vendor, Digest: m.Digest}, m)
}

func checkMirrored(m evidence.Mirrored) error {
	mistakes := bounded("to", m.To)
	if m.Size < 1 {
		mistakes = append(mistakes, fmt.Errorf("size: %d: allowed is 1 or more entries", m.Size))
	}
	if m.Witness {
		mistakes = append(mistakes, errors.New("witness: allowed is false: what a witness cosigned the gateway itself records"))
	}
	return wrong(append(mistakes, missing("to", m.To))...)
}

// mirrored records that a copy has the first entries.
func mirrored(r request, m evidence.Mirrored) (Noted, error) {
	if m.Size > r.snap.Journal.Size {
		return Noted{}, invalid("size: %d: the journal has %d entries", m.Size, r.snap.Journal.Size)
	}
	if u, err := user.Current(); err == nil && r.actor.ID == u.Username {
		r.actor.ID = "" // the gateway's own user may read the journal, and so copy it, as root may
	}
	return r.state(journal.Entry{Kind: journal.Mirrored, Count: m.Size}, m)
}

func checkIncident(i IncidentEvent) error {
	mistakes := bounded("reason", i.Reason)
	switch i.Verb {
	case "opened":
		if !slices.Contains(IncidentKinds(), i.Kind) {
			mistakes = append(mistakes, fmt.Errorf("kind: %.80q: allowed is %s", i.Kind, strings.Join(IncidentKinds(), ", ")))
		}
		mistakes = append(mistakes, missing("reason", i.Reason))
	case "bundled":
		if len(i.Digest) != 64 {
			mistakes = append(mistakes, errors.New("digest: allowed are 64 hex digits"))
		}
	case "closed":
		mistakes = append(mistakes, missing("reason", i.Reason))
	default:
		mistakes = append(mistakes, fmt.Errorf("verb: %.80q: allowed is opened, bundled or closed", i.Verb))
	}
	if (i.ID == "") != (i.Verb == "opened") {
		mistakes = append(mistakes, errors.New("id: the gateway gives one to what is opened; everything else names one"))
	}
	return wrong(mistakes...)
}

// tell records what is about an incident.
func tell(r request, i IncidentEvent) (Noted, error) {
	if i.Verb == "opened" { // one after another: each gets a number of its own
		r.opening.Lock()
		defer r.opening.Unlock()
	}
	err := r.Evidence.Ask(func(record *evidence.Record) error {
		if i.Verb == "opened" {
			i.ID = record.NextIncident(r.now)
			return nil
		}
		return openIncident(record, i.ID)
	})
	if err != nil {
		return Noted{}, err
	}
	noted, err := r.state(journal.Entry{Kind: journal.Incident, Reason: i.Reason, Text: i.Verb, Digest: i.Digest}, i)
	if noted.ID = i.ID; err == nil && i.Verb == "opened" {
		r.Evidence.Until(r.ctx, func(record *evidence.Record) error { return openIncident(record, i.ID) })
	}
	return noted, err
}

// openIncident refuses an incident that is not there, or is closed.
func openIncident(record *evidence.Record, id string) error {
	var ids []string
	for _, i := range record.Incidents {
		if i.Is.ID == id && i.Closed == nil {
			return nil
		}
		if i.Closed == nil {
			ids = append(ids, i.Is.ID)
		}
	}
	return &view.Error{Message: view.Say("no_incident", view.Args{"id": id, "known": strings.Join(ids, ", ")})}
}

func checkSent(s evidence.Sent) error {
	mistakes := bounded("recipient", s.Recipient, "how", s.How)
	if s.At.IsZero() || s.At.After(time.Now().Add(time.Hour)) {
		mistakes = append(mistakes, errors.New("at: allowed is the time at which it was sent"))
	}
	return wrong(append(mistakes, missing("id", s.ID), missing("recipient", s.Recipient), missing("how", s.How))...)
}

// sent records that a report of an incident went to somebody.
func sent(r request, s evidence.Sent) (Noted, error) {
	if err := r.Evidence.Ask(func(record *evidence.Record) error { return openIncident(record, s.ID) }); err != nil {
		return Noted{}, err
	}
	return r.state(journal.Entry{Kind: journal.Sent}, s)
}

// state records a statement of the client's user, who must be an operator if the policy has some, or root.
func (r request) state(entry journal.Entry, event any) (Noted, error) {
	if err := r.snap.Plan.Policy.MaySign(r.actor, false); err != nil {
		return Noted{}, err
	}
	text, err := json.Marshal(event)
	if err != nil {
		return Noted{}, err
	}
	entry.Actor, entry.Event = cmp.Or(r.actor.Text, policy.Gateway.Text), text
	err = r.Gateway.Note(r.ctx, entry)
	return Noted{Recorded: err == nil}, err
}
