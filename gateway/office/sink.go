package office

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"kidoban/gateway/notify"
	"kidoban/gateway/view"
)

// tooOld is the age of an entry after which its notice goes into a summary.
const tooOld = 72 * time.Hour

// progress is a sink's report. It lasts when the sink's settings change.
type progress struct {
	mu      sync.Mutex
	report  view.SinkReport
	changed func() // tells the office; it does not wait
}

func (p *progress) set(change func(*view.SinkReport)) {
	p.mu.Lock()
	before := p.report
	change(&p.report)
	told := before != p.report
	p.mu.Unlock()
	if told {
		p.changed()
	}
}

func (p *progress) now() view.SinkReport {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.report
}

// sink delivers the notices of one sink.
type sink struct {
	Config
	notify.Sender
	zone     *time.Location
	progress *progress
	loaded   func() // hears that the gateway has loaded a policy

	cursor cursor
	saved  time.Time
	due    *due // nil: nothing is
	log    *slog.Logger
}

// due is a notice that the receiver has not taken yet.
type due struct {
	notice notify.Notice
	id     string
	next   cursor // where the cursor goes then
	passed int64  // how many notices it stands for beside itself
}

// errDue ends a stream: a notice has to be delivered first.
var errDue = errors.New("a notice is due")

// run delivers until the context ends.
func (s *sink) run(ctx context.Context) {
	var err error
	if s.cursor, err = load(s.StateDir, s.Sink.Name); err != nil {
		s.log.Error("a cursor cannot be read: notices may come twice", "err", err)
	}
	if s.cursor.Journal == "" {
		s.cursor.Next = s.Sink.Since
	}
	s.moved(s.cursor)
	lost := 0 // streams in a row that gave nothing
	for ctx.Err() == nil {
		before := s.cursor
		err := s.follow(ctx)
		if errors.Is(err, errDue) {
			s.deliver(ctx)
			lost = 0
			continue
		}
		if lost++; s.cursor != before {
			lost = 1
		}
		if ctx.Err() == nil && lost == 2 { // a restart of the gateway is no news
			s.log.Warn("the gateway's journal cannot be followed", "err", err)
		}
		pause(ctx, s.again(min(lost, 5)))
	}
	s.save()
}

// follow reads the journal from the cursor on, and delivers. It returns errDue with a notice
// that is still due.
func (s *sink) follow(ctx context.Context) error {
	gate := gate{s.Socket, s.silence}
	unknown := false
	err := gate.follow(ctx, s.cursor.Next-1, func(journal string) error {
		switch {
		case journal == "":
			unknown = true // its first entry is to come, and then it has a name
		case s.cursor.Journal == "":
			s.moved(cursor{journal, s.cursor.Next})
			s.save()
		case s.cursor.Journal != journal:
			return s.replaced(journal)
		}
		return nil
	}, func(e entry) error {
		if unknown {
			return errors.New("the journal has its first entry now")
		}
		return s.take(ctx, e)
	})
	if errors.Is(err, errBeyond) {
		// What there is instead tells its name.
		err = gate.follow(ctx, -1, s.replaced, func(entry) error { return errBeyond })
	}
	return err
}

// replaced begins with another journal, or with the end of one that lost entries.
func (s *sink) replaced(journal string) error {
	next := cursor{Journal: journal}
	if journal == s.cursor.Journal {
		settings, err := gate{s.Socket, s.silence}.settings()
		if err != nil {
			return err
		}
		next.Next = settings.Size
	}
	s.log.Warn("the gateway has another journal, or fewer entries than were delivered", "delivered", s.cursor.Next, "goes_on_with", next.Next)
	n := notify.ReplacedNotice(s.now(), s.cursor.Next, s.zone)
	s.due = &due{notice: n, id: s.id(journal, next.Next, n.Kind), next: next}
	return errDue
}

// take looks at an entry. It tries to deliver its notice once; the rest is for deliver, without
// a stream that nobody reads.
func (s *sink) take(ctx context.Context, e entry) error {
	next := cursor{s.cursor.Journal, e.index + 1}
	n, told, err := notify.Of(e.index, e.line, s.zone)
	if err != nil {
		s.log.Error("an entry cannot be read, and is passed over", "index", e.index, "err", err)
	}
	if told && n.Kind == "policy_loaded" {
		s.loaded()
	}
	if !told || !n.Wanted(s.Sink) {
		s.moved(next)
		if s.now().Sub(s.saved) >= saveEvery {
			s.save()
		}
		return nil
	}
	s.due = &due{notice: n, id: s.id(next.Journal, e.index, ""), next: next}
	if s.now().Sub(n.Time) > tooOld || s.try(ctx) != nil {
		return errDue
	}
	return nil
}

