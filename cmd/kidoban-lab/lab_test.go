package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"kidoban/config"
	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

func TestMain(m *testing.M) { lab.Main(m) }

// newStage makes a stage that fails the test where it would end the demo.
func newStage(t *testing.T) *stage {
	lab.Require(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	s := &stage{ctx: ctx, folder: t.TempDir()}
	t.Cleanup(cancel)
	t.Cleanup(s.strike)
	return s
}

// TestSceneWithoutAGate puts plain WireGuard where the gateway stands. All
// that the story says the gateway refuses must work there; otherwise the demo
// would show nothing.
func TestSceneWithoutAGate(t *testing.T) {
	s := newStage(t)
	s.build()
	gatewayPrivate, gatewayPublic := lab.NewKey()
	s.gateway.Forward()
	s.gateway.NewClient(lab.ClientConfig{
		PrivateKey: gatewayPrivate, PeerKey: s.publicKey, ListenPort: gatewayAddress.Port(),
		Addresses: lab.Prefixes("10.99.0.1/24"), AllowedIPs: lab.Prefixes("10.99.0.2/32"),
	})
	sato, thief := s.client(s.engineer, gatewayPublic), s.client(s.outsider, gatewayPublic)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // generous: a busy machine is slow
	defer cancel()
	if err := sato.Handshake(ctx); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{listedService.String(), otherService.String(), otherHost.String()} {
		if _, err := s.engineer.Exchange(ctx, "tcp", to, "hello"); err != nil {
			t.Errorf("the engineer reaches %s: %v", to, err)
		}
	}
	// wireguard-go ignores an initiation within 20 ms of the same key's last.
	last := sato.Status().LastHandshake
	if err := sato.Down(); err != nil {
		t.Fatal(err)
	}
	lab.WaitFor(t, time.Second, "20 ms since the last handshake", func() bool { return time.Since(last) > 50*time.Millisecond })
	if err := thief.Handshake(ctx); err != nil {
		t.Errorf("the stolen key opens a plain WireGuard: %v", err)
	}
	if _, err := s.outsider.Exchange(ctx, "tcp", listedService.String(), "hello"); err != nil {
		t.Errorf("the outsider reaches the hospital: %v", err)
	}
}

// TestDemo runs the demo as it is, with the gateway as it is.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 25 s")
	}
	lab.Require(t)
	gateway := filepath.Join(t.TempDir(), "kidoban")
	if out, err := exec.Command("go", "build", "-o", gateway, "kidoban/cmd/kidoban").CombinedOutput(); err != nil {
		t.Fatalf("build the gateway: %v\n%s", err, out)
	}
	if code := (&demo{Gateway: gateway}).Run(); code != 0 {
		t.Errorf("the demo's exit code is %d, want 0; its story is above", code)
	}
}

// TestStoryNoticesAMissingGate lets the story's own checks look at a plain
// WireGuard: each must come out wrong.
func TestStoryNoticesAMissingGate(t *testing.T) {
	s := newStage(t)
	s.build()
	gatewayPrivate, gatewayPublic := lab.NewKey()
	s.gateway.Forward()
	s.gateway.NewClient(lab.ClientConfig{
		PrivateKey: gatewayPrivate, PeerKey: s.publicKey, ListenPort: gatewayAddress.Port(),
		Addresses: lab.Prefixes("10.99.0.1/24"), AllowedIPs: lab.Prefixes("10.99.0.2/32"),
	})
	var out bytes.Buffer
	tale := &story{stage: s, out: newTerminal(&out, func(string) string { return "" })}
	tale.sato = s.client(s.engineer, gatewayPublic)

	tale.try(silence("Sato", false))
	if tale.failures != 1 {
		t.Errorf("an answered handshake passes for silence:\n%s", &out)
	}
	for _, c := range scenes[3].checks { // the targets
		tale.try(c)
	}
	if tale.failures != 3 || tale.checks != 4 {
		t.Errorf("%d of %d checks failed, want 3 of 4: the listed target is reached, and so are both others:\n%s", tale.failures, tale.checks, &out)
	}
	tale.until = time.Now().Add(-latest - patience)
	last := func(name string, after ...time.Duration) {
		tale.try(lastByte(name, func(*story) (packets []lab.Packet) {
			for _, d := range after {
				packets = append(packets, lab.Packet{At: tale.until.Add(d)})
			}
			return packets
		}))
	}
	last("after the end", latest+time.Millisecond)
	last("broken long before", -time.Second)
	last("never")
	if tale.failures != 6 {
		t.Errorf("a stream that was not cut by the closing passes for one that was:\n%s", &out)
	}
	last("just after", 3*time.Millisecond)
	last("just before", -3*time.Millisecond)
	if tale.failures != 6 {
		t.Errorf("a stream that was cut at the closing does not pass:\n%s", &out)
	}
	if tale.verdict() != 1 {
		t.Error("a story with failures ends with exit code 0")
	}
}

func TestFatalEndsTheStageWithItsReason(t *testing.T) {
	s := &stage{}
	struck := false
	s.Cleanup(func() { struck = true })
	func() {
		defer func() {
			if got := recover(); got != abort("no 7") {
				t.Errorf("recovered %v, want abort %q", got, "no 7")
			}
		}()
		s.Fatalf("no %d", 7)
	}()
	s.strike()
	if !struck {
		t.Error("strike did not undo")
	}
}

