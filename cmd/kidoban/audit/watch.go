package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/admin"
	"kidoban/gateway/journal"
	"kidoban/gateway/view"
)

// Watch is `kidoban watch`.
type Watch struct {
	JSON  bool           `name:"json" help:"Print each entry as JSON, one a line."`
	Kinds terminal.Given `help:"Only entries of these kinds, with commas between them, as in requested,approved." placeholder:"K,L"`
}

// Run prints entries as they come, until a signal ends it. Without a gateway at the beginning
// it fails; later it waits for the gateway to come back.
func (c Watch) Run(p *terminal.Program) error {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	var kinds []string
	if c.Kinds != "" {
		kinds = strings.Split(string(c.Kinds), ",")
	}
	w := &watcher{Program: p, json: c.JSON}
	err := p.Client().Follow(ctx, nil, kinds, w.print, w.told)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// watcher prints entries.
type watcher struct {
	*terminal.Program
	json       bool
	begun, cut bool      // a stream has begun; it ended, and none has begun since
	journal    string    // of the entry before; empty: there is none
	before     time.Time // of the entry before
}

// told says on standard error that the stream was cut, once, and that it goes on.
func (w *watcher) told(err error) error {
	switch {
	case err == nil && w.cut:
		w.Note("watch_again", nil)
	case err != nil && !w.begun:
		return err
	case err != nil && !w.cut:
		w.Note("watch_cut", view.Args{"cause": err})
	}
	w.begun, w.cut = true, err != nil
	return nil
}

func (w *watcher) print(e admin.Event) error {
	if w.journal != "" && w.journal != e.Journal {
		w.Note("watch_anew", nil)
		w.before = time.Time{}
	}
	w.journal, w.Zone = e.Journal, e.Zone
	var entry journal.Entry
	if err := json.Unmarshal(e.JSON, &entry); err != nil {
		return &view.Error{Message: view.Say("answer_unknown", view.Args{"cause": err})}
	}
	text := string(e.JSON)
	if !w.json {
		text = lineOf(w.Program, e.Index, entry, w.before)
	}
	w.before = entry.Time
	_, err := fmt.Fprintln(w.Out, text)
	return err
}
