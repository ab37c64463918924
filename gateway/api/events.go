package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
	"kidoban/gateway/view"
)

// Headers of GET /v1/events.
const (
	// LastEventHeader is the index of the last entry that the client has. It wins over ?after=.
	LastEventHeader = "Last-Event-ID"
	// JournalHeader names the journal that the entries are of. Another journal, which a recovery
	// began, has another name, and its indices begin at 0 again.
	JournalHeader = "Kidoban-Journal"
	// AfterHeader is the index of the entry after which the stream begins; -1: none.
	AfterHeader = "Kidoban-After"
)

// streamsMost bounds the streams of one person.
const streamsMost = 8

// Defaults of a Handler's times.
const (
	// beatEvery is how often a stream that has nothing to say sends a comment.
	beatEvery = 15 * time.Second
	// takenWithin bounds how long a client may take for one entry. Then its stream ends. It may
	// resume from the last entry that it has.
	takenWithin = 10 * time.Second
)

// streams counts the open streams of each person.
type streams struct {
	mu   sync.Mutex
	open map[string]int
}

// begin counts a stream, unless the person has too many. end is called once.
func (s *streams) begin(actor policy.Actor, most int) (end func(), err error) {
	person := cmp.Or(actor.ID, actor.Text)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[string]int{}
	}
	if s.open[person] == most {
		return nil, said(http.StatusTooManyRequests, view.Say("streams_many", view.Args{"person": person, "most": most}))
	}
	s.open[person]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open[person]--; s.open[person] == 0 {
			delete(s.open, person)
		}
	}, nil
}

// stream is the answer to GET /v1/events. The caller must send it.
type stream struct {
	from  *store.Stream
	first []journal.Line // read already
	after int64          // the index before them
	kinds []string
	end   func()
}

// events begins a stream: after an entry, or from now on.
func events(r request) (*stream, error) {
	kinds, err := kindsOf(r.query.Get("kinds"))
	if err != nil {
		return nil, err
	}
	name, text := "--after", r.query.Get("after")
	switch last := r.header.Values(LastEventHeader); {
	case len(last) > 1:
		return nil, invalid("the header %s is there %d times: allowed is once", LastEventHeader, len(last))
	case len(last) == 1 && last[0] != "":
		name, text = LastEventHeader, last[0]
	}
	from, err := r.entriesAfter(name, text)
	if err != nil {
		return nil, err
	}
	// A stream names its journal, so that a client can tell it from another one later, and the site's
	// time zone, which the gateway knows once it has read the policy.
	if from.Journal == "" || r.snap.InDoubt(view.Starting) {
		return nil, journalProblem(store.ErrNotOpen)
	}
	s := &stream{from: from, after: from.After, kinds: kinds}
	// What cannot be read is a problem here, and an end without a word later.
	if s.first, _, err = from.Read(); err != nil {
		return nil, journalProblem(err)
	}
	s.end, err = r.streams.begin(r.actor, cmp.Or(r.streamsMost, streamsMost))
	return s, err
}

// entriesAfter gives the entries after an index, or those to come where the text is empty.
func (r request) entriesAfter(name, text string) (*store.Stream, error) {
	if r.Entries == nil {
		return nil, journalProblem(store.ErrNotOpen)
	}
	if text == "" {
		s, err := r.Entries.Now()
		return s, journalProblem(err)
	}
	index, err := strconv.ParseInt(text, 10, 64)
	if err != nil || index < -1 {
		return nil, invalid("%s: %.80q is not the index of an entry: allowed is a whole number, and -1 for before the first", name, text)
	}
	s, err := r.Entries.After(index)
	return s, journalProblem(err)
}

// journalProblem gives an error of the feed its status.
func journalProblem(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNotOpen) || errors.Is(err, store.ErrReplaced):
		return said(http.StatusServiceUnavailable, view.Say("journal_not_open", nil))
	case errors.Is(err, store.ErrBeyond):
		return said(http.StatusConflict, view.Say("journal_beyond", view.Args{"cause": err}))
	}
	return problem(http.StatusInternalServerError, "the journal cannot be read: %v", err)
}

// kindsOf reads a list of kinds with commas between them. Empty: all.
func kindsOf(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	kinds := strings.Split(text, ",")
	for _, kind := range kinds {
		if !slices.Contains(journal.Kinds(), kind) {
			return nil, invalid("--kinds: there is no kind %.80q: allowed is %s", kind, strings.Join(journal.Kinds(), ", "))
		}
	}
	return kinds, nil
}

