package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
	"kidoban/gateway/store"
)

// TestFault48WhatWasShutStaysShut: an operator closes a vendor, and the disk damages
// the journal while no gateway runs. What was shut does not open by a recovery:
// it is known to be shut, by the journal or by its copy, or everything is, until
// an operator has looked.
func TestFault48WhatWasShutStaysShut(t *testing.T) {
	change := func(g *ground, path string, f func([]byte) []byte) {
		g.t.Helper()
		was, err := os.ReadFile(path)
		g.check(err)
		now := f(bytes.Clone(was))
		if bytes.Equal(was, now) {
			g.t.Fatalf("%s was not changed", path)
		}
		g.write(path, string(now))
	}
	replace := func(old, new string) func(*ground) {
		return func(g *ground) {
			change(g, g.bundle(), func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(new), 1) })
		}
	}
	remove := func(names ...string) func(*ground) {
		return func(g *ground) {
			for _, name := range names {
				g.check(os.RemoveAll(filepath.Join(g.stateDir(), name)))
			}
		}
	}
	flip := func(b []byte) []byte { b[0] ^= 0x40; return b }
	for _, c := range []struct {
		name   string
		damage func(*ground)
		known  bool // that medisys is shut
		intact bool // nothing of it is lost
		copied bool // the latch is there
	}{
		{"the length of the first entry", func(g *ground) { change(g, g.bundle(), flip) }, false, false, false},
		{"an entry before the shut", replace(`"kind":"start"`, `"kind":"stars"`), true, false, false},
		{"the shut", replace(`"kind":"shut"`, `"kind":"sxut"`), false, false, false},
		{"an entry after the shut", replace(`"kind":"stop"`, `"kind":"stoq"`), true, false, false},
		{"the bundle", func(g *ground) { remove(strings.TrimPrefix(g.bundle(), g.stateDir()))(g) }, false, false, false},
		{"a checkpoint of zeros", func(g *ground) {
			change(g, filepath.Join(g.stateDir(), "journal", "checkpoint"), func(b []byte) []byte { return make([]byte, len(b)) })
		}, true, false, false},
		{"no checkpoint", remove("journal/checkpoint"), true, false, false},
		{"no folder", remove("journal"), false, false, false},
		{"no key", remove("journal.key"), true, false, false},
		{"neither folder nor key", remove("journal", "journal.key"), false, false, false},
		{"the length of the first entry, with a copy", func(g *ground) { change(g, g.bundle(), flip) }, true, true, true},
		{"the shut, with a copy", replace(`"kind":"shut"`, `"kind":"sxut"`), true, true, true},
		{"no folder, with a copy", remove("journal"), true, true, true},
		{"neither folder nor key, with a copy", remove("journal", "journal.key"), true, true, true},
		{"a hash, which shuts nobody", func(g *ground) {
			change(g, filepath.Join(g.stateDir(), "journal", "tile", "0", "000.p", filepath.Base(g.bundle())), flip)
		}, true, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
			g.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "ehr, ehr6")})
			g.must("close", "medisys", "--reason", "key stolen")
			g.stop()
			c.damage(g)
			if !c.copied { // the room for it alone shows that there was a journal
				change(g, filepath.Join(g.stateDir(), "shut.json"), func(b []byte) []byte { return bytes.Repeat([]byte{' '}, len(b)) })
				if err := os.Remove(filepath.Join(g.folder, "shut.json")); err != nil {
					t.Fatal(err)
				}
			}
			g.start()
			if err := g.shutInDoubt("journal"); err != nil {
				t.Error(err)
			}
			out := g.must("recover", "--reason", "disk replaced")
			g.ready()
			if strings.Contains(out, "EVERYTHING IS SHUT") == c.intact || strings.Contains(out, "Shut now: all") == c.intact {
				t.Errorf("the operator is told:\n%s", out)
			}
			shut := func(when string) {
				t.Helper()
				for range 2 {
					if out, _, exit := g.operator("explain", sato, "--from", medisys4.String()); exit != exitNo || !strings.Contains(out, "_shut") {
						t.Errorf("%s, sato would be told: exit %d, %s", when, exit, out)
					}
					g.kill()
					g.startReady()
					when += ", and after a restart"
				}
			}
			shut("when recovered")
			client := g.client(g.medisys, sato, 4)
			if g.enter(client, 1500*time.Millisecond) == nil {
				t.Error("sato entered when the gateway had recovered")
			}
			if s := g.status(); s.Shut.All == c.intact || (len(s.Shut.Vendors) == 1) != c.known {
				t.Errorf("shut: %+v", s.Shut)
			}
			if !c.intact {
				if !c.known {
					g.must("close", "medisys", "--reason", "key stolen")
				}
				if shuts := g.entries(journal.Shut); !strings.Contains(shuts[0].Reason+shuts[len(shuts)-1].Reason, "kidoban reopen --all") {
					t.Errorf("the new journal says %+v", shuts)
				}
				g.must("reopen", "--all", "--reason", "medisys is closed again")
			}
			g.mustEnter(g.client(g.scanco, tanaka, 4))
			shut("when all but medisys is open")
			g.must("reopen", "medisys", "--reason", "a new key")
			lab.WaitFor(t, eventually, "sato enters", func() bool { return g.knock(client, 600*time.Millisecond) == nil })
		})
	}
}

// TestFault48ACloseOnAFullDiskStaysShut: the disk is full when an operator
// closes a vendor, so that only the latch's own room takes the close, and the
// journal is damaged later.
func TestFault48ACloseOnAFullDiskStaysShut(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.smallDisk("2m")
	g.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "ehr, ehr6")})
	latch := store.ShutFile{Lasting: filepath.Join(g.stateDir(), "shut.json")}
	lab.WaitFor(t, eventually, "the latch says that nothing is shut", func() bool {
		shut, known, err := latch.Load()
		return err == nil && known && len(shut) == 0
	})
	room := g.fillDisk()
	// That the ruleset stands in time is not asked here.
	if outcome, complaint, _ := g.close("medisys"); outcome.Recorded || !outcome.Kept {
		t.Fatalf("close: %+v: %s", outcome, complaint)
	}
	room()
	g.must("recover", "--reason", "room again")
	g.ready()
	if shut, known, err := latch.Load(); err != nil || !known || len(shut) != 1 || shut[0].Scope != "medisys" {
		t.Errorf("the latch says %v, %t, %v", shut, known, err)
	}
	g.stop()
	g.write(g.bundle(), "garbage")
	g.start()
	if err := g.shutInDoubt("journal"); err != nil {
		t.Error(err)
	}
	if out := g.must("recover", "--reason", "disk replaced"); strings.Contains(out, "EVERYTHING IS SHUT") {
		t.Errorf("the operator is told:\n%s", out)
	}
	g.ready()
	if out, _, exit := g.operator("explain", sato, "--from", medisys4.String()); exit != exitNo || !strings.Contains(out, "vendor_shut") {
		t.Errorf("sato would be told: exit %d, %s", exit, out)
	}
	if g.enter(g.client(g.medisys, sato, 4), 1500*time.Millisecond) == nil {
		t.Error("sato entered when the gateway had recovered")
	}
	g.mustEnter(g.client(g.scanco, tanaka, 4))
}

// bundle is the one file that has the journal's entries.
func (g *ground) bundle() string {
	g.t.Helper()
	all, err := filepath.Glob(filepath.Join(g.stateDir(), "journal", "tile", "entries", "000.p", "*"))
	if err != nil || len(all) != 1 {
		g.t.Fatalf("bundles %q, %v", all, err)
	}
	return all[0]
}