// id names a notice to its receiver. The office's own notices have their kind behind it.
func (s *sink) id(journal string, index int64, own string) string {
	id := fmt.Sprintf("%s/%d/%s", journal, index, s.Sink.Name)
	if own != "" {
		id += "/" + own
	}
	return id
}

// try delivers the notice that is due, once.
func (s *sink) try(ctx context.Context) error {
	d := s.due
	err := s.Send(ctx, d.notice, d.id)
	if err != nil && ctx.Err() != nil {
		return err // the office ends
	}
	if err != nil {
		at := s.now()
		s.progress.set(func(r *view.SinkReport) {
			if r.LastError == "" {
				r.Since = at
				s.log.Warn("a notice cannot be delivered, and is tried again", "index", d.notice.Index, "err", err)
			}
			r.Failed, r.LastError = r.Failed+1, err.Error()
		})
		return err
	}
	s.due = nil
	s.progress.set(func(r *view.SinkReport) {
		if r.LastError != "" {
			s.log.Info("notices are delivered again", "failed_since", r.Since)
		}
		r.Delivered, r.Skipped, r.LastError, r.Since = r.Delivered+1, r.Skipped+d.passed, "", time.Time{}
	})
	s.moved(d.next)
	s.save()
	return nil
}

// deliver tries the notice that is due until the receiver takes it.
func (s *sink) deliver(ctx context.Context) {
	for failed := 0; s.due != nil && ctx.Err() == nil; failed++ {
		if failed > 0 || s.progress.now().LastError != "" {
			pause(ctx, s.again(failed))
		}
		if d := s.due; d.notice.Entry != nil && s.now().Sub(d.notice.Time) > tooOld {
			if err := s.sum(ctx); err != nil {
				s.log.Warn("the notices that are too old cannot be counted", "err", err)
				continue
			}
		}
		if ctx.Err() == nil {
			_ = s.try(ctx)
		}
	}
}

// errCounted ends the count of sum.
var errCounted = errors.New("the end")

// sum puts a summary in place of the notice that is due and all that follow it, up to the end
// that the journal has now.
func (s *sink) sum(ctx context.Context) error {
	gate := gate{s.Socket, s.silence}
	settings, err := gate.settings()
	if err != nil {
		return err
	}
	first := s.due.notice
	last, count := first, 1
	next := s.due.next
	journal := func(name string) error {
		if name != next.Journal {
			return errCounted // the summary is the last of the earlier journal
		}
		return nil
	}
	if next.Next < settings.Size {
		err = gate.follow(ctx, next.Next-1, journal, func(e entry) error {
			n, told, err := notify.Of(e.index, e.line, s.zone)
			if err == nil && told && n.Wanted(s.Sink) {
				last, count = n, count+1
			}
			if next.Next = e.index + 1; next.Next >= settings.Size {
				return errCounted
			}
			return nil
		})
	}
	if err != nil && !errors.Is(err, errCounted) && !errors.Is(err, errBeyond) {
		return err
	}
	n := notify.SummaryOf(count, first, last, s.zone)
	s.due = &due{notice: n, id: s.id(next.Journal, n.Index, n.Kind), next: next, passed: int64(count)}
	return nil
}

func (s *sink) moved(to cursor) {
	s.cursor = to
	s.progress.set(func(r *view.SinkReport) { r.Cursor = to.Next })
}

// save makes the cursor last. Without it a restart delivers notices twice, and misses none.
func (s *sink) save() {
	if s.cursor.Journal == "" {
		return
	}
	s.saved = s.now()
	if err := s.cursor.save(s.StateDir, s.Sink.Name); err != nil {
		s.log.Error("a cursor cannot be saved: after a restart notices may come twice", "err", err)
	}
}

// again is how long to wait after a number of failures: doubled each time, between bounds, and
// a part of it by chance, so that many senders do not come at once.
func (c Config) again(failed int) time.Duration {
	wait := c.againMost
	if failed < 30 {
		wait = min(c.againFirst<<failed, c.againMost)
	}
	return wait/2 + rand.N(wait/2+1)
}

// pause waits, or until the context ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
