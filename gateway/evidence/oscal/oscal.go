// Package oscal writes an inspection as assessment results of OSCAL 1.2.2, for tools of auditors.
//
// Yes and no are a finding with its observations. What is not assessed is an observation alone. What
// is not applicable is an excluded control with an observation. Answers of persons are observations
// by INTERVIEW, and attestations of those who gave them. The same inspection gives the same bytes.
package oscal

import (
	"bytes"
	"cmp"
	"crypto/sha1" //nolint:gosec // UUIDs of version 5 are made of it (RFC 9562)
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"kidoban/gateway/evidence/catalogue"
	"kidoban/gateway/view"
)

// Version is the version of OSCAL.
const Version = "1.2.2"

// space names our properties; it is no address.
const space = "urn:kidoban:inspection"

// namespace is the name space of the UUIDs (RFC 9562).
var namespace = [16]byte{0x6b, 0x1d, 0x0b, 0xa2, 0x5e, 0x1f, 0x4c, 0x8e, 0x9a, 0x30, 0x2d, 0x77, 0x41, 0xc6, 0x08, 0xe5}

// writer makes the document.
type writer struct {
	i       catalogue.Inspection
	lang    view.Language
	name    string // of the inspection, for UUIDs
	doc     assessmentResults
	result  result
	parties map[string]string       // UUIDs by name
	signed  map[string]*attestation // by UUID of the party
	order   []string                // of signed
}

// AssessmentResults is the document as JSON.
func AssessmentResults(i catalogue.Inspection, lang view.Language) ([]byte, error) {
	w := &writer{i: i, lang: lang, parties: map[string]string{}, signed: map[string]*attestation{},
		name: fmt.Sprintf("%s %d %s %d %s", i.Origin, i.Entries.To, i.AsOf.UTC().Format(time.RFC3339Nano), i.Tier, i.Vendor)}
	for _, x := range i.Controls {
		w.control(x)
	}
	w.frame()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(document{w.doc})
	return b.Bytes(), err
}

// uuid is the UUID of a part of the inspection: version 5.
func (w *writer) uuid(part string) string {
	h := sha1.New()
	h.Write(namespace[:])
	fmt.Fprintf(h, "%s\n%s", w.name, part)
	sum := h.Sum(nil)[:16]
	sum[6], sum[8] = sum[6]&0x0f|0x50, sum[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:])
}

func (w *writer) say(code view.Code, args view.Args) string { return view.Say(code, args).In(w.lang) }

func controlName(id string) string { return "kidoban-" + id }

func prop(name, value string) property { return property{Name: name, NS: space, Value: value} }

// control writes observations and the finding of a control.
func (w *writer) control(x catalogue.Result) {
	var seen []related
	for _, o := range []*observation{w.machine(x), w.person(x), w.unanswered(x)} {
		if o != nil {
			seen = append(seen, related{o.UUID})
			w.result.Observations = append(w.result.Observations, *o)
		}
	}
	if x.Answer != catalogue.Yes && x.Answer != catalogue.No {
		return
	}
	f := finding{UUID: w.uuid("finding " + x.ID), Title: x.Requirement.In(w.lang), Description: w.answer(x.Answer), Related: seen,
		Target: target{"objective-id", controlName(x.ID), status{"satisfied", "pass"}}}
	if x.Answer == catalogue.No {
		f.Target.Status = status{"not-satisfied", "fail"}
	}
	for _, m := range x.Maps {
		p := property{Name: "clause", NS: space, Value: m.Guideline + " " + m.Edition + " " + m.Clause, Class: string(m.Status)}
		if m.Ours {
			p.Remarks = w.say("inspect_ours", nil)
		}
		f.Props = append(f.Props, p)
	}
	if x.Person != nil && x.Person.TargetDate != "" {
		f.Props = append(f.Props, prop("target-date", x.Person.TargetDate))
	}
	if !x.Counts {
		f.Props = append(f.Props, prop("counts", "false"))
	}
	w.result.Findings = append(w.result.Findings, f)
}

// answer says a verdict in words.
func (w *writer) answer(v catalogue.Verdict) string { return v.Message().In(w.lang) }

// observed begins an observation of a control.
func (w *writer) observed(x catalogue.Result, how, method string, v catalogue.Verdict, at time.Time) *observation {
	return &observation{UUID: w.uuid(how + " " + x.ID), Title: x.Requirement.In(w.lang), Methods: []string{method}, Collected: at,
		Props: []property{prop("control", controlName(x.ID)), prop("answer", string(v))}}
}

// machine makes an observation of a check. It is nil without a check.
func (w *writer) machine(x catalogue.Result) *observation {
	if x.Machine == nil {
		return nil
	}
	o := w.observed(x, "machine", "TEST", x.Machine.Answer, w.i.AsOf)
	o.Description = w.texts(x.Machine.Findings)
	expires := x.Every.After(w.i.AsOf)
	o.Expires = &expires
	if len(x.Machine.Entries) > 0 {
		o.Evidence = []proof{w.entries(x.Machine.Entries...)}
	}
	return o
}

// entries names entries of the journal, with the checkpoint that covers them.
func (w *writer) entries(all ...int64) proof {
	numbers := strings.Trim(strings.ReplaceAll(fmt.Sprint(all), " ", ", "), "[]")
	return proof{Description: w.say("inspect_entries", view.Args{"origin": w.i.Origin, "entries": numbers}), Props: []property{prop("journal-entries", numbers)}}
}

