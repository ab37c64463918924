package office

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/view"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// place is a gateway with one sink and its receiver.
func place(t *testing.T, kinds ...string) (*fakeGate, *fakeReceiver) {
	t.Helper()
	var g *fakeGate
	f := newReceiver(t, func() *fakeGate { return g })
	g = newGate(t, sinkOf(t, "siem", f, kinds...))
	return g, f
}

func sinkOf(t *testing.T, name string, f *fakeReceiver, kinds ...string) view.Sink {
	t.Helper()
	path := filepath.Join(t.TempDir(), name+".secret")
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return view.Sink{Name: name, Webhook: f.URL + "/hidden-path", SecretFile: path, Kinds: kinds, Language: view.English}
}

// numbers are from to until-1, with blanks between them.
func numbers(from, until int) string {
	var all []string
	for i := from; i < until; i++ {
		all = append(all, strconv.Itoa(i))
	}
	return strings.Join(all, " ")
}

// TestDelivery: in order, each once while nothing fails, only the kinds that the sink names,
// and from the entry on at which the gateway first had the sink.
func TestDelivery(t *testing.T) {
	g, f := place(t, "shut")
	g.sinks[0].Since = 2
	g.add(closes(0, 4)...)
	start(t, quick(g, t.TempDir()))
	g.until("the first ones", func() bool { return len(f.taken()) == 2 })
	for i := 4; i < 40; i++ {
		g.add(journal.Entry{Kind: journal.Admission}, journal.Entry{Kind: journal.Drift})
		g.add(closes(i, i+1)...)
	}
	size := int64(len(g.lines))
	g.until("the whole journal", func() bool { return g.last("siem").Cursor == size })
	if f.reasons() != numbers(2, 40) {
		t.Errorf("got %s", f.reasons())
	}
	if x := f.taken()[0]; x.ID != "j1/2/siem" || x.Kind != "shut" || x.Index != 2 || !strings.HasPrefix(x.Text, "Kido Hospital: ") {
		t.Errorf("got %+v", x)
	}
	if r := g.report("siem"); r.Delivered != 38 || r.Failed != 0 || r.Skipped != 0 || r.LastError != "" || !r.Since.IsZero() {
		t.Errorf("reported: %+v", r)
	}
}

// TestFailures: a receiver that is down for a while gets everything afterwards, in order and
// under the same ids. The gateway hears of it, and neither report nor log has a secret.
func TestFailures(t *testing.T) {
	g, f := place(t)
	f.fail = func(try int) int { return 503 }
	var log bytes.Buffer
	var mu sync.Mutex
	c := quick(g, t.TempDir())
	c.Logger = slog.New(slog.NewTextHandler(locked{&mu, &log}, nil))
	g.add(closes(0, 10)...)
	stop := start(t, c)
	g.until("a failure is reported", func() bool { return g.last("siem").Failed >= 3 })
	r := g.report("siem")
	if r.Cursor != 0 || r.Delivered != 0 || r.LastError != "the receiver answers 503" || time.Since(r.Since) > time.Minute {
		t.Errorf("reported: %+v", r)
	}
	f.set(func() { f.fail = func(try int) int { return map[bool]int{true: 500}[try%3 != 0] } })
	g.until("all came", func() bool { return g.last("siem").Delivered == 10 })
	if f.reasons() != numbers(0, 10) {
		t.Errorf("got %s", f.reasons())
	}
	if r := g.report("siem"); r.LastError != "" || !r.Since.IsZero() {
		t.Errorf("reported: %+v", r)
	}
	stop()
	g.mu.Lock()
	reports := fmt.Sprint(g.reports)
	g.mu.Unlock()
	for _, hidden := range []string{secret[6:], "hidden-path"} {
		if strings.Contains(log.String(), hidden) || strings.Contains(reports, hidden) {
			t.Errorf("%q is in the log or in a report:\n%s", hidden, log.String())
		}
	}
	if !strings.Contains(log.String(), "cannot be delivered") {
		t.Errorf("the log lacks the failure:\n%s", log.String())
	}
}

type locked struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// TestHangingReceiver delays no other sink.
func TestHangingReceiver(t *testing.T) {
	g, f := place(t)
	other := newReceiver(t, func() *fakeGate { return g })
	f.hang = true
	g.sinks = append(g.sinks, sinkOf(t, "team", other))
	start(t, quick(g, t.TempDir()))
	for i := range 20 {
		g.add(closes(i, i+1)...)
	}
	g.until("the other sink's notices", func() bool { return g.last("team").Cursor == 20 })
	if other.reasons() != numbers(0, 20) || g.report("siem").Cursor != 0 {
		t.Errorf("got %s; the hanging one is at %d", other.reasons(), g.report("siem").Cursor)
	}
}

