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
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kidoban/gateway"
	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// get asks and decodes; fields that the type does not know are an error, so
// that the API says no more than its types do.
func get[T any](s *served, path string, query url.Values) T {
	s.t.Helper()
	text, _, err := s.client.Get(path, query)
	if err != nil {
		s.t.Fatalf("GET %s: %v", path, err)
	}
	return decode[T](s.t, text)
}

func post(s *served, path string, body any) gateway.Outcome {
	s.t.Helper()
	text, err := s.client.Post(path, body)
	if err != nil {
		s.t.Fatalf("POST %s: %v", path, err)
	}
	return decode[gateway.Outcome](s.t, text)
}

func decode[T any](t *testing.T, text []byte) T {
	t.Helper()
	var v T
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// TestZoneIsNamed: beside every answer stands the site's time zone, so that
// whoever shows its times can name it.
func TestZoneIsNamed(t *testing.T) {
	s := serve(t)
	for _, path := range []string{"/v1/status", "/v1/sessions", "/v1/grants", "/v1/refusals", "/v1/explain", "/v1/calendar"} {
		var query url.Values
		if path == "/v1/explain" {
			query = url.Values{"engineer": {"medisys/sato"}}
		}
		if _, zone, err := s.client.Get(path, query); err != nil || zone.String() != site.String() {
			t.Errorf("GET %s: zone %v, %v, want %v", path, zone, err, site)
		}
	}
	if _, zone, err := begin(t, errors.New("policy.yaml:3:1: site: is blank")).client.Get("/v1/status", nil); err != nil || zone != nil {
		t.Errorf("without a policy: zone %v, %v, want none", zone, err)
	}
}

func TestReading(t *testing.T) {
	s := serve(t)
	sato := s.policy.Engineer("medisys/sato")
	home, elsewhere := netip.MustParseAddrPort("203.0.113.10:4000"), netip.MustParseAddrPort("192.0.2.1:4000")
	s.fact(policy.Fact{Kind: policy.Refusal, At: time.Now(), Engineer: sato, Source: elsewhere, Count: 3,
		Decision: policy.Decision{Reason: policy.WrongSource, Engineer: sato}})
	s.fact(policy.Fact{Kind: policy.Admission, At: time.Now(), Engineer: sato, Source: home, Admission: 1, Decision: policy.Decision{Reason: policy.Admitted, Engineer: sato}})
	s.fact(policy.Fact{Kind: policy.Confirmation, At: time.Now(), Engineer: sato, Source: home, Admission: 1})
	s.eventually("the session is there", func() bool { return len(get[[]view.SessionStatus](s, "/v1/sessions", nil)) == 1 })

	status := get[view.Status](s, "/v1/status", nil)
	if !status.Ready || status.Site != "Kido Hospital" || status.Policy.Digest != "d1" || !status.Policy.FileOK ||
		len(status.Grants) != 1 || len(status.Sessions) != 1 || status.Version != "test" {
		t.Errorf("status: %+v", status)
	}
	if _, offset := status.Now.Zone(); offset != 9*60*60 {
		t.Errorf("status: now is %v, not in the site's zone", status.Now)
	}
	if x := get[[]view.SessionStatus](s, "/v1/sessions", nil)[0]; x.Vendor != "medisys" || x.Engineer != "sato" || x.Source != home.Addr() {
		t.Errorf("session: %+v", x)
	}
	if x := get[[]view.GrantStatus](s, "/v1/grants", nil); len(x) != 1 || x[0].Window != "always" || x[0].Targets[0] != "ehr-db" {
		t.Errorf("grants: %+v", x)
	}
	if x := get[[]view.Refusal](s, "/v1/refusals", nil); len(x) != 1 || x[0].Reason != "wrong_source" || x[0].Count != 3 || x[0].Engineer != "sato" || x[0].Source != elsewhere.Addr() {
		t.Errorf("refusals: %+v", x)
	}
	// Nobody said from where: the session's address counts.
	if x := get[Explanation](s, "/v1/explain", url.Values{"engineer": {"medisys/sato"}}); x.Decision != "admit" || x.Source != "203.0.113.10" {
		t.Errorf("explain: %+v", x)
	}
	if x := get[Explanation](s, "/v1/explain", url.Values{"engineer": {"medisys/sato"}, "from": {"192.0.2.1"}, "to": {"10.1.0.5:tcp/22"}}); x.Decision != "refuse" || x.Reason != "wrong_source" ||
		!strings.HasPrefix(x.Detail, "it may come from 203.0.113.10; if the vendor has a new address, list it and `kidoban reload`\na window is open, until ") {
		t.Errorf("explain: %+v", x)
	}
	if x := get[Explanation](s, "/v1/explain", url.Values{"engineer": {"medisys/sato"}, "to": {"10.1.0.5:tcp/23"}}); x.Reason != "unlisted_target" || x.Detail != "open to this engineer then: ehr-db" {
		t.Errorf("explain: %+v", x)
	}
	if x := get[[]Opening](s, "/v1/calendar", url.Values{"from": {"2030-01-01"}, "until": {"2030-01-02"}}); len(x) == 0 || x[0].Window != "always" {
		t.Errorf("calendar: %+v", x)
	}
	config := get[map[string]string](s, "/v1/client-config", url.Values{"engineer": {"medisys/sato"}})["config"]
	for _, want := range []string{"Address = 10.99.0.2/32\n", "PublicKey = " + (policy.Key{9}).String() + "\n", "Endpoint = vpn.example.jp:51820\n", "AllowedIPs = 10.1.0.5/32\n", "MTU = 1340\n"} {
		if !strings.Contains(config, want) {
			t.Errorf("client-config lacks %q:\n%s", want, config)
		}
	}
}

func TestCommands(t *testing.T) {
	s := serve(t)
	out := post(s, "/v1/close", order{Scope: "medisys/sato", Reason: "phone call from Mr. O'Neil <it@example.jp>; 電話　確認中"})
	if !out.Applied || !out.Recorded || out.Scope != "medisys/sato" || len(out.Shut) != 1 {
		t.Errorf("close: %+v", out)
	}
	status := get[view.Status](s, "/v1/status", nil)
	if r := status.Shut.Records; len(r) != 1 || r[0].Scope != "medisys/sato" || r[0].Actor == "" || !strings.HasPrefix(r[0].Reason, "phone call") {
		t.Errorf("status after close: %+v", status.Shut)
	}
	if x := get[Explanation](s, "/v1/explain", url.Values{"engineer": {"medisys/sato"}, "from": {"203.0.113.10"}}); x.Reason != "engineer_shut" ||
		!strings.Contains(x.Detail, ": phone call from Mr. O'Neil <it@example.jp>; 電話　確認中; `kidoban reopen medisys/sato --reason R` takes it back") {
		t.Errorf("explain after close: %+v", x)
	}
	if out := post(s, "/v1/close", order{Scope: policy.All, Reason: "fire drill"}); len(out.Shut) != 2 {
		t.Errorf("close all: %+v", out)
	}
	for _, scope := range []policy.Scope{policy.All, "medisys/sato"} {
		if out := post(s, "/v1/reopen", order{Scope: scope, Reason: "over"}); !out.Applied || !out.Recorded {
			t.Errorf("reopen %s: %+v", scope, out)
		}
	}
	if out := post(s, "/v1/reload", nil); !out.Applied || out.Digest != "d1" {
		t.Errorf("reload: %+v", out)
	}
	if out := post(s, "/v1/recover", order{Reason: "new clock battery"}); !out.Applied || !out.Recorded || out.Problem != "" {
		t.Errorf("recover: %+v", out)
	}
}

// TestBadReload: the policy in force stays, the answer has every mistake, and
// status says that the file would not survive a restart.
func TestBadReload(t *testing.T) {
	s := serve(t)
	s.breakFile(fileErrors{errors.New("policy.yaml:3:1: site: is empty"), errors.New("policy.yaml:9:4: targets: is missing")})
	_, err := s.client.Post("/v1/reload", nil)
	var p *Problem
	if !errors.As(err, &p) || p.Status != http.StatusConflict || len(p.Errors) != 2 || p.Errors[1] != "policy.yaml:9:4: targets: is missing" {
		t.Fatalf("reload of a bad file: %v, %+v", err, p)
	}
	status := get[view.Status](s, "/v1/status", nil)
	if !status.Ready || status.Policy.FileOK || !strings.Contains(status.Policy.Error, "targets: is missing") || len(status.Grants) != 1 {
		t.Errorf("status after a bad reload: %+v", status)
	}
	s.breakFile(nil)
	post(s, "/v1/reload", nil)
	if status := get[view.Status](s, "/v1/status", nil); !status.Policy.FileOK {
		t.Errorf("status after a good reload: %+v", status.Policy)
	}
}

// TestNoPolicy: a gateway that never had a policy still answers, and can be
// led out of it.
func TestNoPolicy(t *testing.T) {
	s := begin(t, fileErrors{errors.New("policy.yaml:3:1: site: is empty")})
	s.eventually("it says what keeps it shut", func() bool {
		return strings.Contains(get[view.Status](s, "/v1/status", nil).NotReadyReason, "site: is empty; mend it, then `kidoban reload`")
	})
	for _, path := range []string{"/v1/calendar", "/v1/client-config?engineer=medisys/sato"} {
		if r, p := s.raw(request("GET", path, "")); r.StatusCode != http.StatusConflict || !strings.HasPrefix(p.Detail, "there is no policy in force: policy.yaml:3:1: ") {
			t.Errorf("GET %s: %d %q", path, r.StatusCode, p.Detail)
		}
	}
	// Nobody enters, whoever they are.
	x := get[Explanation](s, "/v1/explain", url.Values{"engineer": {"medisys/sato"}, "from": {"203.0.113.10"}})
	if x.Decision != "refuse" || x.Reason != "not_ready" || x.Engineer != "medisys/sato" || x.Source != "203.0.113.10" || !strings.Contains(x.Detail, "site: is empty; mend it") {
		t.Errorf("explain without a policy: %+v", x)
	}
	for query, detail := range map[string]string{"engineer=medisys": "allowed is vendor/engineer", "engineer=/sato": "allowed is vendor/engineer",
		"engineer=medisys/sato&at=x": "is not a time", "engineer=medisys/sato&from=x": "is not an address", "engineer=medisys/sato&to=x": "is not a destination"} {
		if r, p := s.raw(request("GET", "/v1/explain?"+query, "")); r.StatusCode != http.StatusBadRequest || !strings.Contains(p.Detail, detail) {
			t.Errorf("explain %s without a policy: %d %q, want 400 with %q", query, r.StatusCode, p.Detail, detail)
		}
	}
	if out := post(s, "/v1/close", order{Scope: policy.All, Reason: "until it is mended"}); !out.Recorded {
		t.Errorf("close: %+v", out)
	}
	s.breakFile(nil)
	post(s, "/v1/reload", nil)
	post(s, "/v1/reopen", order{Scope: policy.All, Reason: "mended"})
	s.eventually("it is ready", func() bool { return get[view.Status](s, "/v1/status", nil).Ready })
}

// raw sends bytes as they are and gives the answer.
func (s *served) raw(request string) (*http.Response, Problem) {
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
	method, _, _ := strings.Cut(request, " ")
	r, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		s.t.Fatalf("after %.60q: %v", request, err)
	}
	defer r.Body.Close()
	// Where the server does not read all of a request, closing it resets the
	// connection, half a second after the whole answer.
	text, err := io.ReadAll(r.Body)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		s.t.Fatal(err)
	}
	var p Problem
	_ = json.Unmarshal(text, &p)
	return r, p
}

