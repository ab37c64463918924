package api

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/view"
)

// Tests of this package whose names begin with TestFault and a number provoke
// the faults of that number in docs/FAULTS.md.

// TestFault82TimesWithoutEnd: a time that JSON cannot hold, or no policy can
// mean, is refused in words, wherever it is asked about.
func TestFault82TimesWithoutEnd(t *testing.T) {
	s := serve(t)
	now := time.Now()
	snap, err := view.Offline(s.policy, now)
	if err != nil {
		t.Fatal(err)
	}
	const allowed = "allowed is 2000 to 2199"
	refused := func(what string, err error) {
		t.Helper()
		var problem *Problem
		if !errors.As(err, &problem) || problem.Status != http.StatusBadRequest || !strings.Contains(err.Error(), allowed) {
			t.Errorf("%s: %v, want bad input and %q", what, err, allowed)
		}
	}
	for _, at := range []string{"9999-12-31T23:59:59Z", "9999-12-31", "2200-01-01", "2199-12-31T23:59:59Z", "1999-12-31T23:59", "0001-01-01T00:00:00Z", "0000-01-01"} {
		for path, query := range map[string]url.Values{
			"/v1/explain":  {"engineer": {"medisys/sato"}, "at": {at}},
			"/v1/calendar": {"from": {at}},
		} {
			text, _, err := s.ask(path, query)
			if err == nil {
				t.Errorf("GET %s about %s: no error, %.100q", path, at, text)
				continue
			}
			refused("GET "+path+" about "+at, err)
		}
		_, err := Offline(snap, "/v1/explain", url.Values{"engineer": {"medisys/sato"}, "at": {at}}, now)
		refused("explain, where no gateway runs, about "+at, err)
		_, err = Calendar(s.policy, url.Values{"until": {at}}, now)
		refused("calendar, where no gateway runs, until "+at, err)
	}
	for _, at := range []string{"2000-01-01", "2199-12-31T23:59:59+09:00"} {
		if x := get[Explanation](s, "/v1/explain", url.Values{"engineer": {"medisys/sato"}, "at": {at}}); x.Reason == "" {
			t.Errorf("explain about %s: %+v", at, x)
		}
	}
}

// TestFault82AnswerThatIsNoJSON: an answer that cannot be written is no success.
func TestFault82AnswerThatIsNoJSON(t *testing.T) {
	w := &recorder{header: http.Header{}}
	replyOf(http.StatusOK, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), nil).write(w)
	if w.status != http.StatusInternalServerError || w.header.Get("Content-Type") != "application/problem+json" || !strings.Contains(w.text.String(), "cannot be written as JSON") {
		t.Errorf("status %d, %v: %s", w.status, w.header, &w.text)
	}
}

type recorder struct {
	header http.Header
	status int
	text   strings.Builder
}

func (w *recorder) Header() http.Header { return w.header }
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}
func (w *recorder) Write(text []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.text.Write(text)
}

// TestFault82WhatIsNotUTF8: what would be kept in the journal as something else
// than was sent is refused, and does nothing.
func TestFault82WhatIsNotUTF8(t *testing.T) {
	s := serve(t)
	raw := func(request string) string {
		t.Helper()
		c, err := net.Dial("tcp", s.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte(request)); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(line)
	}
	for _, body := range []string{
		"{\"scope\": \"medisys\", \"reason\": \"caf\xe9\"}",
		"{\"scope\": \"medisys\", \"reason\": \"a\xc0\xafb\"}",
		`{"scope": "medisys", "reason": "half a pair \ud800"}`,
		`{"scope": "medisys", "reason": "half a pair \udc00\ud800"}`,
		"{\"scope\": \"medisys\", \"reason\": \"it was broken before: \ufffd\"}",
		`{"scope": "med\ud800isys", "reason": "a"}`,
		"{\"scope\": \"medisys\", \"reason\": \"a\"} \xff",
	} {
		got := raw(fmt.Sprintf("POST /v1/close HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		if got != "HTTP/1.1 400 Bad Request" {
			t.Errorf("%q: %s, want 400", body, got)
		}
	}
	for _, query := range []string{"/v1/explain?engineer=medisys/sato%ff", "/v1/explain?engineer=medisys/sato&at=%c0", "/v1/calendar?from=2030-01-01%e2%80%ae"} {
		if got := raw("GET " + query + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); got != "HTTP/1.1 400 Bad Request" {
			t.Errorf("GET %s: %s, want 400", query, got)
		}
	}
	if shut := get[view.Status](s, "/v1/status", nil).Shut.Records; len(shut) != 0 {
		t.Errorf("something was closed: %+v", shut)
	}
	if out := post(s, "/v1/close", order{Scope: "medisys", Reason: "whole pairs are text: 😀"}); !out.Applied {
		t.Errorf("a close whose reason is text: %+v", out)
	}
}
