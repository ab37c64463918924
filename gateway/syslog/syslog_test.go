package syslog

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/log"
)

// collector takes messages as RFC 5425 has them.
type collector struct {
	t        *testing.T
	listener net.Listener
	trust    *tls.Config // of a client that trusts it
	messages chan string
	conns    chan net.Conn
}

func newCollector(t *testing.T, address string) *collector {
	t.Helper()
	server := httptest.NewTLSServer(nil) // for its certificate, which is for 127.0.0.1
	server.Close()
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	l, err := tls.Listen("tcp", address, &tls.Config{Certificates: server.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{t: t, listener: l, trust: &tls.Config{RootCAs: pool}, messages: make(chan string, 5000), conns: make(chan net.Conn, 100)}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.conns <- conn
			go c.take(conn)
		}
	}()
	return c
}

func (c *collector) take(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		length, err := r.ReadString(' ')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(length, " "))
		if err != nil || n < 1 || n > messageMost {
			c.t.Errorf("a message of %q bytes", length)
			return
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(r, message); err != nil {
			return
		}
		c.messages <- string(message)
	}
}

func (c *collector) next() string {
	c.t.Helper()
	select {
	case m := <-c.messages:
		return m
	case <-time.After(10 * time.Second):
		c.t.Fatal("no message came")
		return ""
	}
}

func TestMessages(t *testing.T) {
	c := newCollector(t, "127.0.0.1:0")
	h := New(Config{Address: c.listener.Addr().String(), TLS: c.trust, Host: "gate 1\n", Level: slog.LevelDebug})
	t.Cleanup(h.Close)
	logger := slog.New(h)
	for _, x := range []struct {
		say  func()
		want string // after the time
	}{
		{func() { logger.Info("session opened", "event", "session_opened", "session", "ABC") }, `<110>1 TIME gate1 kidoban PID session_opened - BOMmsg="session opened" event=session_opened session=ABC`},
		{func() { logger.Warn("shut") }, `<108>1 TIME gate1 kidoban PID - - BOMmsg=shut`},
		{func() { logger.Error("shut in doubt", "err", errors.New("a\nb\x1b[31m")) }, `<107>1 TIME gate1 kidoban PID - - BOMmsg="shut in doubt" err="a\nb\x1b[31m"`},
		{func() { logger.Debug("d") }, `<111>1 TIME gate1 kidoban PID - - BOMmsg=d`},
		{func() { logger.With("event", "drift", "n", 1).WithGroup("g").Info("x", "y", "z") }, `<110>1 TIME gate1 kidoban PID drift - BOMmsg=x event=drift n=1 g.y=z`},
		{func() { logger.Info("x", "event", "a b\x00"+strings.Repeat("c", 40)) }, `<110>1 TIME gate1 kidoban PID ab` + strings.Repeat("c", 30) + ` - BOMmsg=x event="a b\x00` + strings.Repeat("c", 40) + `"`},
	} {
		x.say()
		got := regexp.MustCompile(` \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z `).ReplaceAllString(c.next(), " TIME ")
		got = regexp.MustCompile(`kidoban \d+ `).ReplaceAllString(got, "kidoban PID ")
		if got = strings.Replace(got, "\ufeff", "BOM", 1); got != x.want {
			t.Errorf("got  %q\nwant %q", got, x.want)
		}
	}
	logger.Info(strings.Repeat("木", messageMost))
	if m := c.next(); len(m) > messageMost || len(m) < messageMost-3 || !strings.HasSuffix(m, "木") {
		t.Errorf("a long message has %d bytes and ends with %q", len(m), m[len(m)-6:])
	}
	if h.Enabled(t.Context(), slog.LevelDebug-1) || h.Dropped() != 0 {
		t.Errorf("%d dropped, and what is below the level is sent", h.Dropped())
	}
}

// A collector that goes away and comes back gets what was said meanwhile.
func TestACollectorThatComesBack(t *testing.T) {
	first := newCollector(t, "127.0.0.1:0")
	address := first.listener.Addr().String()
	var failures atomic.Int32
	h := New(Config{Address: address, TLS: first.trust, Failed: func(error) { failures.Add(1) }})
	t.Cleanup(h.Close)
	logger := slog.New(h)
	logger.Info("before")
	if m := first.next(); !strings.HasSuffix(m, "msg=before") {
		t.Errorf("got %q", m)
	}
	first.listener.Close()
	(<-first.conns).Close()
	// Syslog knows no acknowledgement: say something until the loss is seen.
	for deadline := time.Now().Add(10 * time.Second); failures.Load() == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the loss was not seen")
		}
		logger.Info("into the void")
	}
	logger.Info("meanwhile")
	second := newCollector(t, address)
	for !strings.HasSuffix(second.next(), "msg=meanwhile") {
	}
}

