package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// TestBackupToASpare takes a gateway's state to another machine: a backup while the first one runs and
// somebody is inside, a restore by the key that the first one does not have, a start. The spare has the
// same key, journal, closes and plan. While a gateway runs, and while a restore is unfinished, neither
// can follow the other.
func TestBackupToASpare(t *testing.T) {
	t.Parallel()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	first, spare := newGround(t), newGround(t)
	spare.people, spare.privateKey, spare.publicKey = first.people, first.privateKey, first.publicKey
	root := t.TempDir()
	identity, file := filepath.Join(root, "key.txt"), filepath.Join(root, "gate.age")
	open := func(g *ground) (all []string) {
		for _, o := range g.status().Grants {
			all = append(all, fmt.Sprint(o.Vendor, o.Engineer, o.Window, o.Until))
		}
		return all
	}
	first.write(identity, key.String()+"\n")

	first.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "ehr, ehr6")})
	first.inside()
	first.must("close", "scanco", "--reason", "key stolen")
	want := open(first)
	first.must("backup", "--out", file, "--to", key.Recipient().String())
	restore := []string{"restore", "--from", file, "--identity", identity, "--yes"}
	if _, told, exit := first.operator(restore...); exit != exitNo || !strings.Contains(told, "a gateway runs") {
		t.Errorf("restore while a gateway runs: exit %d, %s", exit, told)
	}
	first.must("close", "medisys", "--reason", "after the backup")
	first.stop()
	if _, told, exit := first.operator(restore...); exit != exitNo || !strings.Contains(told, "the journal would be rolled back") {
		t.Errorf("restore over a newer journal: exit %d, %s", exit, told)
	}

	spare.must(restore...)
	spare.startAsItIs()
	spare.ready()
	s := spare.status()
	if !s.Shut.All || fmt.Sprint(s.Shut.Vendors) != "[scanco]" {
		t.Errorf("shut on the spare: %+v", s.Shut)
	}
	if s.PublicKey == nil || *s.PublicKey != policy.Key(first.publicKey) {
		t.Errorf("the spare has the key %v, want %v", s.PublicKey, policy.Key(first.publicKey))
	}
	if got := open(spare); len(got) > 0 {
		t.Errorf("open on the spare while everything is shut: %q", got)
	}
	spare.must("reopen", "--all", "--reason", "nothing was closed since")
	lab.WaitFor(t, eventually, "the spare has the same plan", func() bool { return len(want) > 0 && slices.Equal(open(spare), want) })
	spare.inside()
	if c := spare.client(spare.scanco, tanaka, 4); spare.enter(c, 1500*time.Millisecond) == nil {
		t.Error("tanaka entered by the spare")
	}
	spare.must("journal", "verify")
}