func (w *writer) texts(all []view.Message) string {
	var texts []string
	for _, m := range all {
		texts = append(texts, m.In(w.lang))
	}
	return strings.Join(texts, "\n")
}

// person makes an observation and an attestation of a person's answer. It is nil without an answer.
func (w *writer) person(x catalogue.Result) *observation {
	g := x.Person
	if g == nil {
		return nil
	}
	o := w.observed(x, "person", "INTERVIEW", g.Answer, g.At)
	o.Description = w.answer(g.Answer)
	if g.Text != "" {
		o.Description += ": " + g.Text
	}
	o.Expires, o.Evidence = g.Until, []proof{w.entries(g.Entry)}
	if g.Expired || g.Unjustified {
		o.Remarks = w.say("inspect_void", nil)
		return o
	}
	title := x.Requirement
	if x.Question != nil {
		title = *x.Question
	}
	who := w.party("person", cmp.Or(g.For, g.By))
	a := w.signed[who]
	if a == nil {
		a = &attestation{Responsible: []responsible{{"respondent", []string{who}}}}
		w.signed[who], w.order = a, append(w.order, who)
	}
	a.Parts = append(a.Parts, part{UUID: w.uuid("attested " + x.ID), Name: "statement", Title: controlName(x.ID) + " " + title.In(w.lang), Prose: o.Description})
	return o
}

// unanswered makes an observation of an open question. It is nil if there is no question or an answer.
func (w *writer) unanswered(x catalogue.Result) *observation {
	if x.Question == nil || x.Person != nil {
		return nil
	}
	o := w.observed(x, "question", "INTERVIEW", catalogue.NotAssessed, w.i.AsOf)
	o.Description = x.Question.In(w.lang)
	o.Remarks = w.texts(x.Facts)
	return o
}

// party gives the UUID of a person or an organisation.
func (w *writer) party(kind, name string) string {
	if id := w.parties[name]; id != "" {
		return id
	}
	id := w.uuid(kind + " " + name)
	w.parties[name] = id
	w.doc.Metadata.Parties = append(w.doc.Metadata.Parties, party{id, kind, name})
	return id
}

// frame writes the rest of the document: metadata, reviewed controls, attestations.
func (w *writer) frame() {
	i := w.i
	title := w.say("inspect_title", view.Args{"tier": i.Tier})
	if i.Vendor != "" {
		title = w.say("inspect_title_vendor", view.Args{"vendor": cmp.Or(i.VendorName, i.Vendor)})
	}
	w.doc.UUID = w.uuid("document")
	w.doc.Metadata.Title, w.doc.Metadata.LastModified, w.doc.Metadata.Version, w.doc.Metadata.OSCALVersion = title, i.AsOf, fmt.Sprint(i.Version), Version
	if i.Site != "" {
		w.party("organization", i.Site)
	}
	if len(w.order) > 0 {
		w.doc.Metadata.Roles = []role{{"respondent", w.say("inspect_respondent", nil)}}
	}
	r := &w.result
	r.UUID, r.Title, r.Description, r.Start, r.End = w.uuid("result"), title, w.say("inspect_about", view.Args{"origin": i.Origin, "from": i.Entries.From, "to": i.Entries.To}), i.AsOf, i.AsOf
	r.Props = []property{prop("tier", fmt.Sprint(i.Tier)), prop("tier-needed", fmt.Sprint(i.Needed)), prop("verified", fmt.Sprint(i.Verified))}
	if i.Checkpoint != "" {
		r.Props = append(r.Props, property{Name: "checkpoint", NS: space, Value: base64.StdEncoding.EncodeToString([]byte(i.Checkpoint)), Class: "base64"})
	}
	if i.Reason != "" && i.Tier < i.Needed {
		r.Props = append(r.Props, prop("tier-reason", i.Reason))
	}
	var s selection
	for _, x := range i.Controls {
		if x.Machine != nil && x.Machine.From.Before(r.Start) {
			r.Start = x.Machine.From
		}
		if x.Answer == catalogue.NA {
			s.Exclude = append(s.Exclude, controlID{controlName(x.ID)})
		} else {
			s.Include = append(s.Include, controlID{controlName(x.ID)})
		}
	}
	if len(s.Include) == 0 {
		s.All = &struct{}{}
	}
	r.ReviewedControls.Selections = []selection{s}
	for _, who := range w.order {
		r.Attestations = append(r.Attestations, *w.signed[who])
	}
	w.doc.Results = []result{*r}
	id := w.uuid("catalogue")
	w.doc.ImportAP = link{Href: "#" + id, Remarks: w.say("inspect_no_plan", nil)}
	w.doc.BackMatter.Resources = []resource{{id, w.say("inspect_catalogue", nil), w.say("inspect_no_plan", nil), content{"catalogue.json", "application/json", w.catalogue()}}}
}

// catalogue is the list of controls and questions, as base64 of JSON.
func (w *writer) catalogue() string {
	type entry struct {
		ID          string          `json:"id"`
		Requirement catalogue.Text  `json:"requirement"`
		Question    *catalogue.Text `json:"question,omitempty"`
	}
	all := []entry{}
	for _, x := range w.i.Controls {
		all = append(all, entry{controlName(x.ID), x.Requirement, x.Question})
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic(err) // our own types
	}
	return base64.StdEncoding.EncodeToString(text)
}
