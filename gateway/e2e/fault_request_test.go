package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
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
			g.check(err)
			defer c.Close()
			g.check(c.SetDeadline(time.Now().Add(10 * time.Second)))
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
