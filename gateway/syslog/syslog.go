// Package syslog sends the log to a collector elsewhere, as syslog messages (RFC 5424) over TLS
// (RFC 5425). An attacker who takes over the gateway cannot reach that copy.
//
// Logging never waits for the collector: records queue, and those that find the queue full are
// dropped and counted. A lost connection is made anew. Syslog has no acknowledgement: messages in a
// connection that breaks may be lost without being counted. The journal is the record, not this.
package syslog

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"kidoban/gateway/log"
)

// Bounds.
const (
	messageMost = 8192             // bytes of a message, which every collector takes (RFC 5425, section 4.3.1)
	patience    = 10 * time.Second // for a connection, and for a message to be taken
	againFirst  = time.Second      // between attempts to connect, doubled up to againMost; a connection that breaks sooner failed as well
	againMost   = time.Minute
)

// facility 13 is "log audit" (RFC 5424, section 6.2.1).
const facility = 13

// Config has the collector's address and the settings of the messages.
type Config struct {
	Address string       // host:port of the collector
	TLS     *tls.Config  // nil: the machine's roots; the server's name is the host of Address
	Host    string       // HOSTNAME; empty: the machine's name
	Level   slog.Leveler // the least that is sent; nil: info

	// Zone is that of the times in a text; nil: the machine's. The header has UTC.
	Zone func() *time.Location

	// Failed is called once when the collector is lost or cannot be reached, and again after a
	// connection has lasted 1 s. It must not log to this handler. It may be nil.
	Failed func(error)

	dial func(ctx context.Context, network, address string) (net.Conn, error) // nil: by TLS
}

// Handler is a slog.Handler. Message and attributes become the text, in slog's format. The
// attribute "event" is the MSGID.
type Handler struct {
	slog.Handler
	queue        *log.Queue
	closing, end func()
}

// Also has a logger send to a collector as well, which shows a certificate of an authority in a
// file, or of the system's if that is empty. The handler is nil without an address.
func Also(logger *slog.Logger, address, caFile string, level slog.Level, zone func() *time.Location) (*slog.Logger, *Handler, error) {
	if address == "" {
		return logger, nil, nil
	}
	c := Config{Address: address, TLS: &tls.Config{MinVersion: tls.VersionTLS12}, Level: level, Zone: zone, Failed: func(err error) {
		logger.Warn("the syslog collector is away; the log waits for it", "address", address, "err", err)
	}}
	if caFile != "" {
		text, err := os.ReadFile(caFile)
		if err != nil {
			return nil, nil, fmt.Errorf("KIDOBAN_SYSLOG_CA_FILE: %w", err)
		}
		c.TLS.RootCAs = x509.NewCertPool()
		if !c.TLS.RootCAs.AppendCertsFromPEM(text) {
			return nil, nil, fmt.Errorf("KIDOBAN_SYSLOG_CA_FILE: %s has no certificate: allowed are certificates in PEM", caFile)
		}
	}
	h := New(c)
	return slog.New(slog.NewMultiHandler(logger.Handler(), h)), h, nil
}

// New begins to send. It does not wait for the collector.
func New(c Config) *Handler {
	if c.dial == nil {
		c.dial = (&tls.Dialer{Config: c.TLS}).DialContext
	}
	machine, _ := os.Hostname() // without one the host is "-"
	host, options := name(cmp.Or(c.Host, machine), 255), &slog.HandlerOptions{Level: c.Level}
	if c.Zone == nil {
		c.Zone = func() *time.Location { return time.Local }
	}
	local := log.In(c.Zone)
	options.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{} // they are in the header
		}
		return local(groups, a)
	}
	to := &sender{config: c}
	h := &Handler{}
	to.closing, h.closing = context.WithCancel(context.Background())
	to.life, h.end = context.WithCancel(context.Background())
	h.queue = log.NewQueue(to, nil)
	h.Handler = log.Framed(func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, options) },
		func(r slog.Record, event string, line []byte) error {
			_, err := h.queue.Write(frame(host, r, event, strings.TrimSuffix(string(line), "\n")))
			return err
		})
	return h
}

// Dropped is how many records did not reach the collector.
func (h *Handler) Dropped() uint64 { return h.queue.Dropped() }

// Close sends the rest of the queue, for some seconds at most, and ends. Later records are dropped.
func (h *Handler) Close() {
	h.closing()
	h.queue.Close()
	h.end()
}

// name makes a field of the header: up to so many printable characters (RFC 5424, section 6), "-"
// if there is none.
func name(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, text)
	return cmp.Or(text[:min(len(text), most)], "-")
}

// frame is one message behind its length (RFC 5425, section 4.3). Long texts are cut. Structured
// data would need an enterprise number (RFC 5424, section 7.2.2).
func frame(host string, r slog.Record, event, text string) []byte {
	header := fmt.Sprintf("<%d>1 %s %s kidoban %d %s - \ufeff", facility*8+log.Severity(r.Level),
		r.Time.UTC().Format("2006-01-02T15:04:05.000000Z07:00"), host, os.Getpid(), name(event, 32))
	if room := messageMost - len(header); len(text) > room {
		text = strings.ToValidUTF8(text[:room], "")
	}
	return fmt.Appendf(nil, "%d %s%s", len(header)+len(text), header, text)
}

// sender has the connection to the collector, and makes it anew when it is lost.
type sender struct {
	config  Config
	closing context.Context // done: one attempt to connect is left
	life    context.Context // done: nothing is sent any more

	net.Conn                  // nil: there is none
	since    time.Time        // when it was made
	over     <-chan time.Time // gets when it ended

	wait  time.Duration // before the next attempt to connect
	told  bool          // Failed knows
	final bool          // the attempt at the end was made
}

// Write sends one message, as soon as the collector is there. After Close it gives up.
func (c *sender) Write(message []byte) (int, error) {
	for {
		if c.Conn == nil {
			if err := c.connect(); err != nil {
				return 0, err
			}
		}
		_ = c.SetWriteDeadline(time.Now().Add(patience)) // an error is Write's too
		_, err := c.Conn.Write(message)
		if err == nil {
			return len(message), nil
		}
		_ = c.Close() // it is of no use any more
		if over := <-c.over; over.Sub(c.since) >= againFirst {
			c.wait, c.told = 0, false // the collector was there
		}
		c.Conn = nil
		c.failed(err)
	}
}

func (c *sender) failed(err error) {
	if !c.told && c.config.Failed != nil {
		c.config.Failed(err)
	}
	c.told = true
}

// connect tries until the collector is there. After Close it tries once more.
func (c *sender) connect() error {
	for {
		if c.closing.Err() == nil && c.wait > 0 {
			select {
			case <-c.closing.Done():
			case <-time.After(c.wait):
			}
		}
		if c.closing.Err() != nil {
			if c.final {
				return errors.New("the collector is away")
			}
			c.final = true
		}
		c.wait = min(max(2*c.wait, againFirst), againMost) // unless this one lasts
		ctx, cancel := context.WithTimeout(c.life, patience)
		conn, err := c.config.dial(ctx, "tcp", c.config.Address)
		cancel()
		if err == nil {
			over := make(chan time.Time, 1)
			c.Conn, c.since, c.over = conn, time.Now(), over
			stop := context.AfterFunc(c.life, func() { _ = conn.Close() })
			// The collector never answers. Reading tells when it is gone.
			go func() {
				_, _ = io.Copy(io.Discard, conn)
				over <- time.Now()
				stop()
				_ = conn.Close()
			}()
			return nil
		}
		c.failed(err)
	}
}
