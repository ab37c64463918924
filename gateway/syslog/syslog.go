// Package syslog sends the log to a collector elsewhere, as syslog messages (RFC 5424) over TLS
// (RFC 5425). An attacker who takes over the gateway cannot reach that copy.
//
// Logging never waits for the collector: records queue, and those that find the queue full are
// dropped and counted. A lost connection is made anew. Syslog has no acknowledgement: messages in a
// connection that breaks may be lost without being counted. The journal is the record, not this.
package syslog

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds.
const (
	queued      = 1024             // messages that wait for the collector
	messageMost = 8192             // bytes of a message, which every collector takes (RFC 5425, section 4.3.1)
	patience    = 10 * time.Second // for a connection, and for a message to be taken
	againFirst  = time.Second      // between attempts to connect, doubled up to againMost; a connection that breaks sooner failed as well
	againMost   = time.Minute
	flushMost   = 2 * time.Second // for the rest of the queue when the program ends
)

// facility 13 is "log audit" (RFC 5424, section 6.2.1).
const facility = 13

// program is the APP-NAME.
const program = "kidoban"

// Config has the collector's address and the settings of the messages.
type Config struct {
	Address string       // host:port of the collector
	TLS     *tls.Config  // nil: the machine's roots; the server's name is the host of Address
	Host    string       // HOSTNAME; empty: the machine's name
	Level   slog.Leveler // the least that is sent; nil: info

	// Failed is called once when the collector is lost or cannot be reached, and again after a
	// connection has lasted 1 s. It must not log to this handler. It may be nil.
	Failed func(error)

	dial func(ctx context.Context, network, address string) (net.Conn, error) // nil: by TLS
}

// Handler is a slog.Handler. Message and attributes become the text, in slog's format. The
// attribute "event" is the MSGID.
type Handler struct {
	queue *queue
	level slog.Leveler
	text  slog.Handler // writes to queue.buffer
	event string       // of WithAttrs
}

// queue is shared by all handlers of one collector.
type queue struct {
	config   Config
	host     string
	messages chan []byte
	dropped  atomic.Uint64
	quit     chan struct{}
	end      time.Time // by when all must be sent, once quit is closed
	done     chan struct{}
	close    sync.Once

	mu     sync.Mutex // guards buffer
	buffer bytes.Buffer

	// Of run alone.
	wait  time.Duration // before the next attempt to connect
	told  bool          // Failed knows
	final bool          // the attempt at the end was made
}

// connection is one to the collector.
type connection struct {
	net.Conn
	since time.Time
	over  chan time.Time // gets when it ended
}

// New begins to send. It does not wait for the collector.
func New(c Config) *Handler {
	if c.dial == nil {
		c.dial = (&tls.Dialer{Config: c.TLS}).DialContext
	}
	q := &queue{config: c, host: name(c.Host), messages: make(chan []byte, queued), quit: make(chan struct{}), done: make(chan struct{})}
	if c.Host == "" {
		if host, err := os.Hostname(); err == nil {
			q.host = name(host)
		}
	}
	level := c.Level
	if level == nil {
		level = slog.LevelInfo
	}
	h := &Handler{queue: q, level: level}
	h.text = slog.NewTextHandler(&q.buffer, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{} // they are in the header
		}
		return a
	}})
	go q.run()
	return h
}

