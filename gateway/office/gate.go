package office

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"kidoban/gateway/admin"
	"kidoban/gateway/api"
	"kidoban/gateway/view"
)

// errBeyond says that the journal has fewer entries than were delivered: it is another one.
var errBeyond = errors.New("the journal has no entry with that index")

// gate asks the gateway.
type gate struct {
	socket  string
	silence time.Duration
}

func (g gate) client() admin.Client { return admin.Client{Socket: g.socket} }

// settings asks where notices go.
func (g gate) settings() (view.Notify, error) {
	var n view.Notify
	text, _, err := g.client().Get("/v1/office/notify", nil)
	if err == nil {
		err = json.Unmarshal(text, &n)
	}
	return n, err
}

func (g gate) report(n view.Notified) error {
	_, _, err := g.client().Post("/v1/office/notified", n)
	return err
}

// entry is a journal's entry, as a stream has it.
type entry struct {
	index int64
	line  []byte
}

// follow gives the entries after an index, until each returns an error or the context ends.
// opened hears the journal's name first; it is empty if the journal has no entry yet.
func (g gate) follow(ctx context.Context, after int64, opened func(journal string) error, each func(entry) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://kidoban/v1/events?after="+strconv.FormatInt(after, 10), nil)
	if err != nil {
		return err
	}
	silent := func() { cancel(fmt.Errorf("the gateway has said nothing for %s", g.silence)) }
	unanswered := time.AfterFunc(g.silence, silent)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", g.socket)
	}}}
	response, err := client.Do(request)
	unanswered.Stop()
	if err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusConflict:
		return errBeyond
	default:
		return fmt.Errorf("the gateway answers %s", response.Status)
	}
	if err := opened(response.Header.Get(api.JournalHeader)); err != nil {
		return err
	}
	err = admin.ReadEvents(response.Body, g.silence, silent, func(index int64, _ string, line json.RawMessage) error {
		return each(entry{index, line})
	})
	return errors.Join(context.Cause(ctx), err)
}
