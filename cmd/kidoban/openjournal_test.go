package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kidoban/gateway"
)

// TestAFirstStartIsNoLostJournal: the marker by which a lost journal is told
// from a first start is not there before the journal is.
func TestAFirstStartIsNoLostJournal(t *testing.T) {
	dir, keyFile := journalPlace(t.TempDir())
	marker := gateway.FileMarker{Lasting: filepath.Join(filepath.Dir(dir), "shut.json")}
	open := func() error {
		j, err := openJournal(dir, keyFile, marker, slog.New(slog.DiscardHandler))
		if err == nil {
			j.Close()
		}
		return err
	}
	if err := os.Mkdir(dir+".lock", 0o700); err != nil { // nothing can be opened
		t.Fatal(err)
	}
	if err := open(); err == nil || exists(marker.Lasting) {
		t.Errorf("a first start that fails: %v, and a marker: %t", err, exists(marker.Lasting))
	}
	if err := os.Remove(dir + ".lock"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := open(); err != nil || !exists(marker.Lasting) {
			t.Errorf("a start: %v, and a marker: %t", err, exists(marker.Lasting))
		}
	}
	for _, name := range []string{dir, keyFile} {
		if err := os.RemoveAll(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "shows that there was one") {
		t.Errorf("with journal and key lost: %v", err)
	}
	if err := os.Remove(marker.Lasting); err != nil {
		t.Fatal(err)
	}
	if err := open(); err != nil {
		t.Errorf("where nothing ever was: %v", err)
	}
}
