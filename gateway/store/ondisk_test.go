package store

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kidoban/gateway/durable"
	"kidoban/gateway/journal"
)

// TestAFirstStartIsNoLostJournal: the latch, by which a lost journal is told
// from a first start, is not there before the journal is.
func TestAFirstStartIsNoLostJournal(t *testing.T) {
	state := t.TempDir()
	dir, keyFile := filepath.Join(state, "journal"), filepath.Join(state, "journal.key")
	latch := ShutFile{Lasting: filepath.Join(filepath.Dir(dir), "shut.json")}
	open := func() error {
		j, err := OnDisk{Folder: dir, KeyFile: keyFile, Latch: latch, Logger: slog.New(slog.DiscardHandler)}.Open()
		if err == nil {
			j.Close()
		}
		return err
	}
	if err := os.Mkdir(dir+".lock", 0o700); err != nil { // nothing can be opened
		t.Fatal(err)
	}
	if err := open(); err == nil || durable.Exists(latch.Lasting) {
		t.Errorf("a first start that fails: %v, and a latch: %t", err, durable.Exists(latch.Lasting))
	}
	if err := os.Remove(dir + ".lock"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := open(); err != nil || !durable.Exists(latch.Lasting) {
			t.Errorf("a start: %v, and a latch: %t", err, durable.Exists(latch.Lasting))
		}
	}
	for _, name := range []string{dir, keyFile} {
		if err := os.RemoveAll(name); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{latch.Lasting, latch.Lasting + ".stale"} {
		if err := open(); err == nil || !strings.Contains(err.Error(), "shows that there was one") {
			t.Errorf("with journal and key lost, beside %s: %v", name, err)
		}
		if err := os.Rename(name, latch.Lasting+".stale"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(latch.Lasting + ".stale"); err != nil {
		t.Fatal(err)
	}
	if err := open(); err != nil {
		t.Errorf("where nothing ever was: %v", err)
	}
}

// TestWhoHearsOfAppendedEntries hears of those that are on disk, and of no others.
func TestWhoHearsOfAppendedEntries(t *testing.T) {
	state := t.TempDir()
	var heard []journal.Kind
	j, err := OnDisk{Folder: filepath.Join(state, "journal"), KeyFile: filepath.Join(state, "journal.key"), Latch: ShutFile{Lasting: filepath.Join(state, "shut.json")}, Logger: slog.New(slog.DiscardHandler),
		Appended: func(entries []journal.Entry) {
			for _, e := range entries {
				heard = append(heard, e.Kind)
			}
		}}.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Append(journal.Entry{Kind: journal.Requested}, journal.Entry{Kind: journal.Approved}); err != nil {
		t.Fatal(err)
	}
	if err := j.Append(journal.Entry{Kind: journal.Denied, Text: strings.Repeat("x", journal.MaxEntry)}); err == nil {
		t.Error("an entry that is too long is taken")
	}
	j.Close()
	if err := j.Append(journal.Entry{Kind: journal.Revoked}); err == nil {
		t.Error("a journal that is closed takes an entry")
	}
	if !slices.Equal(heard, []journal.Kind{journal.Requested, journal.Approved}) {
		t.Errorf("heard of %q", heard)
	}
}

// TestAJournalOnDiskIsComparable: the store compares the journal of an ack with the one in use when an
// append fails, and must not panic then.
func TestAJournalOnDiskIsComparable(t *testing.T) {
	dir := t.TempDir()
	place := OnDisk{Folder: filepath.Join(dir, "journal"), KeyFile: filepath.Join(dir, "journal.key"), Latch: ShutFile{Lasting: filepath.Join(dir, "shut.json")},
		Logger: slog.New(slog.DiscardHandler), Appended: func([]journal.Entry) {}}
	j, err := place.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	s := &Store{journal: j}
	if !s.Current(Ack{journal: j}) {
		t.Error("the journal in use is another one")
	}
}
