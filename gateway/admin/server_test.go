package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	_ "time/tzdata" // the client looks the zone up

	"kidoban/gateway/api"
	"kidoban/gateway/lab"
)

// served is a server on a real socket, in front of a small handler.
type served struct {
	t      *testing.T
	socket string
	client Client
	closed atomic.Pointer[string] // the text of the actor whose close was answered last
}

func serve(t *testing.T) *served {
	t.Helper()
	s := &served{t: t, socket: filepath.Join(t.TempDir(), "run", "admin.sock")}
	s.client = Client{Socket: s.socket}
	l, err := Listen(s.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, s, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("at the end: %v", err)
		}
	})
	return s
}

// ServeHTTP answers like the api: it asks Who first, then reads the body.
func (s *served) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	actor, err := Who(r)
	if err != nil {
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(api.Problem{Status: http.StatusForbidden, Detail: err.Error()})
		return
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if r.Method == http.MethodPost {
		s.closed.Store(&actor.Text)
	}
	w.Header().Set(api.ZoneHeader, "Asia/Tokyo")
	fmt.Fprint(w, `{"applied":true}`)
}

// answers asks through the client.
func (s *served) answers() {
	s.t.Helper()
	if text, zone, err := s.client.Get("/v1/status", nil); err != nil || string(text) != `{"applied":true}` || zone.String() != "Asia/Tokyo" {
		s.t.Fatalf("got %s, %v, %v", text, zone, err)
	}
}

// raw sends bytes as they are and returns the status.
func (s *served) raw(request string) int {
	s.t.Helper()
	c, err := net.Dial("unix", s.socket)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		s.t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		s.t.Fatalf("after %.60q: %v", request, err)
	}
	r.Body.Close()
	return r.StatusCode
}

func request(method, path, body string, headers ...string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n%s",
		method, path, host, len(body), strings.Join(append(headers, ""), "\r\n"), body)
}

// TestBrowsers: a page that was led here, by a name that it resolves itself or
// from another origin, gets nothing and changes nothing (CVE-2022-41924).
func TestBrowsers(t *testing.T) {
	s := serve(t)
	command := `{"scope":"medisys","reason":"x"}`
	for name, text := range map[string]string{
		"another host":    strings.Replace(request("POST", "/v1/close", command), "Host: "+host, "Host: evil.example", 1),
		"localhost, port": strings.Replace(request("POST", "/v1/close", command), "Host: "+host, "Host: localhost:9586", 1),
		"host and port":   strings.Replace(request("POST", "/v1/close", command), "Host: "+host, "Host: "+host+":80", 1),
		"absolute URL":    request("POST", "http://evil.example/v1/close", command),
		"an origin":       request("POST", "/v1/close", command, "Origin: https://evil.example"),
		"the null origin": request("POST", "/v1/close", command, "Origin: null"),
		"no origin's":     request("POST", "/v1/close", command, "Origin:"),
		"a referer":       request("POST", "/v1/close", command, "Referer: https://evil.example/"),
		"fetch metadata":  request("POST", "/v1/close", command, "Sec-Fetch-Site: cross-site"),
		"a reading one":   request("GET", "/v1/status", "", "Origin: https://evil.example"),
	} {
		if status := s.raw(text); status != http.StatusForbidden {
			t.Errorf("%s: got %d, want 403", name, status)
		}
	}
	if s.closed.Load() != nil {
		t.Error("a browser closed something")
	}
	// The same, told honestly, is done: it is the headers that were refused.
	for _, name := range []string{host, localHost} {
		if status := s.raw(strings.Replace(request("POST", "/v1/close", command), "Host: "+host, "Host: "+name, 1)); status != http.StatusOK {
			t.Errorf("without them, as %s: %d", name, status)
		}
	}
}

