package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// TestJournalOfANewerVersion: an entry that this version does not know may close something. So the
// journal is in doubt, its closes that are known hold, and a recovery leaves it in its place.
func TestJournalOfANewerVersion(t *testing.T) {
	place := shortPlace(t)
	j := openedOn(t, place)
	shut := EventEntry(journal.Shut, "ito", "test", "medisys", policy.Shut{Scope: "medisys", Reason: "test"})
	if err := j.Journal.Append(shut, journal.Entry{Kind: "quarantined", Scope: "acme"}, journal.Entry{Kind: journal.Drift}); err != nil {
		t.Fatal(err)
	}
	j.Close()
	s := New(place, place.Latch, slog.New(slog.DiscardHandler))
	var newer *journal.NewerError
	if _, err := s.Open(); !errors.As(err, &newer) || newer.Entry != 1 || !strings.Contains(err.Error(), `the kind "quarantined" is not known`) {
		t.Errorf("it opens: %v", err)
	}
	past, err := s.Damaged()
	if _, closed := past.State.Shut("medisys"); !closed || !errors.As(err, &newer) {
		t.Errorf("read as damaged: shut %v, %v", past.State.Shuts(), err)
	}
	if _, err := s.Replace(); !errors.As(err, &newer) {
		t.Errorf("a recovery: %v", err)
	}
	if _, err := os.Stat(filepath.Join(place.Folder, "checkpoint")); err != nil {
		t.Errorf("a recovery took it away: %v", err)
	}
}

// TestStateOfANewerVersion: a start passes over it, unless the entries before it were pruned.
func TestStateOfANewerVersion(t *testing.T) {
	_, err := pastOf([]journal.Entry{{Kind: journal.State, Index: 70, Event: []byte(`{"version":2}`)}})
	if err == nil || err.Error() != "entry 70 is a state of version 2: this kidoban knows version 1, so start one that knows it" {
		t.Errorf("read as %v", err)
	}
}

// TestLatchOfAnotherVersion: the list alone, as the first versions wrote it, is read. What is newer is not,
// by name; then everything is shut.
func TestLatchOfAnotherVersion(t *testing.T) {
	f := ShutFile{Lasting: filepath.Join(t.TempDir(), "shut.json")}
	const list = `[{"scope":"acme","at":"2026-12-01T00:00:00Z","actor":"ito","reason":"test"}]`
	for _, c := range []struct{ text, says string }{
		{list, ""},
		{`{"version":1,"shut":` + list + `}`, ""},
		{`{"version":2,"shut":` + list + `}`, "it has version 2, this one knows versions up to 1"},
		{`{"version":2,"closed":{}}`, "a newer kidoban wrote it"},
		{`{"version":-1,"shut":[]}`, "no version"},
	} {
		if err := os.WriteFile(f.Lasting, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, known, err := f.Load()
		if c.says == "" && (err != nil || !known || len(got) != 1 || got[0].Scope != "acme") {
			t.Errorf("%s: %v, known %t, %v", c.text, got, known, err)
		}
		if c.says != "" && (known || !strings.Contains(fmt.Sprint(err), c.says) || !strings.Contains(fmt.Sprint(err), f.Lasting)) {
			t.Errorf("%s: %v, known %t, %v", c.text, got, known, err)
		}
	}
}
