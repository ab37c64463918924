package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kidoban/config"
)

// TestWarningsOfAnotherDay: a contract comes to its end while the policy is in
// force, and the file may have gone meanwhile.
func TestWarningsOfAnotherDay(t *testing.T) {
	text, err := os.ReadFile("testdata/site.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f := &config.File{Path: filepath.Join(t.TempDir(), "policy.yaml"), Addresses: func() ([]netip.Addr, error) { return nil, nil }}
	if err := os.WriteFile(f.Path, text, 0o640); err != nil {
		t.Fatal(err)
	}
	loaded, _, err := f.Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(f.Path); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]string{
		"2031-02-28T23:59:59+09:00": "",
		"2031-03-01T00:00:00+09:00": "the contract ends on 2031-03-31, in less than 31 days",
		"2031-04-01T00:00:00+09:00": "the contract ended on 2031-03-31",
	} {
		now, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, warning := range f.Warnings(loaded, now) {
			if strings.Contains(warning.String(), "medisys.contract") {
				got = append(got, warning.String())
			}
		}
		if (want != "") != (len(got) == 1) || want != "" && (!strings.HasPrefix(got[0], f.Path+":") || !strings.Contains(got[0], want)) {
			t.Errorf("at %s: %q, want %q", at, got, want)
		}
	}
}