// send sends the stream as Server-Sent Events until the client goes, the server ends, or the
// journal is replaced.
func (s *stream) send(w http.ResponseWriter, r *http.Request, h *Handler) {
	defer s.end()
	out := &eventWriter{ResponseWriter: w, control: http.NewResponseController(w), within: cmp.Or(h.takenWithin, takenWithin)}
	_ = out.control.SetReadDeadline(time.Time{}) // the server's own would end the context
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set(AfterHeader, strconv.FormatInt(s.after, 10))
	w.Header().Set(JournalHeader, s.from.Journal)
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	beat := time.NewTicker(cmp.Or(h.beatEvery, beatEvery))
	defer beat.Stop()
	lines, wait, err := s.first, (<-chan struct{})(nil), error(nil)
	ctx := r.Context()
	for ended := false; ; {
		if len(lines) == 0 {
			lines, wait, err = s.from.Read()
		}
		for _, line := range lines {
			out.entry(line, s.kinds)
		}
		if out.flush(); out.err != nil {
			return
		}
		switch {
		case errors.Is(err, store.ErrReplaced):
			out.print(": the journal was opened anew\n\n")
			out.flush()
			return
		case err != nil || len(lines) == 0 && ended:
			return
		case len(lines) == 0:
			ended = awaited(ctx, out, beat.C, wait)
		}
		lines = nil
	}
}

// awaited waits for an entry, and sends beats meanwhile. It reports whether the stream is over.
func awaited(ctx context.Context, out *eventWriter, beat <-chan time.Time, grown <-chan struct{}) (over bool) {
	for {
		select {
		case <-grown:
			return false
		case <-ctx.Done(): // what is there already still goes out
			return true
		case <-beat:
			out.print(": beat\n\n")
			if out.flush(); out.err != nil {
				return true
			}
		}
	}
}

// eventWriter writes to a client within bounds of time. err is the first error.
type eventWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	within  time.Duration
	err     error
}

func (w *eventWriter) print(format string, a ...any) {
	if w.err == nil {
		_ = w.control.SetWriteDeadline(time.Now().Add(w.within))
		_, w.err = fmt.Fprintf(w.ResponseWriter, format, a...)
	}
}

func (w *eventWriter) flush() {
	if w.err == nil {
		_ = w.control.SetWriteDeadline(time.Now().Add(w.within))
		w.err = w.control.Flush()
	}
}

// entry sends an entry if it is of one of the kinds.
func (w *eventWriter) entry(line journal.Line, kinds []string) {
	var e struct{ Kind string }
	if json.Unmarshal(line.JSON, &e) == nil && (kinds == nil || slices.Contains(kinds, e.Kind)) {
		w.print("id: %d\nevent: %s\ndata: %s\n\n", line.Index, e.Kind, indexed(line))
	}
}

// indexed is an entry as the journal has it, with its index.
func indexed(line journal.Line) json.RawMessage {
	return fmt.Appendf(nil, `{"index":%d,%s`, line.Index, line.JSON[1:])
}

// Entry is an entry of the journal, with its index.
type Entry struct {
	Index int64 `json:"index"`
	journal.Entry
}

// scanMost bounds the entries that one page looks at.
const scanMost = 50_000

// entries gives a page of the journal, the oldest entry first.
func entries(r request) (page Page[json.RawMessage], err error) {
	limit, err := limitOf(r.query)
	if err != nil {
		return page, err
	}
	kinds, err := kindsOf(r.query.Get("kinds"))
	if err != nil {
		return page, err
	}
	filter := journal.Filter{Kinds: kinds, Vendor: r.query.Get("vendor")}
	if id := r.query.Get("request"); id != "" {
		filter.Request = idOf(id)
	}
	name, after := "--after", cmp.Or(r.query.Get("after"), "-1")
	if r.query.Get("cursor") != "" {
		if after, err = cursorOf(r.query); err != nil {
			return page, err
		}
		name = "cursor"
	}
	from, err := r.entriesAfter(name, after)
	if err != nil {
		return page, err
	}
	page.Items = []json.RawMessage{}
	last := from.After // the index of the last item
	for scanned := 0; ; {
		lines, _, err := from.Read()
		if err != nil {
			return page, journalProblem(err)
		}
		if len(lines) == 0 {
			return page, nil
		}
		for _, line := range lines {
			var e journal.Entry
			if json.Unmarshal(line.JSON, &e) != nil || !filter.Matches(e) {
				continue
			}
			if len(page.Items) == limit {
				page.Next = cursor(strconv.FormatInt(last, 10))
				return page, nil
			}
			page.Items, last = append(page.Items, indexed(line)), line.Index
		}
		if scanned += len(lines); scanned >= scanMost {
			page.Next = cursor(strconv.FormatInt(from.After, 10))
			return page, nil
		}
	}
}
