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

// Client asks a gateway through its admin socket.
type Client struct{ Socket string }

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
	text, header, err := c.do(http.MethodGet, path, nil)
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
	text, _, err = c.do(http.MethodPost, path, text)
	return text, err
}

func (c Client) do(method, path string, body []byte) (json.RawMessage, http.Header, error) {
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true,
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
		return nil, nil, fmt.Errorf("ask the gateway: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, answerMost))
	if err != nil {
		return nil, nil, fmt.Errorf("ask the gateway: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		p := &Problem{Status: response.StatusCode, Detail: response.Status}
		_ = json.Unmarshal(text, p) // else the status line must do
		return nil, nil, p
	}
	return text, response.Header, nil
}
