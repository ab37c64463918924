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

	"github.com/google/go-cmp/cmp"
)

const memCopy = "/state/copy"

// grown gives a disk with a journal of so many entries, and its verifier key.
func grown(t *testing.T, commits ...int) (*memDisk, string) {
	t.Helper()
	d, h := newMemDisk(), history{}
	if err := h.live(t, d, commits); err != nil {
		t.Fatal(err)
	}
	d.restart()
	k, err := readKey(d, memKey)
	if err != nil {
		t.Fatal(err)
	}
	return d, k.verifier
}

// grow appends to the journal of a disk.
func grow(t *testing.T, d *memDisk, count int) {
	t.Helper()
	j, err := open(d, memDir, memKey)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for i := range count {
		if err := j.Append(Entry{Kind: Refused, Text: fmt.Sprint("more ", i)}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCopyFollows copies a journal again and again while it grows: each copy has the same files as
// the journal, and only what is new was written.
func TestCopyFollows(t *testing.T) {
	d, key := grown(t, 3)
	for _, more := range []int{0, 0, 1, 200, 51, 1, 256, 300, 0} {
		grow(t, d, more)
		before, err := verifyDir(d, memCopy, key, nil, true)
		if err != nil {
			before.Size = 0
		}
		writes := d.writes
		got, err := copyJournal(d, d, memDir, memCopy, key, nil)
		if err != nil || got.From != before.Size {
			t.Fatalf("after %d more: %+v, %v, want from %d", more, got, err, before.Size)
		}
		if more == 0 && got.From > 0 && d.writes-writes > 2 {
			t.Errorf("nothing was new, and there were %d writes", d.writes-writes)
		}
		if d.writes-writes > 40+6*more/256 {
			t.Errorf("%d more entries took %d writes", more, d.writes-writes)
		}
		want := d.tree(memDir)
		if diff := cmp.Diff(want, d.tree(memCopy)); diff != "" {
			t.Fatalf("the copy's files (-journal +copy):\n%s", diff)
		}
		if r, err := verifyDir(d, memCopy, key, nil, false); err != nil || r.Size != got.Size {
			t.Fatalf("the copy: %+v, %v", r, err)
		}
	}
}

// TestCopyInterrupted stops a copy at each of its writes, in each way that a disk fails, with and
// without a power cut: the copy verifies with the old size or the new one, and the next run ends.
func TestCopyInterrupted(t *testing.T) {
	for _, from := range []int{5, 250, 256} {
		base, key := grown(t, from)
		if _, err := copyJournal(base, base, memDir, memCopy, key, nil); err != nil {
			t.Fatal(err)
		}
		grow(t, base, 14)
		for at := 1; ; at++ {
			completed := false
			for _, how := range failures {
				for _, end := range ends {
					d := base.clone()
					d.failAt, d.how = d.writes+at, how
					_, err := copyJournal(d, d, memDir, memCopy, key, nil)
					if d.failed == "" {
						completed = true
						break
					}
					if err == nil && !strings.HasPrefix(d.failed, "remove ") && !strings.Contains(d.failed, ".p") {
						t.Fatalf("%s failed, %s, and nobody was told", d.failed, how)
					}
					end.end(d, rand.New(rand.NewPCG(1, uint64(at))))
					r, err := verifyDir(d, memCopy, key, nil, false)
					if err != nil || r.Size != int64(from) && r.Size != int64(from+14) {
						t.Fatalf("after %s, %s, %s: %d entries, %v", d.failed, how, end.name, r.Size, err)
					}
					if _, err := copyJournal(d, d, memDir, memCopy, key, nil); err != nil {
						t.Fatalf("the next run after %s: %v", d.failed, err)
					}
					if diff := cmp.Diff(filesOf(int64(from+14)), d.tree(memCopy)); diff != "" {
						t.Fatalf("files after %s and another run (-want +got):\n%s", d.failed, diff)
					}
				}
			}
			if completed {
				break
			}
		}
	}
}

// TestCopyFirstInterrupted stops the first copy: it has no checkpoint, or verifies.
func TestCopyFirstInterrupted(t *testing.T) {
	base, key := grown(t, 258)
	for at := 1; ; at++ {
		d := base.clone()
		d.failAt, d.how = d.writes+at, halfWritten
		_, err := copyJournal(d, d, memDir, memCopy, key, nil)
		if d.failed == "" {
			break
		}
		d.powerCut(func() bool { return at%2 == 0 })
		if names := d.tree(memCopy); slices.Contains(names, "checkpoint") {
			if _, err := verifyDir(d, memCopy, key, nil, false); err != nil {
				t.Fatalf("after %s: %v", d.failed, err)
			}
		} else if err == nil {
			t.Fatalf("%s failed, and nobody was told", d.failed)
		}
		if _, err := copyJournal(d, d, memDir, memCopy, key, nil); err != nil {
			t.Fatalf("the next run after %s: %v", d.failed, err)
		}
	}
}

func TestCopyRefuses(t *testing.T) {
	p := newPlace(t)
	j := p.open(t)
	fillAtOnce(t, j, 300)
	key := j.key.verifier
	old := filepath.Join(t.TempDir(), "old")
	if _, err := Copy(p.dir, old, key, nil); err != nil {
		t.Fatal(err)
	}
	fill(t, j, 1)
	ahead := filepath.Join(t.TempDir(), "ahead")
	if _, err := Copy(p.dir, ahead, key, nil); err != nil {
		t.Fatal(err)
	}
	occupied := t.TempDir()
	if err := os.WriteFile(filepath.Join(occupied, "letter.doc"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	other := newPlace(t)
	o := other.open(t)
	fill(t, o, 1)
	for name, c := range map[string]struct {
		from, to, key string
		want          error
	}{
		"ahead":          {old, ahead, key, ErrAhead},
		"another":        {other.dir, ahead, o.key.verifier, ErrOtherJournal},
		"occupied":       {p.dir, occupied, key, ErrOccupied},
		"into a missing": {p.dir, filepath.Join(occupied, "no", "where"), key, os.ErrNotExist},
	} {
		if _, err := Copy(c.from, c.to, c.key, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := VerifyCopy(ahead, key, nil); err != nil {
		t.Errorf("a refused copy was touched: %v", err)
	}

	// Another past of the same journal.
	if err := os.RemoveAll(p.dir); err != nil {
		t.Fatal(err)
	}
	j.Close()
	if err := os.CopyFS(p.dir, os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	j = p.open(t)
	fill(t, j, 3)
	if _, err := Copy(p.dir, ahead, key, nil); !errors.Is(err, ErrOtherJournal) {
		t.Errorf("another past: %v", err)
	}
	if got, err := Copy(p.dir, old, key, nil); err != nil || got != (Copied{300, 303}) {
		t.Errorf("its own copy: %+v, %v", got, err)
	}
}

// TestCopyOfDamage changes each file of the journal: the copy keeps its old checkpoint.
func TestCopyOfDamage(t *testing.T) {
	base, key := grown(t, 250)
	if _, err := copyJournal(base, base, memDir, memCopy, key, nil); err != nil {
		t.Fatal(err)
	}
	grow(t, base, 20)
	for _, name := range base.tree(memDir) {
		if !strings.HasPrefix(name, "tile/entries") {
			continue // the copy computes its own hashes
		}
		d := base.clone()
		n, err := d.find(memDir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		n.content = slices.Clone(n.content)
		n.content[len(n.content)/2] ^= 1
		var damage *DamageError
		if _, err := copyJournal(d, d, memDir, memCopy, key, nil); !errors.As(err, &damage) {
			t.Errorf("%s changed: %v", name, err)
		}
		if r, err := verifyDir(d, memCopy, key, nil, false); err != nil || r.Size != 250 {
			t.Errorf("%s changed: the copy has %d entries, %v", name, r.Size, err)
		}
	}
}

// TestSinceTyped gives the earlier checkpoint as a person types it, or as a scanner reads it.
func TestSinceTyped(t *testing.T) {
	p := newPlace(t)
	j := p.open(t)
	fill(t, j, 5)
	kept, _ := j.Checkpoint()
	fill(t, j, 300)
	key := p.verifierKey(t)
	for name, typed := range map[string]string{
		"as printed":           kept,
		"one line":             strings.Join(strings.Fields(kept), " "),
		"nothing between":      strings.Join(strings.Fields(kept), ""),
		"a hyphen":             strings.Join(strings.Fields(strings.ReplaceAll(kept, "\u2014", "-")), " "),
		"broken anywhere":      strings.Join(strings.Split(strings.Join(strings.Fields(kept), ""), ""), "\n "),
		"words around":         "2026-11 " + strings.Join(strings.Fields(kept), " ") + " page 3",
		"carriage returns":     strings.ReplaceAll(kept, "\n", "\r\n"),
		"as JSON, on one line": fmt.Sprintf(`{"checkpoint":%q}`, strings.Join(strings.Fields(kept), " ")),
	} {
		if r, err := VerifyDir(p.dir, key, []byte(typed)); err != nil || r.Since != 5 {
			t.Errorf("%s: since %d, %v", name, r.Since, err)
		}
	}
	for name, typed := range map[string]string{
		"another size": strings.Replace(kept, "\n5\n", "\n6\n", 1),
		"half":         strings.Join(strings.Fields(kept), "")[:120],
		"two":          strings.Join(strings.Fields(kept+kept), " "),
		"nothing":      "",
	} {
		if _, err := VerifyDir(p.dir, key, []byte(strings.Join(strings.Fields(typed), " "))); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
