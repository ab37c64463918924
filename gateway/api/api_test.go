package api

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"kidoban/gateway"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// ask asks; an answer that is none is a *Problem.
func (s *served) ask(path string, query url.Values) ([]byte, http.Header, error) {
	return s.send("GET", path+"?"+query.Encode(), nil)
}

func (s *served) command(path string, body any) ([]byte, error) {
	text, err := json.Marshal(body)
	if err != nil || body == nil {
		text = nil
	}
	answer, _, err := s.send("POST", path, text)
	return answer, err
}

func (s *served) send(method, path string, body []byte) ([]byte, http.Header, error) {
	s.t.Helper()
	r, err := http.NewRequest(method, s.server.URL+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := s.server.Client().Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := misfit(method, path, body, response.StatusCode, response.Header.Get("Content-Type"), text); err != nil {
		s.t.Error(err)
	}
	if response.StatusCode/100 != 2 {
		p := decode[Problem](s.t, text)
		return nil, response.Header, &p
	}
	return text, response.Header, nil
}

// get asks and decodes. Fields that the type does not know are an error, so that
// the API has no fields but those of its types.
func get[T any](s *served, path string, query url.Values) T {
	s.t.Helper()
	text, _, err := s.ask(path, query)
	if err != nil {
		s.t.Fatalf("GET %s: %v", path, err)
	}
	return decode[T](s.t, text)
}

func post(s *served, path string, body any) gateway.Outcome {
	s.t.Helper()
	text, err := s.command(path, body)
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
		if _, header, err := s.ask(path, query); err != nil || header.Get(ZoneHeader) != site.String() {
			t.Errorf("GET %s: %v, %v, want the zone %v", path, header, err, site)
		}
	}
	if _, header, err := s.send("POST", "/v1/close", []byte(`{"scope": "medisys/sato", "reason": "drill"}`)); err != nil || header.Get(ZoneHeader) != site.String() {
		t.Errorf("POST /v1/close: %v, %v, want the zone %v", header, err, site)
	}
	if _, header, err := begin(t, errors.New("policy.yaml:3:1: site: is blank")).ask("/v1/status", nil); err != nil || header.Get(ZoneHeader) != "" {
		t.Errorf("without a policy: %v, %v, want no zone", header, err)
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

	if f := get[InForce](s, "/v1/policy", nil); !f.Ready || f.Digest != "d1" || f.Text != s.policy.Text || f.LoadedAt.IsZero() || len(f.Shut) != 0 {
		t.Errorf("policy in force: %+v", f)
	}
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

// TestPresharedKeyIsAskedFor: the client configuration says in both languages that a preshared key
// belongs into it, and does not tell it.
func TestPresharedKeyIsAskedFor(t *testing.T) {
	p := hospital()
	p.Engineer("medisys/sato").PresharedKey = [32]byte{7}
	config, err := clientConfig(p, url.Values{"engineer": {"medisys/sato"}}, policy.Key{9})
	want := "# このトンネルには、別の方法でお渡しした事前共有鍵が必要です。= の後に書き、PresharedKey の前の # を消してください。\n" +
		"# This tunnel needs a preshared key, sent to you by another way: write it behind the = and remove the # before PresharedKey.\n" +
		"# PresharedKey =\nEndpoint = "
	if err != nil || !strings.Contains(config, want) {
		t.Errorf("client-config: %v\n%s\nlacks\n%s", err, config, want)
	}
}

func TestCommands(t *testing.T) {
	s := serve(t)
	out := post(s, "/v1/close", order{Scope: "medisys/sato", Reason: "phone call from Mr. O'Neil <it@example.jp>; 電話　確認中"})
	if !out.Applied || !out.Recorded || out.Scope != "medisys/sato" || len(out.Shut) != 1 {
		t.Errorf("close: %+v", out)
	}
	status := get[view.Status](s, "/v1/status", nil)
	if r := status.Shut.Records; len(r) != 1 || r[0].Scope != "medisys/sato" || r[0].Actor != "tanaka" || !strings.HasPrefix(r[0].Reason, "phone call") {
		t.Errorf("status after close: %+v", status.Shut)
	}
	if x := get[Explanation](s, "/v1/explain", url.Values{"engineer": {"medisys/sato"}, "from": {"203.0.113.10"}}); x.Reason != "engineer_shut" ||
		!strings.Contains(x.Detail, ": phone call from Mr. O'Neil <it@example.jp>; 電話　確認中; `kidoban reopen medisys/sato --reason R` takes it back") {
		t.Errorf("explain after close: %+v", x)
	}
	if out := post(s, "/v1/close", order{Scope: "medisys/sato", Reason: "unpaid"}); out.Was == nil || !strings.HasPrefix(out.Was.Reason, "phone call") {
		t.Errorf("a second close: %+v", out.Was)
	}
	if x := get[Explanation](s, "/v1/explain", url.Values{"engineer": {"medisys/sato"}, "from": {"203.0.113.10"}}); len(x.Details) != 2 ||
		!strings.Contains(x.Detail, ": phone call") || x.Details[1].Code != "shut_also" || x.Details[1].Args["reason"] != "unpaid" {
		t.Errorf("explain after a second close: %+v", x)
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
	_, err := s.command("/v1/reload", nil)
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
	for _, path := range []string{"/v1/calendar", "/v1/policy", "/v1/client-config?engineer=medisys/sato"} {
		if r, p := s.raw(requestText("GET", path, "")); r.StatusCode != http.StatusConflict || !strings.HasPrefix(p.Detail, "there is no policy in force: policy.yaml:3:1: ") {
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
		if r, p := s.raw(requestText("GET", "/v1/explain?"+query, "")); r.StatusCode != http.StatusBadRequest || !strings.Contains(p.Detail, detail) {
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
	c, err := net.Dial("tcp", s.server.Listener.Addr().String())
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
	_, rest, _ := strings.Cut(request, " ")
	path, _, _ := strings.Cut(rest, " ")
	_, body, _ := strings.Cut(request, "\r\n\r\n")
	if method != "HEAD" {
		if err := misfit(method, path, []byte(body), r.StatusCode, r.Header.Get("Content-Type"), text); err != nil {
			s.t.Error(err)
		}
	}
	var p Problem
	_ = json.Unmarshal(text, &p)
	return r, p
}

func requestText(method, path, body string, headers ...string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: kidoban\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n%s",
		method, path, len(body), strings.Join(append(headers, ""), "\r\n"), body)
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
		{"GET", "/", "", 404, "/ is not there: allowed is /v1/approve, /v1/ask-extension, /v1/calendar, "},
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
		{"GET", "/v1/explain?engineer=medisys/sato&form=192.0.2.1", "", 400, `there is no parameter "form": allowed is engineer, from, line, to, at`},
		{"GET", "/v1/explain?engineer=medisys/sato&from=203.0.113.10&from=192.0.2.1", "", 400, `the parameter "from" is there 2 times: allowed is once`},
		{"GET", "/v1/explain?engineer=%zz", "", 400, "the query cannot be read"},
		{"POST", "/v1/close?scope=medisys", "", 400, `the parameter "scope": /v1/close has none`},
		{"GET", "/v1/explain", "", 400, `"" is not an engineer: allowed is vendor/engineer`},
		{"GET", "/v1/explain?engineer=sato", "", 400, `"sato" is not an engineer: allowed is vendor/engineer; did you mean medisys/sato?`},
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
		{"POST", "/v1/close", `{"scope":"medisys/satoo","reason":"x"}`, 404, `no vendor or engineer "medisys/satoo"; did you mean medisys/sato?`},
		{"GET", "/v1/explain?engineer=medisys/satoo", "", 404, "medisys has medisys/mori, medisys/sato; did you mean medisys/sato?"},
		{"GET", "/v1/client-config?engineer=medisy/sato", "", 404, `no vendor "medisy": it has medisys; did you mean medisys/sato?`},
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
		{"POST", "/v1/evidence/answer", `{"control":"10","answer":"na"}`, 400, "--until"},
		{"POST", "/v1/reload", `{"reason":"x"}`, 400, "a reload has neither scope nor reason"},
	} {
		r, p := s.raw(requestText(test.method, test.path, test.body))
		if test.method == "HEAD" { // its answer has no body
			p = Problem{Type: "about:blank", Title: http.StatusText(r.StatusCode), Status: r.StatusCode}
		}
		if r.StatusCode != test.status || p.Status != test.status || !strings.Contains(p.Detail, test.detail) {
			t.Errorf("%s %s %.80s: got %d %q, want %d with %q", test.method, test.path, test.body, r.StatusCode, p.Detail, test.status, test.detail)
		}
		if _, near, asks := strings.Cut(p.Detail, "did you mean "); asks && p.Suggestion+"?" != near || !asks && p.Suggestion != "" {
			t.Errorf("%s %s: the suggestion is %q, the text %q", test.method, test.path, p.Suggestion, p.Detail)
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

// TestStrangers: a request without a name gets no answer and changes nothing.
func TestStrangers(t *testing.T) {
	s := serve(t)
	s.stranger = errors.New("nobody knows who asks")
	for path := range routes {
		for _, method := range []string{"GET", "POST"} {
			r, p := s.raw(requestText(method, path, `{"scope":"all","reason":"x"}`))
			if r.StatusCode != http.StatusForbidden || p.Status != http.StatusForbidden || p.Detail != s.stranger.Error() || r.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s %s: got %d %+v, want 403", method, path, r.StatusCode, p)
			}
		}
	}
	s.stranger = nil
	if shut := get[view.Status](s, "/v1/status", nil).Shut; len(shut.Records) != 0 {
		t.Errorf("shut after all that: %+v", shut)
	}
}

// TestProblemsThatAreMessages have their code and arguments, so that a client says
// them in its language.
func TestProblemsThatAreMessages(t *testing.T) {
	err := &view.Error{Message: view.Say("reason_long", view.Args{"bytes": 1001, "most": 1000})}
	text, _ := encoded(problemOf(errors.Join(nil, err)))
	var p Problem
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	if p.Code != "reason_long" || p.In(view.English) != p.Detail || p.Detail != err.Error() || p.In(view.Japanese) != err.In(view.Japanese) {
		t.Errorf("%s came as %+v", text, p)
	}
}

// TestHosts: a vendor on a plain line has hosts, which are marked; there is no client configuration of one,
// and nothing of it can be requested.
func TestHosts(t *testing.T) {
	p := hospital()
	v := p.Vendors[0]
	l := &policy.Line{Name: "kyushoku", Interface: "eth1.310", Kind: policy.Leased, Plain: true}
	caterer := &policy.Vendor{Name: "caterer", DisplayName: "給食会社", Line: l}
	h := policy.HostOf(caterer, netip.MustParseAddr("10.20.0.5"))
	caterer.Sources, caterer.Engineers = h.Sources, []*policy.Engineer{h}
	w := *v.Windows[0]
	w.Vendor, w.Engineers = caterer, caterer.Engineers
	caterer.Windows = []*policy.Window{&w}
	p.Lines, p.Vendors = []*policy.Line{l}, []*policy.Vendor{caterer, v}
	s := beginWith(t, p, nil)
	s.eventually("the gateway is ready, with both grants open", func() bool {
		status := get[view.Status](s, "/v1/status", nil)
		return status.Ready && len(status.Grants) == 2
	})
	for _, g := range get[view.Status](s, "/v1/status", nil).Grants {
		if g.Plain != (g.Vendor == "caterer") {
			t.Errorf("plain is %t of %s/%s", g.Plain, g.Vendor, g.Engineer)
		}
	}
	for _, o := range get[[]Opening](s, "/v1/calendar", nil) {
		if o.Plain != (o.Vendor == "caterer") {
			t.Errorf("plain is %t of %s/%s", o.Plain, o.Vendor, o.Window)
		}
	}
	for _, c := range []struct{ query, reason, source, detail string }{
		{"", "admitted", "10.20.0.5", ""},
		{"&to=10.1.0.5:tcp/22&line=kyushoku", "admitted", "10.20.0.5", ""},
		{"&to=10.1.0.5:tcp/23", "unlisted_target", "10.20.0.5", "open to this host then: ehr-db"},
		{"&to=[fd00::5]:tcp/22", "unlisted_target", "10.20.0.5", "the host has no IPv6 address, so nothing of that family can be reached\nopen to this host then: ehr-db"},
		{"&from=10.20.0.6", "wrong_source", "10.20.0.6", "it may come from 10.20.0.5"},
		{"&line=eth0", "wrong_line", "10.20.0.5", "it may come by the line kyushoku alone"},
	} {
		query, err := url.ParseQuery("engineer=caterer/host-10-20-0-5" + c.query)
		if err != nil {
			t.Fatal(err)
		}
		if x := get[Explanation](s, "/v1/explain", query); x.Reason != c.reason || x.Source != c.source || !x.Plain || !strings.HasPrefix(x.Detail, c.detail) {
			t.Errorf("%s: %+v, want %+v", c.query, x, c)
		}
	}
	for code, ask := range map[view.Code]func() ([]byte, error){
		"config_plain": func() ([]byte, error) {
			text, _, err := s.ask("/v1/client-config", url.Values{"engineer": {"caterer/host-10-20-0-5"}})
			return text, err
		},
		"requests_plain": func() ([]byte, error) {
			return s.command("/v1/request", ask{Vendor: "caterer", Engineers: []string{"host-10-20-0-5"}, Targets: []string{"ehr-db"}, For: "1h", Purpose: "x"})
		},
	} {
		text, err := ask()
		var problem *Problem
		if !errors.As(err, &problem) || problem.Code != code || problem.Status != http.StatusBadRequest || problem.In("ja") == problem.Detail {
			t.Errorf("%s: %s, %v", code, text, err)
		}
	}
}
