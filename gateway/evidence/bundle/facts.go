package bundle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"
	"time"

	"kidoban/gateway/evidence"
	"kidoban/gateway/evidence/sheet"
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// factsVersion is the version of facts.json.
const factsVersion = 1

// Facts is facts.json: what the journal says of the span, and nothing that it does not say.
type Facts struct {
	Version    int    `json:"version"` // of this format: 1
	Program    string `json:"program"` // version of the program that made it
	Site       string `json:"site"`
	Origin     string `json:"origin"`
	Size       int64  `json:"size"` // of the journal, in entries
	Checkpoint string `json:"checkpoint"`
	// Witnesses are the cosignatures beside the checkpoint; whoever verifies the bundle verifies them.
	Witnesses  []journal.Cosignature `json:"witnesses"`
	From       time.Time             `json:"from"`
	Until      time.Time             `json:"until"`
	Redacted   bool                  `json:"redacted"`
	Incident   *Incident             `json:"incident"`
	Sessions   []Session             `json:"sessions"`
	Refused    []Refused             `json:"refused"`
	Doubts     []Doubt               `json:"doubts"`
	Policies   []string              `json:"policies"` // digests of those in force
	Entries    []int64               `json:"entries"`  // that are cited; each has a proof
	Unknown    []string              `json:"unknown"`  // questions that the gateway's record does not answer
	Recipients []policy.Recipient    `json:"recipients"`
}

// Incident has the statements of people about the incident.
type Incident struct {
	ID       string          `json:"id"`
	Kind     string          `json:"kind"`
	Exercise bool            `json:"exercise"`
	OpenedAt time.Time       `json:"opened_at"`
	OpenedBy string          `json:"opened_by"`
	Reason   string          `json:"reason,omitempty"`
	Sent     []evidence.Sent `json:"sent"`
}

// Session is a session that overlaps the span. A zero time or null is not known.
type Session struct {
	ID       string `json:"id"`
	Vendor   string `json:"vendor"`
	Engineer string `json:"engineer"`
	// Plain says that Engineer is a host behind a line without WireGuard, and no person is identified.
	Plain       bool          `json:"plain"`
	Source      string        `json:"source"`
	OpenedAt    time.Time     `json:"opened_at"`
	ClosedAt    *time.Time    `json:"closed_at"`
	Ended       string        `json:"ended"`
	Received    *int64        `json:"received_bytes"`
	Transmitted *int64        `json:"transmitted_bytes"`
	Used        []journal.Use `json:"used"`
	Entry       int64         `json:"entry"`
}

// Refused is a sum of refusals.
type Refused struct {
	Entry    int64     `json:"entry"`
	Time     time.Time `json:"time"`
	Vendor   string    `json:"vendor"`
	Engineer string    `json:"engineer"`
	Source   string    `json:"source"`
	Target   string    `json:"target"`
	Reason   string    `json:"reason"`
	Count    int64     `json:"count"`
}

// Doubt is a time in which nobody could enter, or no gateway ran.
type Doubt struct {
	Entry int64      `json:"entry"`
	Kind  string     `json:"kind"`
	From  time.Time  `json:"from"`
	Until *time.Time `json:"until"`
}

// unknowns are fields of the common forms of incidents that no gateway can know.
var unknowns = []view.Code{"bundle_unknown_cause", "bundle_unknown_leak", "bundle_unknown_systems", "bundle_unknown_harm"}

// people gives the names of those who did it, or numbers in their place.
type people struct {
	record  *evidence.Record
	redact  bool
	numbers map[string]string
}

func (p *people) name(name string) string {
	if !p.redact || name == "" || name == policy.Gateway.Text || name == "SIGHUP" {
		return name
	}
	if _, known := p.numbers[name]; !known {
		p.numbers[name] = "person-" + strconv.Itoa(len(p.numbers)+1)
	}
	return p.numbers[name]
}

// engineer is the name of an engineer, or a number. A host on a line without WireGuard is no person, and
// keeps its name.
func (p *people) engineer(vendor, name string, at time.Time) string {
	if then := p.record.At(at); then != nil {
		if e := then.Engineer(vendor + "/" + name); e != nil && e.Plain() {
			return name
		}
	}
	return p.name(name)
}

// said is free text, which may name people.
func (p *people) said(text string) string {
	if p.redact && text != "" {
		return "-"
	}
	return text
}

func known(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}

