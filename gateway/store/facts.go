package store

import (
	"encoding/hex"
	"fmt"
	"strings"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/tally"
)

// Bounds of one entry, which fits into 64 KiB: a target's name has up to 63 bytes, a source up to 43.
const (
	// TextMax bounds, in bytes, a text that becomes part of an entry.
	TextMax = 4000
	// approvalMax bounds, in bytes, each text of an approval.
	approvalMax = TextMax / 3
	// TargetsMax and SourcesMax are how many targets and sources an entry names.
	TargetsMax, SourcesMax = 500, 100
)

// Clip shortens a text so that it fits into an entry.
func Clip(text string) string { return clipTo(TextMax, text) }

func clipTo(most int, text string) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + " [shortened]"
}

// EngineerEntry begins an entry about an engineer.
func EngineerEntry(kind journal.Kind, e *policy.Engineer) journal.Entry {
	return journal.Entry{Kind: kind, Actor: "gateway", Vendor: e.Vendor.Name, VendorName: e.Vendor.DisplayName, Engineer: e.Name, EngineerName: e.DisplayName}
}

// GrantEntry is an entry about a grant. The entry of an opening also names the targets and the approver.
func GrantEntry(kind journal.Kind, g *policy.Grant) journal.Entry {
	e := EngineerEntry(kind, g.Engineer)
	e.Window, e.Grant, e.From, e.Until = g.Window.Name, g.ID, g.From, g.Until
	e.Request = string(policy.RequestOf(g.ID))
	if kind != journal.WindowOpened {
		return e
	}
	e.ApprovedBy, e.Ticket, e.Section = clipTo(approvalMax, g.Window.ApprovedBy), clipTo(approvalMax, g.Window.Ticket), clipTo(approvalMax, g.Window.Section)
	targets, sources := g.Window.Targets, g.Engineer.Sources
	if more := len(targets) - TargetsMax; more > 0 {
		targets = targets[:TargetsMax]
		e.Text += fmt.Sprintf("and %d more targets, as the policy names them", more)
	}
	if more := len(sources) - SourcesMax; more > 0 {
		sources = sources[:SourcesMax]
		e.Text = strings.TrimPrefix(e.Text+fmt.Sprintf("; and from %d more sources, as the policy names them", more), "; ")
	}
	for _, t := range targets {
		e.Targets = append(e.Targets, t.Name)
	}
	for _, s := range sources {
		e.Sources = append(e.Sources, s.String())
	}
	return e
}

// NoteEntries are the entries of notes.
func NoteEntries(notes []policy.Note) (entries []journal.Entry) {
	for _, n := range notes {
		e := GrantEntry(journal.Kind(n.Kind), n.Grant)
		if e.Until, e.Count = n.Until, int64(n.Count); n.All {
			e.Engineer, e.EngineerName, e.Grant = "", "", ""
		}
		entries = append(entries, e)
	}
	return entries
}

// RefusedEntries are the entries of the sums of refusals that are due.
func RefusedEntries(all []tally.Due) (entries []journal.Entry) {
	for _, d := range all {
		e := journal.Entry{Kind: journal.Refused, Actor: "gateway", Vendor: d.Vendor, VendorName: d.VendorName, Engineer: d.Engineer, EngineerName: d.EngineerName,
			Reason: d.Reason, Target: d.Target, Count: int64(d.Count), First: d.First, Last: d.Last}
		if d.Source.IsValid() {
			e.Source = d.Source.String()
		}
		if d.Timestamp != [12]byte{} {
			e.Key, e.Timestamp = d.Key.String(), hex.EncodeToString(d.Timestamp[:])
		}
		entries = append(entries, e)
	}
	return entries
}
