package api

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// event is one of a stream.
type event struct{ id, kind, data string }

// follow opens a stream as an EventSource does. Each event that is whole goes to got, which
// reports whether it wants more. Comments are events without an id.
func follow(ctx context.Context, server string, query url.Values, last, actor string, got func(event) bool) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/v1/events?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	if last != "" {
		r.Header.Set(LastEventHeader, last)
	}
	r.Header.Set("Test-Actor", actor)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		p := Problem{}
		err := json.NewDecoder(response.Body).Decode(&p)
		return response, errors.Join(err, &p)
	}
	var e event
	lines := bufio.NewReader(response.Body)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return response, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "id":
			e.id = value
		case "event":
			e.kind = value
		case "data":
			e.data = value
		case "":
			if value != "" {
				e.data = value // a comment
			} else if !got(e) {
				return response, nil
			} else {
				e = event{}
			}
		default:
			return response, fmt.Errorf("the line %q", line)
		}
	}
}

// entriesOf are the entries of a journal as a stream has them.
func (s *served) entriesOf() (all []event) {
	for line, err := range journal.List(s.journal().Folder, 0) {
		var e journal.Entry
		if err == nil {
			err = json.Unmarshal(line.JSON, &e)
		}
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, event{strconv.FormatInt(line.Index, 10), string(e.Kind), fmt.Sprintf(`{"index":%d,%s`, line.Index, line.JSON[1:])})
	}
	return all
}

// closed closes the only window, and gives the entries of the journal, which has no more for now.
func (s *served) closed() (all []event) {
	post(s, "/v1/close", order{Scope: "medisys/sato", Reason: "drill"})
	s.eventually("the window is closed", func() bool {
		all = s.entriesOf()
		return all[len(all)-1].kind == "window_closed"
	})
	return all
}

// TestJoinedStreamsAreTheJournal: whatever connection or gateway is killed, and whenever, the
// entries of one who resumes by the last index are those of the journal, each once. Without the index
// they are not.
func TestJoinedStreamsAreTheJournal(t *testing.T) {
	if got, want := joinedStream(t, true); !slices.Equal(got, want) {
		t.Errorf("the joined stream has %d entries, the journal %d", len(got), len(want))
	}
	if got, want := joinedStream(t, false); slices.Equal(got, want) {
		t.Error("the test would not notice a stream that does not resume by the index")
	}
}

// joinedStream follows a gateway while it works, and both are killed at random. It gives what the stream
// had, and what the journal has.
func joinedStream(t *testing.T, resume bool) (got, want []event) {
	s := serve(t)
	random := rand.New(rand.NewPCG(3, 3))
	var url atomic.Pointer[string]
	url.Store(&s.server.URL)
	var newest atomic.Int64 // the last entry; -1: it is not known yet
	newest.Store(-1)
	var wait sync.WaitGroup
	wait.Go(func() {
		random := rand.New(rand.NewPCG(4, 4))
		for last := int64(-1); newest.Load() < 0 || last < newest.Load(); {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			most := 1 + random.IntN(40)
			kill := time.AfterFunc(time.Duration(random.IntN(30))*time.Millisecond, cancel)
			after := last
			if !resume && random.IntN(2) == 0 {
				after = -1
			}
			_, _ = follow(ctx, *url.Load(), nil, strconv.FormatInt(after, 10), "suzuki", func(e event) bool {
				if e.id == "" {
					return true
				}
				got = append(got, e)
				last, _ = strconv.ParseInt(e.id, 10, 64)
				most--
				return most > 0 && last != newest.Load()
			})
			kill.Stop()
			cancel()
		}
	})
	for i := range 40 {
		path := [2]string{"/v1/close", "/v1/reopen"}[i%2]
		if _, err := s.command(path, order{Scope: "medisys/sato", Reason: fmt.Sprint("drill ", i)}); err != nil {
			t.Error(err)
		}
		if random.IntN(8) == 0 {
			s.server.CloseClientConnections()
			s.stop()
			s.start()
			url.Store(&s.server.URL)
			s.eventually("the gateway is ready", func() bool { return get[view.Status](s, "/v1/status", nil).Ready })
		}
	}
	s.eventually("the window is open again", func() bool { return len(get[view.Status](s, "/v1/status", nil).Grants) == 1 })
	want = s.closed()
	newest.Store(int64(len(want) - 1))
	wait.Wait()
	return got, want
}

