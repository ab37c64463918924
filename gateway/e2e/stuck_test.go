package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
)

// TestALogThatNobodyReads: the gateway runs in a terminal that was stopped, or
// beside a collector that hangs.
func TestALogThatNobodyReads(t *testing.T) {
	held(t, func(g *ground) {
		g.serve()
		read, write, err := os.Pipe()
		g.check(err)
		defer read.Close()
		defer write.Close()
		size, err := unix.FcntlInt(write.Fd(), unix.F_SETPIPE_SZ, 4096)
		g.check(err)
		g.stderr = write
		g.open([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
		client := g.client(g.medisys, sato, 4)
		g.mustEnter(client)
		waiting := func() int {
			n, err := unix.IoctlGetInt(int(read.Fd()), unix.TIOCINQ)
			g.check(err)
			return n
		}
		lab.WaitFor(g.t, 30*time.Second, "nothing more goes into the log", func() bool {
			g.must("reload")
			before := waiting()
			g.must("reload")
			return before == waiting() && before > size/2
		})
		for range 5 {
			g.must("reload")
		}
		if !g.status().Ready {
			g.breaks("ready: %s", g.status().NotReadyReason)
		}
		g.holds(g.reach(g.medisys, "tcp", netip.AddrPortFrom(ehr4, 22), eventually), "works")
		if outcome := g.closing(sato); !outcome.Recorded {
			g.breaks("recorded: %+v", outcome)
		}
		if g.reach(g.medisys, "tcp", netip.AddrPortFrom(ehr4, 22), time.Second) == nil {
			g.breaks("closing: sato still reaches ehr")
		}
		g.signal(unix.SIGTERM)
		select {
		case <-g.ended:
		case <-time.After(10 * time.Second):
			g.breaks("stop: the gateway waits for who reads its log")
		}
	})
}

// TestALoopThatHangs: nobody records who comes, so that the gate alone has to
// cut them; and everybody who asks is told.
func TestALoopThatHangs(t *testing.T) {
	held(t, func(g *ground) {
		g.serve()
		g.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "pacs")})
		inside, comes := g.client(g.medisys, sato, 4), g.client(g.scanco, tanaka, 4)
		g.mustEnter(inside)
		g.onRecord(sato)
		if err := g.reach(g.medisys, "tcp", netip.AddrPortFrom(ehr4, 22), eventually); err != nil {
			g.t.Fatalf("sato, before the loop hangs: %v", err)
		}
		g.write(g.stuckFile(), "")
		lab.WaitFor(g.t, eventually, "the loop hangs", func() bool { return exists(g.stuckFile() + ".held") })
		g.mustEnter(comes)
		entered := time.Now()
		pacs := netip.AddrPortFrom(pacs4, 104)
		until(entered.Add(time.Second + patience))
		if g.reach(g.scanco, "tcp", pacs, patience) == nil {
			g.breaks("unrecorded: tanaka reaches pacs more than a second after an admission that nobody recorded")
		}
		if err := g.enter(comes, 2*time.Second); err == nil {
			g.breaks("again: tanaka entered once more")
		}
		g.holds(g.reach(g.medisys, "tcp", netip.AddrPortFrom(ehr4, 22), eventually), "works: sato, who is on record")
		g.holds(g.shutInDoubt("the loop does not turn"), "told")
		g.check(os.Remove(g.stuckFile()))
		g.ready()
		g.holds(g.enter(comes, eventually), "recovered: the loop turns again, and tanaka cannot enter")
		g.holds(g.reach(g.scanco, "tcp", pacs, eventually), "recovered: tanaka is inside")
		g.expect("recorded", eventually, func() error {
			if admitted := g.entries(journal.Admission); !slices.ContainsFunc(admitted, func(e journal.Entry) bool { return e.Engineer == "tanaka" }) {
				return fmt.Errorf("no admission of tanaka among %d", len(admitted))
			}
			return nil
		})
		if closed := g.entries(journal.SessionClosed); slices.ContainsFunc(closed, func(e journal.Entry) bool { return e.Engineer == "sato" }) {
			g.breaks("works: sato's session ended: %+v", closed)
		}
	})
}

// TestACloseWhileTheLoopHangs is not lost: a restart closes, and so does the
// loop when it goes on. The operator is told that nothing is cut before.
func TestACloseWhileTheLoopHangs(t *testing.T) {
	held(t, func(g *ground) {
		g.serve()
		g.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "pacs")})
		inside := g.client(g.medisys, sato, 4)
		ssh := netip.AddrPortFrom(ehr4, 22)
		hung := func(args ...string) {
			g.t.Helper()
			g.mustEnter(inside)
			g.onRecord(sato)
			if err := g.reach(g.medisys, "tcp", ssh, eventually); err != nil {
				g.t.Fatalf("sato, before the loop hangs: %v", err)
			}
			_ = os.Remove(g.stuckFile() + ".held")
			g.write(g.stuckFile(), "")
			lab.WaitFor(g.t, eventually, "the loop hangs", func() bool { return exists(g.stuckFile() + ".held") })
			out, complaint, exit := g.operator(append([]string{"close", "--reason", "a test"}, args...)...)
			if exit != exitFailed || !strings.Contains(complaint, "is not cut: whoever is inside stays inside; `systemctl restart kidoban`") ||
				!strings.HasSuffix(complaint, "; it is closed as soon as the gateway goes on or is started anew\n") {
				g.breaks("told: close %v: exit %d: %s%s", args, exit, out, complaint)
			}
			g.holds(g.reach(g.medisys, "tcp", ssh, eventually), "told: sato is inside")
		}

		hung("--all")
		g.stop()
		g.check(os.Remove(g.stuckFile()))
		g.startReady()
		if !g.status().Shut.All {
			g.breaks("restarted: shut is %+v", g.status().Shut)
		}
		if err := g.enter(inside, 2*time.Second); err == nil {
			g.breaks("restarted: sato enters")
		}
		if shut := g.entries(journal.Shut); len(shut) != 1 || shut[0].Reason != "a test" {
			g.breaks("recorded: %+v", shut)
		}
		g.must("reopen", "--all", "--reason", "a test")

		hung(sato)
		g.check(os.Remove(g.stuckFile()))
		lab.WaitFor(g.t, eventually, "sato is closed when the loop goes on", func() bool { return slices.Equal(g.status().Shut.Engineers, []string{sato}) })
		if g.reach(g.medisys, "tcp", ssh, time.Second) == nil {
			g.breaks("going on: sato still reaches ehr")
		}
		g.must("reopen", sato, "--reason", "a test")
		g.kill()
		g.startReady()
		g.holds(g.enter(inside, eventually), "reopened: sato cannot enter")
	})
}

// TestCommandsToAStoppedGateway say within what an operator waits that it does
// not answer; and a close takes effect when it goes on.
func TestCommandsToAStoppedGateway(t *testing.T) {
	held(t, func(g *ground) {
		g.open([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
		g.signal(unix.SIGSTOP)
		for command, within := range map[string]string{"status": "15s", "close --all --reason test": "20s"} {
			out, complaint, exit := g.operator(strings.Fields(command)...)
			if exit != exitFailed || out != "" || !strings.HasPrefix(complaint, "kidoban: the gateway does not answer within "+within) {
				g.breaks("told: %s: exit %d: %s%s", command, exit, out, complaint)
			}
		}
		g.signal(unix.SIGCONT)
		lab.WaitFor(g.t, eventually, "the close takes effect when the gateway goes on", func() bool { return g.status().Shut.All })
	})
}
