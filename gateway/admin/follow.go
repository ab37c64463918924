package admin

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// Times of Follow.
const (
	// silence is how long a stream may say nothing. The gateway sends a comment every 15 s.
	silence = 45 * time.Second
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
	errSilent  = fmt.Errorf("the stream said nothing for %v", silence)
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
	quiet := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer quiet.Stop()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, eventMost)
	e := Event{Zone: zone}
	index := ""
	for lines.Scan() {
		quiet.Reset(silence)
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "id":
			index = value
		case "event":
			e.Kind = value
		case "data":
			e.JSON = json.RawMessage(value)
		case "": // the end of an event, or a comment
			if e.JSON == nil {
				continue
			}
			f.at.Index, err = strconv.ParseInt(index, 10, 64)
			if err != nil {
				return true, &endError{fmt.Errorf("the gateway sends an entry without an index: %w", err)}
			}
			e.Place = *f.at
			quiet.Stop() // got may take long
			if err := f.got(e); err != nil {
				return true, &endError{err}
			}
			quiet.Reset(silence)
			e = Event{Zone: zone}
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		return true, cause
	}
	return true, errEnded
}
