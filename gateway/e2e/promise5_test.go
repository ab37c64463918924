package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kidoban/gateway"
	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
	"kidoban/gateway/session"
	"kidoban/gateway/view"
)

// TestPromise5NoRecordNoEntry: a grant opens only after its journal entry is
// on disk; a session whose admission is not on disk within a second is cut;
// closing never waits for the journal.
func TestPromise5NoRecordNoEntry(t *testing.T) {
	t.Parallel()
	t.Run("a disk that does not answer", func(t *testing.T) {
		t.Parallel()
		hold(t, slowDisk, trial{without: []string{recordLayer}, breaks: []string{"opening", "first", "unrecorded"}})
	})
	t.Run("a disk that is full", func(t *testing.T) {
		t.Parallel()
		hold(t, fullDisk, trial{without: []string{recordLayer}, breaks: []string{"full"}})
	})
}

// slowDisk has a disk that does not answer for a while.
func slowDisk(g *ground) {
	g.sinks()
	g.open([]string{nextYear("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
	client := g.client(g.medisys, sato, 4)
	wire := g.tunnelWire(g.medisys)

	hang := func() { g.write(g.hangFile(), "") }
	answer := func() {
		g.check(os.Remove(g.hangFile()))
	}
	hang()
	g.approve([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
	g.signal(syscall.SIGHUP)
	lab.WaitFor(g.t, 5*time.Second, "the new policy is in force", func() bool {
		out, _, _ := g.operator("explain", sato, "--at", time.Now().Add(time.Minute).Format(time.RFC3339))
		return strings.HasPrefix(out, "ADMIT")
	})
	within := 1500 * time.Millisecond
	if len(g.without) > 0 { // it is to be found that he enters
		within = g.eventually()
	}
	if err := g.enter(client, within); err == nil {
		g.breaks("opening: sato entered while the entry of the opening was not on disk")
	}
	answer()
	g.mustEnter(client)
	// Who is inside is in the journal by now: the opening before the
	// handshake, the admission soon after it.
	if opened := g.entries(journal.WindowOpened); !slices.ContainsFunc(opened, func(e journal.Entry) bool {
		return e.Engineer == "sato" && e.Window == "work" && e.Until.After(time.Now())
	}) {
		g.breaks("first: sato is inside, and the journal on disk has only these openings: %+v", opened)
	}
	// Later than after a second it is too late, and the session is cut: then
	// nothing of what follows passes.
	g.expect("first", eventually, func() error {
		if len(g.without) == 0 && len(g.entries(journal.Admission)) == 0 {
			return fmt.Errorf("no admission is on disk")
		}
		return nil
	})

	// Closing does not wait.
	flows := g.flow()
	hang()
	outcome := g.closing(sato)
	flows.stop()
	shut := g.status().Shut.Records
	if len(shut) != 1 {
		g.t.Fatalf("%d scopes are shut, want sato's", len(shut))
	}
	g.stopped("closing", flows, wire, shut[0].At, oneLag)
	if len(g.without) == 0 && (outcome.Recorded || !outcome.Kept) {
		g.breaks("closing: the disk did not answer, and the command says recorded: %v, kept for a restart: %v", outcome.Recorded, outcome.Kept)
	}
	answer()
	g.must("reopen", sato, "--reason", "phone call")

	// A session whose admission does not reach the disk.
	lab.WaitFor(g.t, eventually, "sato may enter again", func() bool {
		return slices.ContainsFunc(g.status().Grants, func(s view.GrantStatus) bool { return s.Vendor+"/"+s.Engineer == sato })
	})
	hang()
	stop := g.trickle() // that he begins to work takes none of his second
	g.lan.Forget()
	g.mustEnter(client)
	entered := time.Now()
	until(entered.Add(time.Second + 2*patience))
	stop()
	if len(g.lan.Packets(lab.Outgoing, g.ofSato)) == 0 {
		g.breaks("work: sato is inside, and nothing of his passed")
	}
	if late := g.lan.Packets(lab.Outgoing, g.ofSato, func(p lab.Packet) bool { return p.At.After(entered.Add(time.Second + patience)) }); len(late) > 0 {
		g.breaks("unrecorded: %d packets passed more than a second after an admission that is not on disk, the last %v after", len(late), late[len(late)-1].At.Sub(entered))
	}
	if out, _, code := g.operator("explain", sato); len(g.without) == 0 && (code != exitNo || !strings.HasPrefix(out, "REFUSE  not_ready") || !strings.Contains(out, "the disk has not answered for ")) {
		g.breaks("explained: explain exits with %d and says\n%s", code, out)
	}
	answer()
	g.expect("unrecorded", eventually, func() error {
		closed := g.entries(journal.SessionClosed)
		if !slices.ContainsFunc(closed, func(e journal.Entry) bool { return e.Reason == string(session.Unrecorded) }) {
			return fmt.Errorf("no session ended as unrecorded: %+v", closed)
		}
		return nil
	})
	g.holds(g.enter(client, eventually), "recovered: the disk answers again, and sato cannot enter")
}

// trickle has sato send to the hospital without end, whether or not he is
// inside, and gives what stops it.
func (g *ground) trickle() (stop func()) {
	g.t.Helper()
	c, err := g.medisys.Dial(g.t.Context(), "udp", netip.AddrPortFrom(ehr6, 53).String())
	g.check(err)
	ctx, cancel := context.WithCancel(g.t.Context())
	var work sync.WaitGroup
	work.Go(func() {
		defer c.Close()
		for ctx.Err() == nil {
			_, _ = c.Write([]byte("work"))
			time.Sleep(5 * time.Millisecond)
		}
	})
	stop = func() { cancel(); work.Wait() }
	g.t.Cleanup(stop)
	return stop
}

// close shuts a scope and gives what the command says.
func (g *ground) close(who string) (outcome gateway.Outcome, complaint string, exit int) {
	g.t.Helper()
	out, complaint, exit := g.operator("close", who, "--reason", "phone call", "--json")
	if err := json.Unmarshal([]byte(out), &outcome); err != nil {
		g.t.Fatalf("kidoban close: %v: %s%s", err, out, complaint)
	}
	return outcome, complaint, exit
}

// closing is close where gate and kernel have to follow in time.
func (g *ground) closing(who string) gateway.Outcome {
	g.t.Helper()
	outcome, _, _ := g.close(who)
	if !outcome.Applied {
		g.breaks("closing: the command says that gate and kernel do not stand as decided: %s", outcome.Problem)
	}
	return outcome
}

// fullDisk has a disk that takes nothing more.
func fullDisk(g *ground) {
	g.sinks()
	g.smallDisk("1m")
	g.open([]string{hour("work", "ehr, ehr6", "sato")}, []string{nextYear("later", "pacs")})
	inside, outside := g.client(g.medisys, sato, 4), g.client(g.scanco, tanaka, 4)
	g.mustEnter(inside)
	_ = g.flow()
	room := g.fillDisk()

	g.approve([]string{hour("work", "ehr, ehr6", "sato")}, []string{hour("work", "pacs")})
	_, _, _ = g.operator("reload") // it takes the policy, and cannot record it
	if err := g.enter(outside, 1500*time.Millisecond); err == nil {
		g.breaks("full: tanaka entered, though the journal cannot take the opening")
	}
	g.holds(g.shutInDoubt("no space left"), "full")
	if _, err := g.medisys.Ping(g.within(patience), ehr4); err == nil {
		g.breaks("full: sato is still inside, and what happens cannot be recorded")
	}
	// Closing works all the same, and is kept for a restart if there is room
	// anywhere.
	if outcome := g.closing(sato); len(g.without) == 0 && (outcome.Recorded || !outcome.Kept) {
		g.breaks("closing: the disk is full, and the command says recorded: %v, kept for a restart: %v", outcome.Recorded, outcome.Kept)
	}
	room()
	g.must("recover", "--reason", "made room")
	g.holds(g.enter(outside, eventually), "recovered: there is room again, and tanaka cannot enter")
	if err := g.enter(inside, 1500*time.Millisecond); err == nil {
		g.breaks("recovered: sato was shut while the journal was dead, and enters after it")
	}
}

// shutInDoubt waits until the gateway says that nobody may enter, and why, by
// every way it has to say so.
func (g *ground) shutInDoubt(why string) error {
	return lab.Wait(g.within(g.eventually()), func() error {
		out, _, exit := g.operator("status", "--json")
		var s view.Status
		if err := json.Unmarshal([]byte(out), &s); err != nil {
			return fmt.Errorf("kidoban status: %w", err)
		}
		code, text, err := g.get("/readyz")
		if err != nil {
			return err
		}
		up, metrics, err := g.get("/metrics")
		if err != nil {
			return err
		}
		switch {
		case s.Ready || exit != exitNo:
			return fmt.Errorf("status says ready: %v, exit %d", s.Ready, exit)
		case !strings.Contains(s.NotReadyReason, why):
			return fmt.Errorf("status says %q, want something about %q", s.NotReadyReason, why)
		case code != 503 || !strings.Contains(text, why):
			return fmt.Errorf("/readyz says %d %q, want 503 and something about %q", code, text, why)
		case up != 200 || !strings.Contains(metrics, "\nkidoban_ready 0\n"):
			return fmt.Errorf("/metrics says %d, kidoban_ready 0: %v", up, strings.Contains(metrics, "\nkidoban_ready 0\n"))
		case len(s.Grants) > 0:
			return fmt.Errorf("%d grants are open in doubt", len(s.Grants))
		}
		return nil
	})
}
