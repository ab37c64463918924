package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	memDir = "/state/journal"
	memKey = "/state/journal.key"
)

// history is what a user of a journal knows.
type history struct {
	acknowledged []string
	attempted    []string // by the Append that failed, if one did
}

// live opens a journal, appends so that tiles become full, reopens, and
// stops at the first failure.
func (h *history) live(t *testing.T, d *memDisk, commits []int) error {
	t.Helper()
	var j *Journal
	for i, count := range commits {
		if i == 0 || i == len(commits)/2 {
			if j != nil {
				j.Close()
			}
			var err error
			if j, err = open(d, memDir, memKey); err != nil {
				return err
			}
		}
		if err := h.append(j, count); err != nil {
			// A journal that failed takes nothing more, and touches nothing.
			var first, second *FailedError
			writes := d.writes
			again := j.Append(numbered(0))
			if !errors.As(err, &first) || !errors.As(again, &second) || first != second || !errors.Is(err, errFault) {
				t.Errorf("Append failed with %v, the next with %v, want the same *FailedError", err, again)
			}
			if d.writes != writes {
				t.Errorf("a journal that had failed wrote %d times", d.writes-writes)
			}
			if got := j.Size(); got != int64(len(h.acknowledged)) {
				t.Errorf("Size() = %d after a failure, want the %d acknowledged", got, len(h.acknowledged))
			}
			return err
		}
	}
	return j.Close()
}

func (h *history) append(j *Journal, count int) error {
	var entries []Entry
	var names []string
	for i := range count {
		names = append(names, fmt.Sprint(len(h.acknowledged)+i))
		entries = append(entries, Entry{Kind: Refused, Text: names[i]})
	}
	h.attempted = names
	if err := j.Append(entries...); err != nil {
		return err
	}
	h.acknowledged, h.attempted = append(h.acknowledged, names...), nil
	return nil
}

// check opens what is on the disk and holds it against what its user knows.
func (h *history) check(t *testing.T, d *memDisk) {
	t.Helper()
	j, err := open(d, memDir, memKey)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	defer j.Close()
	got := texts(t, j)
	if want := h.acknowledged; len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
		t.Fatalf("%d entries were acknowledged, there are %d", len(want), len(got))
	}
	if rest := got[len(h.acknowledged):]; len(rest) > len(h.attempted) || !slices.Equal(rest, h.attempted[:len(rest)]) {
		t.Fatalf("entries nobody appended: %v, attempted %v", rest, h.attempted)
	}
	h.acknowledged, h.attempted = got, nil // from now on they are as good as those
	if report, err := verifyDir(d, memDir, j.key.verifier, nil, false); err != nil || report.Size != int64(len(got)) {
		t.Fatalf("VerifyDir: %d entries, %v, want %d", report.Size, err, len(got))
	}
	if diff := cmp.Diff(filesOf(int64(len(got))), d.tree(memDir)); diff != "" {
		t.Fatalf("files that are not of the tree (-want +got):\n%s", diff)
	}
	if err := h.append(j, 2); err != nil {
		t.Fatalf("Append after reopening: %v", err)
	}
}

// filesOf lists the files of a journal of so many entries.
func filesOf(size int64) []string {
	want := []string{"checkpoint"}
	for _, tile := range tlog.NewTiles(tileHeight, 0, size) {
		want = append(want, tilePath(tile))
		if tile.L == 0 {
			tile.L = entriesLevel
			want = append(want, tilePath(tile))
		}
	}
	slices.Sort(want)
	return want
}

// after gives a disk and a history after some commits, as often as it is called.
func after(t *testing.T, commits ...int) func() (*memDisk, *history) {
	t.Helper()
	base, h := newMemDisk(), history{}
	if len(commits) > 0 {
		if err := h.live(t, base, commits); err != nil {
			t.Fatal(err)
		}
	}
	return func() (*memDisk, *history) {
		return base.clone(), &history{acknowledged: slices.Clone(h.acknowledged)}
	}
}

// Every write fails, in every way, and then the process ends in every way:
// nothing that was acknowledged is lost, nothing is there that was not
// appended or that does not verify, and the journal goes on.
func TestFault49EveryWriteFails(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		name    string
		begin   func() (*memDisk, *history)
		commits []int
	}{
		{"from nothing", after(t), []int{1, 2, 1, 1}},
		{"where tiles become full", after(t, 250, 3), []int{1, 5, 1}},
	} {
		whole, h := c.begin()
		from := whole.writes
		if err := h.live(t, whole, c.commits); err != nil {
			t.Fatal(err)
		}
		if whole.writes-from < 30 {
			t.Fatalf("only %d writes: the seam is not where it should be", whole.writes-from)
		}
		for at := from + 1; at <= whole.writes; at++ {
			everyWay(func(how failure, end ending) {
				d, h := c.begin()
				d.failAt, d.how = at, how
				err := h.live(t, d, c.commits)
				if d.skips(how) {
					return
				}
				name := fmt.Sprintf("%s: write %d (%s), %s, then %s", c.name, at, d.failed, how, end.name)
				if err == nil && !strings.HasPrefix(d.failed, "remove ") {
					t.Errorf("%s: the failure went unnoticed", name)
				}
				end.end(d, random)
				h.checkTwice(t, d, name)
			})
		}
	}
}

