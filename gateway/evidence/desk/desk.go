// Package desk keeps the record of the journal in use, so that a running gateway can be asked for
// reports, reviews and the self-inspection at any time.
package desk

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"kidoban/gateway/evidence"
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
	"kidoban/gateway/view"
)

const (
	// again is how long the desk waits after an error, and soon for a journal that is not open yet.
	again = time.Second
	soon  = 50 * time.Millisecond
	// awaits is how long those who ask wait for a record that is being read.
	awaits = 5 * time.Second
	// rest is the pause after a few hundred old entries: the gate comes first.
	rest = 2 * time.Millisecond
	// countAgain is how old the count of mismatches may be.
	countAgain = time.Minute
)

// Desk follows the journal. Its methods may be called concurrently.
type Desk struct {
	Feed   *store.Feed
	Logger *slog.Logger
	// Past reads the text of a past policy.
	Past func(text string) (*policy.Policy, error)
	// Checkpoint is the newest checkpoint of the journal in use; empty: it cannot be read.
	Checkpoint func() string

	mu     sync.Mutex
	record *evidence.Record
	end    int64 // the journal had so many entries when the reading began
	err    error // why the record is not whole

	counted   map[string]int // mismatches that are open
	countedAt int64          // the newest entry then
	countedOn time.Time
}

// Run reads the journal in use and follows it, until the context ends. A journal that takes its
// place is read anew.
func (d *Desk) Run(ctx context.Context) {
	for ctx.Err() == nil {
		err := d.follow(ctx)
		if ctx.Err() == nil && !waits(err) {
			d.Logger.Warn("the journal cannot be read for reports: it is tried again", "err", err)
		}
		d.mu.Lock()
		d.record, d.counted, d.err = nil, nil, err
		d.mu.Unlock()
		wait := again
		if waits(err) {
			wait = soon
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// waits reports whether an error only says that a journal is not there yet.
func waits(err error) bool {
	return errors.Is(err, store.ErrNotOpen) || errors.Is(err, store.ErrReplaced)
}

func (d *Desk) follow(ctx context.Context) error {
	newest, err := d.Feed.Now()
	if err != nil {
		return err
	}
	stream, err := d.Feed.After(-1)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.record, d.end, d.err = evidence.NewRecord(d.Past), newest.After+1, nil
	d.mu.Unlock()
	for {
		lines, err := stream.Next(ctx)
		if err != nil {
			return err
		}
		old, err := d.add(lines)
		if err != nil {
			return err
		}
		if old {
			time.Sleep(rest)
		}
	}
}

// add adds entries, and reports whether there are more that were there at the beginning.
func (d *Desk) add(lines []journal.Line) (old bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, line := range lines {
		var e journal.Entry
		if err := json.Unmarshal(line.JSON, &e); err != nil {
			return false, err
		}
		e.Index = line.Index
		d.record.Add(e)
	}
	return d.record.Entries.To+1 < d.end, nil
}

// Await waits until the record is whole, for a few seconds at most.
func (d *Desk) Await(ctx context.Context) {
	d.Until(ctx, func(*evidence.Record) error { return nil })
}

// Until waits until a function has no error about the record, for a few seconds at most: what was just
// written is read a moment later.
func (d *Desk) Until(ctx context.Context, has func(*evidence.Record) error) {
	for end := time.Now().Add(awaits); d.Ask(has) != nil && ctx.Err() == nil && time.Now().Before(end); {
		time.Sleep(soon)
	}
}

// Ask gives the record to a function, which must not keep it. The error is the function's, or says
// that the journal is still being read, or cannot be.
func (d *Desk) Ask(f func(*evidence.Record) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.err != nil && !waits(d.err):
		return &view.Error{Message: view.Say("record_unread", view.Args{"cause": d.err}), Cause: d.err}
	case d.record == nil:
		return &view.Error{Message: view.Say("record_closed", nil)}
	case d.record.Entries.To+1 < d.end:
		return &view.Error{Message: view.Say("record_reading", view.Args{"entry": d.record.Entries.To + 1, "count": d.end})}
	}
	return f(d.record)
}

// Month is the report of a month; see evidence.Record.Month. The gateway has verified its journal,
// so trusted says whether it is in no doubt about it.
func (d *Desk) Month(month, vendor string, trusted bool) (report evidence.Report, err error) {
	err = d.Ask(func(r *evidence.Record) (err error) {
		report, err = r.Month(month, vendor)
		return err
	})
	if err == nil {
		report.Verified = trusted
		report.Origin, report.Checkpoint = d.Signed()
	}
	return report, err
}

// Signed gives the journal's origin, and its newest checkpoint. Empty: they cannot be read.
func (d *Desk) Signed() (origin, checkpoint string) {
	checkpoint = d.Checkpoint()
	origin, _, _ = strings.Cut(checkpoint, "\n")
	return origin, checkpoint
}

// Copied is when a copy of the journal was made last, as the journal has it; zero: it has none.
func (d *Desk) Copied() (at time.Time) {
	_ = d.Ask(func(r *evidence.Record) error { // while it is read, none is known
		for _, m := range r.Mirrored {
			if !m.Is.Witness {
				at = m.At
			}
		}
		return nil
	})
	return at
}

// Probed is when the promises were tried last and when all were kept last, zero: never, and how many trials of the last
// probe were broken. It is false if the journal has no probe, or is being read.
func (d *Desk) Probed() (last, kept time.Time, broken int64, ok bool) {
	err := d.Ask(func(r *evidence.Record) error {
		if kept = r.ProbeKept; r.Probed != nil {
			last, broken, ok = r.Probed.At, r.Probed.Is.Broken(), true
		}
		return nil
	})
	return last, kept, broken, ok && err == nil
}

// Waiting counts what waits for people: sessions that nobody has checked, and those that are overdue
// by the policy's rules, by vendor; open mismatches of this month and the one before, by kind. It is
// false while the journal is being read.
func (d *Desk) Waiting(now time.Time) (unreviewed, overdue, mismatches map[string]int, ok bool) {
	unreviewed, overdue = map[string]int{}, map[string]int{}
	err := d.Ask(func(r *evidence.Record) error {
		p := r.At(r.Now)
		for vendor, b := range r.Unreviewed(now) {
			unreviewed[vendor] = b.Unreviewed
			if overdue[vendor] = b.Overdue; p == nil || p.Review == nil {
				overdue[vendor] = 0
			}
		}
		if size := r.Entries.To; d.counted == nil || d.countedAt != size && now.Sub(d.countedOn) >= countAgain {
			zone := time.UTC
			if p != nil {
				zone = p.Zone
			}
			today := now.In(zone)
			first := time.Date(today.Year(), today.Month(), 1, 0, 0, 0, 0, zone)
			d.counted, d.countedAt, d.countedOn = r.MismatchesOpen(first.Format("2006-01"), first.AddDate(0, -1, 0).Format("2006-01")), size, now
		}
		mismatches = maps.Clone(d.counted)
		return nil
	})
	return unreviewed, overdue, mismatches, err == nil
}
