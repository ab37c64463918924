package notify

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// Notices that no single entry makes. Every sink gets them.
const (
	Summary  = "summary"          // older notices that are not delivered one by one
	Replaced = "journal_replaced" // the gateway has another journal
	Test     = "test"             // `kidoban notify-test`
)

// headlines are what a kind of notice says first. A mail has nothing else in its subject.
var headlines = map[string]view.Message{
	"emergency":       view.Say("notice_emergency", nil),
	"requested":       view.Say("notice_requested", nil),
	"approved":        view.Say("notice_approved", nil),
	"denied":          view.Say("notice_denied", nil),
	"withdrawn":       view.Say("notice_withdrawn", nil),
	"extension_asked": view.Say("notice_extension_asked", nil),
	"extended":        view.Say("notice_extended", nil),
	"shortened":       view.Say("notice_shortened", nil),
	"revoked":         view.Say("notice_revoked", nil),
	"ratified":        view.Say("notice_ratified", nil),
	"warned":          view.Say("notice_warned", nil),
	"wrong_source":    view.Say("notice_wrong_source", nil),
	"drift":           view.Say("notice_drift", nil),
	"doubt":           view.Say("notice_doubt", nil),
	"shut":            view.Say("notice_shut", nil),
	"reopened":        view.Say("notice_reopened", nil),
	"switch_shut":     view.Say("notice_switch_shut", nil),
	"switch_opened":   view.Say("notice_switch_opened", nil),
	"recovery":        view.Say("notice_recovery", nil),
	"policy_loaded":   view.Say("notice_policy_loaded", nil),
	"probe_broken":    view.Say("notice_probe_broken", nil),
	Summary:           view.Say("notice_summary", nil),
	Replaced:          view.Say("notice_journal_replaced", nil),
	Test:              view.Say("notice_test", nil),
}

// Notice tells of one entry of the journal.
type Notice struct {
	Kind  string
	Index int64 // of the entry
	Time  time.Time
	Entry json.RawMessage // the entry's JSON; nil: there is none
	facts []view.Message

	reopens bool // an approval of reopening everything, and not of a request
}

// decided is what events say that their entries may not have.
type decided struct {
	ID        string    `json:"id"`
	By        string    `json:"by"`
	Reason    string    `json:"reason"`
	Finding   string    `json:"finding"`
	Until     time.Time `json:"until"`
	Emergency bool      `json:"emergency"`
	Purpose   string    `json:"purpose"`
	Ticket    string    `json:"ticket"`
	Scope     string    `json:"scope"`
	For       int64     `json:"for"`       // seconds from the approval on; 0: it has times
	Engineers []thing   `json:"engineers"` // of a request
	Targets   []thing   `json:"targets"`
}

type thing struct {
	Name string `json:"name"`
}

// names joins the names of things.
func names(all []thing) string {
	var texts []string
	for _, x := range all {
		texts = append(texts, x.Name)
	}
	return strings.Join(texts, ", ")
}

// Of makes the notice of an entry. It reports false for an entry that nobody is told of. line
// is the entry's JSON, index its place. Times are shown in a zone.
func Of(index int64, line []byte, zone *time.Location) (Notice, bool, error) {
	var e journal.Entry
	if err := json.Unmarshal(line, &e); err != nil {
		return Notice{}, false, fmt.Errorf("entry %d: %w", index, err)
	}
	var d decided
	_ = json.Unmarshal(e.Event, &d) // events of other kinds have other fields
	n := Notice{Kind: kindOf(e, d), Index: index, Time: e.Time, Entry: line}
	if _, known := headlines[n.Kind]; !known || n.Kind == Summary || n.Kind == Replaced || n.Kind == Test {
		return Notice{}, false, nil
	}
	n.facts = factsOf(e, d, zone)
	n.reopens = e.Kind == journal.Approved && requestOf(e, d) == ""
	return n, true, nil
}

// kindOf is the kind of notice that an entry makes, if it makes one.
func kindOf(e journal.Entry, d decided) string {
	switch kind := string(e.Kind); {
	case kind == "requested" && d.Emergency:
		return "emergency"
	case e.Kind == journal.Refused && (e.Reason == policy.WrongSource.String() || e.Reason == policy.WrongLine.String()):
		return "wrong_source"
	case e.Kind == journal.Shut && strings.HasPrefix(cmp.Or(e.Scope, d.Scope), policy.RequestMark):
		return "revoked"
	case e.Kind == journal.PolicyLoaded && e.Part > 1:
		return "" // the first part has told of it
	case e.Kind == journal.Probe && e.Count > 0:
		return "probe_broken"
	default:
		return kind
	}
}

