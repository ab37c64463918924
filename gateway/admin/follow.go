package admin

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"kidoban/gateway/api"
)

// Place is a place in a journal: behind one of its entries.
type Place struct {
	Journal string // the name of the journal, as an Event has it; empty: not known
	Index   int64  // of the entry; -1: before the first
}

// Event is an entry of the journal.
type Event struct {
	Place // behind this entry
	Kind  string
	JSON  json.RawMessage // the entry as the journal has it, with its index
	Zone  *time.Location  // the site's; nil: not known
}

// Silence is how long a stream may say nothing. The gateway sends a comment every 15 s.
const Silence = 45 * time.Second

// Times of Follow.
const (
	// retryFirst is how soon a stream is asked for again. Each time that fails it doubles, up to retryMost.
	retryFirst = 200 * time.Millisecond
	retryMost  = 5 * time.Second
)

// eventMost bounds a line of a stream, in bytes. An entry has up to 64 KiB.
const eventMost = 128 << 10

// Follow calls got with each entry of the journal after a place, in order, each once. A nil place
// means from now on. kinds chooses entries; none: all.
//
// A stream that ends, as at a restart of the gateway, is asked for again, from the last entry on, so
// that none is missing. told hears nil when a stream begins, and why it ended or did not begin; its
// error ends Follow. If another journal has taken the place of the one that was followed, Follow goes on with
// its first entry; Event.Journal is another name then. So a caller who keeps the Place of the
// last Event, and gives it to a later Follow, has every entry of every journal that it could
// read in time; entries of a journal that was moved aside are in that one's folder.
//
// Follow ends with the context's error, with those of got and told, or with an *api.Problem if
// the gateway refuses the question itself.
func (c Client) Follow(ctx context.Context, from *Place, kinds []string, got func(Event) error, told func(error) error) error {
	f := follower{Client: c, kinds: kinds, got: got, told: told}
	if from != nil {
		at := *from
		f.at = &at
	}
	soon := cmp.Or(c.retry, retryFirst)
	for wait := soon; ; wait = min(2*wait, retryMost) {
		begun, err := f.stream(ctx)
		var end *endError
		var p *api.Problem
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &end):
			return end.error
		case errors.Is(err, errAnother) || errors.As(err, &p) && p.Status == http.StatusConflict:
			f.at = &Place{Index: -1}
			continue
		case p != nil && p.Status != http.StatusTooManyRequests && p.Status < http.StatusInternalServerError:
			return err
		}
		if begun {
			wait = soon
		}
		if err := told(err); err != nil {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// endError ends Follow.
type endError struct{ error }

var (
	errAnother = errors.New("another journal has begun")
	errEnded   = errors.New("the stream ended")
	errSilent  = fmt.Errorf("the stream said nothing for %v", Silence)
	errNoIndex = errors.New("the gateway sends an entry without an index")
)

// follower is one Follow.
type follower struct {
	Client
	kinds []string
	got   func(Event) error
	told  func(error) error
	at    *Place // nil: nothing has begun
}

// stream follows one stream until it ends. begun reports that it did begin.
func (f *follower) stream(ctx context.Context) (begun bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	query := url.Values{}
	if len(f.kinds) > 0 {
		query.Set("kinds", strings.Join(f.kinds, ","))
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/v1/events?"+query.Encode(), nil)
	if err != nil {
		return false, &endError{err}
	}
	if f.at != nil {
		request.Header.Set(api.LastEventHeader, strconv.FormatInt(f.at.Index, 10))
	}
	response, err := (&http.Client{Transport: f.transport(readWait)}).Do(request)
	if err != nil {
		return false, f.failure(err, readWait)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := readAnswer(response)
		return false, refusal(response, text)
	}
	name, zone := response.Header.Get(api.JournalHeader), zoneOf(response.Header)
	if f.at != nil && f.at.Journal != "" && f.at.Journal != name {
		return false, errAnother
	}
	if f.at == nil {
		after, err := strconv.ParseInt(response.Header.Get(api.AfterHeader), 10, 64)
		if err != nil {
			return false, &endError{fmt.Errorf("the gateway sends no stream of entries: %w", err)}
		}
		f.at = &Place{Index: after}
	}
	f.at.Journal = name
	if err := f.told(nil); err != nil {
		return true, &endError{err}
	}
	err = ReadEvents(response.Body, Silence, func() { cancel(errSilent) }, func(index int64, kind string, entry json.RawMessage) error {
		f.at.Index = index
		if err := f.got(Event{*f.at, kind, entry, zone}); err != nil {
			return &endError{err}
		}
		return nil
	})
	var end *endError
	switch cause := context.Cause(ctx); {
	case errors.As(err, &end):
		return true, end
	case errors.Is(err, errNoIndex):
		return true, &endError{err}
	case cause != nil:
		return true, cause
	}
	return true, errEnded
}

// ReadEvents reads the body of a stream of GET /v1/events, and calls each with the entries, until it
// ends. silent is called when nothing has come for as long as silence. The error is that of each, or
// says what is wrong with the stream; nil: it ended.
func ReadEvents(body io.Reader, silence time.Duration, silent func(), each func(index int64, kind string, entry json.RawMessage) error) error {
	quiet := time.AfterFunc(silence, silent)
	defer quiet.Stop()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, eventMost)
	var id, kind string
	var entry json.RawMessage
	for lines.Scan() {
		quiet.Reset(silence)
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "id":
			id = value
		case "event":
			kind = value
		case "data":
			entry = json.RawMessage(value)
		case "": // the end of an event, or a comment
			if entry == nil {
				continue
			}
			index, err := strconv.ParseInt(id, 10, 64)
			if err != nil {
				return fmt.Errorf("%w: %w", errNoIndex, err)
			}
			quiet.Stop() // each may take long
			if err := each(index, kind, entry); err != nil {
				return err
			}
			quiet.Reset(silence)
			kind, entry = "", nil
		}
	}
	return lines.Err()
}
