package office

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kidoban/gateway/api"
	"kidoban/gateway/journal"
	"kidoban/gateway/view"
)

// fakeGate is the gateway's side of the office's socket, over a journal in memory.
type fakeGate struct {
	t      *testing.T
	socket string

	mu      sync.Mutex
	journal string
	lines   []string
	grown   chan struct{} // closed when something changes
	cut     int           // streams end after so many entries; 0: never
	mute    bool          // streams send nothing
	sinks   []view.Sink
	reports []view.Notified
	streams int // begun so far
}

func newGate(t *testing.T, sinks ...view.Sink) *fakeGate {
	t.Helper()
	g := &fakeGate{t: t, socket: filepath.Join(t.TempDir(), "office.sock"), journal: "j1", grown: make(chan struct{}), sinks: sinks}
	l, err := net.Listen("unix", g.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: g}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return g
}

// change changes the gateway, and wakes its streams.
func (g *fakeGate) change(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
	close(g.grown)
	g.grown = make(chan struct{})
}

// add writes entries.
func (g *fakeGate) add(all ...journal.Entry) {
	g.t.Helper()
	g.change(func() {
		for _, e := range all {
			if e.Version = 1; e.Time.IsZero() {
				e.Time = time.Now()
			}
			text, err := json.Marshal(e)
			if err != nil {
				g.t.Error(err)
			}
			g.lines = append(g.lines, string(text))
		}
	})
}

// closes makes entries that a sink is told of, each with its number.
func closes(from, until int) (all []journal.Entry) {
	for i := from; i < until; i++ {
		all = append(all, journal.Entry{Kind: journal.Shut, Scope: "medisys", Reason: strconv.Itoa(i)})
	}
	return all
}

func (g *fakeGate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	answer := view.Notify{Site: "Kido Hospital", Timezone: "Asia/Tokyo", Size: int64(len(g.lines)), Sinks: append([]view.Sink{}, g.sinks...)}
	g.mu.Unlock()
	switch r.URL.Path {
	case "/v1/office/notify":
		_ = json.NewEncoder(w).Encode(answer)
	case "/v1/office/notified":
		var n view.Notified
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			g.t.Errorf("a report: %v", err)
		}
		g.change(func() { g.reports = append(g.reports, n) })
		_, _ = io.WriteString(w, "{}")
	case "/v1/events":
		g.stream(w, r)
	default:
		g.t.Errorf("the office asks %s", r.URL)
	}
}

func (g *fakeGate) stream(w http.ResponseWriter, r *http.Request) {
	after, err := strconv.Atoi(r.URL.Query().Get("after"))
	g.mu.Lock()
	g.streams++
	name, size := g.journal, len(g.lines)
	g.mu.Unlock()
	if err != nil || after >= size {
		w.WriteHeader(http.StatusConflict)
		return
	}
	w.Header().Set(api.JournalHeader, name)
	_, _ = io.WriteString(w, ": beat\n\n")
	for sent := 0; ; {
		g.mu.Lock()
		lines, grown, cut, mute, now := g.lines, g.grown, g.cut, g.mute, g.journal
		g.mu.Unlock()
		if now != name {
			return
		}
		for ; after+1 < len(lines) && !mute; after++ {
			if sent++; cut > 0 && sent > cut {
				_, _ = fmt.Fprintf(w, "id: %d\nevent: sh", after+1) // in the middle of one
				return
			}
			_, _ = fmt.Fprintf(w, "id: %d\nevent: x\ndata: {\"index\":%d,%s\n\n", after+1, after+1, lines[after+1][1:])
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-grown:
		case <-r.Context().Done():
			return
		}
	}
}

// until waits for a condition over the gateway.
func (g *fakeGate) until(what string, f func() bool) {
	g.t.Helper()
	timeout := time.After(time.Minute)
	for {
		g.mu.Lock()
		done, grown := f(), g.grown
		g.mu.Unlock()
		if done {
			return
		}
		select {
		case <-grown:
		case <-timeout:
			g.t.Fatalf("this did not come: %s", what)
		}
	}
}

// last is the newest report of a sink. The gate's lock is held.
func (g *fakeGate) last(sink string) view.SinkReport {
	if len(g.reports) == 0 {
		return view.SinkReport{}
	}
	return g.reports[len(g.reports)-1].Sinks[sink]
}

// report is last with the lock.
func (g *fakeGate) report(sink string) view.SinkReport {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last(sink)
}

// got is what a receiver was sent.
type got struct {
	ID, Kind, Text, Reason string
	Index                  int
}

// fakeReceiver is a webhook.
type fakeReceiver struct {
	*httptest.Server
	mu    sync.Mutex
	all   []got // that it took
	tries int
	fail  func(try int) int // a status other than 200; 0: 200
	hang  bool
}

func newReceiver(t *testing.T, g func() *fakeGate) *fakeReceiver {
	t.Helper()
	f := &fakeReceiver{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Type string
			Data struct {
				Text, Reason string
				Index        int
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Errorf("a body: %v", err)
		}
		f.mu.Lock()
		f.tries++
		status := 0
		if f.fail != nil {
			status = f.fail(f.tries)
		}
		hang := f.hang
		if status == 0 && !hang {
			f.all = append(f.all, got{r.Header.Get("webhook-id"), body.Type, body.Data.Text, body.Data.Reason, body.Data.Index})
		}
		f.mu.Unlock()
		g().change(func() {})
		if hang {
			<-r.Context().Done()
		}
		if status != 0 {
			w.WriteHeader(status)
		}
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeReceiver) taken() []got {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]got{}, f.all...)
}

func (f *fakeReceiver) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// reasons are the numbers of the entries that came.
func (f *fakeReceiver) reasons() string {
	var all []string
	for _, x := range f.taken() {
		all = append(all, x.Reason)
	}
	return strings.Join(all, " ")
}

// anywhere is a guard that refuses nothing.
func anywhere(string, string, syscall.RawConn) error { return nil }

// quick is a configuration for tests.
func quick(g *fakeGate, folder string) Config {
	return Config{Socket: g.socket, StateDir: folder, Logger: slog.New(slog.DiscardHandler), guard: anywhere,
		every: 50 * time.Millisecond, againFirst: 10 * time.Millisecond, againMost: 100 * time.Millisecond}
}

// start runs an office until the test ends, or stop is called.
func start(t *testing.T, c Config) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, c) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the office: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}
