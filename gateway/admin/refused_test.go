package admin

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"kidoban/gateway/api"
)

// TestWhatIsNoRequest gets a problem too, from the server itself.
func TestWhatIsNoRequest(t *testing.T) {
	s := serve(t)
	for _, test := range []struct {
		text   string
		status int
		detail string
	}{
		{"GET /v1/%zz HTTP/1.1\r\nHost: kidoban\r\n\r\n", 400, "400 Bad Request"},
		{"GET /v1/status HTTP/1.1\r\n\r\n", 400, "missing required Host header"},
		{"GET /v1/status HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "400 Bad Request"},
		{"GET /v1/status\r\n\r\n", 400, "400 Bad Request"},
		{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "400 Bad Request"},
		{"G T / HTTP/1.1\r\nHost: kidoban\r\n\r\n", 400, "400 Bad Request"},
		{"GET / HTTP/3.0\r\nHost: kidoban\r\n\r\n", 505, "unsupported protocol version"},
		{"GET / HTTP/1.1\r\nHost: kidoban\r\nBad Header: x\r\n\r\n", 400, "invalid header name"},
		{"POST / HTTP/1.1\r\nHost: kidoban\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "Unsupported transfer encoding"},
		{"GET / HTTP/1.1\r\nHost: kidoban\r\nLong: " + strings.Repeat("x", 20<<10) + "\r\n\r\n", 431, "431 Request Header Fields Too Large"},
	} {
		c, err := net.Dial("unix", s.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(c, test.text); err != nil {
			t.Fatal(err)
		}
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%.60q: %v", test.text, err)
		}
		text, err := io.ReadAll(r.Body)
		if err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
		var p api.Problem
		if err := json.Unmarshal(text, &p); err != nil || r.StatusCode != test.status || p.Status != test.status || p.Title != http.StatusText(test.status) ||
			!strings.Contains(p.Detail, test.detail) || r.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%.60q: %d %v %s, %v, want %d and %q", test.text, r.StatusCode, r.Header, text, err, test.status, test.detail)
		}
	}
	// A text of a handler that looks so stays as it is.
	s.answers()
}
