package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"kidoban/gateway/lab"
)

// noticesSecret signs the notices.
const noticesSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// siem takes notices at the hospital.
type siem struct {
	mu   sync.Mutex
	all  []string // the kind of each
	ids  []string
	down bool
}

func (s *siem) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	judge, wrong := standardwebhooks.NewWebhook(noticesSecret)
	var n struct{ Type string }
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || wrong != nil || judge.Verify(body, r.Header) != nil || json.Unmarshal(body, &n) != nil {
		n.Type = "not signed"
	}
	if s.down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	s.all, s.ids = append(s.all, n.Type), append(s.ids, r.Header.Get("webhook-id"))
}

// has reports whether exactly these kinds came, in this order.
func (s *siem) has(kinds ...string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Equal(s.all, kinds)
}

func (s *siem) set(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// office starts `kidoban office` beside the gateway.
func (g *ground) office() (kill func()) {
	g.t.Helper()
	log, err := os.OpenFile(filepath.Join(g.folder, "office.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	g.check(err)
	defer log.Close()
	c := g.gateway.Command(context.WithoutCancel(g.t.Context()), program, "office")
	c.Env, c.Stdout, c.Stderr = g.environment(), log, log
	g.check(c.Start())
	kill = sync.OnceFunc(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	g.t.Cleanup(kill)
	return kill
}

// TestNotices: what operators do reaches the receiver, signed, in order and once, over deaths of
// the office, of the gateway and of the receiver.
func TestNotices(t *testing.T) {
	g := newGround(t)
	secret := filepath.Join(g.folder, "siem.secret")
	g.write(secret, noticesSecret+"\n")
	g.settings = append(g.settings, "KIDOBAN_OFFICE_SOCKET="+filepath.Join(g.folder, "office.sock"), "KIDOBAN_OFFICE_STATE_DIR="+filepath.Join(g.folder, "office"))
	g.operators = fmt.Sprintf("notify:\n  siem: {webhook: \"http://%v:8443/k\", secret_file: %q, kinds: [shut, reopened]}\n", pacs4, secret)
	receiver := &siem{}
	l, err := g.hospital.Listen("tcp", fmt.Sprintf("%v:8443", pacs4))
	g.check(err)
	server := &http.Server{Handler: receiver}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	g.open([]string{hour("work", "ehr")}, []string{hour("work", "pacs")})
	expect := func(kinds ...string) {
		t.Helper()
		g.expectNotices(receiver, kinds...)
	}

	// What happens before the office's first start is delivered too.
	g.must("close", "medisys/sato", "--reason", "drill")
	kill := g.office()
	expect("shut")
	out, complaint, exit := g.onGateway("notify-test", "siem")
	if exit != exitYes {
		t.Errorf("notify-test: %s%s", out, complaint)
	}
	expect("shut", "test")

	kill()
	g.must("reopen", "medisys/sato", "--reason", "drill")
	g.must("close", "scanco", "--reason", "drill")
	lab.WaitFor(t, eventually, "the lag grows while the office is dead", func() bool {
		lag, err := g.metric(`kidoban_notification_lag_entries{sink="siem"}`)
		return err == nil && lag >= 0
	})
	receiver.set(true)
	kill = g.office()
	lab.WaitFor(t, eventually, "failures are counted", func() bool {
		failed, err := g.metric(`kidoban_notifications_total{result="failed",sink="siem"}`)
		return err == nil && failed > 0
	})
	receiver.set(false)
	expect("shut", "test", "reopened", "shut")

	g.kill()
	g.startAsItIs()
	g.ready()
	g.must("reopen", "scanco", "--reason", "drill")
	expect("shut", "test", "reopened", "shut", "reopened")
	lab.WaitFor(t, eventually, "the delivery is counted", func() bool {
		delivered, err := g.metric(`kidoban_notifications_total{result="delivered",sink="siem"}`)
		return err == nil && delivered >= 3
	})
	kill()
	log, err := os.ReadFile(filepath.Join(g.folder, "office.log"))
	g.check(err)
	for _, text := range []string{string(log), g.log()} {
		if strings.Contains(text, noticesSecret[6:]) {
			t.Errorf("the secret is in a log:\n%s", text)
		}
	}
}

// expectNotices waits until exactly these kinds came.
func (g *ground) expectNotices(receiver *siem, kinds ...string) {
	g.t.Helper()
	lab.WaitFor(g.t, eventually, fmt.Sprintf("the receiver has %q", kinds), func() bool { return receiver.has(kinds...) })
}

// onGateway runs a command on the gateway's host.
func (g *ground) onGateway(args ...string) (out, complaint string, exit int) {
	var o, e strings.Builder
	c := g.gateway.Command(g.t.Context(), program, args...)
	c.Env, c.Stdout, c.Stderr = append(g.environment(), "GORACE=atexit_sleep_ms=0"), &o, &e
	if err := c.Run(); c.ProcessState == nil {
		g.t.Errorf("kidoban %v: %v", args, err)
	}
	return o.String(), e.String(), c.ProcessState.ExitCode()
}