// TestWhatAStreamIs: a stream begins where it was asked to, has the kinds that were asked for, and
// each entry as the journal has it.
func TestWhatAStreamIs(t *testing.T) {
	s := serve(t)
	s.handler.beatEvery = 20 * time.Millisecond
	all := s.closed()
	shut := slices.DeleteFunc(slices.Clone(all), func(e event) bool { return e.kind != "shut" })
	newest := len(all) - 1
	for _, test := range []struct {
		query url.Values
		last  string
		want  []event
	}{
		{url.Values{"after": {"-1"}}, "", all},
		{url.Values{"after": {"2"}}, "", all[3:]},
		{url.Values{"after": {"0"}}, "2", all[3:]},
		{url.Values{"after": {"-1"}, "kinds": {"shut"}}, "", shut},
		{url.Values{"after": {"-1"}, "kinds": {"shut,doubt"}}, "", shut},
		{nil, strconv.Itoa(newest), nil},
		{nil, "", nil},
	} {
		var got []event
		response, err := follow(t.Context(), s.server.URL, test.query, test.last, "suzuki", func(e event) bool {
			if e.id == "" {
				return e.data != "beat"
			}
			got = append(got, e)
			return true
		})
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%v, %q: %v, %v, want %v", test.query, test.last, got, err, test.want)
			continue
		}
		if h := response.Header; h.Get("Content-Type") != "text/event-stream" || h.Get("Cache-Control") != "no-store" || len(h.Get(JournalHeader)) != 16 || h.Get(AfterHeader) == "" {
			t.Errorf("%v: the headers are %v", test.query, h)
		}
		if test.query == nil && response.Header.Get(AfterHeader) != strconv.Itoa(newest) {
			t.Errorf("from now on: after %s, want %d", response.Header.Get(AfterHeader), newest)
		}
	}
	r, _ := s.raw(requestText("HEAD", "/v1/events?after=0", ""))
	if r.StatusCode != 200 || r.Header.Get("Content-Type") != "text/event-stream" || r.Header.Get(AfterHeader) != "0" {
		t.Errorf("HEAD: %d, %v", r.StatusCode, r.Header)
	}
	for _, test := range []struct {
		path   string
		last   []string
		status int
		detail string
	}{
		{"/v1/events?kinds=shut,nosuch", nil, 400, `--kinds: there is no kind "nosuch": allowed is start, stop, `},
		{"/v1/events?kinds=,", nil, 400, `there is no kind ""`},
		{"/v1/events?after=x", nil, 400, `--after: "x" is not the index of an entry`},
		{"/v1/events?after=-2", nil, 400, "allowed is a whole number, and -1 for before the first"},
		{"/v1/events?after=1e3", nil, 400, "allowed is a whole number"},
		{"/v1/events?after=0", []string{LastEventHeader + ": x"}, 400, `Last-Event-ID: "x" is not`},
		{"/v1/events", []string{LastEventHeader + ": 1", LastEventHeader + ": 2"}, 400, "the header Last-Event-ID is there 2 times"},
		{"/v1/events?after=99999", nil, 409, "the journal has no such entry: the newest is "},
		{"/v1/events?after=1&after=2", nil, 400, "2 times"},
		{"/v1/events?since=1", nil, 400, "allowed is after, kinds"},
		{"/v1/journal?kinds=nosuch", nil, 400, "there is no kind"},
		{"/v1/journal?limit=501", nil, 400, "allowed is 1 to 500"},
		{"/v1/journal?cursor=eA", nil, 400, "cursor"},
		{"/v1/journal?after=99999", nil, 409, "the newest is"},
	} {
		if r, p := s.raw(requestText("GET", test.path, "", test.last...)); r.StatusCode != test.status || !strings.Contains(p.Detail, test.detail) {
			t.Errorf("%s %v: %d %q, want %d %q", test.path, test.last, r.StatusCode, p.Detail, test.status, test.detail)
		}
	}
}

