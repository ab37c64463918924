package gateway

import (
	"context"
	"errors"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/store"
	"kidoban/gateway/view"
)

// Note records what people state about the past, or what the gateway's helpers find. It changes no
// plan. It returns when the entry is on disk.
func (g *Gateway) Note(ctx context.Context, entry journal.Entry) error {
	done := make(chan error, 1)
	err := g.send(ctx, func(l *loop) {
		if l.doubted(doubtJournal) {
			done <- errors.New(l.doubts[doubtJournal].String())
			return
		}
		l.add(store.Record{Entries: []journal.Entry{entry}, Done: func(err error) { done <- err }})
	})
	if err != nil {
		return err
	}
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(effectWait):
		return &view.Error{Message: view.Say("not_recorded_yet", view.Args{"wait": effectWait})}
	}
	if err != nil {
		err = &view.Error{Message: view.Say("not_recorded", view.Args{"cause": err}), Cause: err}
	}
	return err
}

// DoubtJournal shuts the gateway, until an operator recovers: somebody has shown that the journal is
// not what it was.
func (g *Gateway) DoubtJournal(ctx context.Context, why view.Message) error {
	return g.send(ctx, func(l *loop) { l.doubt(doubtJournal, why) })
}
