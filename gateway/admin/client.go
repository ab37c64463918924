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

// Get asks, and gives the JSON of the answer. Errors are a *Problem,
// ErrNoGateway, or say why the socket could not be used.
func (c Client) Get(path string, query url.Values) (json.RawMessage, error) {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.do(http.MethodGet, path, nil)
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
	return c.do(http.MethodPost, path, text)
}

func (c Client) do(method, path string, body []byte) (json.RawMessage, error) {
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", c.Socket)
		},
	}}
	request, err := http.NewRequest(method, "http://"+host+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w at %s (KIDOBAN_ADMIN_SOCKET)", ErrNoGateway, c.Socket)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s: permission denied: operators belong to group %s", c.Socket, group)
	case err != nil:
		return nil, fmt.Errorf("ask the gateway: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, answerMost))
	if err != nil {
		return nil, fmt.Errorf("ask the gateway: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		p := &Problem{Status: response.StatusCode, Detail: response.Status}
		_ = json.Unmarshal(text, p) // else the status line must do
		return nil, p
	}
	return text, nil
}
