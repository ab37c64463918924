package gateway

import (
	"os"
	"path/filepath"
	"testing"

	"kidoban/gateway/policy"
)

func TestFileMarker(t *testing.T) {
	shut := []policy.ShutRecord{{Scope: "acme", At: moment("01:00:00"), Actor: "yamada", Reason: "点検"}}
	dir := t.TempDir()
	good, alsoGood := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	bad := filepath.Join(dir, "no such folder", "three")
	for _, c := range []struct {
		name   string
		marker FileMarker
		fails  bool
		loads  int
	}{
		{"one place", FileMarker{good}, false, 1},
		{"two places keep it twice", FileMarker{good, alsoGood}, false, 2},
		{"one of two will do", FileMarker{bad, good}, false, 1},
		{"no place will not", FileMarker{bad}, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.marker.Save(shut); (err != nil) != c.fails {
				t.Errorf("save: %v, want an error: %t", err, c.fails)
			}
			got, err := c.marker.Load()
			if err != nil {
				t.Errorf("load: %v", err)
			}
			same(t, "records", len(got), c.loads)
			for _, r := range got {
				same(t, "record", r, shut[0])
			}
			if err := c.marker.Save(nil); err != nil {
				t.Errorf("removing: %v", err)
			}
			left, err := filepath.Glob(filepath.Join(dir, "*"))
			if err != nil || len(left) != 0 {
				t.Errorf("files left: %q, %v", left, err)
			}
		})
	}
	t.Run("what cannot be read is an error beside what can", func(t *testing.T) {
		m := FileMarker{good, alsoGood}
		if err := m.Save(shut); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(good, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := m.Load()
		if err == nil {
			t.Error("no error")
		}
		same(t, "records", len(got), 1)
	})
}