// TestSlowAndLarge: nobody holds a connection by saying little, or memory by
// saying much.
func TestSlowAndLarge(t *testing.T) {
	s := serve(t)
	t.Run("group", func(t *testing.T) {
		for name, test := range map[string]struct {
			text   string
			within time.Duration // with room for a busy machine
		}{
			"a request that never ends": {"GET /v1/status HTTP/1.1\r\nHost: " + host + "\r\n", 9 * time.Second},
			"a body that never comes":   {"POST /v1/close HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 100\r\n\r\n{", 14 * time.Second},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c, err := net.Dial("unix", s.socket)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if _, err := io.WriteString(c, test.text); err != nil {
					t.Fatal(err)
				}
				_ = c.SetReadDeadline(time.Now().Add(test.within))
				if _, err := io.Copy(io.Discard, c); err != nil && errors.Is(err, net.ErrClosed) || isTimeout(err) {
					t.Errorf("the connection was still open after %s", test.within)
				}
			})
		}
	})
	if status := s.raw(request("GET", "/v1/status", "", "X-Long: "+strings.Repeat("x", 64<<10))); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("64 KiB of headers: got %d, want 431", status)
	}
	s.answers()
}

// TestManyConnections: whoever opens connections without end takes few file
// descriptors of the gateway, and keeps nobody out who asks something.
func TestManyConnections(t *testing.T) {
	s := serve(t)
	const many = 3 * connectionsMost
	for _, first := range []string{"", "G", request("GET", "/v1/status", "")[:40]} {
		var open atomic.Int32
		open.Store(many)
		for range many {
			c, err := net.Dial("unix", s.socket)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, first); err != nil && !errors.Is(err, syscall.EPIPE) {
				t.Fatal(err)
			}
			go func() {
				_, _ = io.Copy(io.Discard, c) // until it is closed, at whichever end
				open.Add(-1)
			}()
		}
		// Well within the time after which it closes whoever is slow.
		lab.WaitFor(t, 4500*time.Millisecond, fmt.Sprintf("at most %d of %d connections that said %q", connectionsMost, many, first),
			func() bool { return open.Load() <= connectionsMost })
		for range 2 * connectionsMost {
			s.answers()
		}
	}
}

// TestOneWithManyConnections closes no connection of another user. Without a look at whose they are
// it would.
func TestOneWithManyConnections(t *testing.T) {
	for _, looks := range []bool{true, false} {
		whose := map[net.Conn]string{}
		note := bounded(func(c net.Conn) string { return whose[c] })
		connect := func(by string) (theirs net.Conn) {
			ours, theirs := net.Pipe()
			if looks {
				whose[ours] = by
			}
			note(ours, http.StateNew)
			t.Cleanup(func() { ours.Close() })
			return theirs
		}
		closed := func(c net.Conn) bool {
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)) // an error: it is closed
			_, err := c.Read(make([]byte, 1))
			return !isTimeout(err)
		}
		first := connect("reader")
		operator := connect("operator")
		for range 3 * connectionsMost {
			connect("reader")
		}
		if !closed(first) {
			t.Error("the reader's oldest connection is open")
		}
		if closed(operator) == looks {
			t.Errorf("looks: %t, and the operator's connection is closed: %t", looks, !looks)
		}
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// TestAnswersOutliveTheEnd: who was heard before the end is answered, though
// not waited for for ever.
func TestAnswersOutliveTheEnd(t *testing.T) {
	for _, answers := range []bool{true, false} {
		t.Run(fmt.Sprintf("there is an answer: %t", answers), func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "admin.sock")
			l, err := Listen(socket)
			if err != nil {
				t.Fatal(err)
			}
			asked, release := make(chan struct{}), make(chan struct{})
			slow := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				close(asked)
				<-release
				fmt.Fprint(w, "{}")
			})
			ctx, cancel := context.WithCancel(t.Context())
			ended, got := make(chan error, 1), make(chan error, 1)
			go func() {
				ended <- Serve(ctx, l, slow, slog.New(slog.DiscardHandler))
			}()
			go func() {
				_, _, err := Client{Socket: socket}.Post("/v1/reload", nil)
				got <- err
			}()
			<-asked
			cancel()
			if answers {
				select {
				case <-ended:
					t.Fatal("the server ended before it had answered")
				case <-time.After(200 * time.Millisecond): // one that waits passes here however long that is
				}
				close(release)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if err := <-got; (err == nil) != answers {
				t.Errorf("the client heard: %v", err)
			}
			if !answers {
				close(release)
			}
		})
	}
}
