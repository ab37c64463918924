package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// ErrNoGateway says that no gateway serves the socket.
var ErrNoGateway = errors.New("no gateway runs")

// ErrNoAnswer says that a gateway serves the socket and does not answer.
var ErrNoAnswer = errors.New("the gateway does not answer")

// Client asks a gateway through its admin socket.
type Client struct {
	Socket string
	wait   time.Duration // for the beginning of an answer; 0: as long as it may take
}

// How long the beginning of an answer may take. A close of a gateway whose loop
// hangs takes 16 s; recover reads the journal, and reload the policy.
const (
	readWait  = 15 * time.Second
	closeWait = 20 * time.Second
	mostWait  = time.Minute
)

// answerMost bounds what a client reads: a calendar of 400 days of many
// windows is the longest.
const answerMost = 256 << 20

// Get asks, and gives the JSON of the answer and the site's time zone, nil
// where none is known. Errors are a *Problem, ErrNoGateway, or say why the
// socket could not be used.
func (c Client) Get(path string, query url.Values) (json.RawMessage, *time.Location, error) {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	text, header, err := c.do(http.MethodGet, path, nil, readWait)
	var zone *time.Location
	if name := header.Get(zoneHeader); name != "" {
		zone, _ = time.LoadLocation(name) // else the offsets must do
	}
	return text, zone, err
}

// Post commands. body may be nil.
func (c Client) Post(path string, body any) (json.RawMessage, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	if body == nil {
		text = nil
	}
	wait := mostWait
	if path == "/v1/close" || path == "/v1/reopen" {
		wait = closeWait
	}
	text, _, err = c.do(http.MethodPost, path, text, wait)
	if errors.Is(err, ErrNoAnswer) {
		err = fmt.Errorf("%w; what was asked for may still take effect when it goes on", err)
	}
	return text, err
}

func (c Client) do(method, path string, body []byte, wait time.Duration) (json.RawMessage, http.Header, error) {
	if c.wait != 0 {
		wait = c.wait
	}
	client := http.Client{Timeout: mostWait, Transport: &http.Transport{
		DisableKeepAlives: true, ResponseHeaderTimeout: wait,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", c.Socket)
		},
	}}
	request, err := http.NewRequest(method, "http://"+host+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	response, err := client.Do(request)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
		return nil, nil, fmt.Errorf("%w at %s (KIDOBAN_ADMIN_SOCKET)", ErrNoGateway, c.Socket)
	case errors.Is(err, fs.ErrPermission):
		return nil, nil, fmt.Errorf("%s: permission denied: operators belong to group %s", c.Socket, group)
	case err != nil:
		return nil, nil, unanswered(err, wait)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, answerMost))
	if err != nil {
		return nil, nil, unanswered(err, mostWait)
	}
	if response.StatusCode != http.StatusOK {
		p := &Problem{Status: response.StatusCode, Detail: response.Status}
		_ = json.Unmarshal(text, p) // else the status line must do
		return nil, nil, p
	}
	return text, response.Header, nil
}

// unanswered says in plain words that nothing came in time. A socket whose
// queue is full belongs to who does not take anybody from it.
func unanswered(err error, wait time.Duration) error {
	var late net.Error
	if !errors.Is(err, syscall.EAGAIN) && !(errors.As(err, &late) && late.Timeout()) {
		return fmt.Errorf("ask the gateway: %w", err)
	}
	return fmt.Errorf("%w within %s: it hangs, or was stopped; windows end all the same, by the kernel's own timers; `systemctl restart kidoban` cuts everything and starts it anew", ErrNoAnswer, wait)
}