// TestNoStreamBeforeTheZone: a stream names the site's time zone once, at its beginning. So none begins
// before the gateway has read its policy, and a client asks again.
func TestNoStreamBeforeTheZone(t *testing.T) {
	s := serve(t)
	s.stop()
	s.mu.Lock() // the policy file cannot be read yet
	s.start()
	s.eventually("the journal is open", func() bool {
		r, _ := s.raw(requestText("GET", "/v1/journal", ""))
		return r.StatusCode == 200
	})
	r, _ := s.raw(requestText("HEAD", "/v1/events", ""))
	s.mu.Unlock()
	if r.StatusCode != 503 {
		t.Errorf("while it starts: %d, %v", r.StatusCode, r.Header)
	}
	s.eventually("a stream begins, with the zone", func() bool {
		r, _ := s.raw(requestText("HEAD", "/v1/events", ""))
		return r.StatusCode == 200 && r.Header.Get(ZoneHeader) == "Asia/Tokyo"
	})
}

// TestStreamsOfOnePerson: a person has a bounded number of streams, and what ended counts no more.
func TestStreamsOfOnePerson(t *testing.T) {
	s := serve(t)
	s.handler.beatEvery = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wait sync.WaitGroup
	defer wait.Wait()
	open := func(actor string) error {
		began := make(chan error, 1)
		wait.Go(func() {
			var once sync.Once
			_, err := follow(ctx, s.server.URL, nil, "", actor, func(event) bool { once.Do(func() { began <- nil }); return true })
			once.Do(func() { began <- err })
		})
		return <-began
	}
	for range streamsMost {
		if err := open("suzuki"); err != nil {
			t.Fatal(err)
		}
	}
	var p *Problem
	if err := open("suzuki"); !errors.As(err, &p) || p.Status != http.StatusTooManyRequests || p.Code != "streams_many" {
		t.Errorf("one more: %v", err)
	}
	if err := open("mori"); err != nil {
		t.Errorf("another person: %v", err)
	}
	cancel()
	wait.Wait()
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	s.eventually("the streams that ended do not count", func() bool { return open("suzuki") == nil })
}

// TestStreamOutlivesTheServersTimes: the bounds of other requests do not cut a stream, the server's end does.
func TestStreamOutlivesTheServersTimes(t *testing.T) {
	s := serve(t)
	s.handler.beatEvery = 20 * time.Millisecond
	short := httptest.NewUnstartedServer(s.handler)
	serving, end := context.WithCancel(t.Context())
	defer end()
	short.Config.BaseContext = s.server.Config.BaseContext
	short.Config.ReadTimeout, short.Config.WriteTimeout, short.Config.IdleTimeout = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	short.Start()
	defer short.Close()
	began, beats := time.Now(), 0
	if _, err := follow(serving, short.URL, nil, "", "suzuki", func(event) bool { beats++; return time.Since(began) < 500*time.Millisecond }); err != nil {
		t.Errorf("after %d beats and %v: %v", beats, time.Since(began), err)
	}
	told := make(chan error, 1)
	stopped := ""
	go func() {
		_, err := follow(t.Context(), s.server.URL, nil, "", "suzuki", func(e event) bool {
			if e.kind != string(journal.State) { // which follows
				stopped = cmp.Or(e.kind, stopped)
			}
			return true
		})
		told <- err
	}()
	s.eventually("a stream is open", func() bool { return s.handler.streams.count() > 0 })
	s.stop()
	if err := <-told; !errors.Is(err, io.EOF) || stopped != "stop" {
		t.Errorf("at the end of the gateway the stream ended with %q, %v", stopped, err)
	}
}

