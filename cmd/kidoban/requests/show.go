package requests

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// labels are rows beneath one label.
func labels(rows *terminal.List, label view.Code, texts []string) {
	for _, text := range texts {
		if text = terminal.OneLine(text); label == "" {
			rows.Rows = append(rows.Rows, []string{"", text})
		} else {
			rows.Row(label, text)
		}
		label = ""
	}
}

// terms adds vendor, engineers, addresses and targets. names are those of the engineers for
// people.
func terms(rows *terminal.List, t policy.Terms, vendor string, names []string) {
	rows.Row("label_vendor", terminal.Named(t.Vendor, vendor))
	alike := !slices.ContainsFunc(t.Engineers, func(e policy.AskedEngineer) bool { return !slices.Equal(e.Sources, t.Engineers[0].Sources) })
	var who, where, what []string
	for i, e := range t.Engineers {
		name := e.Name
		if i < len(names) {
			name = terminal.Named(e.Name, names[i])
		}
		who = append(who, name+"  "+e.Key.String())
		if !alike {
			where = append(where, name+": "+prefixes(e.Sources))
		}
	}
	switch {
	case t.Source != nil:
		where = []string{rows.Say("request_one_source", view.Args{"source": *t.Source})}
	case alike:
		where = []string{prefixes(t.Sources)}
	}
	for _, x := range t.Targets {
		what = append(what, strings.Join([]string{x.Name, policy.Short(x.Prefix), strings.Join(x.Services, " ")}, "  "))
	}
	labels(rows, "label_of", who)
	labels(rows, "label_from", where)
	labels(rows, "label_toward", what)
}

// why adds purpose, ticket and telephone.
func why(rows *terminal.List, t policy.Terms, phone string) {
	rows.Row("label_purpose", terminal.OneLine(t.Purpose))
	rows.Row("label_ticket", terminal.OneLine(t.Ticket))
	rows.Row("label_phone", terminal.OneLine(phone))
}

// span adds the beginning and the end.
func span(rows *terminal.List, from, until time.Time, fromApproval bool) {
	length := policy.Elapsed(until.Sub(from))
	if fromApproval {
		rows.Row("label_begins", rows.Say("request_at_approval", nil))
		rows.Row("label_end", rows.Say("request_after", view.Args{"wait": length}))
		return
	}
	rows.Instant("label_begins", &from)
	rows.Row("label_end", fmt.Sprintf("%s (%s)", rows.Local(until), rows.Say("request_lasts", view.Args{"wait": length})))
}

func prefixes(all []netip.Prefix) string {
	var texts []string
	for _, p := range all {
		texts = append(texts, policy.Short(p))
	}
	return strings.Join(texts, ", ")
}

// before shows terms before an operator signs them. With extension they are a later end.
func before(p *terminal.Program, r view.Request, t policy.Terms, extension bool) {
	marks(p, r)
	rows := terminal.List{Program: p}
	terms(&rows, t, r.Name, r.EngineerNames)
	switch {
	case extension:
		span(&rows, r.From, t.Until, false)
	case r.State == policy.Undecided:
		span(&rows, t.From, t.Until, t.For > 0)
	default:
		span(&rows, r.From, r.Until, false)
	}
	why(&rows, t, r.Phone)
	signatures(&rows, r)
	p.Columns(rows.Rows)
	p.TellIf(extension, "request_end_changes", view.Args{"before": p.Local(r.Until), "after": p.Local(t.Until)})
}

// marks prints the marks of a request: emergency, self-approved, not covered by the policy.
func marks(p *terminal.Program, r view.Request) {
	if e := r.Emergency; e != nil {
		switch {
		case e.Ratified:
			p.Tell("emergency_ratified", nil)
		case e.Overdue:
			p.Tell("emergency_late", view.Args{"until": p.Local(e.RatifyBy)})
		default:
			p.Tell("emergency_waits", view.Args{"until": p.Local(e.RatifyBy)})
		}
	}
	p.TellIf(r.SelfApproved, "request_self", view.Args{"name": r.RecordedBy})
	if why := policy.Disallowed(r.Why); slices.Contains(policy.Disalloweds(), why) {
		p.Tell("request_lacks", view.Args{"lacks": view.Lacks(why)})
	}
}

// signatures adds the recorder and the approvals.
func signatures(rows *terminal.List, r view.Request) {
	rows.Row("label_recorded", rows.Say("request_signed_at", view.Args{"name": r.RecordedBy, "at": rows.Local(r.RecordedAt)}))
	if r.Emergency == nil {
		labels(rows, "label_approvals", approvals(rows.Program, r.Approvals, r.Needed))
	}
	if e := r.Extension; e != nil {
		asked := rows.Say("extension_waits", view.Args{"until": rows.Local(e.Until)})
		if e.Asked != nil {
			asked = rows.Say("extension_asked", view.Args{"until": rows.Local(e.Until), "name": e.Asked.By, "reason": e.Asked.Reason})
		}
		labels(rows, "label_extension", append([]string{asked}, approvals(rows.Program, e.Approvals, e.Needed)...))
	}
}

func approvals(p *terminal.Program, signs []policy.Sign, needed int) []string {
	texts := []string{p.Say("request_approvals", view.Args{"count": len(signs), "needed": needed})}
	for _, s := range signs {
		texts = append(texts, p.Say("request_signed_at", view.Args{"name": s.By, "at": p.Local(s.At)}))
	}
	return texts
}
