package log

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync"
)

// framed is a slog.Handler that passes each record on as a line.
type framed struct {
	slog.Handler // writes to out.line
	out          *output
	event        string // of WithAttrs
}

type output struct {
	mu   sync.Mutex
	line bytes.Buffer
	pass func(r slog.Record, event string, line []byte) error
}

// Framed gives a handler that passes on each record with its line and its
// attribute "event". The line is valid during the call.
func Framed(form func(io.Writer) slog.Handler, pass func(r slog.Record, event string, line []byte) error) slog.Handler {
	out := &output{pass: pass}
	return framed{form(&out.line), out, ""}
}

// Handle implements slog.Handler.
func (h framed) Handle(ctx context.Context, r slog.Record) error {
	event := h.event
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "event" {
			event = a.Value.String()
		}
		return true
	})
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.line.Reset()
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	return h.out.pass(r, event, h.out.line.Bytes())
}

// WithAttrs implements slog.Handler.
func (h framed) WithAttrs(all []slog.Attr) slog.Handler {
	for _, a := range all {
		if a.Key == "event" {
			h.event = a.Value.String()
		}
	}
	return framed{h.Handler.WithAttrs(all), h.out, h.event}
}

// WithGroup implements slog.Handler.
func (h framed) WithGroup(name string) slog.Handler {
	return framed{h.Handler.WithGroup(name), h.out, h.event}
}

// Severity is a level in syslog's numbers (RFC 5424, section 6.2.1).
func Severity(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}