// name makes a HOSTNAME: up to 255 printable characters (RFC 5424, section 6.2.4), "-" if there is
// none.
func name(text string) string {
	text = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, text)
	if text == "" {
		return "-"
	}
	return text[:min(len(text), 255)]
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// Handle implements slog.Handler. It neither waits nor fails.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	id := h.event
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "event" {
			id = a.Value.String()
		}
		return true
	})
	q := h.queue
	q.mu.Lock()
	q.buffer.Reset()
	err := h.text.Handle(ctx, r)
	text := strings.TrimSuffix(q.buffer.String(), "\n")
	q.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case q.messages <- q.frame(r.Time, r.Level, id, text):
	default:
		q.dropped.Add(1)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(all []slog.Attr) slog.Handler {
	with := *h
	with.text = h.text.WithAttrs(all)
	for _, a := range all {
		if a.Key == "event" {
			with.event = a.Value.String()
		}
	}
	return &with
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(group string) slog.Handler {
	with := *h
	with.text = h.text.WithGroup(group)
	return &with
}

// severity is RFC 5424, section 6.2.1.
func severity(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}

// frame is one message behind its length (RFC 5425, section 4.3). Long texts are cut. Structured
// data would need an enterprise number (RFC 5424, section 7.2.2).
func (q *queue) frame(at time.Time, l slog.Level, id, text string) []byte {
	id = name(id)
	header := "<" + strconv.Itoa(facility*8+severity(l)) + ">1 " + at.UTC().Format("2006-01-02T15:04:05.000000Z07:00") + " " + q.host + " " +
		program + " " + strconv.Itoa(os.Getpid()) + " " + id[:min(len(id), 32)] + " - \ufeff"
	if room := messageMost - len(header); len(text) > room {
		text = strings.ToValidUTF8(text[:room], "")
	}
	return []byte(strconv.Itoa(len(header)+len(text)) + " " + header + text)
}

// Dropped is how many records did not reach the collector.
func (h *Handler) Dropped() uint64 { return h.queue.dropped.Load() }

// Close sends the rest of the queue, for some seconds at most, and ends. Later records are dropped.
func (h *Handler) Close() {
	h.queue.close.Do(func() {
		h.queue.end = time.Now().Add(flushMost)
		close(h.queue.quit)
	})
	select {
	case <-h.queue.done:
	case <-time.After(flushMost + time.Second): // a collector that takes nothing
	}
}

// run sends until quit is closed, and then the rest of the queue.
func (q *queue) run() {
	defer close(q.done)
	var c *connection
	var last time.Time // q.end, once the end has begun
	defer func() {
		if c != nil {
			_ = c.Close() // nothing more is said on it
		}
	}()
	for {
		var message []byte
		if last.IsZero() {
			select {
			case message = <-q.messages:
			case <-q.quit:
				last = q.end
				continue
			}
		} else {
			select {
			case message = <-q.messages:
			default:
				return
			}
		}
		for {
			if c == nil {
				if c = q.connect(&last); c == nil { // the end came first
					q.dropped.Add(1 + uint64(len(q.messages)))
					return
				}
			}
			until := time.Now().Add(patience)
			if !last.IsZero() && last.Before(until) {
				until = last
			}
			err := c.SetWriteDeadline(until)
			if err == nil {
				_, err = c.Write(message)
			}
			if err == nil {
				break
			}
			_ = c.Close() // it is of no use any more
			if over := <-c.over; over.Sub(c.since) >= againFirst {
				q.wait, q.told = 0, false // the collector was there
			}
			c = nil
			q.failed(err)
		}
	}
}

func (q *queue) failed(err error) {
	if !q.told && q.config.Failed != nil {
		q.config.Failed(err)
	}
	q.told = true
}

// connect tries until the collector is there. At the end of the program it tries once more, until
// last, and gives nil if that fails.
func (q *queue) connect(last *time.Time) *connection {
	for {
		if last.IsZero() && q.wait > 0 {
			select {
			case <-q.quit:
				*last = q.end
			case <-time.After(q.wait):
			}
		}
		until := time.Now().Add(patience)
		if !last.IsZero() {
			if q.final {
				return nil
			}
			q.final, until = true, *last
		}
		q.wait = min(max(2*q.wait, againFirst), againMost) // unless this one lasts
		ctx, cancel := context.WithDeadline(context.Background(), until)
		stop := make(chan struct{})
		if last.IsZero() {
			go func() { // an end does not wait for an attempt
				select {
				case <-q.quit:
					time.AfterFunc(time.Until(q.end), cancel)
				case <-stop:
				}
			}()
		}
		c, err := q.config.dial(ctx, "tcp", q.config.Address)
		close(stop)
		cancel()
		if err == nil {
			made := &connection{c, time.Now(), make(chan time.Time, 1)}
			// The collector never answers. Reading tells when it is gone.
			go func() {
				_, _ = io.Copy(io.Discard, c)
				made.over <- time.Now()
				_ = c.Close()
			}()
			return made
		}
		q.failed(err)
	}
}