func (s *streams) count() (all int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.open {
		all += n
	}
	return all
}

// stalled is a client that takes nothing after some bytes, until its time is over.
type stalled struct {
	http.ResponseWriter
	room     int
	deadline time.Time
}

func (w *stalled) SetWriteDeadline(t time.Time) error { w.deadline = t; return nil }
func (*stalled) SetReadDeadline(time.Time) error      { return nil }
func (*stalled) Flush()                               {}
func (w *stalled) Write(text []byte) (int, error) {
	if w.room -= len(text); w.room < 0 {
		time.Sleep(time.Until(w.deadline))
		return 0, errors.New("timeout")
	}
	return w.ResponseWriter.Write(text)
}

// TestSlowClientIsDropped: a client that takes nothing loses its stream, and nobody else notices.
func TestSlowClientIsDropped(t *testing.T) {
	s := serve(t)
	s.handler.takenWithin = 30 * time.Millisecond
	for range 20 {
		post(s, "/v1/close", order{Scope: "medisys/sato", Reason: "drill"})
	}
	done := make(chan struct{})
	slow := &stalled{ResponseWriter: httptest.NewRecorder(), room: 3000}
	go func() {
		defer close(done)
		s.handler.ServeHTTP(slow, httptest.NewRequestWithContext(t.Context(), "GET", "/v1/events?after=-1", nil))
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the stream goes on")
	}
	if n := s.handler.streams.count(); n != 0 {
		t.Errorf("%d streams are open", n)
	}
}

// TestJournalPages: pages have the entries that match, in order, each once, while others come.
func TestJournalPages(t *testing.T) {
	s := serve(t)
	scopes := []policy.Scope{"medisys/sato", "medisys", "all"}
	s.closed()
	for i := range 12 {
		post(s, "/v1/close", order{Scope: scopes[i%3], Reason: "drill"})
	}
	all := s.entriesOf()
	read := func(query url.Values) (got []string) {
		for {
			page := get[Page[json.RawMessage]](s, "/v1/journal", query)
			for _, item := range page.Items {
				got = append(got, string(item))
			}
			if page.Next == "" {
				return got
			}
			if len(page.Items) == 0 {
				t.Fatalf("%v: an empty page that is not the last", query)
			}
			query.Set("cursor", page.Next)
		}
	}
	want := func(from int, keep func(journal.Entry) bool) (lines []string) {
		for _, e := range all[from:] {
			var entry journal.Entry
			if err := json.Unmarshal([]byte(e.data), &entry); err != nil {
				t.Fatal(err)
			}
			if keep(entry) {
				lines = append(lines, e.data)
			}
		}
		return lines
	}
	every := func(journal.Entry) bool { return true }
	for _, test := range []struct {
		query url.Values
		want  []string
	}{
		{url.Values{}, want(0, every)},
		{url.Values{"limit": {"1"}}, want(0, every)},
		{url.Values{"limit": {"5"}, "after": {"3"}}, want(4, every)},
		{url.Values{"limit": {"3"}, "kinds": {"shut"}}, want(0, func(e journal.Entry) bool { return e.Kind == "shut" })},
		{url.Values{"kinds": {"shut"}, "limit": {"4"}, "vendor": {"medisys"}}, want(0, func(e journal.Entry) bool { return e.Kind == "shut" && e.Scope != "all" })},
		{url.Values{"request": {"~7k2m9x"}}, nil},
		{url.Values{"after": {strconv.Itoa(len(all) - 1)}}, nil},
	} {
		if got := read(test.query); !slices.Equal(got, test.want) {
			t.Errorf("%v: %d entries, want %d\n%v\n%v", test.query, len(got), len(test.want), got, test.want)
		}
	}
}
