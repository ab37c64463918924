package e2e

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
	"kidoban/gateway/view"
)

// Tests of this package whose names begin with TestFault and a number provoke
// the faults of that number in docs/FAULTS.md, on the ground of the promises:
// the real program, in network namespaces.

// held runs a scenario with every layer.
func held(t *testing.T, scenario func(*ground)) {
	t.Helper()
	t.Parallel()
	hold(t, scenario)
}

// outsideIn holds that nobody reaches the hospital: neither the engineer, nor
// who knows the way from outside.
func (g *ground) outsideIn(when string) {
	g.t.Helper()
	g.lan.Forget()
	for _, h := range []*lab.Host{g.medisys, g.outsider} {
		for _, a := range []netip.Addr{ehr4, ehr6} {
			if _, err := h.Ping(g.within(patience/4), a); err == nil {
				g.breaks("passed: %s, %s reaches %v", when, h.Name, a)
			}
		}
	}
	if got := g.lan.Packets(lab.Outgoing, func(p lab.Packet) bool {
		return p.Destination.Addr() == ehr4 || p.Destination.Addr() == ehr6 && p.Payload[0] == 128
	}); len(got) > 0 {
		g.breaks("passed: %s:\n%s", when, lab.Lines(got))
	}
}

// TestFault17FlushAfterKill: when the process is killed its table stands; when
// somebody then flushes all rules, there is no tunnel left that could carry
// anything, and nothing is forwarded from outside. The next start closes all
// that was left open.
func TestFault17FlushAfterKill(t *testing.T) {
	held(t, func(g *ground) {
		g.serve()
		g.open([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
		g.inside()
		g.kill()
		g.outsideIn("killed")
		g.mustRun(g.gateway, "nft", "flush", "ruleset")
		if out, err := g.gateway.Command(g.within(5*time.Second), "nft", "list", "ruleset").CombinedOutput(); err != nil || len(out) > 0 {
			g.t.Logf("flushing has left (%v):\n%s", err, out)
		}
		g.outsideIn("killed and flushed")
		if g.reach(g.hospital, "tcp", netip.AddrPortFrom(g.people[sato].v4, 22), patience) == nil {
			g.breaks("passed: the hospital reaches the engineer, killed and flushed")
		}
		g.startReady()
		g.inside()
		unlisted := prober{g.outsider, netip.AddrPortFrom(outsider4, 40001), outside4}
		g.wan.Forget()
		g.shoot(unlisted, g.initiation(sato, time.Now()))
		_ = g.connect(unlisted)
		pause(patience)
		g.quiet("silence", "after the restart", unlisted)
	})
}

// TestFault34InnerSourceSpoofed: through a session passes only what has that
// engineer's own tunnel address, and from outside nothing that claims one.
func TestFault34InnerSourceSpoofed(t *testing.T) {
	held(t, func(g *ground) {
		g.serve()
		g.open([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
		g.inside()
		g.spoofs()
		g.holds(g.works(), "works")
	})
}

// TestFault47KilledAtEveryStep kills the gateway where it does one thing
// after the other. Nothing passes while it is dead, what the kernel still
// holds has an end, and the next start needs no help: the journal verifies,
// says who was inside at the crash, and the engineer enters again.
func TestFault47KilledAtEveryStep(t *testing.T) {
	held(t, func(g *ground) {
		g.serve()
		g.open([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
		client := g.client(g.medisys, sato, 4)
		command := func(name string, args ...string) bool {
			return g.gateway.Command(g.within(time.Second), name, args...).Run() == nil
		}
		var commands sync.WaitGroup
		waiting := func(what string, f func() bool) func() {
			return func() {
				deadline := time.Now().Add(eventually)
				for !f() {
					if time.Now().After(deadline) {
						g.t.Fatalf("after %v still not: %s", eventually, what)
					}
					time.Sleep(time.Millisecond)
				}
			}
		}
		answers := func() bool { var s view.Status; return g.ask(&s, "status") == nil }
		ready := waiting("ready", func() bool { var s view.Status; return g.ask(&s, "status") == nil && s.Ready })
		for _, step := range []struct {
			name    string
			until   func()
			session bool // someone is inside
		}{
			{"at once", func() {}, false},
			{"a moment later", func() { time.Sleep(30 * time.Millisecond) }, false},
			{"when the table stands", waiting("the table stands", func() bool { return command("nft", "list", "table", "inet", "kidoban") }), false},
			{"when the tunnel is there", waiting("the tunnel is there", func() bool { return command("ip", "link", "show", g.device) }), false},
			{"when it answers", waiting("it answers", answers), false},
			{"when it is ready", ready, false},
			{"when an engineer has knocked", func() {
				ready()
				g.check(client.Initiate())
			}, false},
			{"when an engineer has entered", func() { ready(); g.mustEnter(client) }, false},
			{"when an engineer is at work", func() {
				ready()
				g.mustEnter(client)
				// The next start knows of it what the disk has.
				waiting("the session is on disk", func() bool {
					inside := g.status().Sessions
					return len(inside) == 1 && slices.ContainsFunc(g.entries(journal.SessionOpened), func(e journal.Entry) bool { return e.Session == inside[0].ID })
				})()
			}, true},
			{"when an operator closes", func() {
				ready()
				g.mustEnter(client)
				// A command would come too late, as it has to start.
				commands.Go(func() {
					_, _, _ = g.socket().Post("/v1/close", map[string]string{"scope": sato, "reason": "phone call"})
				})
				time.Sleep(3 * time.Millisecond)
			}, false},
			{"when it stops", func() { ready(); g.mustEnter(client); g.signal(syscall.SIGTERM); time.Sleep(5 * time.Millisecond) }, false},
		} {
			g.kill()
			g.launch()
			step.until()
			g.kill()
			commands.Wait() // none may come to the next process
			g.outsideIn("killed " + step.name)
			if out, err := g.gateway.Command(g.within(5*time.Second), "nft", "list", "ruleset").CombinedOutput(); err != nil || strings.Count(string(out), "timeout ") != strings.Count(string(out), "expires ") {
				g.breaks("permanent: killed %s, there are elements without an end (%v):\n%s", step.name, err, out)
			}
			// Nor does the client knock by itself while we look.
			g.check(client.Down())
			g.startReady()
			if out, complaint, exit := g.operator("journal", "verify"); exit != exitYes {
				g.breaks("journal: killed %s: exit %d: %s%s", step.name, exit, out, complaint)
			}
			if n := len(g.status().Sessions); n > 0 {
				g.breaks("sessions: killed %s, there are %d after the restart", step.name, n)
			}
			if step.session { // which the restart records while it opens the gate
				if err := lab.Wait(g.within(eventually), func() error {
					if closed := g.entries(journal.SessionClosed); len(closed) == 0 || closed[len(closed)-1].Reason != "crashed" {
						return fmt.Errorf("%+v", closed)
					}
					return nil
				}); err != nil {
					g.breaks("crashed: killed %s, the journal does not say that a session was cut by it: %v", step.name, err)
				}
			}
			g.operator("reopen", sato, "--reason", "phone call") // whether or not the close came through
			g.check(client.Up())
			if err := g.enter(client, eventually); err != nil {
				g.breaks("again: killed %s: %v", step.name, err)
			} else if err := g.works(); err != nil {
				g.breaks("again: killed %s: %v", step.name, err)
			}
		}
	})
}

// TestFault50NoDescriptors: the process may open no more files. Nobody is let
// in without a record, who is inside is out at the end of the window, and when
// there are files again an operator gets it back.
func TestFault50NoDescriptors(t *testing.T) {
	held(t, func(g *ground) {
		g.sinks()
		begun := time.Now().Truncate(time.Second).Add(-time.Hour)
		g.open([]string{window("work", begun, begun.Add(2*time.Hour), "ehr, ehr6")}, []string{nextYear("later", "pacs")})
		client := g.client(g.medisys, sato, 4)
		g.mustEnter(client)
		flows := g.flow()
		end := soon(3 * time.Second)
		g.approve([]string{window("work", begun, end, "ehr, ehr6"), window("more", end.Add(time.Second), end.Add(time.Hour), "ehr, ehr6")},
			[]string{nextYear("later", "pacs")})
		g.must("reload")
		var before unix.Rlimit
		pid := g.process.Process.Pid
		g.check(unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &before))
		g.check(unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: before.Max}, nil))
		// A session whose record cannot be written ends before its window.
		until(end.Add(oneLag + patience))
		flows.stop()
		over := func(p lab.Packet) bool { return p.At.After(end.Add(oneLag)) }
		if late := append(g.lan.Packets(lab.Outgoing, g.ofSato, over), g.wan.Packets(lab.Outgoing, isData, over)...); len(late) > 0 {
			g.breaks("end: %d packets passed after the end of the window:\n%s", len(late), lab.Lines(late))
		}
		// The next window begins, whose opening cannot be written.
		until(end.Add(2 * time.Second))
		if err := g.enter(client, time.Second); err == nil {
			g.breaks("entered: sato, in a window whose opening cannot be on disk")
		}
		g.check(unix.Prlimit(pid, unix.RLIMIT_NOFILE, &before, nil))
		lab.WaitFor(g.t, eventually, "it answers again", func() bool { var s view.Status; return g.ask(&s, "status") == nil })
		if s := g.status(); !s.Ready {
			g.t.Logf("not ready because %s", s.NotReadyReason)
			g.leadsOut(client, "recover", "--reason", "there were no files")
			return
		}
		g.mustEnter(client)
	})
}

// TestFault50ConnectionsTakeNoDescriptors: somebody on the gateway who may do
// nothing but connect does so without end. The journal gets its files, an
// engineer comes in, and an operator is heard.
func TestFault50ConnectionsTakeNoDescriptors(t *testing.T) {
	held(t, func(g *ground) {
		g.open([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
		const limit = 256
		g.check(unix.Prlimit(g.process.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: limit}, nil))
		for range limit {
			for _, to := range [][2]string{{"tcp", "127.0.0.1:9586"}, {"unix", filepath.Join(g.folder, "admin.sock")}} {
				c, err := g.gateway.Dial(g.within(5*time.Second), to[0], to[1])
				g.check(err)
				defer c.Close()
			}
		}
		g.mustEnter(g.client(g.medisys, sato, 4))
		if out, complaint, exit := g.operator("close", suzuki, "--reason", "test"); exit != exitYes || strings.Contains(out, "NOT RECORDED") {
			g.breaks("close: exit %d: %s%s", exit, out, complaint)
		}
		if status, text, err := g.get("/readyz"); err != nil || status != http.StatusOK {
			g.breaks("ready: %d %s %v", status, text, err)
		}
	})
}

// swap makes a name stand for another file, in one step.
func (g *ground) swap(name, target string) {
	g.t.Helper()
	g.check(os.Symlink(target, name+".new"))
	g.check(os.Rename(name+".new", name))
}

// TestFault51SwappedFiles: the policy is a link that is moved to another
// file, bad or gone; the private key becomes readable to others, which is a doubt.
func TestFault51SwappedFiles(t *testing.T) {
	held(t, func(g *ground) {
		in := func(name string) string { return filepath.Join(g.folder, name) }
		good := g.policyText([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
		g.write(in("good.yaml"), good)
		g.write(in("bad.yaml"), strings.Replace(good, "tcp/22", "tcp/70000", 1))
		g.swap(g.policyFile(), in("good.yaml"))
		g.startReady()
		g.inside()
		lab.WaitFor(g.t, eventually, "the session is told", func() bool { return len(g.status().Sessions) == 1 })
		for target, complaint := range map[string]string{"bad.yaml": "tcp/70000", "none.yaml": "no such file", "": "policy"} {
			g.swap(g.policyFile(), in(target)) // the last is a folder
			out, told, exit := g.operator("reload")
			if exit != exitFailed || !strings.Contains(out+told, complaint) {
				g.breaks("reload: of %q: exit %d, want %d and %q: %s%s", target, exit, exitFailed, complaint, out, told)
			}
			if s := g.status(); !s.Ready || s.Policy.FileOK || len(s.Sessions) != 1 {
				g.breaks("reload: after %q: ready %v, file ok %v, %d sessions, want true, false, 1", target, s.Ready, s.Policy.FileOK, len(s.Sessions))
			}
			g.holds(g.works(), "reload: after %q", target)
		}
		g.swap(g.policyFile(), in("good.yaml"))
		g.must("reload")
		if s := g.status(); !s.Policy.FileOK || len(s.Sessions) != 1 {
			g.breaks("reload: of the good one: file ok %v, %d sessions, want true, 1", s.Policy.FileOK, len(s.Sessions))
		}
		g.kill()
		for _, mode := range []os.FileMode{0o640, 0o604, 0o644} {
			g.check(os.Chmod(g.keyFile(), mode))
			g.startAsItIs()
			g.holds(g.shutInDoubt(fmt.Sprintf("has mode %#o: allowed is 0600", mode)), "key: of mode %o", mode)
			g.kill()
		}
	})
}

// TestFault58MetricsFromElsewhere: metrics and commands are for the machine
// itself, whoever asks: the outside, the site, or an engineer who is inside.
func TestFault58MetricsFromElsewhere(t *testing.T) {
	held(t, func(g *ground) {
		g.open([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
		g.inside()
		if code, text, err := g.get("/metrics"); err != nil || code != http.StatusOK || !strings.Contains(text, "kidoban_ready 1") {
			g.breaks("here: metrics: %d, %v", code, err)
		}
		for _, h := range []*lab.Host{g.outsider, g.medisys, g.hospital} {
			for _, a := range []netip.Addr{outside4.Addr(), outside6.Addr(), lan4, lan6, inside4, inside6} {
				c, err := h.Dial(g.within(patience/2), "tcp", netip.AddrPortFrom(a, 9586).String())
				if err == nil {
					c.Close()
					g.breaks("reached: metrics, by %s at %v", h.Name, a)
				}
			}
			// By the address that the server itself knows.
			if h != g.hospital {
				continue
			}
			g.mustRun(h, "ip", "route", "replace", "127.0.0.1/32", "via", lan4.String(), "table", "local")
			if c, err := h.Dial(g.within(patience/2), "tcp", "127.0.0.1:9586"); err == nil {
				c.Close()
				g.breaks("reached: metrics, by %s at 127.0.0.1", h.Name)
			}
		}
		info, err := os.Stat(filepath.Join(g.folder, "admin.sock"))
		if err != nil || info.Mode().Perm()&0o007 != 0 || info.Mode().Type() != os.ModeSocket {
			g.breaks("socket: %v, %v, want a socket that others cannot open", info, err)
		}
	})
}
