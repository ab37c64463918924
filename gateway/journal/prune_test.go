package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/torchwood"
)

// pruneable is a journal of 700 entries, of which those before 512 were pruned into the folder.
func pruneable(t *testing.T) (p place, pruned string) {
	t.Helper()
	p = closed(t, 700)
	pruned = filepath.Join(t.TempDir(), "pruned")
	j := p.open(t)
	defer j.Close()
	if moved, err := j.Prune(pruned, Entry{Kind: Pruned, Count: 512, Text: "700"}); err != nil || moved != 2 {
		t.Fatalf("%d moved, %v", moved, err)
	}
	fill(t, j, 20)
	return p, pruned
}

// replayed are the texts of the entries that are there.
func replayed(t *testing.T, j *Journal) (all []string) {
	t.Helper()
	for e, err := range j.Replay() {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e.Text)
	}
	return all
}

// TestToolsReadAPrunedJournal from its minimum on.
func TestToolsReadAPrunedJournal(t *testing.T) {
	p, _ := pruneable(t)
	text, err := os.ReadFile(filepath.Join(p.dir, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := openCheckpoint(text, p.verifierKey(t))
	if err != nil {
		t.Fatal(err)
	}
	tiles, err := torchwood.NewTileFS(os.DirFS(p.dir))
	if err != nil {
		t.Fatal(err)
	}
	client, err := torchwood.NewClient(tiles)
	if err != nil {
		t.Fatal(err)
	}
	for _, start := range []int64{512, 600} {
		next := start
		for index, line := range client.AllEntries(t.Context(), tree, start) {
			if e, err := decode(line); err != nil || index != next || e.Text != fmt.Sprint(index) {
				t.Fatalf("entry %d in place of %d: %q, %v", index, next, e.Text, err)
			}
			next++
		}
		if err := client.Err(); err != nil || next != tree.N {
			t.Errorf("from %d on it read until %d of %d: %v", start, next, tree.N, err)
		}
	}
	for range client.AllEntries(t.Context(), tree, 0) {
	}
	if client.Err() == nil {
		t.Error("it read what was pruned")
	}
}

// TestAPrunedJournal verifies, is replayed, read and written from its minimum on.
func TestAPrunedJournal(t *testing.T) {
	p, pruned := pruneable(t)
	want := counted(721)[512:]
	for _, open := range []func(dir, keyFile string) (*Journal, error){Open, OpenUnread} {
		j, err := open(p.dir, p.keyFile)
		if err != nil {
			t.Fatal(err)
		}
		if got := replayed(t, j); !slices.Equal(got, want) || j.Minimum() != 512 {
			t.Errorf("%d entries from %d on", len(got), j.Minimum())
		}
		if got, err := readTexts(j, 600); err != nil || len(got) != 121 {
			t.Errorf("from 600 on: %d, %v", len(got), err)
		}
		if _, err := readTexts(j, 300); err == nil || !strings.Contains(err.Error(), "tile/entries/001 is not there") {
			t.Errorf("from 300 on: %v", err)
		}
		j.Close()
	}
	for _, verify := range []func(dir, key string, since []byte) (Report, error){VerifyDir, VerifyCopy} {
		if report, err := verify(p.dir, p.verifierKey(t), nil); err != nil || report.Minimum != 512 || report.Size != 721 || report.Proven != 721 || report.First.IsZero() {
			t.Errorf("%+v, %v", report, err)
		}
	}
	var damaged []string
	for e, err := range ReadDamaged(p.dir, p.keyFile) {
		if err != nil {
			t.Errorf("read as a damaged one: %v", err)
		}
		damaged = append(damaged, e.Text)
	}
	if !slices.Equal(damaged, want) {
		t.Errorf("as a damaged one it has %d entries", len(damaged))
	}
	for _, from := range []int64{0, 300, 512, 600} {
		next := max(from, 512)
		for line, err := range List(p.dir, from) {
			if err != nil || line.Index != next {
				t.Fatalf("listed from %d: entry %d in place of %d, %v", from, line.Index, next, err)
			}
			next++
		}
		if next != 721 {
			t.Errorf("listed from %d until %d", from, next)
		}
	}
	other := filepath.Join(t.TempDir(), "copy")
	if _, err := Copy(p.dir, other, p.verifierKey(t), nil); err != nil {
		t.Errorf("a copy: %v", err)
	}
	if report, err := VerifyDir(other, p.verifierKey(t), nil); err != nil || report.Minimum != 512 {
		t.Errorf("the copy: %+v, %v", report, err)
	}
	// The folder with what was pruned makes it whole again.
	for _, name := range []string{"000", "001"} {
		if err := os.Rename(filepath.Join(pruned, "tile", "entries", name), filepath.Join(p.dir, "tile", "entries", name)); err != nil {
			t.Fatal(err)
		}
	}
	if got := texts(t, p.open(t)); !slices.Equal(got, counted(721)) {
		t.Errorf("%d entries", len(got))
	}
}

// TestAnEarlierCheckpointOfAPrunedPart: the journal is still proven to continue it.
func TestAnEarlierCheckpointOfAPrunedPart(t *testing.T) {
	p := newPlace(t)
	j := p.open(t)
	fillAtOnce(t, j, 300)
	earlier, _ := j.Checkpoint()
	fillAtOnce(t, j, 400)
	if _, err := j.Prune(t.TempDir(), Entry{Kind: Pruned, Count: 512}); err != nil {
		t.Fatal(err)
	}
	j.Close()
	if report, err := VerifyDir(p.dir, p.verifierKey(t), []byte(earlier)); err != nil || report.Since != 300 {
		t.Errorf("%+v, %v", report, err)
	}
	q := newPlace(t)
	q.keyFile = p.keyFile
	other, err := os.ReadFile(filepath.Join(p.dir, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyDir(p.dir, p.verifierKey(t), []byte(strings.Replace(string(other), "701", "702", 1))); err == nil {
		t.Error("another checkpoint is taken")
	}
}

// TestTakenAway: without a signed entry that says so, what is missing is damage, and so is more than
// the entry says.
func TestTakenAway(t *testing.T) {
	lost := func(t *testing.T, p place, missing int64) {
		t.Helper()
		damage := new(DamageError)
		if _, err := VerifyDir(p.dir, p.verifierKey(t), nil); !errors.As(err, &damage) || damage.Entry != missing || !damage.Missing {
			t.Errorf("verified: %v", err)
		}
		if _, err := Open(p.dir, p.keyFile); !errors.As(err, &damage) {
			t.Errorf("opened: %v", err)
		}
		whole := true
		for _, err := range ReadDamaged(p.dir, p.keyFile) {
			whole = whole && err == nil
		}
		if whole {
			t.Error("read as a damaged one, it is whole")
		}
	}
	t.Run("no entry", func(t *testing.T) {
		p := closed(t, 700)
		if err := os.Remove(filepath.Join(p.dir, "tile", "entries", "000")); err != nil {
			t.Fatal(err)
		}
		lost(t, p, 0)
	})
	t.Run("more than it says", func(t *testing.T) {
		p := closed(t, 800)
		j := p.open(t)
		if _, err := j.Prune(t.TempDir(), Entry{Kind: Pruned, Count: 256}); err != nil {
			t.Fatal(err)
		}
		j.Close()
		if err := os.Remove(filepath.Join(p.dir, "tile", "entries", "001")); err != nil {
			t.Fatal(err)
		}
		lost(t, p, 0)
	})
	t.Run("an entry that is not signed", func(t *testing.T) {
		p := closed(t, 700)
		name := filepath.Join("tile", "entries", "001")
		data, err := os.ReadFile(filepath.Join(p.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		was := `"kind":"refused","source":"203.0.113.10"`
		is := `"kind":"pruned","count":256,"text":""`
		is = is[:len(is)-1] + strings.Repeat("x", len(was)-len(is)) + is[len(is)-1:]
		forged := strings.Replace(string(data), was, is, 1)
		if len(forged) != len(data) {
			t.Fatal("the forged entry has another length")
		}
		p.write(t, name, []byte(forged))
		if err := os.Remove(filepath.Join(p.dir, "tile", "entries", "000")); err != nil {
			t.Fatal(err)
		}
		lost(t, p, 0)
	})
	t.Run("a hash tile", func(t *testing.T) {
		p, _ := pruneable(t)
		if err := os.Remove(filepath.Join(p.dir, "tile", "0", "001")); err != nil {
			t.Fatal(err)
		}
		damage := new(DamageError)
		if _, err := VerifyDir(p.dir, p.verifierKey(t), nil); !errors.As(err, &damage) || damage.Entry != 256 {
			t.Errorf("%v", err)
		}
	})
}

// TestPrunedAfterACrash: what was recorded and not all moved is a whole journal, and is pruned again.
func TestPrunedAfterACrash(t *testing.T) {
	p := closed(t, 700)
	j := p.open(t)
	if err := j.Append(Entry{Kind: Pruned, Count: 512, Text: "700"}); err != nil {
		t.Fatal(err)
	}
	j.Close()
	to := t.TempDir()
	if err := os.Rename(filepath.Join(p.dir, "tile", "entries", "000"), filepath.Join(to, "000")); err != nil {
		t.Fatal(err)
	}
	j = p.open(t)
	if got := replayed(t, j); !slices.Equal(got, counted(701)[256:]) {
		t.Errorf("%d entries", len(got))
	}
	if moved, err := j.Prune(to, Entry{Kind: Pruned, Count: 512}); err != nil || moved != 1 || j.Minimum() != 512 {
		t.Errorf("%d moved, %v", moved, err)
	}
	if _, err := j.Prune(to, Entry{Kind: Pruned, Count: 1024}); err == nil {
		t.Error("what is not there yet was pruned")
	}
}

func TestDeletePruned(t *testing.T) {
	_, pruned := pruneable(t)
	stray := filepath.Join(pruned, "notes.txt")
	if err := os.WriteFile(stray, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := DeletePruned(pruned); err == nil || !strings.Contains(err.Error(), "notes.txt") {
		t.Errorf("a folder with other files: %v", err)
	}
	if err := os.Remove(stray); err != nil {
		t.Fatal(err)
	}
	if n, err := DeletePruned(pruned); err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := os.Stat(pruned); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
	if _, err := DeletePruned(t.TempDir()); err == nil {
		t.Error("an empty folder is deleted")
	}
}

// TestTimesAreFound where a look at all entries finds them, also where the clock was set back.
func TestTimesAreFound(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	for range 5 {
		p := newPlace(t)
		j := p.open(t)
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		for j.Size() < 700 {
			var batch []Entry
			for range 100 {
				at = at.Add(time.Duration(random.IntN(3)) * time.Minute)
				e := Entry{Kind: Drift, Time: at}
				if random.IntN(150) == 0 {
					at = at.Add(-time.Duration(random.IntN(500)) * time.Minute)
					e = Entry{Kind: Recovery, From: at}
				}
				batch = append(batch, e)
			}
			if err := j.Append(batch...); err != nil {
				t.Fatal(err)
			}
			if count := j.Size(); random.IntN(3) == 0 {
				var back []string
				var before time.Time
				for e, err := range j.Replay() {
					if err != nil {
						t.Fatal(err)
					}
					if e.Time.Before(before) {
						back = append(back, fmt.Sprint(e.Index))
					}
					before = e.Time
				}
				if err := j.Append(Entry{Kind: State, Count: count, Event: []byte(`{"set_back":[` + strings.Join(back, ",") + `]}`)}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if random.IntN(2) == 0 {
			if _, err := j.Prune(t.TempDir(), Entry{Kind: Pruned, Count: 256, Time: at}); err != nil {
				t.Fatal(err)
			}
		}
		var all []Entry
		for e, err := range j.Replay() {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, e)
		}
		for range 200 {
			instant := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(random.IntN(1500)) * time.Minute)
			first, end := j.Size(), all[0].Index
			for i, e := range all {
				if !e.Time.Before(instant) {
					first = min(first, e.Index)
				}
				if !e.Time.After(instant) {
					end = all[i].Index + 1
				}
			}
			if got, err := FirstSince(p.dir, instant); err != nil || got != first {
				t.Fatalf("since %v: %d, %v; it is %d", instant, got, err, first)
			}
			if got, err := EndUntil(p.dir, instant); err != nil || got != end {
				t.Fatalf("until %v: %d, %v; it is %d", instant, got, err, end)
			}
		}
		j.Close()
	}
}