func request(method, path, body string, headers ...string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n%s",
		method, path, host, len(body), strings.Join(append(headers, ""), "\r\n"), body)
}

// TestProblems: what cannot be done is told as RFC 9457 has it, with what is
// allowed, and changes nothing.
func TestProblems(t *testing.T) {
	s := serve(t)
	long := strings.Repeat("あ", 334) // 1002 bytes
	for _, test := range []struct {
		method, path, body string
		status             int
		detail             string // a part of it
	}{
		{"GET", "/", "", 404, "/ is not there: allowed is /v1/calendar, /v1/client-config, /v1/close, "},
		{"GET", "/v1/nosuch", "", 404, "/v1/nosuch is not there"},
		{"GET", "/v1/status/", "", 404, "/v1/status/ is not there"},
		{"GET", "//v1/status", "", 404, "//v1/status is not there"},
		{"GET", "/v1/./status", "", 404, "/v1/./status is not there"},
		{"OPTIONS", "*", "", 404, "* is not there"},
		{"POST", "/v1/status", "", 405, "POST /v1/status: allowed is GET"},
		{"GET", "/v1/close", "", 405, "GET /v1/close: allowed is POST"},
		{"HEAD", "/v1/close", "", 405, ""},
		{"DELETE", "/v1/sessions", "", 405, "allowed is GET"},
		{"GET", "/v1/status?at=2030-01-01", "", 400, `the parameter "at": /v1/status has none`},
		{"GET", "/v1/explain?engineer=medisys/sato&form=192.0.2.1", "", 400, `there is no parameter "form": allowed is engineer, from, to, at`},
		{"GET", "/v1/explain?engineer=medisys/sato&from=203.0.113.10&from=192.0.2.1", "", 400, `the parameter "from" is there 2 times: allowed is once`},
		{"GET", "/v1/explain?engineer=%zz", "", 400, "the query cannot be read"},
		{"POST", "/v1/close?scope=medisys", "", 400, `the parameter "scope": /v1/close has none`},
		{"GET", "/v1/explain", "", 400, `"" is not an engineer: allowed is vendor/engineer`},
		{"GET", "/v1/explain?engineer=medisys/tanaka", "", 404, "medisys has medisys/mori, medisys/sato"},
		{"GET", "/v1/explain?engineer=acme/x", "", 404, `no vendor "acme": it has medisys`},
		{"GET", "/v1/explain?engineer=medisys/sato&from=here", "", 400, "is not an address: allowed is IPv4 or IPv6"},
		{"GET", "/v1/explain?engineer=medisys/sato&to=there", "", 400, "is not a destination: allowed is ADDR:tcp/PORT"},
		{"GET", "/v1/explain?engineer=medisys/sato&at=then", "", 400, "is not a time: allowed is 2026-12-01T20:00 (in Asia/Tokyo)"},
		{"GET", "/v1/calendar?until=2000-01-01", "", 400, "is not after its beginning"},
		{"GET", "/v1/calendar?from=2000-01-01&until=2040-01-01", "", 400, "allowed are 400"},
		{"GET", "/v1/client-config?engineer=medisys", "", 400, "allowed is vendor/engineer"},
		{"GET", "/v1/client-config?engineer=medisys/sato&mtu=9000", "", 400, "allowed is 1280 to 1420"},
		{"GET", "/v1/client-config?engineer=medisys/tanaka", "", 404, "no engineer"},
		{"POST", "/v1/close", ``, 400, "no scope: allowed is vendor/engineer, vendor, or all"},
		{"POST", "/v1/close", `{"scope":"medisys"}`, 400, "no reason: say why"},
		{"POST", "/v1/close", `{"scope":"medisys","reason":" "}`, 400, "no reason"},
		{"POST", "/v1/close", `{"scope":"acme","reason":"x"}`, 404, `no vendor or engineer "acme"`},
		{"POST", "/v1/close", `{"scope":"medisys","reason":"x","force":true}`, 400, `unknown field "force"`},
		{"POST", "/v1/close", `{"scope":"medisys","reason":"x"} {}`, 400, "more than one value"},
		{"POST", "/v1/close", `{"scope":"medisys","reason":"x"}]`, 400, "more than one value"},
		{"POST", "/v1/close", `{"scope":"medisys","reason":"x","scope":"acme"}`, 400, `"scope" is there twice`},
		{"POST", "/v1/close", `{"scope":"medisys","reason":"x","Reason":"y"}`, 400, `"Reason" is there twice`},
		{"POST", "/v1/close", `{"scope":"medisys","reason":"x","rea\u0073on":null}`, 400, `"reason" is there twice`},
		{"POST", "/v1/close", `["medisys"]`, 400, `the body is not {"scope": "...", "reason": "..."}`},
		{"POST", "/v1/close", `scope=medisys&reason=x`, 400, "the body is not"},
		{"POST", "/v1/close", `{"scope":"medisys","reason":"a\nb"}`, 400, `'\n', which does not show: allowed is printable text`},
		{"POST", "/v1/close", `{"scope":"medisys","reason":"\u001b[2J"}`, 400, `'\x1b', which does not show`},
		{"POST", "/v1/close", `{"scope":"medisys","reason":"\u202egnp"}`, 400, `'\u202e', which does not show`},
		{"POST", "/v1/close", `{"scope":"medisys","reason":"a\u200bb"}`, 400, `'\u200b', which does not show`},
		{"POST", "/v1/close", `{"scope":"medisys","reason":"` + long + `"}`, 400, "the reason has 1002 bytes: allowed are 1000"},
		{"POST", "/v1/close", `{"scope":"medisys","reason":"` + strings.Repeat("x", bodyMost) + `"}`, 413, "the body is too large: allowed are 16384 bytes"},
		{"POST", "/v1/reopen", `{"scope":"medisys","reason":"x"}`, 404, `"medisys" is not shut`},
		{"POST", "/v1/recover", `{}`, 400, "no reason"},
		{"POST", "/v1/recover", `{"scope":"medisys","reason":"x"}`, 400, "a recovery has none"},
		{"POST", "/v1/reload", `{"reason":"x"}`, 400, "a reload has neither scope nor reason"},
	} {
		r, p := s.raw(request(test.method, test.path, test.body))
		if test.method == "HEAD" { // its answer has no body
			p = Problem{Type: "about:blank", Title: http.StatusText(r.StatusCode), Status: r.StatusCode}
		}
		if r.StatusCode != test.status || p.Status != test.status || !strings.Contains(p.Detail, test.detail) {
			t.Errorf("%s %s %.80s: got %d %q, want %d with %q", test.method, test.path, test.body, r.StatusCode, p.Detail, test.status, test.detail)
		}
		if got := r.Header.Get("Content-Type"); got != "application/problem+json" || p.Type != "about:blank" || p.Title != http.StatusText(test.status) {
			t.Errorf("%s %s: Content-Type %q, problem %+v", test.method, test.path, got, p)
		}
		if allow := r.Header.Get("Allow"); (allow != "") != (test.status == 405) {
			t.Errorf("%s %s: Allow is %q", test.method, test.path, allow)
		}
	}
	if shut := get[view.Status](s, "/v1/status", nil).Shut; len(shut.Records) != 0 {
		t.Errorf("shut after all that: %+v", shut)
	}
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
		r, p := s.raw(text)
		if r.StatusCode != http.StatusForbidden || p.Status != http.StatusForbidden || r.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: got %d %+v, want 403", name, r.StatusCode, p)
		}
	}
	// The same, told honestly, is done: it is the headers that were refused.
	for _, name := range []string{host, localHost} {
		if r, _ := s.raw(strings.Replace(request("POST", "/v1/close", command), "Host: "+host, "Host: "+name, 1)); r.StatusCode != http.StatusOK {
			t.Errorf("without them, as %s: %d", name, r.StatusCode)
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
	if r, _ := s.raw(request("GET", "/v1/status", "", "X-Long: "+strings.Repeat("x", 64<<10))); r.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("64 KiB of headers: got %d, want 431", r.StatusCode)
	}
	if status := get[view.Status](s, "/v1/status", nil); !status.Ready {
		t.Errorf("afterwards: %+v", status)
	}
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
			if !get[view.Status](s, "/v1/status", nil).Ready {
				t.Fatal("it does not answer")
			}
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
	s := serve(t)
	for _, answers := range []bool{true, false} {
		t.Run(fmt.Sprintf("there is an answer: %t", answers), func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "admin.sock")
			l, err := Listen(socket)
			if err != nil {
				t.Fatal(err)
			}
			asked, release := make(chan struct{}), make(chan struct{})
			s.onLoad(func() { close(asked); <-release })
			ctx, cancel := context.WithCancel(t.Context())
			ended, got := make(chan error, 1), make(chan error, 1)
			go func() {
				ended <- (&Server{Gateway: s.gateway, Logger: slog.New(slog.DiscardHandler)}).Serve(ctx, l)
			}()
			go func() {
				_, err := Client{Socket: socket}.Post("/v1/reload", nil)
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
