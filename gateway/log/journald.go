package log

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// toJournald reports whether what is written goes to systemd's journal, as
// systemd.exec(5) has programs find out.
func toJournald(to io.Writer, stream string) bool {
	f, ok := to.(*os.File)
	if !ok || stream == "" {
		return false
	}
	var s unix.Stat_t
	return unix.Fstat(int(f.Fd()), &s) == nil && fmt.Sprintf("%d:%d", s.Dev, s.Ino) == stream
}

// priorities puts a record's level before its line as sd-daemon(3) has it, so
// that journalctl -p finds it; systemd takes that off again.
type priorities struct {
	of map[string]slog.Handler // by prefix
}

func newPriorities(to io.Writer, form func(io.Writer) slog.Handler) priorities {
	p := priorities{map[string]slog.Handler{}}
	for _, prefix := range []string{"<3>", "<4>", "<6>", "<7>"} {
		p.of[prefix] = form(prefixed{to, prefix})
	}
	return p
}

func priority(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "<3>"
	case l >= slog.LevelWarn:
		return "<4>"
	case l >= slog.LevelInfo:
		return "<6>"
	}
	return "<7>"
}

// Enabled implements slog.Handler.
func (p priorities) Enabled(ctx context.Context, l slog.Level) bool {
	return p.of[priority(l)].Enabled(ctx, l)
}

// Handle implements slog.Handler.
func (p priorities) Handle(ctx context.Context, r slog.Record) error {
	return p.of[priority(r.Level)].Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (p priorities) WithAttrs(attributes []slog.Attr) slog.Handler {
	return p.each(func(h slog.Handler) slog.Handler { return h.WithAttrs(attributes) })
}

// WithGroup implements slog.Handler.
func (p priorities) WithGroup(name string) slog.Handler {
	return p.each(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (p priorities) each(f func(slog.Handler) slog.Handler) slog.Handler {
	with := priorities{map[string]slog.Handler{}}
	for prefix, h := range p.of {
		with.of[prefix] = f(h)
	}
	return with
}

// prefixed writes lines, each in one piece with a prefix.
type prefixed struct {
	to     io.Writer
	prefix string
}

func (w prefixed) Write(line []byte) (int, error) {
	if _, err := w.to.Write(append([]byte(w.prefix), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}
