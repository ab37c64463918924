package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway/lab"
	"kidoban/gateway/view"
)

var decisions = flag.Int("decisions", 20, "how many sessions TestRequestLag opens and ends")

// TestRequestLag measures from an approval to the first packet that reaches the hospital, and from a
// revocation and from a close of everything to the last one, at a packet every 3 ms. Times are the
// kernel's. It holds that what was closed is closed, and no time but that of closing.
//
//	go test ./gateway/e2e -run RequestLag -v -decisions 1000
func TestRequestLag(t *testing.T) {
	lab.Require(t)
	g := newGround(t)
	g.employ()
	engineers := min(*decisions/2, 20)
	g.hospital.Echo("udp", netip.AddrPortFrom(ehr4, 53).String())
	var who []*person
	for i := range engineers {
		who = append(who, g.person(fmt.Sprintf("medisys/engineer%02d", i), byte(100+i), ""))
	}
	g.open([]string{nextYear("later", "ehr")}, []string{nextYear("later", "pacs")})
	var clients []*lab.Client
	var devices []string
	for _, p := range who {
		clients = append(clients, g.client(g.medisys, p.name, 4))
		var device string
		g.check(g.medisys.Do(func() (err error) { device, err = routeTo(ehr4); return err }))
		devices = append(devices, device) // the newest has the route
	}
	var opened, revoked, closed []time.Duration
	for round := 0; len(opened) < *decisions; round++ {
		ids := make([]string, engineers)
		for i, p := range who {
			_, short, _ := strings.Cut(p.name, "/")
			r := g.post("tanaka", "/v1/request", map[string]any{"vendor": "medisys", "engineers": []string{short}, "targets": []string{"ehr"}, "for": "1h", "purpose": "a measurement"})
			ids[i] = r.ID
			g.lan.Forget()
			ctx, cancel := context.WithCancel(t.Context())
			var work sync.WaitGroup
			begin := time.Now()
			g.post("ito", "/v1/approve", map[string]any{"id": r.ID, "digest": r.Digest})
			work.Go(func() { g.knockAndSend(ctx, clients[i], p, devices[i]) })
			var first []lab.Packet
			lab.WaitFor(t, eventually, "a packet of "+p.name, func() bool {
				first = g.lan.Packets(lab.Outgoing, lab.From(p.v4))
				return len(first) > 0
			})
			cancel()
			work.Wait()
			opened = append(opened, first[0].At.Sub(begin))
		}
		g.lan.Forget()
		from := time.Now().Add(300 * time.Millisecond)
		var work sync.WaitGroup
		for i, p := range who {
			work.Go(func() {
				for time.Now().Before(from.Add(2 * time.Second)) {
					g.stream(p, devices[i], time.Now())
				}
			})
		}
		until(from)
		begins := make([]time.Time, engineers)
		lags := &revoked
		if round%2 == 0 {
			for i, id := range ids {
				begins[i] = time.Now()
				g.post("", "/v1/revoke", map[string]any{"id": id, "reason": "a measurement"})
			}
		} else {
			lags = &closed
			begin := time.Now()
			g.post("", "/v1/close", map[string]any{"scope": "all", "reason": "a measurement"})
			for i := range who {
				begins[i] = begin
			}
		}
		work.Wait()
		for i, p := range who {
			packets := g.lan.Packets(lab.Outgoing, lab.From(p.v4))
			if len(packets) == 0 || packets[len(packets)-1].At.Before(begins[i].Add(-100*time.Millisecond)) {
				t.Logf("%s had nothing under way", p.name)
				continue
			}
			*lags = append(*lags, packets[len(packets)-1].At.Sub(begins[i]))
		}
		if round%2 == 1 {
			g.post("", "/v1/reopen", map[string]any{"scope": "all", "reason": "a measurement"})
			for _, id := range ids {
				g.post("", "/v1/revoke", map[string]any{"id": id, "reason": "a measurement"})
			}
		}
	}
	if len(revoked) == 0 || len(closed) == 0 {
		t.Error("nothing was under way at the end: this machine is too busy to measure")
	}
	for _, m := range []struct {
		what string
		lags []time.Duration
	}{{"from an approval to the first packet", opened}, {"from a revocation to the last packet", revoked}, {"from close --all to the last packet", closed}} {
		slices.Sort(m.lags)
		if n := len(m.lags); n > 0 {
			t.Logf("%s, of %d sessions: p50 %v, p99 %v, greatest %v", m.what, n, m.lags[n/2], m.lags[(n-1)*99/100], m.lags[n-1])
		}
	}
}

// knockAndSend has a client come in, and send to the hospital, until the context ends.
func (g *ground) knockAndSend(ctx context.Context, c *lab.Client, p *person, device string) {
	for inside := false; ctx.Err() == nil; {
		if !inside {
			attempt, stop := context.WithTimeout(ctx, 50*time.Millisecond)
			inside = c.Handshake(attempt) == nil
			stop()
			continue
		}
		g.stream(p, device, time.Now())
	}
}

// post gives a command over the socket as a user; empty: root. The kernel names the user of the
// thread that connects.
func (g *ground) post(user, path string, body any) view.Request {
	g.t.Helper()
	status, r, detail := g.send(user, "", path, body)
	if status/100 != 2 {
		g.t.Fatalf("%s: POST %s: %d %s", user, path, status, detail)
	}
	return r
}

// send gives a command, perhaps with an idempotency key.
func (g *ground) send(user, key, path string, body any) (status int, r view.Request, detail string) {
	g.t.Helper()
	connected := make(chan net.Conn, 1)
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(staff[user]), ^uintptr(0)); e != 0 {
			failed <- e
			return
		}
		c, err := net.Dial("unix", g.socket().Socket)
		if err != nil {
			failed <- err
			return
		}
		connected <- c
	}()
	var c net.Conn
	select {
	case c = <-connected:
	case err := <-failed:
		g.t.Fatalf("%s: %v", user, err)
	}
	text, err := json.Marshal(body)
	g.check(err)
	client := http.Client{Timeout: eventually, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return c, nil }}}
	request, err := http.NewRequestWithContext(g.t.Context(), http.MethodPost, "http://kidoban"+path, bytes.NewReader(text))
	g.check(err)
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := client.Do(request)
	g.check(err)
	defer response.Body.Close()
	var answer struct {
		Request view.Request
		Detail  string
	}
	g.check(json.NewDecoder(response.Body).Decode(&answer))
	return response.StatusCode, answer.Request, answer.Detail
}