// facts collects the facts from the files.
func (in Input) facts(all []cited, p *people) Facts {
	f := Facts{Version: factsVersion, Program: in.Version, Origin: in.Origin, Size: in.Folder.Tree.N, Checkpoint: string(in.Folder.Checkpoint),
		From: in.From.UTC(), Until: in.Until.UTC(), Redacted: in.Redact, Sessions: []Session{}, Refused: []Refused{}, Doubts: []Doubt{},
		Policies: []string{}, Entries: []int64{}, Recipients: append([]policy.Recipient{}, in.Recipients...), Witnesses: []journal.Cosignature{}}
	for i := range f.Recipients {
		f.Recipients[i].Contact = p.said(f.Recipients[i].Contact)
	}
	if text, _, err := in.Folder.Witnessed(); err == nil && text != nil {
		f.Witnesses = append(f.Witnesses, journal.CosignaturesOf(text)...)
	}
	if now := in.Record.At(in.Until.Add(-1)); now != nil {
		f.Site = now.Site
	}
	for _, code := range unknowns {
		f.Unknown = append(f.Unknown, view.Say(code, nil).String())
	}
	if i := in.Incident; i != nil {
		f.Incident = &Incident{i.Is.ID, i.Is.Kind, i.Is.Exercise, i.At.UTC(), p.name(i.Actor), p.said(i.Is.Reason), []evidence.Sent{}}
		for _, s := range i.Sent {
			s.Is.How = p.said(s.Is.How)
			f.Incident.Sent = append(f.Incident.Sent, s.Is)
		}
	}
	overlaps := func(from, until time.Time) bool {
		return from.Before(in.Until) && (until.IsZero() || until.After(in.From))
	}
	for _, s := range in.Record.Sessions {
		if overlaps(s.OpenedAt, s.ClosedAt) {
			f.Sessions = append(f.Sessions, sessionOf(s, p))
		}
	}
	for _, d := range in.Record.Doubts {
		if overlaps(d.From, d.Until) {
			f.Doubts = append(f.Doubts, Doubt{d.First, string(d.Kind), d.From.UTC(), known(d.Until)})
		}
	}
	for i, x := range in.Record.Policies {
		var until time.Time
		if i+1 < len(in.Record.Policies) {
			until = in.Record.Policies[i+1].From
		}
		if overlaps(x.From, until) && !slices.Contains(f.Policies, x.Digest) {
			f.Policies = append(f.Policies, x.Digest)
		}
	}
	for _, c := range all {
		f.Entries = append(f.Entries, c.index)
		if c.Kind == journal.Refused {
			f.Refused = append(f.Refused, Refused{c.index, c.Time, c.Vendor, p.engineer(c.Vendor, c.Engineer, c.Time), c.Source, c.Target, c.Reason, max(c.Count, 1)})
		}
	}
	return f
}

func sessionOf(s *evidence.Session, p *people) Session {
	x := Session{ID: s.ID, Vendor: s.Vendor, Engineer: p.engineer(s.Vendor, s.Engineer, s.OpenedAt), Plain: p.record.Plain(s.Vendor, s.OpenedAt), OpenedAt: s.OpenedAt.UTC(), ClosedAt: known(s.ClosedAt), Ended: s.Ended,
		Used: append([]journal.Use{}, s.Count.Used...), Entry: s.First}
	if s.Source.Addr().IsValid() {
		x.Source = s.Source.Addr().String()
	}
	if p.record.Known(s) {
		x.Received, x.Transmitted = &s.Count.Received, &s.Count.Transmitted
	}
	return x
}

// tell makes the files that people and programs read.
func (in Input) tell(all []cited) (files []file, err error) {
	p := &people{in.Record, in.Redact, map[string]string{}}
	f := in.facts(all, p)
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(f); err != nil {
		return nil, err
	}
	files = append(files, file{facts, text.Bytes()})
	files = append(files, tables(f, all, p)...)
	if !in.Redact {
		for _, digest := range f.Policies {
			if text := in.Record.Text(digest); text != "" {
				files = append(files, file{"policies/" + digest + ".yaml", []byte(text)})
			}
		}
	}
	var plain, html bytes.Buffer
	var parts []part
	for _, l := range []view.Language{view.Japanese, view.English} {
		lines := page(f, l)
		fmt.Fprintf(&plain, "%s\n\n", strings.Join(lines, "\n"))
		parts = append(parts, part{l, lines[0], lines[1:]})
	}
	err = pageTemplate.Execute(&html, parts)
	return append(files, file{"index.txt", plain.Bytes()}, file{"index.html", html.Bytes()}), err
}

// part is the page in one language.
type part struct {
	Lang  view.Language
	Title string
	Lines []string
}

var pageTemplate = template.Must(template.New("").Parse(`<!doctype html>
<html lang="ja"><meta charset="utf-8"><title>{{(index . 0).Title}}</title>
<style>body{font:11pt/1.6 sans-serif;max-width:46em;margin:2em auto;padding:0 1em}p{margin:.3em 0;overflow-wrap:anywhere}section{break-after:page}@page{size:A4;margin:18mm}</style>
{{range .}}<section lang="{{.Lang}}"><h1>{{.Title}}</h1>
{{range .Lines}}<p>{{.}}</p>
{{end}}</section>
{{end}}</html>
`))