// TestStreams: streams that break anywhere, or fall silent, lose nothing and double nothing.
func TestStreams(t *testing.T) {
	g, f := place(t)
	g.cut = 7
	c := quick(g, t.TempDir())
	c.silence = 200 * time.Millisecond
	start(t, c)
	g.add(closes(0, 100)...)
	g.until("all, in parts", func() bool { return g.last("siem").Cursor == 100 })
	g.change(func() { g.cut, g.mute = 0, true })
	g.mu.Lock()
	begun := g.streams
	g.mu.Unlock()
	g.add(closes(100, 101)...)
	g.until("silent streams are left", func() bool { return g.streams > begun+2 })
	g.change(func() { g.mute = false })
	g.until("the last one", func() bool { return g.last("siem").Cursor == 101 })
	if f.reasons() != numbers(0, 101) {
		t.Errorf("got %s", f.reasons())
	}
}

// TestSummary: what is older than 72 hours is in one notice, and what follows comes by itself.
func TestSummary(t *testing.T) {
	for name, down := range map[string]bool{"the receiver was down": true, "the office was down": false} {
		t.Run(name, func(t *testing.T) {
			g, f := place(t, "shut")
			old := append(closes(0, 5), journal.Entry{Kind: journal.Drift}, journal.Entry{Kind: journal.Admission})
			c, ahead := quick(g, t.TempDir()), time.Duration(0)
			var mu sync.Mutex
			c.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(ahead) }
			if down {
				f.fail = func(int) int { return 503 }
				g.add(old...)
				start(t, c)
				g.until("failures", func() bool { return g.last("siem").Failed > 2 })
				mu.Lock()
				ahead = 73 * time.Hour
				mu.Unlock()
				f.set(func() { f.fail = nil })
			} else {
				for i := range old {
					old[i].Time = time.Now().Add(-73 * time.Hour)
				}
				g.add(old...)
				start(t, c)
			}
			g.until("the summary", func() bool { return g.last("siem").Cursor == 7 })
			mu.Lock()
			ahead = 0
			mu.Unlock()
			g.add(closes(7, 8)...)
			g.until("what followed", func() bool { return g.last("siem").Cursor == 8 })
			all := f.taken()
			if len(all) != 2 || all[0].Kind != "summary" || all[0].ID != "j1/4/siem/summary" || !strings.Contains(all[0].Text, "times: 5\n") || all[1].Reason != "7" {
				t.Errorf("got %+v", all)
			}
			if r := g.report("siem"); r.Skipped != 5 || r.Delivered != 2 {
				t.Errorf("reported: %+v", r)
			}
		})
	}
}

// TestAnotherJournal: notices go on with the first entry of the new journal, and the receiver
// is told so.
func TestAnotherJournal(t *testing.T) {
	for name, size := range map[string]int{"shorter": 2, "longer": 9} {
		t.Run(name, func(t *testing.T) {
			g, f := place(t, "shut")
			g.add(closes(0, 5)...)
			folder := t.TempDir()
			stop := start(t, quick(g, folder))
			g.until("the first journal", func() bool { return g.last("siem").Cursor == 5 })
			stop()
			g.change(func() { g.journal, g.lines = "j2", nil })
			g.add(closes(100, 100+size)...)
			start(t, quick(g, folder))
			g.until("the second journal", func() bool { return f.reasons() == numbers(0, 5)+"  "+numbers(100, 100+size) })
			all := f.taken()
			if x := all[5]; x.Kind != "journal_replaced" || x.ID != "j2/0/siem/journal_replaced" || !strings.Contains(x.Text, "up to entry: 5") {
				t.Errorf("got %+v", x)
			}
			if x := all[6]; x.ID != "j2/0/siem" {
				t.Errorf("got %+v", x)
			}
		})
	}
	t.Run("while it runs", func(t *testing.T) {
		g, f := place(t)
		g.add(closes(0, 5)...)
		start(t, quick(g, t.TempDir()))
		g.until("the first journal", func() bool { return g.last("siem").Cursor == 5 })
		g.change(func() { g.journal, g.lines = "j2", nil })
		g.add(closes(100, 103)...)
		g.until("the second journal", func() bool { return f.reasons() == numbers(0, 5)+"  "+numbers(100, 103) })
	})
	t.Run("a copy from before", func(t *testing.T) {
		g, f := place(t)
		g.add(closes(0, 5)...)
		folder := t.TempDir()
		stop := start(t, quick(g, folder))
		g.until("all", func() bool { return g.last("siem").Cursor == 5 })
		stop()
		g.change(func() { g.lines = g.lines[:3] })
		start(t, quick(g, folder))
		g.until("it goes on at the end", func() bool { return g.last("siem").Cursor == 3 })
		g.add(closes(200, 201)...)
		g.until("what followed", func() bool { return f.reasons() == numbers(0, 5)+"  200" })
	})
}

