package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/journal"
)

// A line shows the names for people beside the short ones.
func TestTheJournalIsListedWithNames(t *testing.T) {
	e := journal.Entry{Kind: journal.SessionOpened, Vendor: "medisys", VendorName: "株式会社メディシス", Engineer: "sato", EngineerName: "佐藤\n太郎"}
	for want, e := range map[string]journal.Entry{
		"  medisys/sato (株式会社メディシス 佐藤·太郎)": e,
		"  medisys/sato": {Kind: e.Kind, Vendor: e.Vendor, Engineer: e.Engineer},
	} {
		if got := (&program{zone: time.UTC}).entry(7, e); !strings.HasSuffix(got, want) {
			t.Errorf("listed as %q, want the end %q", got, want)
		}
	}
}

// A key is a possible name of a file. Who hands a copy over that he signed
// himself must not get his key believed by a file of that name beside it.
func TestTheKeyThatIsGivenIsTheKey(t *testing.T) {
	key := func(state string) string {
		j, err := journal.Open(journalPlace(state))
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Append(journal.Entry{Kind: journal.Start, Actor: "gateway"}); err != nil {
			t.Fatal(err)
		}
		j.Close()
		_, file := journalPlace(state)
		text, err := journal.VerifierKey(file)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	genuine, forged := key(t.TempDir()), t.TempDir()
	forgers := key(forged)

	hand := t.TempDir()
	planted := filepath.Join(hand, genuine)
	if err := os.MkdirAll(filepath.Dir(planted), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(planted, []byte(forgers+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(hand)
	copied, _ := journalPlace(forged)
	for _, c := range []struct {
		key    string
		status int
	}{
		{genuine, exitNo},
		{forgers, 0},
		{"./" + strings.TrimSuffix(genuine, "/"), 0}, // the path of the file; a key may end in a slash
	} {
		var out, failures bytes.Buffer
		if got := run([]string{"journal", "verify", copied, "--key", c.key}, nil, &out, &failures); got != c.status {
			t.Errorf("with --key %s: status %d, want %d\n%s%s", c.key, got, c.status, &out, &failures)
		}
		if strings.Contains(out.String(), "VERIFIED") != (c.status == 0) {
			t.Errorf("with --key %s it says:\n%s", c.key, &out)
		}
	}
}