// The same where the failure meets the opening after a crash: what it adopts
// and cuts must be as safe as an Append.
func TestEveryWriteOfRecoveryFails(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, c := range []struct {
		name     string
		begin    func() (*memDisk, *history)
		attempt  int  // entries of the commit that crashes
		crashing int  // writes of that commit
		few      bool // only some crashes and ways to end: the tree is large
	}{
		{"a short tile", after(t, 2, 1), 9, 5, false},
		{"where tiles become full", after(t, 250, 3), 10, 11, true},
	} {
		step := 1
		if c.few {
			step = 2
		}
		adopted := map[int64]bool{}
		for crash := 1; crash <= c.crashing; crash += step {
			crashed := func() (*memDisk, *history) {
				d, h := c.begin()
				j, err := open(d, memDir, memKey)
				if err != nil {
					t.Fatal(err)
				}
				d.failAt, d.how = d.writes+crash, halfWritten
				if h.append(j, c.attempt) == nil {
					t.Fatal("the failure went unnoticed")
				}
				d.restart()
				return d, h
			}
			whole, _ := crashed()
			from := whole.writes
			j, err := open(whole, memDir, memKey)
			if err != nil {
				t.Fatal(err)
			}
			adopted[j.Recovered().Adopted] = true
			for at := from + 1; at <= whole.writes; at++ {
				everyWay(func(how failure, end ending) {
					if c.few && strings.HasSuffix(end.name, "kept") {
						return
					}
					d, h := crashed()
					d.failAt, d.how = at, how
					if j, err := open(d, memDir, memKey); err == nil {
						j.Close()
					}
					if d.skips(how) {
						return
					}
					end.end(d, random)
					h.checkTwice(t, d, fmt.Sprintf("%s: crash %d, write %d (%s), %s, then %s", c.name, crash, at, d.failed, how, end.name))
				})
			}
		}
		if !adopted[0] || !adopted[int64(c.attempt)] || len(adopted) < 3 {
			t.Errorf("%s: the crashes left %v entries to adopt: want none, some, and all %d among them", c.name, adopted, c.attempt)
		}
	}
}

// everyWay calls f for every way to fail, and to end after that.
func everyWay(f func(failure, ending)) {
	for _, how := range failures {
		for _, end := range ends {
			f(how, end)
		}
	}
}

// checkTwice checks, appends, cuts the power, and checks once more.
func (h *history) checkTwice(t *testing.T, d *memDisk, name string) {
	t.Helper()
	if !t.Run(name, func(t *testing.T) {
		h.check(t, d)
		d.powerCut(func() bool { return false })
		h.check(t, d)
	}) {
		t.FailNow()
	}
}

// Archive keeps the broken journal, and leaves one that opens, whenever it
// fails and is run again.
func TestEveryWriteOfArchiveFails(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	now := time.Date(2026, 12, 1, 3, 4, 5, 0, time.UTC)
	const broken = "/state/journal.broken-20261201T030405.000000000Z"
	begin := func() (*memDisk, []string) {
		d := newMemDisk()
		if err := new(history).live(t, d, []int{3, 1}); err != nil {
			t.Fatal(err)
		}
		return d, d.tree(memDir)
	}
	whole, _ := begin()
	from := whole.writes
	if _, _, err := archive(whole, memDir, memKey, now); err != nil {
		t.Fatal(err)
	}
	for at := from + 1; at <= whole.writes; at++ {
		everyWay(func(how failure, end ending) {
			d, before := begin()
			d.failAt, d.how = at, how
			_, _, err := archive(d, memDir, memKey, now)
			if d.skips(how) {
				return
			}
			name := fmt.Sprintf("write %d (%s), %s, then %s", at, d.failed, how, end.name)
			if err == nil {
				t.Errorf("%s: the failure went unnoticed", name)
			}
			end.end(d, random)
			if !t.Run(name, func(t *testing.T) {
				j, err := open(d, memDir, memKey)
				if err != nil {
					t.Fatalf("Open: %v", err)
				}
				size := j.Size()
				j.Close()
				kept := memDir
				if size == 0 {
					kept = broken
				}
				// More than before may be there: that a shorter tile was removed
				// is nothing a power cut respects.
				for _, name := range before {
					if !slices.Contains(d.tree(kept), name) {
						t.Errorf("%s of the journal that was to be kept is not in %s: %q", name, kept, d.tree(kept))
					}
				}
				if _, _, err := archive(d, memDir, memKey, now.Add(time.Second)); err != nil {
					t.Fatalf("Archive once more: %v", err)
				}
				(&history{}).check(t, d)
			}) {
				t.FailNow()
			}
		})
	}
}
