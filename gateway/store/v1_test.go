package store

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kidoban/gateway/journal"
)

// v1 is the state of a gateway as the first version of each format has it. gateway/e2e made it, by
// TestStateOfVersion1 -update, once: every later version reads these bytes.
const v1 = "testdata/v1"

// copied copies the state to a folder of its own, with the modes that keys need.
func copied(t *testing.T) OnDisk {
	t.Helper()
	state := t.TempDir()
	err := filepath.WalkDir(v1, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(state, strings.TrimPrefix(path, v1))
		if d.IsDir() {
			return os.MkdirAll(to, 0o700)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, text, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return OnDisk{Folder: filepath.Join(state, "journal"), KeyFile: filepath.Join(state, "journal.key"), Latch: ShutFile{Lasting: filepath.Join(state, "shut.json")},
		Logger: slog.New(slog.DiscardHandler)}
}

// TestVersion1 replays a journal of version 1, whole and from its newest state, to what it was: the state
// in past.json.
func TestVersion1(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(v1, "past.json"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := pastOf([]journal.Entry{{Kind: journal.State, Event: []byte(`{"version":1}`), Text: string(text)}})
	if err != nil {
		t.Fatal(err)
	}
	fast := copied(t)
	fast.wholeBelow = 10
	for name, place := range map[string]OnDisk{"whole": copied(t), "from its newest state": fast} {
		key, err := journal.VerifierKey(place.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		report, err := journal.VerifyDir(place.Folder, key, nil)
		if err != nil || report.Proven < 30 {
			t.Fatalf("%s: %d entries are proven, %v", name, report.Proven, err)
		}
		past, entries := read(t, openedOn(t, place))
		if whole := name == "whole"; whole != (int64(entries) == report.Size) {
			t.Errorf("%s: %d entries were read of %d", name, entries, report.Size)
		}
		if diff := samePast(want, past, false); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		if shut := past.State.Shuts(); len(shut) != 2 || len(past.State.Requests()) != 3 || len(past.Timestamps) > 0 || past.Began.IsZero() {
			t.Errorf("%s: shut %v, requests %v, %d timestamps, began %v", name, shut, past.State.Requests(), len(past.Timestamps), past.Began)
		}
		latched, known, err := place.Latch.Load()
		if err != nil || !known || !slices.EqualFunc(latched, past.State.Shuts(), sameRecord) {
			t.Errorf("%s: the latch says %v, known %t, %v", name, latched, known, err)
		}
	}
}
