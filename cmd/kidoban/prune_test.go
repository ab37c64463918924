package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kidoban/cmd/kidoban/audit"
	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/journal"
	"kidoban/gateway/store"
)

// pruned is a journal of three years: 300 entries each, of which the first have the policy.
type pruned struct {
	t     *testing.T
	state string
	j     *journal.Journal
}

func newPruned(t *testing.T, retention string) *pruned {
	text, err := os.ReadFile("testdata/site.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p := &pruned{t: t, state: t.TempDir()}
	p.open()
	at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	entries := []journal.Entry{{Kind: journal.PolicyText, Digest: "d", Text: string(text) + retention}, {Kind: journal.PolicyLoaded, Digest: "d", Event: []byte(`{"digest":"d"}`)}}
	for len(entries) < 900 {
		entries = append(entries, journal.Entry{Kind: journal.Drift, Actor: "gateway"})
	}
	for i := range entries {
		entries[i].Time = at.Add(time.Duration(i) * 1752 * time.Minute) // 300 a year
	}
	p.append(entries...)
	return p
}

func (p *pruned) open() {
	dir, keyFile := audit.Place(p.state)
	j, err := journal.Open(dir, keyFile)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { j.Close() })
	p.j = j
}

// copy makes a copy of the journal as it is.
func (p *pruned) copy() (to string) {
	dir, keyFile := audit.Place(p.state)
	key, err := journal.VerifierKey(keyFile)
	if err == nil {
		to = filepath.Join(p.t.TempDir(), "copy")
		_, err = journal.Copy(dir, to, key, nil)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return to
}

func (p *pruned) append(entries ...journal.Entry) {
	p.t.Helper()
	if err := p.j.Append(entries...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pruned) do(args ...string) (status int, out string) {
	var printed, failures bytes.Buffer
	status = run(append([]string{"journal"}, args...), []string{"KIDOBAN_STATE_DIR=" + p.state, "LANG=C", "TZ=UTC"}, &printed, &failures)
	return status, printed.String() + failures.String()
}

// elsewhere is where a test has its copy; it stands for a folder of the test.
const elsewhere = "/mnt/share/journal"

// covered are the entries that allow to prune the first ones.
func covered(size int64) []journal.Entry { return coveredAt(elsewhere, size) }

func coveredAt(to string, size int64) []journal.Entry {
	return []journal.Entry{
		{Kind: journal.Mirrored, Count: size, Event: fmt.Appendf(nil, `{"to":%q,"size":%d}`, to, size)},
		{Kind: journal.Mirrored, Count: size, Text: "witness.example", Event: fmt.Appendf(nil, `{"to":"witness.example","size":%d,"witness":true}`, size)},
		{Kind: journal.State, Count: 902, Event: []byte(`{"version":1}`), Text: "{}"},
	}
}

// TestPruneRefuses for each reason, and names all of them at once.
func TestPruneRefuses(t *testing.T) {
	opened := journal.Entry{Kind: journal.Incident, Event: []byte(`{"verb":"opened","id":"i-1","kind":"leak","reason":"r"}`)}
	closed := journal.Entry{Kind: journal.Incident, Event: []byte(`{"verb":"closed","id":"i-1","reason":"r"}`)}
	for _, c := range []struct {
		name      string
		retention string
		entries   []journal.Entry
		before    string
		running   bool
		want      []string // of the reasons; none: it is pruned
	}{
		{"nothing is there", "", nil, "2025-01-01", true, []string{"retention", "no copy", "no witness", "kind state", "the gateway runs"}},
		{"all is there", "retention: 1mo\n", covered(700), "2025-12-01", false, nil},
		{"an incident was closed", "retention: 1mo\n", append(covered(700), opened, closed), "2025-12-01", false, nil},
		{"an incident is open", "retention: 1mo\n", append(covered(700), opened), "2025-12-01", false, []string{"incident i-1 is open"}},
		{"the copy is older", "retention: 1mo\n", slices.Concat(covered(300)[:1], covered(700)[1:]), "2025-12-01", false, []string{"no copy has all entries before 512"}},
		{"the copy is gone", "retention: 1mo\n", coveredAt("/nowhere", 700), "2025-12-01", false, []string{"no copy has all entries before 512", "the copy in /nowhere does not count"}},
		{"the copy is the journal", "retention: 1mo\n", coveredAt("/itself", 700), "2025-12-01", false, []string{"no copy has all entries before 512", "it is the journal itself"}},
		{"one copy is gone", "retention: 1mo\n", append(coveredAt("/nowhere", 700), covered(700)...), "2025-12-01", false, nil},
		{"the witness saw less", "retention: 1mo\n", slices.Concat(covered(700)[:1], covered(300)[1:2], covered(700)[2:]), "2025-12-01", false, []string{"no witness has cosigned the entries before 512"}},
		{"the policy keeps it", "retention: 60y\n", covered(700), "2025-12-01", false, []string{"the policy keeps entries for 60y"}},
		{"it is one file", "retention: 1mo\n", covered(700), "2024-03-01", false, []string{"no file has entries before"}},
		{"the gateway runs", "retention: 1mo\n", covered(700), "2025-12-01", true, []string{"the gateway runs"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPruned(t, c.retention)
			dir, _ := audit.Place(p.state)
			places := strings.NewReplacer(elsewhere, p.copy(), "/itself", dir)
			for i, e := range c.entries {
				c.entries[i].Event = []byte(places.Replace(string(e.Event)))
			}
			p.append(c.entries...)
			if !c.running {
				p.j.Close()
			}
			status, out := p.do("prune", "--before", c.before, "--yes")
			if len(c.want) == 0 {
				if status != 0 || !strings.Contains(out, "begins with entry 512") {
					t.Errorf("%d: %s", status, out)
				}
				return
			}
			if got := strings.Count(out, "\n  "); status != terminal.No || got != len(c.want) {
				t.Errorf("%d: %d reasons: %s", status, got, out)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("it does not say %q: %s", want, out)
				}
			}
		})
	}
}

// TestPruneAndRestart: the pruned journal verifies, is listed, and a gateway starts from it; then
// what was moved is deleted.
func TestPruneAndRestart(t *testing.T) {
	p := newPruned(t, "retention: 1mo\n")
	dir, keyFile := audit.Place(p.state)
	p.j.Close()
	latch := store.ShutFile{Lasting: filepath.Join(p.state, "shut.json")}
	place := store.OnDisk{Folder: dir, KeyFile: keyFile, Latch: latch, Logger: slog.New(slog.DiscardHandler)}
	start := func(entries ...journal.Entry) *store.Past {
		t.Helper()
		s := store.New(place, nil, slog.New(slog.DiscardHandler))
		past, err := s.Open()
		if err != nil {
			t.Fatal(err)
		}
		s.Add(store.Record{Entries: entries})
		<-s.Acks()
		<-s.Quit()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return past
	}
	start(append(coveredAt(p.copy(), 900)[:2], journal.Entry{Kind: journal.Stop})...)
	if status, out := p.do("prune", "--before", "2025-12-01"); status != terminal.Usage || !strings.Contains(out, "go to "+dir+".pruned-20251201") {
		t.Errorf("without a terminal: %d: %s", status, out)
	}
	var answer struct {
		Before int64
		Files  int
		To     string
	}
	if status, out := p.do("prune", "--before", "2025-12-01", "--yes", "--json"); status != 0 || json.Unmarshal([]byte(out), &answer) != nil || answer.Before != 512 || answer.Files != 2 {
		t.Fatalf("%d: %s", status, out)
	}
	if status, out := p.do("verify"); status != 0 || !strings.Contains(out, "The entries before 512 were pruned") {
		t.Errorf("%d: %s", status, out)
	}
	if status, out := p.do("list", "--kind", "policy_text", "--kind", "pruned"); status != 0 || strings.Count(out, "\n") != 2 {
		t.Errorf("%d: %s", status, out)
	}
	if past := start(journal.Entry{Kind: journal.Start}, journal.Entry{Kind: journal.Stop}); past.State.Digest() != "d" {
		t.Errorf("the start knows the policy %q", past.State.Digest())
	}
	if status, out := p.do("verify", "--json"); status != 0 || !strings.Contains(out, `"minimum":512`) {
		t.Errorf("%d: %s", status, out)
	}
	if status, out := p.do("prune", "--delete", dir, "--yes"); status != terminal.No || !strings.Contains(out, "nothing was deleted") {
		t.Errorf("deleting the journal: %d: %s", status, out)
	}
	if status, out := p.do("prune", "--delete", answer.To, "--yes"); status != 0 {
		t.Errorf("%d: %s", status, out)
	}
	if _, err := os.Stat(answer.To); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
	if status, out := p.do("prune", "--before", "2025-12-01", "--delete", answer.To); status != terminal.Usage {
		t.Errorf("both: %d: %s", status, out)
	}
}

// TestListOfATime lists what a look at all entries finds.
func TestListOfATime(t *testing.T) {
	p := newPruned(t, "")
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"--since", "2025-06-01"}, 475}, {[]string{"--until", "2024-01-10"}, 8}, {[]string{"--since", "2024-01-10", "--until", "2024-02-10"}, 25},
		{[]string{"--since", "2027-06-01"}, 0}, {[]string{"--until", "2020-06-01"}, 0},
	} {
		status, out := p.do(append([]string{"list", "--json"}, c.args...)...)
		if got := strings.Count(out, `"kind":`); status != 0 || got != c.want {
			t.Errorf("%v: %d: %d entries, %s", c.args, status, got, out[:min(len(out), 300)])
		}
		if c.want == 0 && !strings.Contains(out, "no entry") {
			t.Errorf("%v: %s", c.args, out)
		}
	}
}