func TestPoliciesHaveNoMistakes(t *testing.T) {
	s := &stage{ctx: t.Context(), folder: t.TempDir()}
	_, s.publicKey = lab.NewKey()
	base := time.Date(2026, 12, 31, 23, 59, 30, 0, zone)
	for hour := range 24 * 9 { // every hour of the day, every day of the week, a turn of the year
		now := base.Add(time.Duration(hour) * time.Hour)
		for _, c := range []struct {
			windows []string
			at      time.Time
			open    int
		}{
			{[]string{support(now)}, now, 0},
			{[]string{support(now), once(now.Add(notice), now.Add(notice+open))}, now, 0},
			{[]string{support(now), once(now.Add(notice), now.Add(notice+open))}, now.Add(notice), 1},
			{[]string{support(now), once(now, now.Add(staying))}, now, 1},
			{[]string{support(now), once(now, now.Add(staying))}, now.Add(staying - time.Second), 1},
		} {
			s.writePolicy(c.windows...)
			text, err := os.ReadFile(s.policyFile())
			if err != nil {
				t.Fatal(err)
			}
			p, warnings, err := config.ParsePolicy("policy.yaml", text, s.folder, config.Host{}, now)
			if err != nil || len(warnings) > 0 {
				t.Fatalf("at %v: %v, %v\n%s", now, err, warnings, text)
			}
			var state policy.State
			if err := state.Apply(now, "test", policy.PolicyLoaded{Policy: p}); err != nil {
				t.Fatal(err)
			}
			opened := 0
			for _, w := range state.Plan(c.at).Windows {
				if w.Current.Contains(c.at) {
					opened++
				}
			}
			if opened != c.open {
				t.Errorf("written at %v, at %v: %d windows open, want %d\n%s", now, c.at.In(zone), opened, c.open, text)
			}
		}
	}
}

func TestParse(t *testing.T) {
	executable := filepath.Join(t.TempDir(), "kidoban")
	if err := os.WriteFile(executable, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args     []string
		variable string
		stay     bool
		err      string
	}{
		{[]string{"--gateway", executable}, "", false, ""},
		{[]string{"--gateway", executable, "--stay"}, "", true, ""},
		{[]string{"--gateway", executable}, "1", true, ""},
		{[]string{"--gateway", executable, "now"}, "", false, `unexpected argument now`},
		{[]string{"--gateway", executable + "-not"}, "", false, "go build -o bin/"},
	} {
		t.Setenv("STAY", c.variable)
		d, err := parse(c.args)
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: error %v, want %q in it", c.args, err, c.err)
			}
		case err != nil:
			t.Errorf("%q: %v", c.args, err)
		case d.Stay != c.stay || d.Gateway != executable:
			t.Errorf("%q: %+v, want stay %v and gateway %s", c.args, d, c.stay, executable)
		}
	}
}

func TestPublicKey(t *testing.T) {
	_, want := lab.NewKey()
	text := "# a comment\n[Interface]\nAddress = 10.99.0.2/32\n\n[Peer]\nPublicKey = " + base64.StdEncoding.EncodeToString(want[:]) + "\nEndpoint = 192.0.2.2:51820\n"
	if got, ok := publicKey([]byte(text)); !ok || got != want {
		t.Errorf("found %x, %v, want %x", got, ok, want)
	}
	for _, text := range []string{"", "[Peer]\n", "PublicKey = AAAA\n", "PublicKey = ???\n"} {
		if got, ok := publicKey([]byte(text)); ok {
			t.Errorf("%q: found %x, want nothing", text, got)
		}
	}
}

func TestCountKinds(t *testing.T) {
	got, err := countKinds([]byte("{\"kind\":\"start\"}\n{\"kind\":\"refused\"}\n{\"kind\":\"refused\"}\n"))
	if err != nil || len(got) != 2 || got["start"] != 1 || got["refused"] != 2 {
		t.Errorf("%v, %v, want start 1, refused 2", got, err)
	}
	for _, text := range []string{"{}\n", "[]\n", "no\n"} {
		if got, err := countKinds([]byte(text)); err == nil {
			t.Errorf("%q: counted %v, want an error", text, got)
		}
	}
}

func TestTerminalIsPlainWithoutATerminal(t *testing.T) {
	var out bytes.Buffer
	term := newTerminal(&out, func(name string) string {
		return map[string]string{"TERM": "xterm", "LANG": "C"}[name]
	})
	term.lines("Kidoban", []string{"a --- b"})
	term.heading("A window, 12 s")
	term.result(true, "silence: nothing came back")
	term.result(false, strings.Repeat("long ", 30))
	term.overwrite("it opens in 3 s")
	term.note("It ended.")
	term.lines("Nothing", nil)
	want := `
  Kidoban
    a --- b

  1  A window, 12 s
     ✓ silence: nothing came back
     ✗ long long long long long long long long long long long long long long
       long long long long long long long long long long long long long long
       long long
     It ended.
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, line := range strings.Split(out.String(), "\n") {
		if utf8.RuneCountInString(line) > width {
			t.Errorf("a line of %d columns, want at most %d: %q", len(line), width, line)
		}
	}
}

func TestStartGatewaySaysWhyItEnded(t *testing.T) {
	s := newStage(t)
	s.build()
	s.executable = filepath.Join(s.folder, "kidoban")
	if err := os.WriteFile(s.executable, []byte("#!/bin/sh\necho policy.yaml:3 is odd >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	defer func() {
		end, ok := recover().(abort)
		if !ok || !strings.Contains(string(end), "ended at once") || !strings.Contains(string(end), "exit status 1") {
			t.Errorf("ended with %q, want that the gateway ended at once with exit status 1", end)
		}
		if words := s.lastWords(); len(words) != 1 || words[0] != "policy.yaml:3 is odd" {
			t.Errorf("last words %q", words)
		}
	}()
	s.startGateway()
	t.Error("the gateway counts as started")
}
