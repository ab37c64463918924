package e2e

import (
	"encoding/base64"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
)

// TestHintOfNoRoute: a target without a way back is told of by name; an upload,
// of which next to nothing comes back, is not taken for one.
func TestHintOfNoRoute(t *testing.T) {
	hinted := func(g *ground) bool {
		return g.hints("the target may have no route to the tunnel")
	}
	begin := func(t *testing.T) *ground {
		t.Parallel()
		g := newGround(t)
		g.open([]string{hour("work", "ehr")}, []string{hour("work", "pacs")})
		g.mustEnter(g.client(g.medisys, sato, 4))
		return g
	}
	ssh := netip.AddrPortFrom(ehr4, 22)
	t.Run("no route", func(t *testing.T) {
		g := begin(t)
		g.serve()
		g.mustRun(g.hospital, "ip", "route", "del", "default")
		go func() { _ = g.reach(g.medisys, "tcp", ssh, 30*time.Second) }()
		lab.WaitFor(t, 30*time.Second, "a hint", func() bool { return hinted(g) })
		if got := g.status().Hints; !strings.Contains(strings.Join(got, "\n"), sato+" sends (") {
			t.Errorf("hints %q name nobody", got)
		}
	})
	t.Run("an upload", func(t *testing.T) {
		g := begin(t)
		l, err := g.hospital.Listen("tcp", ssh.String())
		g.check(err)
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				_, _ = io.Copy(io.Discard, c) // until the engineer has done
			}
		}()
		c, err := g.medisys.Dial(g.within(5*time.Second), "tcp", ssh.String())
		g.check(err)
		defer c.Close()
		// Longer than a hint waits.
		chunk := make([]byte, 16<<10)
		for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			g.check(c.SetWriteDeadline(time.Now().Add(5 * time.Second)))
			if _, err := c.Write(chunk); err != nil {
				t.Fatal(err)
			}
			if hinted(g) {
				t.Fatalf("hinted: %q", g.status().Hints)
			}
		}
		if s := g.status().Sessions; len(s) != 1 || s[0].Received < 8*s[0].Transmitted {
			t.Errorf("%+v: no upload", s)
		}
	})
}

// TestExplainSaysThatThereIsNoWay: what a window opens to a target that is
// behind the default route alone goes nowhere, and explain says so.
func TestExplainSaysThatThereIsNoWay(t *testing.T) {
	g := newGround(t)
	g.approve([]string{hour("work", "ehr, lost")}, []string{hour("work", "pacs")})
	text, err := os.ReadFile(g.policyFile())
	g.check(err)
	g.write(g.policyFile(), strings.Replace(string(text), "targets:\n", "targets:\n  lost: {address: 10.2.0.5, ports: [tcp/22]}\n", 1))
	g.startReady()
	const hint = "the host has no route to lost but the default route"
	lab.WaitFor(t, eventually, "explain says that there is no way", func() bool {
		out, _, code := g.operator("explain", sato, "--to", "10.2.0.5:tcp/22")
		return code == 0 && strings.HasPrefix(out, "ADMIT") && strings.Contains(out, hint)
	})
	if out := g.must("explain", sato, "--to", "10.1.0.5:tcp/22"); strings.Contains(out, hint) {
		t.Errorf("of another target it says\n%s", out)
	}
}

// TestFault98TwoMachinesOneKey: two WireGuard clients with one key, at two listed
// addresses of the vendor, are both inside for a moment, in turn.
func TestFault98TwoMachinesOneKey(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.open([]string{hour("work", "ehr")}, []string{hour("work", "pacs")})
	machines := []*lab.Client{g.client(g.medisys, sato, 4), g.client(g.medisys, sato, 6)}
	for i := range 6 {
		g.mustEnter(machines[i%2])
		// The gateway hears a moment later, and of two at once it hears the newest alone.
		lab.WaitFor(t, eventually, "the session is there", func() bool {
			s := g.status().Sessions
			return len(s) == 1 && s[0].Source == []netip.Addr{medisys4, medisys6}[i%2]
		})
		if i == 2 {
			g.hinted("in turn", false)
		}
	}
	lab.WaitFor(t, eventually, "a hint", func() bool {
		return g.hints("the key of medisys/sato is used from 203.0.113.10 and 2001:db8:1::10 in turn")
	})
	if out := g.must("explain", sato, "--from", medisys4.String()); !strings.HasPrefix(out, "ADMIT") || !strings.Contains(out, "in turn") {
		t.Errorf("explain says\n%s", out)
	}
}

// TestFault99AnotherPresharedKey: a WireGuard client with a preshared key that the
// policy does not have is answered each time, and never gets in.
func TestFault99AnotherPresharedKey(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.open([]string{hour("work", "ehr")}, []string{hour("work", "pacs")})
	config := g.config(sato, 4)
	config.PresharedKey, _ = lab.NewKey()
	c := g.medisys.NewClient(config)
	for n := range 3 {
		g.check(c.Initiate())
		lab.WaitFor(t, eventually, "the admission is recorded", func() bool { return len(g.entries(journal.Admission)) > n })
	}
	g.hinted("medisys/sato was admitted", true)
	g.hinted("the client has a preshared key and the policy has none", true)
	if out := g.must("explain", sato, "--from", medisys4.String()); !strings.HasPrefix(out, "ADMIT") || !strings.Contains(out, "completed no handshake") {
		t.Errorf("explain says\n%s", out)
	}
	if s := g.status().Sessions; len(s) > 0 {
		t.Errorf("inside: %v", s)
	}
	g.mustEnter(g.client(g.medisys, sato, 6)) // and that ends it
	g.hinted("completed no handshake", false)
}

// TestFault100WrongKeysAreNamed: two real clients at a vendor's listed address, one
// with a key that nobody listed, one with another gateway's key, while explain says
// that the engineer would be admitted.
func TestFault100WrongKeysAreNamed(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.open([]string{hour("work", "ehr")}, []string{hour("work", "pacs")})
	config := g.config(sato, 4)
	var public lab.Key
	config.PrivateKey, public = lab.NewKey()
	mistyped := g.medisys.NewClient(config)
	config = g.config(sato, 6)
	_, config.PeerKey = lab.NewKey()
	astray := g.medisys.NewClient(config)
	refused := func(reason string, source netip.Addr) (n int) {
		for _, r := range g.refusals() {
			if r.Reason == reason && r.Source == source {
				n += r.Count
			}
		}
		return n
	}
	for n := range 3 {
		g.check(mistyped.Initiate())
		g.check(astray.Initiate())
		lab.WaitFor(t, eventually, "both are refused", func() bool {
			return refused("unknown_key", medisys4) > n && refused("malformed", medisys6) > n
		})
	}
	for _, want := range []string{
		"attempts from 203.0.113.10, a source of medisys, offer the key " + base64.StdEncoding.EncodeToString(public[:]) + ", which no engineer has",
		"attempts from 2001:db8:1::10, a source of medisys, are for a gateway with another public key",
	} {
		g.hinted(want, true)
		if out := g.must("explain", sato, "--from", medisys4.String()); !strings.HasPrefix(out, "ADMIT") || !strings.Contains(out, want) {
			t.Errorf("explain says\n%s, want %q", out, want)
		}
	}
}