// factsOf are the lines beneath the headline.
func factsOf(e journal.Entry, d decided, zone *time.Location) []view.Message {
	scope, targets, text := cmp.Or(e.Scope, d.Scope), strings.Join(e.Targets, ", "), e.Text
	if strings.HasPrefix(scope, policy.RequestMark) {
		scope = "" // it is the request
	}
	if e.Kind == journal.PolicyLoaded {
		text = ""
	}
	count := ""
	if e.Count > 1 {
		count = strconv.FormatInt(e.Count, 10)
	}
	minutes := ""
	if e.Kind == journal.Warned {
		minutes, count = strconv.FormatInt(e.Count, 10), ""
	}
	until, long := instant(cmp.Or(e.Until, d.Until), zone), ""
	if e.Kind == journal.Requested && d.For > 0 && !d.Emergency {
		until, long = "", policy.Elapsed(time.Duration(d.For)*time.Second)
	}
	return facts(
		view.Say("notice_request", view.Args{"value": requestOf(e, d)}),
		view.Say("notice_vendor", view.Args{"value": named(e.VendorName, e.Vendor)}),
		view.Say("notice_engineer", view.Args{"value": cmp.Or(named(e.EngineerName, e.Engineer), names(d.Engineers))}),
		view.Say("notice_scope", view.Args{"value": scope}),
		view.Say("notice_targets", view.Args{"value": cmp.Or(e.Target, targets, names(d.Targets))}),
		view.Say("notice_source", view.Args{"value": e.Source}),
		view.Say("notice_by", view.Args{"value": cmp.Or(d.By, e.Actor)}),
		view.Say("notice_reason", view.Args{"value": cmp.Or(d.Reason, e.Reason, d.Finding, d.Purpose)}),
		view.Say("notice_ticket", view.Args{"value": d.Ticket}),
		view.Say("notice_count", view.Args{"value": count}),
		view.Say("notice_minutes", view.Args{"value": minutes}),
		view.Say("notice_until", view.Args{"value": until}),
		view.Say("notice_for", view.Args{"value": long}),
		view.Say("notice_text", view.Args{"value": text}),
		view.Say("notice_at", view.Args{"value": instant(e.Time, zone)}),
	)
}

// facts leaves out the lines without a value, and makes each one line.
func facts(all ...view.Message) []view.Message {
	for _, m := range all {
		m.Args["value"] = visible(m.Args["value"].(string))
	}
	return slices.DeleteFunc(all, func(m view.Message) bool { return m.Args["value"] == "" })
}

// requestOf is the id of the request that an entry is about, or nothing.
func requestOf(e journal.Entry, d decided) string {
	for _, id := range []string{e.Request, d.ID, e.Scope, d.Scope, e.Window} {
		// Without the mark, as operators type it.
		if short, ok := strings.CutPrefix(id, policy.RequestMark); ok {
			return short
		}
	}
	return ""
}

// instant is a time in the site's zone, or nothing.
func instant(t time.Time, zone *time.Location) string {
	if t.IsZero() {
		return ""
	}
	return t.In(zone).Format("2006-01-02 15:04:05 MST")
}

// named is a display name with the short name behind it. If one is empty, it is the other.
func named(display, short string) string {
	if display == "" || short == "" {
		return display + short
	}
	return display + " (" + short + ")"
}

// SummaryOf sums notices that are too old to be delivered one by one.
func SummaryOf(count int, first, last Notice, zone *time.Location) Notice {
	return Notice{Kind: Summary, Index: last.Index, Time: last.Time, facts: facts(
		view.Say("notice_count", view.Args{"value": strconv.Itoa(count)}),
		view.Say("notice_first", view.Args{"value": instant(first.Time, zone)}),
		view.Say("notice_last", view.Args{"value": instant(last.Time, zone)}),
	)}
}

// ReplacedNotice tells that the gateway has another journal. cursor is how far the earlier one
// was delivered.
func ReplacedNotice(now time.Time, cursor int64, zone *time.Location) Notice {
	return Notice{Kind: Replaced, Time: now, facts: facts(
		view.Say("notice_undelivered", view.Args{"value": strconv.FormatInt(cursor, 10)}),
		view.Say("notice_at", view.Args{"value": instant(now, zone)}),
	)}
}

// TestNotice is one that an operator sends to see whether it arrives.
func TestNotice(now time.Time, by string, zone *time.Location) Notice {
	return Notice{Kind: Test, Time: now, facts: facts(
		view.Say("notice_by", view.Args{"value": by}),
		view.Say("notice_at", view.Args{"value": instant(now, zone)}),
	)}
}

// Wanted reports whether a sink wants a notice.
func (n Notice) Wanted(s view.Sink) bool {
	return len(s.Kinds) == 0 || n.Kind == Summary || n.Kind == Replaced || n.Kind == Test || slices.Contains(s.Kinds, n.Kind)
}

// Subject is the headline in a language: words of our own, and no name.
func (n Notice) Subject(l view.Language) string {
	if n.reopens {
		return view.Say("notice_reopen_approved", nil).In(l)
	}
	return headlines[n.Kind].In(l)
}

// Text is the notice for people, with the name of the site.
func (n Notice) Text(l view.Language, site string) string {
	lines := []string{n.Subject(l)}
	if site = visible(site); site != "" {
		lines[0] = site + ": " + lines[0]
	}
	for _, fact := range n.facts {
		lines = append(lines, fact.In(l))
	}
	return strings.Join(lines, "\n")
}

// visible takes out of a text what does not show, so that one line stays one.
func visible(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return ' '
		}
		return r
	}, text))
}
