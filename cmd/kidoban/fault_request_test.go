package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/admin"
)

// TestFault82MetricsAndBrowsers: a page that a browser was led to, from another
// origin or by a name that was made to stand for this address, reads no metrics;
// Prometheus, a probe and a person do.
func TestFault82MetricsAndBrowsers(t *testing.T) {
	held(t, func(g *ground) {
		g.open([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
		ask := func(head string) (status int, text string) {
			g.t.Helper()
			c, err := g.gateway.Dial(g.within(5*time.Second), "tcp", "127.0.0.1:9586")
			if err != nil {
				g.t.Fatal(err)
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				g.t.Fatal(err)
			}
			if _, err := fmt.Fprintf(c, "%s\r\n\r\n", strings.ReplaceAll(head, "\n", "\r\n")); err != nil {
				g.t.Fatal(err)
			}
			r, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				g.t.Fatalf("%q: %v", head, err)
			}
			defer r.Body.Close()
			var body bytes.Buffer
			_, _ = body.ReadFrom(r.Body) // what came has to do
			return r.StatusCode, body.String()
		}
		const http11 = "GET /metrics HTTP/1.1\nConnection: close\n"
		for _, head := range []string{
			http11 + "Host: evil.example:9586", http11 + "Host: evil.example", http11 + "Host: 127.0.0.1.evil.example:9586", http11 + "Host: localhost.evil.example:9586",
			http11 + "Host: 127.0.0.1:9586\nOrigin: https://evil.example", http11 + "Host: 127.0.0.1:9586\nOrigin: null",
			http11 + "Host: 127.0.0.1:9586\nSec-Fetch-Site: cross-site", http11 + "Host: 127.0.0.1:9586\nSec-Fetch-Site: same-site",
			"GET /readyz HTTP/1.1\nConnection: close\nHost: evil.example:9586", "GET http://evil.example/metrics HTTP/1.1\nConnection: close\nHost: 127.0.0.1:9586",
		} {
			if status, text := ask(head); status != http.StatusForbidden || strings.Contains(text, "kidoban_ready") || !strings.Contains(text, "allowed") && !strings.Contains(text, "nobody needs") {
				g.breaks("browser: %q: %d %.200q, want 403 and why", head, status, text)
			}
		}
		for _, head := range []string{
			http11 + "Host: 127.0.0.1:9586", http11 + "Host: localhost:9586", http11 + "Host: LOCALHOST", http11 + "Host: 10.1.0.1:9586", http11 + "Host: [::1]:9586", http11 + "Host: [fd01::1]",
			http11 + "Host: 127.0.0.1:9586\nSec-Fetch-Site: none", "GET /metrics HTTP/1.0",
		} {
			if status, text := ask(head); status != http.StatusOK || !strings.Contains(text, "kidoban_ready 1") {
				g.breaks("prometheus: %q: %d %.200q, want 200 and the metrics", head, status, text)
			}
		}
	})
}

// TestFault82NameOfTheMetrics: a site that names its gateway in
// KIDOBAN_METRICS_ADDRESS is scraped by that name.
func TestFault82NameOfTheMetrics(t *testing.T) {
	served := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "served") })
	for address, hosts := range map[string]map[string]bool{
		"gate.hospital.example:9586": {"gate.hospital.example:9586": true, "Gate.Hospital.example": true, "gate.hospital.example.:9586": true, "gate:9586": false, "10.1.0.1:9586": true},
		"0.0.0.0:9586":               {"gate.hospital.example:9586": false, "10.1.0.1:9586": true, "[fd00::1]:9586": true, "localhost:9586": true},
	} {
		for host, allowed := range hosts {
			r, err := http.NewRequest(http.MethodGet, "http://127.0.0.1/metrics", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = host
			w := &page{header: http.Header{}}
			noStrangers(address, served).ServeHTTP(w, r)
			if got := w.text.String() == "served"; got != allowed {
				t.Errorf("%s, asked as %s: served %v, want %v: %d %s", address, host, got, allowed, w.status, &w.text)
			}
		}
	}
}

// page is an answer.
type page struct {
	header http.Header
	status int
	text   bytes.Buffer
}

func (p *page) Header() http.Header                  { return p.header }
func (p *page) WriteHeader(status int)               { p.status = status }
func (p *page) Write(text []byte) (n int, err error) { return p.text.Write(text) }

// TestFault82WhatIsNotUTF8IsNotSent: what the gateway would refuse, or record as
// something else, does not leave the command.
func TestFault82WhatIsNotUTF8IsNotSent(t *testing.T) {
	environ := []string{"KIDOBAN_ADMIN_SOCKET=" + t.TempDir() + "/admin.sock", "KIDOBAN_POLICY_FILE=testdata/site.yaml"}
	for _, args := range [][]string{
		{"close", "medisys", "--reason", "caf\xe9"}, {"close", "--all", "--reason", "caf\xe9"}, {"reopen", "medisys", "--reason", "a\u202eb"}, {"recover", "--reason", "\xff"},
		{"close", "medi\xffsys", "--reason", "a"}, {"explain", "medisys/sato", "--at", "9999-12-31T23:59:59Z"}, {"calendar", "--from", "1999-01-01"}, {"calendar", "--until", "2200-01-01"},
	} {
		var out, complaint bytes.Buffer
		if exit := run(args, environ, &out, &complaint); exit != exitUsage || !strings.Contains(complaint.String(), "allowed is") || strings.Contains(complaint.String(), admin.ErrNoGateway.Error()+" at") {
			t.Errorf("kidoban %q: exit %d, %s%s, want %d and what is allowed", args, exit, &out, &complaint, exitUsage)
		}
	}
}
