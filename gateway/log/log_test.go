package log

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// stuckWriter takes nothing until it is released.
type stuckWriter struct {
	release chan struct{}
	mu      sync.Mutex
	text    bytes.Buffer
}

func (w *stuckWriter) Write(p []byte) (int, error) {
	<-w.release
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func TestALogThatNobodyReadsStopsNobody(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &stuckWriter{release: make(chan struct{})}
				logger, queue := New(w, slog.LevelInfo, format, utc)
				const lines = Waiting + 100
				for i := range lines {
					logger.Info("a line", "number", i)
				}
				synctest.Wait()
				// One line is on its way, Waiting wait; the first may have
				// been taken only when the queue was full.
				dropped := queue.Dropped()
				if dropped < lines-Waiting-1 || dropped > lines-Waiting {
					t.Errorf("%d lines dropped of %d, with room for %d", dropped, lines, Waiting)
				}
				began := time.Now()
				queue.Close()
				if waited := time.Since(began); waited != Flush {
					t.Errorf("closing waited %v for nobody, want %v", waited, Flush)
				}
				close(w.release)
				queue.Close()
				text := w.text.String()
				if got := strings.Count(text, "a line"); uint64(got) != lines-dropped {
					t.Errorf("%d lines written in the end, want %d", got, lines-dropped)
				}
				want := fmt.Sprintf("dropped=%d\n", dropped)
				if format == "json" {
					want = fmt.Sprintf("\"dropped\":%d}\n", dropped)
				}
				if !strings.HasSuffix(text, want) {
					t.Errorf("the log ends with %q, want %q", text[max(0, len(text)-200):], want)
				}
			})
		})
	}
}

func TestTheLogIsWrittenBeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the end waits for 2 s at most
		var text bytes.Buffer
		logger, queue := New(&text, slog.LevelInfo, "text", utc)
		for i := range 500 {
			logger.Info("a line", "number", i)
		}
		queue.Close()
		if got := strings.Count(text.String(), "\n"); got != 500 {
			t.Errorf("%d lines written, want 500", got)
		}
	})
}

// journalctl -p finds a line by its level; whoever reads the log elsewhere sees
// no priorities.
func TestTheJournalOfSystemdIsToldLevels(t *testing.T) {
	for _, c := range []struct {
		format, stream string // "" stands for the pipe itself
		want           string
	}{
		{"text", "", "<3>level=ERROR msg=broken engineer=m/sato\n<4>level=WARN msg=\"a look\\n<0>\"\n<6>level=INFO msg=news\n<7>level=DEBUG msg=always\n"},
		{"json", "", `<3>{"level":"ERROR","msg":"broken","engineer":"m/sato"}` + "\n" + `<4>{"level":"WARN","msg":"a look\n<0>"}` + "\n" +
			`<6>{"level":"INFO","msg":"news"}` + "\n" + `<7>{"level":"DEBUG","msg":"always"}` + "\n"},
		{"text", "1:2", "level=ERROR msg=broken engineer=m/sato\nlevel=WARN msg=\"a look\\n<0>\"\nlevel=INFO msg=news\nlevel=DEBUG msg=always\n"},
	} {
		t.Run(c.format+c.stream, func(t *testing.T) {
			from, to, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer from.Close()
			defer to.Close()
			if c.stream == "" {
				var s unix.Stat_t
				if err := unix.Fstat(int(to.Fd()), &s); err != nil {
					t.Fatal(err)
				}
				c.stream = fmt.Sprintf("%d:%d", s.Dev, s.Ino)
			}
			t.Setenv("JOURNAL_STREAM", c.stream)
			synctest.Test(t, func(t *testing.T) { // the end waits for 2 s at most
				logger, queue := New(to, slog.LevelDebug, c.format, utc)
				logger.With("engineer", "m/sato").Error("broken")
				logger.Warn("a look\n<0>") // no text makes a line of its own
				logger.Info("news")
				logger.Debug("always")
				queue.Close()
			})
			to.Close()
			text, err := io.ReadAll(from)
			if err != nil {
				t.Fatal(err)
			}
			got := regexp.MustCompile(`time=\S+ |"time":"[^"]+",`).ReplaceAllString(string(text), "")
			if got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
}

func utc() *time.Location { return time.UTC }

// TestFault86LogLinesHaveOneZone: the line's own time and all others are in the
// site's zone, whatever zone they come in, and follow it when it changes.
func TestFault86LogLinesHaveOneZone(t *testing.T) {
	zone := time.UTC
	at := time.Date(2026, 12, 1, 11, 0, 0, 0, time.UTC)
	for format, want := range map[string]string{"text": `until=2026-12-01T20:00:00.000+09:00 other.until=2026-12-01T20:00:00.000+09:00`, "json": `"until":"2026-12-01T20:00:00+09:00"`} {
		var text bytes.Buffer
		logger, queue := New(&text, slog.LevelInfo, format, func() *time.Location { return zone })
		zone = time.FixedZone("JST", 9*3600)
		logger.Info("window opened", "until", at.In(time.FixedZone("CET", 3600)), slog.Group("other", "until", at))
		queue.Close()
		zone = time.UTC
		if line := text.String(); !strings.Contains(line, want) || strings.Count(line, "+09:00") != 3 {
			t.Errorf("%s: %s, want all three times in JST", format, line)
		}
	}
}
