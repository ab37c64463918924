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

	"kidoban/gateway/api"
	"kidoban/gateway/view"
)

var (
	// ErrNoGateway says that no gateway serves the socket.
	ErrNoGateway = errors.New("no gateway runs")
	// ErrNoAnswer says that a gateway serves the socket and does not answer.
	ErrNoAnswer = errors.New("the gateway does not answer")
)

// Client asks a gateway through its admin socket.
type Client struct {
	Socket string
	wait   time.Duration // for the beginning of an answer; 0: as long as it may take
	retry  time.Duration // until a stream is asked for again; 0: retryFirst
}

// Bounds of the time until an answer begins. While the loop hangs, a close takes 16 s;
// recover reads the journal, and reload the policy.
const (
	readWait  = 15 * time.Second
	closeWait = 20 * time.Second
	mostWait  = time.Minute
)

// answerMost bounds an answer, in bytes. The longest is a calendar of 400 days with
// many windows.
const answerMost = 256 << 20

// Get asks, and gives the JSON of the answer and the site's time zone, nil
// where none is known. Errors are an *api.Problem, ErrNoGateway, or say why the
// socket could not be used.
func (c Client) Get(path string, query url.Values) (json.RawMessage, *time.Location, error) {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	text, header, err := c.do(http.MethodGet, path, nil, readWait)
	return text, zoneOf(header), err
}

// zoneOf is the site's time zone, or nil: then the offsets must do.
func zoneOf(header http.Header) *time.Location {
	if name := header.Get(api.ZoneHeader); name != "" {
		zone, _ := time.LoadLocation(name)
		return zone
	}
	return nil
}

// Post commands. body may be nil. It gives what Get gives.
func (c Client) Post(path string, body any) (json.RawMessage, *time.Location, error) {
	var text []byte
	var err error
	if body != nil {
		if text, err = json.Marshal(body); err != nil {
			return nil, nil, err
		}
	}
	wait := mostWait
	if path == "/v1/close" || path == "/v1/reopen" {
		wait = closeWait
	}
	text, header, err := c.do(http.MethodPost, path, text, wait)
	if errors.Is(err, ErrNoAnswer) {
		err = &view.Error{Message: view.Say("no_answer_yet", view.Args{"why": err}), Cause: err}
	}
	return text, zoneOf(header), err
}

func (c Client) do(method, path string, body []byte, wait time.Duration) (json.RawMessage, http.Header, error) {
	if c.wait != 0 {
		wait = c.wait
	}
	client := http.Client{Timeout: mostWait, Transport: c.transport(wait)}
	request, err := http.NewRequest(method, "http://"+host+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, nil, c.failure(err, wait)
	}
	defer response.Body.Close()
	text, err := readAnswer(response)
	switch {
	case err != nil:
		return nil, nil, c.failure(err, mostWait)
	case response.StatusCode/100 != 2:
		return nil, nil, refusal(response, text)
	}
	return text, response.Header, nil
}

func readAnswer(response *http.Response) ([]byte, error) {
	return io.ReadAll(io.LimitReader(response.Body, answerMost))
}

// refusal is the problem that an answer is.
func refusal(response *http.Response, text []byte) error {
	p := &api.Problem{Status: response.StatusCode, Detail: response.Status}
	_ = json.Unmarshal(text, p) // else the status line must do
	return p
}

// transport connects to the socket, and waits so long for the beginning of an answer.
func (c Client) transport(wait time.Duration) *http.Transport {
	return &http.Transport{
		DisableKeepAlives: true, ResponseHeaderTimeout: wait,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dial(ctx, c.Socket, min(wait, queueWait))
		},
	}
}

// queueWait bounds how long a connection waits for room in the queue of the socket, and queueAgain is
// how soon it looks again.
const (
	queueWait  = 3 * time.Second
	queueAgain = time.Millisecond
)

// dial connects to the socket. A full queue may be that of a client who connects without end, and has
// room again at once.
func dial(ctx context.Context, socket string, wait time.Duration) (c net.Conn, err error) {
	for until := time.Now().Add(wait); ; time.Sleep(queueAgain) {
		c, err = new(net.Dialer).DialContext(ctx, "unix", socket)
		if !errors.Is(err, syscall.EAGAIN) || time.Now().After(until) {
			return c, err
		}
	}
}

// failure explains why there is no answer after a wait.
func (c Client) failure(err error, wait time.Duration) error {
	var late net.Error
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
		return &view.Error{Message: view.Say("no_gateway", view.Args{"socket": c.Socket}), Cause: ErrNoGateway}
	case errors.Is(err, fs.ErrPermission):
		return &view.Error{Message: view.Say("socket_denied", view.Args{"socket": c.Socket, "group": group})}
	case errors.Is(err, syscall.EAGAIN), // the queue of the socket is full: the gateway accepts no connection
		errors.As(err, &late) && late.Timeout():
		return &view.Error{Message: view.Say("no_answer", view.Args{"wait": wait}), Cause: ErrNoAnswer}
	}
	return fmt.Errorf("ask the gateway: %w", err)
}