// TestOtherSinks: sinks are read again when a policy was loaded. A sink that went and comes
// back begins anew.
func TestOtherSinks(t *testing.T) {
	g, f := place(t)
	folder := t.TempDir()
	c := quick(g, folder)
	start(t, c)
	g.add(closes(0, 1)...)
	g.until("the first notice", func() bool { return g.last("siem").Cursor == 1 })
	siem := g.sinks[0]
	team := siem
	team.Name, team.Kinds = "team", []string{"shut"}
	g.change(func() { team.Since = 1; g.sinks = []view.Sink{team} })
	g.add(journal.Entry{Kind: journal.PolicyLoaded})
	g.until("the new sink", func() bool { return g.last("team").Cursor == 2 })
	if files, _ := filepath.Glob(filepath.Join(folder, "cursor-*")); len(files) != 1 || filepath.Base(files[0]) != "cursor-team.json" {
		t.Errorf("the folder has %q", files)
	}
	g.change(func() { siem.Since = 2; siem.Language = view.Japanese; g.sinks = []view.Sink{siem} })
	g.add(journal.Entry{Kind: journal.PolicyLoaded})
	g.add(closes(3, 4)...)
	g.until("the old sink", func() bool { return g.last("siem").Cursor == 4 })
	if all := f.taken(); !strings.Contains(all[len(all)-1].Text, "運用者が") || all[len(all)-1].Reason != "3" {
		t.Errorf("got %+v", all)
	}
}

// TestSecondOffice: two offices in one folder would deliver everything twice.
func TestSecondOffice(t *testing.T) {
	g, _ := place(t)
	folder := t.TempDir()
	start(t, quick(g, folder))
	g.until("a report", func() bool { return len(g.reports) > 0 })
	if err := Run(t.Context(), quick(g, folder)); err == nil || !strings.Contains(err.Error(), "another office runs") {
		t.Errorf("got %v", err)
	}
	if err := os.Chmod(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), quick(g, folder)); err == nil || !strings.Contains(err.Error(), "KIDOBAN_OFFICE_STATE_DIR") {
		t.Errorf("a folder for all to write: got %v", err)
	}
}

// childVariable has socket and folder for a process that is an office.
const childVariable = "OFFICE_TEST_CHILD"

func TestMain(m *testing.M) {
	if socket, folder, child := strings.Cut(os.Getenv(childVariable), "\n"); child {
		g := &fakeGate{socket: socket}
		fmt.Fprintln(os.Stderr, Run(context.Background(), quick(g, folder)))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestKilled kills the office again and again, at any moment. Every notice comes, in order; the
// one that was under way may come twice. Without the cursors it is not so.
func TestKilled(t *testing.T) {
	if err := killed(t, 150, true); err != nil {
		t.Error(err)
	}
	if killed(t, 30, false) == nil {
		t.Error("the test would not notice that cursors are lost")
	}
}

// killed delivers so many notices, with a kill after every few.
func killed(t *testing.T, all int, keep bool) error {
	g, f := place(t)
	folder := t.TempDir()
	g.add(closes(0, all)...)
	next, twice, looked, kills := 0, 0, 0, 0
	for ; next < all; kills++ {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childVariable+"="+g.socket+"\n"+folder)
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		want := looked + 1 + kills%17
		g.until("some notices", func() bool {
			got := f.taken()
			return len(got) >= want || len(got) > 0 && got[len(got)-1].Index == all-1
		})
		_ = child.Process.Kill()
		_ = child.Wait()
		got := f.taken()
		for _, x := range got[looked:] {
			switch x.Index {
			case next:
				next++
			case next - 1:
				twice++
			default:
				return fmt.Errorf("entry %d came, %d was due", x.Index, next)
			}
			if x.ID != fmt.Sprintf("j1/%d/siem", x.Index) {
				return fmt.Errorf("the id of entry %d is %s", x.Index, x.ID)
			}
		}
		looked = len(got)
		if !keep {
			folder = t.TempDir()
		}
	}
	if twice > kills || kills < 5 {
		return fmt.Errorf("%d came twice, after %d kills", twice, kills)
	}
	return nil
}