// A collector that takes connections and closes them at once, as a balancer
// does that has nobody behind it, is tried ever more rarely, and told once.
func TestACollectorThatClosesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dials, failures atomic.Int32
		var stays atomic.Bool
		theirs := make(chan net.Conn, 1) // the collector's end of one that stays
		h := New(Config{
			Failed: func(error) { failures.Add(1) },
			dial: func(context.Context, string, string) (net.Conn, error) {
				dials.Add(1)
				ours, other := net.Pipe()
				if stays.Load() {
					go func() { _, _ = io.Copy(io.Discard, other) }()
					theirs <- other
				} else {
					other.Close()
				}
				return ours, nil
			},
		})
		logger := slog.New(h)
		say := func(d time.Duration) {
			for range d / (100 * time.Millisecond) {
				logger.Info("a tenth of a second")
				time.Sleep(100 * time.Millisecond)
			}
			synctest.Wait()
		}
		expect := func(when string, wantDials, wantFailures int32) {
			t.Helper()
			if d, f := dials.Load(), failures.Load(); d != wantDials || f != wantFailures {
				t.Errorf("%s: %d connections, failed %d times; want %d and %d", when, d, f, wantDials, wantFailures)
			}
		}
		say(10 * time.Second) // at 0, 1, 3 and 7 s
		expect("it closes at once", 4, 1)
		stays.Store(true)
		say(10 * time.Second) // at 15 s
		expect("it stays", 5, 1)
		stays.Store(false)
		(<-theirs).Close()
		say(5 * time.Second) // at 20, 21 and 23 s
		expect("it closes at once again", 8, 2)
		h.Close()
		synctest.Wait()
		expect("the end, which tries once more", 9, 2)
	})
}

// Nobody waits for a collector that is not there; what finds no room counts.
func TestACollectorThatIsNotThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() }) // it listens, and never says a word of TLS
	h := New(Config{Address: l.Addr().String()})
	logger := slog.New(h)
	began := time.Now()
	const said = log.Waiting + 100
	for i := range said {
		logger.Info("a record", "number", i)
	}
	if took := time.Since(began); took > patience/2 { // who waited for it would wait for patience
		t.Errorf("%d records took %v", said, took)
	}
	if d := h.Dropped(); d < said-log.Waiting-1 || d > said-log.Waiting {
		t.Errorf("%d of %d dropped, with room for %d and one on its way", d, said, log.Waiting)
	}
	began = time.Now()
	h.Close()
	if took := time.Since(began); took > log.Flush+3*time.Second {
		t.Errorf("the end took %v", took)
	}
	h.queue.Close() // where this process slept, Close may have given up first
	if d := h.Dropped(); d != said {
		t.Errorf("%d of %d dropped in the end", d, said)
	}
}

// A collector whose certificate nobody vouches for gets nothing.
func TestACollectorThatIsNotTrusted(t *testing.T) {
	c := newCollector(t, "127.0.0.1:0")
	failed := make(chan error, 10)
	h := New(Config{Address: c.listener.Addr().String(), Failed: func(err error) { failed <- err }})
	slog.New(h).Info("a secret")
	select {
	case err := <-failed:
		var unknown x509.UnknownAuthorityError
		if !errors.As(err, &unknown) {
			t.Errorf("failed with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("nothing failed")
	}
	h.Close()
	h.queue.Close() // where this process slept, Close may have given up first
	if h.Dropped() != 1 || len(c.messages) != 0 {
		t.Errorf("%d dropped, %d received", h.Dropped(), len(c.messages))
	}
}

// What waits at the end is sent.
func TestTheEndFlushes(t *testing.T) {
	c := newCollector(t, "127.0.0.1:0")
	h := New(Config{Address: c.listener.Addr().String(), TLS: c.trust})
	logger := slog.New(h)
	for i := range 100 {
		logger.Info("a record", "number", i)
	}
	began := time.Now()
	h.Close()
	took := time.Since(began)
	h.queue.Close()
	sent := 100 - int(h.Dropped())
	if sent < 100 && took < log.Flush {
		t.Errorf("%d dropped after %v", h.Dropped(), took)
	}
	// Who had no more time for all, because this process slept, says so.
	for i := range sent {
		if m := c.next(); !strings.HasSuffix(m, fmt.Sprintf("number=%d", i)) {
			t.Fatalf("message %d is %q", i, m)
		}
	}
}