// tables are the CSV files.
func tables(f Facts, all []cited, p *people) []file {
	head := func(names ...string) (columns []sheet.Column) {
		for _, n := range names {
			columns = append(columns, sheet.Column{Title: n})
		}
		return columns
	}
	at := func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
	timeline := sheet.Sheet{Columns: head("entry", "time", "kind", "vendor", "engineer", "source", "target", "reason", "count", "by")}
	for _, c := range all {
		timeline.Rows = append(timeline.Rows, []any{c.index, at(c.Time), string(c.Kind), c.Vendor, p.engineer(c.Vendor, c.Engineer, c.Time), c.Source, c.Target, reason(c, p), c.Count, p.name(c.Actor)})
	}
	sessions := sheet.Sheet{Columns: head("entry", "session", "vendor", "engineer", "plain", "source", "opened", "closed", "ended", "received_bytes", "transmitted_bytes")}
	uses := sheet.Sheet{Columns: head("session", "target", "address", "service", "connections", "received_bytes", "transmitted_bytes", "first", "last")}
	number := func(n *int64) any {
		if n == nil {
			return nil
		}
		return *n
	}
	for _, s := range f.Sessions {
		closed := ""
		if s.ClosedAt != nil {
			closed = at(*s.ClosedAt)
		}
		sessions.Rows = append(sessions.Rows, []any{s.Entry, s.ID, s.Vendor, s.Engineer, fmt.Sprint(s.Plain), s.Source, at(s.OpenedAt), closed, s.Ended, number(s.Received), number(s.Transmitted)})
		for _, u := range s.Used {
			uses.Rows = append(uses.Rows, []any{s.ID, u.Target, u.Address, u.Service, u.Connections, u.ReceivedBytes, u.TransmittedBytes, at(u.First), at(u.Last)})
		}
	}
	refused := sheet.Sheet{Columns: head("entry", "time", "vendor", "engineer", "source", "target", "reason", "count")}
	for _, r := range f.Refused {
		refused.Rows = append(refused.Rows, []any{r.Entry, at(r.Time), r.Vendor, r.Engineer, r.Source, r.Target, r.Reason, r.Count})
	}
	return []file{{"timeline.csv", timeline.CSV()}, {"sessions.csv", sessions.CSV()}, {"uses.csv", uses.CSV()}, {"refusals.csv", refused.CSV()}}
}

// reason is the reason of an entry, which of some kinds is a person's own words.
func reason(c cited, p *people) string {
	switch c.Kind {
	case journal.Refused, journal.SessionClosed, journal.WindowClosed, journal.Trusted, journal.Doubt:
		return c.Reason
	}
	return p.said(c.Reason)
}

// page is the draft of a report: facts, and what is not known.
func page(f Facts, l view.Language) (lines []string) {
	say := func(code view.Code, args view.Args) { lines = append(lines, view.Say(code, args).In(l)) }
	moment := func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
	say("bundle_title", view.Args{"site": f.Site})
	say("bundle_span", view.Args{"from": moment(f.From), "until": moment(f.Until)})
	if i := f.Incident; i != nil {
		say("bundle_incident", view.Args{"name": i.ID, "kind": i.Kind, "at": moment(i.OpenedAt), "by": i.OpenedBy, "reason": i.Reason})
		if i.Exercise {
			say("bundle_exercise", nil)
		}
	}
	say("bundle_counts", view.Args{"sessions": len(f.Sessions), "refused": len(f.Refused), "entries": len(f.Entries)})
	for _, s := range f.Sessions {
		closed := view.Say("bundle_open", nil).In(l)
		if s.ClosedAt != nil {
			closed = moment(*s.ClosedAt)
		}
		if s.Plain {
			say("bundle_session_host", view.Args{"session": s.ID, "vendor": s.Vendor, "source": s.Source, "from": moment(s.OpenedAt), "until": closed, "entry": s.Entry})
			continue
		}
		say("bundle_session", view.Args{"session": s.ID, "name": s.Vendor + "/" + s.Engineer, "source": s.Source, "from": moment(s.OpenedAt), "until": closed, "entry": s.Entry})
	}
	for _, d := range f.Doubts {
		say("bundle_doubt", view.Args{"kind": d.Kind, "from": moment(d.From), "entry": d.Entry})
	}
	for _, code := range unknowns {
		say("bundle_unknown", view.Args{"what": view.Say(code, nil)})
	}
	if f.Redacted {
		say("bundle_redacted", nil)
	}
	say("bundle_verify", view.Args{"origin": f.Origin, "size": f.Size})
	for _, r := range f.Recipients {
		within := any("")
		if r.Within > 0 {
			within = view.Say("bundle_within", view.Args{"wait": r.Within})
		}
		say("bundle_recipient", view.Args{"name": r.Name, "kind": r.Kind, "within": within, "contact": r.Contact})
		if r.Consent {
			say("bundle_consent", view.Args{"name": r.Name})
		}
	}
	if f.Incident != nil {
		for _, s := range f.Incident.Sent {
			say("bundle_sent", view.Args{"name": s.Recipient, "at": moment(s.At), "how": s.How})
		}
	}
	return lines
}
