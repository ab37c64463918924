package backup

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"filippo.io/age"

	"kidoban/gateway/journal"
)

var update = flag.Bool("update", false, "make the backup of version 1 where it is not there")

// TestBackupOfVersion1: every later version restores it. -update made it, which makes it only where it is
// not there.
func TestBackupOfVersion1(t *testing.T) {
	const file, identity = "testdata/v1/backup.age", "testdata/v1/identity"
	if _, err := os.Stat(file); *update && os.IsNotExist(err) {
		key := newIdentity(t)
		s := workingSite(t, 20)
		latch, err := os.ReadFile(s.latch().Lasting)
		s.check(err)
		s.put(s.latch().Lasting, strings.TrimSpace(string(latch))) // without its room
		s.check(os.MkdirAll("testdata/v1", 0o755))
		s.check(os.WriteFile(identity, []byte(key.String()+"\n"), 0o600))
		s.check(os.WriteFile(file, s.backup(key), 0o600))
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(identity)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := age.ParseIdentities(bytes.NewReader(key))
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	p, err := Begin(s.Machine, bytes.NewReader(text), keys, someTime)
	s.check(err)
	if p.Program != "v1.2.3" || p.Host != "gate" || p.Compared.Backup != 20 || len(p.Files) != 12 {
		t.Errorf("program %s, host %s, %d entries, %d files", p.Program, p.Host, p.Compared.Backup, len(p.Files))
	}
	_, err = p.Apply(journal.Entry{Actor: "ito"})
	s.check(err)
	s.check(p.Drop())
	if got := s.shut(); got != "all medisys" {
		t.Errorf("shut: %s", got)
	}
	if got := s.files(); got["etc/policy.yaml"] != "policy.yaml of a site\n" || got["etc/keys/sato.psk"] != "sato.psk of a site\n" || got["state/private.key"] != "private.key of a site\n" {
		t.Errorf("files: %q", got)
	}
}

// TestStepsOfANewerVersion: what a newer version left unfinished, that one finishes.
func TestStepsOfANewerVersion(t *testing.T) {
	s := newSite(t)
	text, err := json.Marshal(steps{Version: stepsVersion + 1})
	s.check(err)
	s.put(s.State+"/"+pending+"/"+stepsName, string(text))
	if _, err := Continue(s.Machine); err == nil || !strings.Contains(err.Error(), "its steps have version 2, this one knows 1") {
		t.Errorf("continued: %v", err)
	}
}
