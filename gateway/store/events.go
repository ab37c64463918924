package store

import (
	"cmp"
	"context"
	"log/slog"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// Tell writes an entry to the log as well, so that log and journal speak of
// the same events in the same words: the attribute "event" is the entry's kind,
// and the others are named as its fields. Levels:
//
//	error  no engineer can enter, or something is broken
//	warn   an operator should look at this
//	info   the ordinary work of a gate
//	debug  events that come all the time
//
// Operators' events are logged where they take effect, also when the journal is
// dead. The log has the changes of a policy, not its text.
func Tell(log *slog.Logger, e journal.Entry) {
	level, message := slog.LevelInfo, cmp.Or(messages[e.Kind], decisions[e.Kind])
	switch e.Kind {
	case journal.Start:
		if e.Reason == FirstStart {
			message, level = "the state folder was empty: nothing is known of earlier closes; a spare needs a copy of the folder", slog.LevelWarn
		}
	case journal.SessionClosed:
		if e.Reason == unrecorded || e.Reason == crashed {
			level = slog.LevelWarn
		}
	case journal.Admission:
		level = slog.LevelDebug
	case journal.Refused:
		switch e.Reason {
		case policy.WrongSource.String(), policy.WrongLine.String(), policy.Replayed.String():
			level = slog.LevelWarn
		case policy.UnlistedSource.String():
			level = slog.LevelDebug
		}
	case journal.Drift, journal.ClockStep, journal.SwitchShut, journal.SwitchOpened:
		level = slog.LevelWarn
	case journal.Doubt:
		level = slog.LevelError
	case journal.Requested:
		if e.Text != "" {
			message, level = "an emergency was declared", slog.LevelWarn
		}
	case journal.Reported:
		if e.Request == "" {
			message = "the report of a month was made"
		}
	case journal.Approved:
		if e.Scope != "" {
			message = "reopening everything was approved by one operator, and takes more"
		}
	}
	if message == "" {
		return
	}
	attributes := []slog.Attr{EventAttr(e.Kind)}
	for _, field := range []struct{ name, value string }{
		{"vendor", e.Vendor}, {"vendor_name", e.VendorName}, {"engineer", e.Engineer}, {"engineer_name", e.EngineerName}, {"request", e.Request}, {"window", e.Window}, {"grant", e.Grant}, {"session", e.Session},
		{"source", e.Source}, {"target", e.Target}, {"reason", e.Reason}, {"text", e.Text},
	} {
		if field.value != "" {
			attributes = append(attributes, slog.String(field.name, field.value))
		}
	}
	if !e.Until.IsZero() {
		attributes = append(attributes, slog.Time("until", e.Until))
	}
	if decisions[e.Kind] != "" {
		attributes = append(attributes, slog.String("actor", e.Actor))
	}
	if e.Count > 0 {
		attributes = append(attributes, slog.Int64("count", e.Count))
	}
	if e.Kind == journal.SessionClosed {
		attributes = append(attributes, slog.Int64("received_bytes", e.ReceivedBytes), slog.Int64("transmitted_bytes", e.TransmittedBytes))
	}
	log.LogAttrs(context.Background(), level, message, attributes...)
}

// messages are those about kinds that are logged here, but for requests.
var messages = map[journal.Kind]string{
	journal.Start: "the journal is open", journal.Stop: "the gateway stops",
	journal.WindowOpened: "window opened", journal.WindowClosed: "window closed", journal.Frozen: "window frozen", journal.Resumed: "window resumed",
	journal.Warned: "a grant ends soon", journal.SessionOpened: "session opened", journal.SessionClosed: "session closed",
	journal.Admission: "admitted", journal.Refused: "refused", journal.Drift: "the ruleset, or the tunnel's interface, had drifted",
	journal.ClockStep: "the wall clock was set", journal.SwitchShut: "the shut file shuts everything",
	journal.SwitchOpened: "the shut file shuts nothing any more", journal.Doubt: "shut in doubt", journal.Trusted: "no longer in doubt",
}

// decisions are the messages about requests. A revocation is logged as a close.
var decisions = map[journal.Kind]string{
	journal.Requested: "a request was recorded", journal.Approved: "a request was approved", journal.Denied: "a request was denied",
	journal.Withdrawn: "a request was withdrawn", journal.ExtensionAsked: "an extension was asked for", journal.Extended: "an extension was approved",
	journal.Shortened: "a request was shortened", journal.Ratified: "a request was ratified", journal.Reported: "the work was reported", journal.Reviewed: "the work was reviewed",
}

// EventAttr is the log's attribute for the kind of an entry.
func EventAttr(kind journal.Kind) slog.Attr { return slog.String("event", string(kind)) }
