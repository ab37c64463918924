package syslog

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What is logged goes both ways.
func TestTheLogGoesElsewhereAsWell(t *testing.T) {
	server := httptest.NewTLSServer(nil) // for its certificate
	server.Close()
	collector, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: server.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { collector.Close() })
	received := make(chan string, 1)
	go func() {
		conn, err := collector.Accept()
		if err != nil {
			received <- err.Error()
			return
		}
		r := bufio.NewReader(conn)
		length, _ := r.ReadString(' ') // RFC 5425, section 4.3
		n, err := strconv.Atoi(strings.TrimSpace(length))
		if err != nil {
			received <- err.Error()
			return
		}
		text := make([]byte, n)
		_, _ = io.ReadFull(r, text) // what is missing shows
		received <- string(text)
	}()
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	var here bytes.Buffer
	logger, elsewhere, err := Also(slog.New(slog.NewTextHandler(&here, nil)), collector.Addr().String(), authority, slog.LevelInfo, tokyo)
	if err != nil {
		t.Fatal(err)
	}
	logger.Info("session opened", "event", "session_opened", "until", time.Date(2026, 12, 1, 11, 0, 0, 0, time.UTC))
	defer elsewhere.Close() // which waits for 2 s at most
	if got := <-received; !strings.Contains(got, ` session_opened - `+"\ufeff"+`msg="session opened" event=session_opened until=2026-12-01T20:00:00.000+09:00`) {
		t.Errorf("the collector got %q", got)
	}
	if !strings.Contains(here.String(), `msg="session opened"`) {
		t.Errorf("the log here has %q", &here)
	}
}

func TestWrongSyslogAuthorities(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"/nowhere": "KIDOBAN_SYSLOG_CA_FILE: open /nowhere", empty: "has no certificate: allowed are certificates in PEM"} {
		_, _, err := Also(slog.New(slog.DiscardHandler), "127.0.0.1:6514", file, slog.LevelInfo, tokyo)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", file, err, want)
		}
	}
}

func tokyo() *time.Location { return time.FixedZone("JST", 9*3600) }
