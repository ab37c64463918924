package requests

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

type listCommand struct {
	terminal.JSONFlag
	ID     id             `arg:"" optional:"" help:"One request, as 7k2m9x, in full; the ~ before it may be left out."`
	State  terminal.Given `help:"Only requests in this state: requested, scheduled, open, frozen, closed, denied, withdrawn, revoked, expired or void." placeholder:"S"`
	Vendor terminal.Given `help:"Only requests of this vendor." placeholder:"V"`
}

// linesMost bounds the table for people.
const linesMost = 50

func (c listCommand) Run(p *terminal.Program) error {
	if c.ID != "" {
		found, r, err := one(p, c.ID)
		if err != nil {
			return err
		}
		if c.JSON {
			p.PrintJSON(found)
			return nil
		}
		full(p, r)
		return nil
	}
	query := url.Values{}
	for name, value := range map[string]terminal.Given{"state": c.State, "vendor": c.Vendor} {
		if value != "" {
			query.Set(name, string(value))
		}
	}
	found, requests, err := list(p, query)
	if err != nil {
		return err
	}
	if c.JSON {
		p.PrintJSON(found)
		return nil
	}
	p.TellIf(len(requests) == 0, "no_requests_yet", nil)
	table(p, requests)
	return nil
}

// urgency is the order of the table: open requests and undecided ones are first.
var urgency = map[policy.Stage]int{policy.StageOpen: 1, policy.Undecided: 2, policy.StageFrozen: 3, policy.Scheduled: 4}

func table(p *terminal.Program, requests []view.Request) {
	order := func(r view.Request) int {
		if n := urgency[r.State]; n > 0 {
			return n
		}
		if r.Emergency != nil && !r.Emergency.Ratified {
			return len(urgency) + 1
		}
		return len(urgency) + 2
	}
	slices.SortStableFunc(requests, func(a, b view.Request) int { return order(a) - order(b) })
	rows := [][]string{p.Heading("label_id", "label_state", "label_who", "label_targets", "label_begin", "label_until", "label_by", "label_notes")}
	var times []time.Time
	today := p.In(time.Now()).Format(time.DateOnly)
	for _, r := range requests[:min(len(requests), linesMost)] {
		times = append(times, r.From, r.Until)
		var engineers, targets []string
		for _, e := range r.Engineers {
			engineers = append(engineers, e.Name)
		}
		for _, t := range r.Targets {
			targets = append(targets, t.Name)
		}
		from, until := p.In(r.From), p.In(ends(r))
		begin, end := from.Format("2006-01-02 15:04"), until.Format("15:04")
		begin = strings.TrimPrefix(begin, today+" ")
		if until.Format(time.DateOnly) != from.Format(time.DateOnly) {
			end = until.Format("2006-01-02 15:04")
		}
		if r.State == policy.Undecided && r.Terms.For > 0 {
			begin, end = p.Say("request_at_approval", nil), "+"+policy.Elapsed(until.Sub(from))
		}
		state := view.StageName(r.State).In(p.Lang)
		if r.State == policy.Undecided {
			state += fmt.Sprintf(" %d/%d", len(r.Approvals), r.Needed)
		}
		rows = append(rows, []string{r.ID, state, r.Vendor + "/" + p.Some(engineers), p.Some(targets), begin, end, r.RecordedBy, strings.Join(notes(p, r), ", ")})
	}
	p.Table(rows, 4, times)
	p.TellIf(len(requests) > linesMost, "requests_more", view.Args{"count": len(requests) - linesMost})
}

// ends is when a request ends, or has ended: a revocation ends one that is open at once.
func ends(r view.Request) time.Time {
	if r.State == policy.StageRevoked && r.Ended != nil && r.Ended.At.After(r.From) && r.Ended.At.Before(r.Until) {
		return r.Ended.At.Truncate(time.Second)
	}
	return r.Until
}

// notes are the marks of a request in the table.
func notes(p *terminal.Program, r view.Request) (all []string) {
	for _, mark := range []struct {
		is   bool
		code view.Code
	}{
		{r.Emergency != nil && r.Emergency.Ratified, "note_emergency"},
		{r.Emergency != nil && !r.Emergency.Ratified && !r.Emergency.Overdue, "note_unratified"},
		{r.Emergency != nil && !r.Emergency.Ratified && r.Emergency.Overdue, "note_overdue"},
		{r.SelfApproved, "note_self"},
		{r.Extension != nil, "note_extension"},
		{r.Stale && (urgency[r.State] > 0 || r.State == policy.StageVoid), "note_stale"},
	} {
		if mark.is {
			all = append(all, p.Say(mark.code, nil))
		}
	}
	return all
}

// full prints all of a request.
func full(p *terminal.Program, r view.Request) {
	fmt.Fprintf(p.Out, "%s  %s\n", r.ID, view.StageName(r.State).In(p.Lang))
	marks(p, r)
	rows := terminal.List{Program: p}
	terms(&rows, r.Terms, r.Name, r.EngineerNames)
	span(&rows, r.From, ends(r), r.State == policy.Undecided && r.Terms.For > 0)
	if r.MaxUntil.After(r.Until) {
		rows.Row("label_max_until", p.Local(r.MaxUntil))
	}
	why(&rows, r.Terms, r.Phone)
	signatures(&rows, r)
	for _, e := range r.Shortened {
		rows.Row("label_shortened", p.Say("request_shortened_by", view.Args{"until": p.Local(e.Until), "name": e.Asked.By, "reason": e.Asked.Reason}))
	}
	signed := func(label view.Code, all ...policy.Sign) {
		var texts []string
		for _, s := range all {
			texts = append(texts, p.Say("request_said", view.Args{"name": s.By, "at": p.Local(s.At), "text": s.Reason}))
		}
		labels(&rows, label, texts)
	}
	if r.Ended != nil {
		signed("label_ended", *r.Ended)
	}
	if r.Ratified != nil {
		signed("label_ratified", *r.Ratified)
	}
	signed("label_reports", r.Reports...)
	signed("label_reviews", r.Reviews...)
	for _, t := range r.Versions[:max(0, len(r.Versions)-1)] {
		until := p.Local(t.Until)
		if t.For > 0 { // from the approval on
			until = p.Say("request_after", view.Args{"wait": policy.Elapsed(time.Duration(t.For) * time.Second)})
		}
		rows.Row("label_earlier", p.Say("request_version", view.Args{"version": t.Version, "until": until}))
	}
	labels(&rows, "label_grants", r.Grants)
	rows.Row("label_version", fmt.Sprint(r.Version))
	rows.Row("label_digest", r.Digest)
	p.Columns(rows.Rows)
	if r.State == policy.Undecided {
		advice(p, r)
	}
}

// advice names the next steps for a request without an approval.
func advice(p *terminal.Program, r view.Request) {
	p.TellIf(r.Phone != "", "request_call_back", view.Args{"vendor": terminal.Named(r.Vendor, r.Name), "phone": r.Phone})
	p.Tell("request_next", view.Args{"id": r.ID})
}
