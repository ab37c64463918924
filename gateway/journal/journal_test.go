package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"
)

// place is where a test keeps a journal.
type place struct{ dir, keyFile string }

func newPlace(t testing.TB) place {
	state := t.TempDir()
	return place{filepath.Join(state, "journal"), filepath.Join(state, "journal.key")}
}

func (p place) open(t testing.TB) *Journal {
	t.Helper()
	j, err := Open(p.dir, p.keyFile)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func (p place) verifierKey(t testing.TB) string {
	t.Helper()
	verifier, err := VerifierKey(p.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	return verifier
}

// fill appends entries one commit each, named by their index.
func fill(t testing.TB, j *Journal, count int) {
	t.Helper()
	for range count {
		if err := j.Append(numbered(j.Size())); err != nil {
			t.Fatal(err)
		}
	}
}

// fillAtOnce appends entries in one commit.
func fillAtOnce(t testing.TB, j *Journal, count int) {
	t.Helper()
	var entries []Entry
	for i := range int64(count) {
		entries = append(entries, numbered(j.Size()+i))
	}
	if err := j.Append(entries...); err != nil {
		t.Fatal(err)
	}
}

func numbered(n int64) Entry {
	return Entry{Kind: Refused, Source: "203.0.113.10", Text: fmt.Sprint(n)}
}

// texts are the texts of all entries, which fill made their indexes.
func texts(t testing.TB, j *Journal) []string {
	t.Helper()
	var all []string
	for e, err := range j.Replay() {
		if err != nil {
			t.Fatalf("Replay: %v", err)
		}
		if e.Index != int64(len(all)) {
			t.Fatalf("entry %d has index %d", len(all), e.Index)
		}
		all = append(all, e.Text)
	}
	return all
}

func counted(count int64) []string {
	var all []string
	for i := range count {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

func TestAppendedIsReplayed(t *testing.T) {
	p := newPlace(t)
	j := p.open(t)
	from := time.Date(2026, 12, 1, 20, 0, 0, 0, time.FixedZone("JST", 9*3600))
	want := []Entry{
		{Kind: Start, Text: "木戸市民病院 <gate>"},
		{Kind: WindowOpened, Vendor: "medisys", Engineer: "medisys/sato", Window: "patch", Grant: "medisys/sato/patch@x", From: from, Until: from.Add(time.Hour)},
		{Kind: Shut, Actor: "yamada", Reason: "audit", Event: json.RawMessage(`{"scope":"all","reason":"audit"}`)},
		{Kind: Refused, Count: 3, First: from, Last: from.Add(time.Minute), Source: "2001:db8::1", Reason: "wrong_source"},
	}
	if err := j.Append(want[:1]...); err != nil {
		t.Fatal(err)
	}
	if err := j.Append(want[1:]...); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"at once", "after reopening"} {
		var got []Entry
		for e, err := range j.Replay() {
			if err != nil {
				t.Fatal(err)
			}
			if e.Version != Version || time.Since(e.Time) > time.Minute || e.Time.Location() != time.UTC {
				t.Errorf("%s: entry %d: version %d, time %s", when, e.Index, e.Version, e.Time)
			}
			e.Version, e.Time, e.Index = 0, time.Time{}, 0
			got = append(got, e)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-appended +replayed):\n%s", when, diff)
		}
		if got := j.Size(); got != 4 {
			t.Errorf("%s: Size() = %d, want 4", when, got)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = p.open(t)
	}
	if got := j.Recovered(); got != (Recovered{}) {
		t.Errorf("an orderly end left %+v to recover", got)
	}
}

// Sizes at which tiles become full, and one level begins after another.
func TestEverySizeVerifies(t *testing.T) {
	for _, step := range []int{1, 7, 255, 256, 257, 1000} {
		t.Run(fmt.Sprintf("%d a commit", step), func(t *testing.T) {
			p := newPlace(t)
			j := p.open(t)
			verifier := p.verifierKey(t)
			for i := 0; j.Size() < 2100 && i < 300; i++ {
				fillAtOnce(t, j, step)
				size := j.Size()
				if into := size % tileWidth; step < 10 && size > 20 && into >= int64(step) && into < int64(tileWidth-step) {
					continue // nothing new between the ends of tiles
				}
				report, err := VerifyDir(p.dir, verifier, nil)
				if err != nil || report.Size != size {
					t.Fatalf("at size %d: %+v, %v", size, report, err)
				}
				checkFiles(t, p.dir, size)
			}
			size := j.Size()
			j.Close()
			j = p.open(t)
			if diff := cmp.Diff(counted(size), texts(t, j)); diff != "" {
				t.Error(diff)
			}
			fill(t, j, 3)
			if _, err := VerifyDir(p.dir, verifier, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// checkFiles holds the folder against the list of tiles that a tree consists of.
func checkFiles(t *testing.T, dir string, size int64) {
	t.Helper()
	want := map[string]bool{"checkpoint": true}
	for _, tile := range tlog.NewTiles(tileHeight, 0, size) {
		want[tilePath(tile)] = true
		if tile.L == 0 {
			tile.L = entriesLevel
			want[tilePath(tile)] = true
		}
	}
	got := map[string]bool{}
	for name := range files(t, dir) {
		got[name] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("files of a journal of %d entries (-want +got):\n%s", size, diff)
	}
}

// files reads all files below a directory.
func files(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		all[name], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Without a recovery, times never go back.
func TestTimesNeverGoBack(t *testing.T) {
	p := newPlace(t)
	j := p.open(t)
	noon := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	now := noon
	j.now = func() time.Time { return now }
	if err := j.Append(Entry{Kind: Start}); err != nil {
		t.Fatal(err)
	}
	now = noon.Add(-time.Hour) // the clock was set back
	if err := j.Append(Entry{Kind: Stop}, Entry{Kind: Start, Time: noon.Add(time.Second)}, Entry{Kind: Stop, Time: noon}); err != nil {
		t.Fatal(err)
	}
	j.Close()
	j = p.open(t)
	j.now = func() time.Time { return now }
	if err := j.Append(Entry{Kind: Start}); err != nil {
		t.Fatal(err)
	}
	want := []time.Duration{0, 0, time.Second, time.Second, time.Second}
	for e, err := range j.Replay() {
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Time.Sub(noon); got != want[e.Index] {
			t.Errorf("entry %d is at noon + %s, want + %s", e.Index, got, want[e.Index])
		}
	}
}

// TestFault84TimesGoBackAtARecoveryAlone: after a recovery the times are those of
// the clock that it accepted. A time that goes back anywhere else is damage,
// though the key has signed it.
func TestFault84TimesGoBackAtARecoveryAlone(t *testing.T) {
	at := func(hours int) time.Time { return time.Date(2026, 12, 1, hours, 0, 0, 0, time.UTC) }
	p := newPlace(t)
	j := p.open(t)
	err := errors.Join(
		j.Append(Entry{Kind: Start, Time: at(18)}, Entry{Kind: ClockStep, Time: at(9)}, Entry{Kind: Doubt, Time: at(9)}),
		j.Append(Entry{Kind: Recovery, Time: at(9), From: at(9), Actor: "root (login sato)", Reason: "the hardware clock was in local time"}, Entry{Kind: WindowOpened, Time: at(10)}),
		j.Close())
	if err != nil {
		t.Fatal(err)
	}
	j = p.open(t)
	if err := errors.Join(j.Append(Entry{Kind: Stop, Time: at(11)}), j.Append(Entry{Kind: Recovery, Time: at(12), From: at(12)})); err != nil {
		t.Fatal(err)
	}
	var hours []int
	for e, err := range j.Replay() {
		if err != nil {
			t.Fatal(err)
		}
		hours = append(hours, e.Time.Hour())
	}
	if want := []int{18, 18, 18, 9, 10, 11, 12}; !slices.Equal(hours, want) {
		t.Errorf("the hours of the entries are %d, want %d", hours, want)
	}
	report, err := VerifyDir(p.dir, p.verifierKey(t), nil)
	want := []SetBack{{3, at(18), at(9), "root (login sato)", "the hardware clock was in local time"}}
	if diff := cmp.Diff(want, report.SetBack); err != nil || diff != "" {
		t.Errorf("VerifyDir: %v; set back (-want +got):\n%s", err, diff)
	}

	// Whoever has the key signs what the gateway never writes.
	j.Close()
	sound := files(t, p.dir)
	for what, e := range map[string]Entry{
		"no recovery":                        {Version: 1, Kind: ClockStep, Time: at(8), From: at(8)},
		"a recovery without a clock":         {Version: 1, Kind: Recovery, Time: at(8)},
		"a recovery that states another one": {Version: 1, Kind: Recovery, Time: at(8), From: at(9)},
	} {
		t.Run(what, func(t *testing.T) {
			p.restore(t, sound)
			j := p.open(t)
			line, err := encode(e)
			if err == nil {
				err = j.writeLines([][]byte{line})
			}
			if err != nil {
				t.Fatal(err)
			}
			wanted := func(by string, err error) {
				t.Helper()
				if err == nil || !strings.Contains(err.Error(), "its time 2026-12-01T08:00:00Z is before 2026-12-01T12:00:00Z") {
					t.Errorf("%s: %v, want the times", by, err)
				}
			}
			last := func(entries iter.Seq2[Entry, error]) (count int, last error) {
				for _, err := range entries {
					if last = err; err == nil {
						count++
					}
				}
				return count, last
			}
			_, err = VerifyDir(p.dir, p.verifierKey(t), nil)
			wanted("VerifyDir", err)
			var damage *DamageError
			if !errors.As(err, &damage) || damage.Entry != 7 {
				t.Errorf("VerifyDir: %v, want damage of entry 7", err)
			}
			count, err := last(j.Replay())
			wanted("Replay", err)
			if count != 7 {
				t.Errorf("Replay gives %d entries, want the 7 before it", count)
			}
			j.Close()
			count, err = last(ReadDamaged(p.dir, p.keyFile))
			wanted("ReadDamaged", err)
			if count != 8 {
				t.Errorf("ReadDamaged gives %d entries, want all 8", count)
			}
		})
	}
}

// Two real readings of the clock carry a monotonic part, which must not
// decide: it still grows when the wall clock is set back.
func TestTimesAreWallTimes(t *testing.T) {
	p := newPlace(t)
	j := p.open(t)
	if err := j.Append(Entry{Kind: Start}); err != nil {
		t.Fatal(err)
	}
	if j.last != j.last.Round(0) {
		t.Errorf("the newest time %v has a monotonic reading", j.last)
	}
}

// Whoever lists a journal reads one kind of time, wherever the site is.
func TestTimesAreInUTC(t *testing.T) {
	p := newPlace(t)
	j := p.open(t)
	at := time.Date(2026, 12, 1, 20, 0, 0, 0, time.FixedZone("JST", 9*3600))
	if err := j.Append(Entry{Time: at, Kind: WindowOpened, From: at, Until: at, First: at, Last: at}, Entry{Time: at, Kind: Start}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line, err := range List(p.dir, 0) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(line.JSON))
	}
	const utc = `"2026-12-01T11:00:00Z"`
	want := []string{
		`{"v":1,"time":` + utc + `,"kind":"window_opened","from":` + utc + `,"until":` + utc + `,"first":` + utc + `,"last":` + utc + `}`,
		`{"v":1,"time":` + utc + `,"kind":"start"}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRefusedEntries(t *testing.T) {
	p := newPlace(t)
	j := p.open(t)
	for _, c := range []struct {
		name  string
		entry Entry
		want  string
	}{
		{"no kind", Entry{}, "journal: entry 2 of 2: an entry without a kind"},
		{"too long", Entry{Kind: PolicyText, Time: time.Unix(0, 0), Text: strings.Repeat("x", 65_490)}, "journal: entry 2 of 2: an entry of kind policy_text takes "},
		{"broken event", Entry{Kind: Shut, Event: json.RawMessage(`{`)}, "journal: entry 2 of 2: json: "},
	} {
		err := j.Append(Entry{Kind: Start}, c.entry)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s...", c.name, err, c.want)
		}
		if j.Size() != 0 {
			t.Fatalf("%s: the call was not refused as a whole", c.name)
		}
	}
	if err := j.Append(Entry{Kind: Start}); err != nil {
		t.Errorf("a refused entry is no failure of the journal, but: %v", err)
	}
	if err := j.Append(); err != nil || j.Size() != 1 {
		t.Errorf("Append() of nothing: %v, size %d, want 1", err, j.Size())
	}
}

func TestLongTexts(t *testing.T) {
	p := newPlace(t)
	j := p.open(t)
	for _, c := range []struct {
		name, text string
	}{
		{"short", "木戸番"},
		{"at the limit", strings.Repeat("x", MaxEntry-100)},
		{"8 MiB", strings.Repeat("x", 8<<20)},
		{"three bytes a rune", strings.Repeat("木戸番", 50_000)},
		{"all escaped", strings.Repeat("\x01\"\\\n\u2028\x7f<", 20_000)},
	} {
		parts := SplitText(Entry{Kind: PolicyText, Digest: "abc", Actor: "yamada", Text: c.text})
		before := j.Size()
		if err := j.Append(parts...); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got strings.Builder
		for e, err := range j.Replay() {
			if err != nil {
				t.Fatal(err)
			}
			if e.Index < before {
				continue
			}
			if n := int(e.Index-before) + 1; len(parts) > 1 && (e.Part != n || e.Parts != len(parts)) || e.Digest != "abc" {
				t.Errorf("%s: entry %d is part %d of %d, digest %q", c.name, n, e.Part, e.Parts, e.Digest)
			}
			got.WriteString(e.Text)
		}
		if got.String() != c.text {
			t.Errorf("%s: the text came back as %d bytes, not the same %d", c.name, got.Len(), len(c.text))
		}
	}
	if n := len(SplitText(Entry{Kind: PolicyText, Text: strings.Repeat("x", 8<<20)})); n > 130 {
		t.Errorf("8 MiB take %d entries, want about 129", n)
	}
}

// Newer versions may add fields: List shows them and Replay passes over them. An entry of a newer format
// or of an unknown kind is told by name, and List shows it all the same.
func TestFieldsOfNewerVersions(t *testing.T) {
	p := newPlace(t)
	j := p.open(t)
	lines := [][]byte{
		[]byte(`{"v":1,"time":"2099-01-01T00:00:00Z","kind":"approved","approver":"院長","text":"x"}`),
		[]byte(`{"v":1,"time":"2099-01-01T00:00:00Z","kind":"quarantined"}`),
		[]byte(`{"v":2,"time":"2099-01-01T00:00:00Z","kind":"approved"}`),
	}
	if err := j.writeLines(lines); err != nil {
		t.Fatal(err)
	}
	var said []string
	for e, err := range j.Replay() {
		if err == nil {
			err = e.Newer()
		}
		said = append(said, fmt.Sprint(err))
	}
	want := []string{"<nil>",
		"a newer kidoban wrote entry 1 of the journal: the kind \"quarantined\" is not known to this one. Start that kidoban, or a newer one",
		"a newer kidoban wrote entry 2 of the journal: its format has version 2, this one knows 1. Start that kidoban, or a newer one"}
	if !slices.Equal(said, want) {
		t.Errorf("replayed as %q, want %q", said, want)
	}
	j.Close()
	var newer *NewerError
	var damage *DamageError
	if _, err := VerifyDir(p.dir, p.verifierKey(t), nil); !errors.As(err, &newer) || errors.As(err, &damage) {
		t.Errorf("verified as %v", err)
	}
	if _, err := Open(p.dir, p.keyFile); !errors.As(err, &newer) {
		t.Errorf("opened as %v", err)
	}
	index := 0
	for got, err := range List(p.dir, 0) {
		if err != nil || !bytes.Equal(got.JSON, lines[index]) {
			t.Errorf("listed as %s, %v", got.JSON, err)
		}
		index++
	}
}

func TestList(t *testing.T) {
	p := newPlace(t)
	j := p.open(t)
	fillAtOnce(t, j, 600)
	for _, from := range []int64{-1, 0, 1, 255, 256, 599, 600, 1000} {
		next := max(from, 0)
		for line, err := range List(p.dir, from) {
			var e Entry
			if err == nil {
				err = json.Unmarshal(line.JSON, &e)
			}
			if err != nil {
				t.Fatal(err)
			}
			if e.Text != fmt.Sprint(next) || line.Index != next {
				t.Fatalf("from %d: entry %d reads %d, %s", from, next, line.Index, line.JSON)
			}
			next++
		}
		if next != max(600, from) {
			t.Errorf("from %d: ended at %d, want 600", from, next)
		}
	}
	for range List(p.dir, 0) {
		break // must not go on
	}
	for range j.Replay() {
		break
	}
}

// What cannot be read is named, and what is behind it is listed all the same.
func TestListOfADamagedJournal(t *testing.T) {
	whole := func(from, to int) (want []string) {
		for i := from; i < to; i++ {
			want = append(want, fmt.Sprint(i))
		}
		return want
	}
	p := newPlace(t)
	j := p.open(t)
	fillAtOnce(t, j, 600)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	sound := files(t, p.dir)
	const first, middle, last = "tile/entries/000", "tile/entries/001", "tile/entries/002.p/88"
	at := offsets(t, sound[first])
	flipped := func(b int, bit byte) []byte {
		data := bytes.Clone(sound[first])
		data[b] ^= bit
		return data
	}
	checkpoint := string(sound["checkpoint"])
	for _, c := range []struct {
		name, file string
		data       []byte // nil: it is gone
		want       []string
	}{
		{"a bundle in the middle is gone", middle, nil, slices.Concat(whole(0, 256), []string{"entry 256: tile/entries/001 is not there"}, whole(512, 600))},
		{"the first bundle is gone", first, nil, slices.Concat([]string{"entry 0: tile/entries/000 is not there"}, whole(256, 600))},
		{"the last bundle is gone", last, nil, append(whole(0, 512), "entry 512: tile/entries/002.p/88 is not there")},
		{"a length is too great", first, flipped(at[7], 0x80), slices.Concat(whole(0, 7), []string{"entry 7: tile/entries/000: ends inside an entry"}, whole(256, 600))},
		{"an entry is no JSON", first, flipped(at[7]+2, 0x01), slices.Concat(whole(0, 7), []string{"entry 7: tile/entries/000: not JSON"}, whole(8, 600))},
		{"a bundle is all zeros", first, make([]byte, len(sound[first])), slices.Concat([]string{"entry 0: tile/entries/000: not JSON", fmt.Sprintf("entry 256: tile/entries/000: %d bytes after its last entry", len(sound[first])-2*256)}, whole(256, 600))},
		{"the checkpoint is gone", "checkpoint", nil, append([]string{"open " + filepath.Join(p.dir, "checkpoint") + ": no such file or directory"}, whole(0, 600)...)},
		{"the checkpoint is empty", "checkpoint", []byte{}, append([]string{filepath.Join(p.dir, "checkpoint") + ": not three lines: origin, size, root hash"}, whole(0, 600)...)},
		{"the checkpoint claims a little more", "checkpoint", []byte(strings.Replace(checkpoint, "600", "608", 1)), slices.Concat(whole(0, 512), []string{"entry 512: tile/entries/002.p/96 is not there"}, whole(512, 600))},
		{"the checkpoint claims more than a lifetime reads", "checkpoint", []byte(strings.Replace(checkpoint, "600", fmt.Sprint(int64(maxSize)), 1)), slices.Concat(whole(0, 512), []string{"entry 512: tile/entries/002 is not there"}, whole(512, 600))},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.restore(t, sound)
			if p.write(t, c.file, c.data); c.data == nil {
				if err := os.Remove(filepath.Join(p.dir, c.file)); err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			for line, err := range List(p.dir, 0) {
				if err != nil {
					got = append(got, err.Error())
					continue
				}
				var e Entry
				if err := json.Unmarshal(line.JSON, &e); err != nil || e.Text != fmt.Sprint(line.Index) {
					t.Errorf("entry %d reads %s, %v", line.Index, line.JSON, err)
				}
				got = append(got, e.Text)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for range List(p.dir, 0) {
				break // must not go on
			}
		})
	}
}

func TestOneWriter(t *testing.T) {
	p := newPlace(t)
	j := p.open(t)
	_, err := Open(p.dir, p.keyFile)
	want := p.dir + ".lock is locked: another process has this journal open, and only one may write it"
	if err == nil || err.Error() != want {
		t.Errorf("a second Open: %v, want %s", err, want)
	}
	if _, _, err := Archive(p.dir, p.keyFile); err == nil || err.Error() != want {
		t.Errorf("Archive of an open journal: %v, want %s", err, want)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Append(Entry{Kind: Start}); !errors.Is(err, ErrClosed) {
		t.Errorf("Append after Close: %v, want %v", err, ErrClosed)
	}
	if err := j.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
	p.open(t)
}

func TestCallersShareACommit(t *testing.T) {
	p := newPlace(t)
	disk := &slowDisk{storage: realDisk, enter: make(chan bool), leave: make(chan bool)}
	j, err := open(disk, p.dir, p.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	disk.slow = true
	const callers = 100
	var wait sync.WaitGroup
	for i := range callers {
		wait.Go(func() {
			if err := j.Append(Entry{Kind: Admission, Text: fmt.Sprint(i)}, Entry{Kind: SessionOpened, Text: fmt.Sprint(i)}); err != nil {
				t.Error(err)
			}
		})
	}
	<-disk.enter // the first commit holds the disk
	deadline := time.Now().Add(10 * time.Second)
	for waiting := 0; waiting < 2*callers; {
		if time.Now().After(deadline) {
			t.Fatalf("%d entries wait for the disk, want %d", waiting, 2*callers)
		}
		time.Sleep(time.Millisecond)
		j.mu.Lock()
		waiting = int(disk.first)
		if j.pending != nil {
			waiting += len(j.pending.lines)
		}
		j.mu.Unlock()
	}
	disk.leave <- true
	<-disk.enter
	disk.leave <- true
	wait.Wait()
	if disk.commits != 2 {
		t.Errorf("%d commits, want 2", disk.commits)
	}
	seen := map[string]int{}
	before := ""
	for e, err := range j.Replay() {
		if err != nil {
			t.Fatal(err)
		}
		if e.Index%2 == 1 && e.Text != before {
			t.Errorf("the two entries of caller %s came apart", before)
		}
		before = e.Text
		seen[e.Text]++
	}
	if len(seen) != callers || j.Size() != 2*callers {
		t.Errorf("%d callers and %d entries recorded, want %d and %d", len(seen), j.Size(), callers, 2*callers)
	}
}

// slowDisk stops before each checkpoint until it is told to go on.
type slowDisk struct {
	storage
	slow         bool
	enter, leave chan bool
	commits      int
	first        int64 // entries in the first commit
}

func (d *slowDisk) Write(name string, data []byte) error {
	if d.slow && filepath.Base(name) == "checkpoint.tmp" {
		d.commits++
		if d.commits == 1 {
			_, tree, err := parseCheckpoint(string(data))
			if err != nil {
				return err
			}
			d.first = tree.N
		}
		d.enter <- true
		<-d.leave
	}
	return d.storage.Write(name, data)
}

func TestManyCallersAndReaders(t *testing.T) {
	p := newPlace(t)
	j := p.open(t)
	verifier := p.verifierKey(t)
	var writers, readers sync.WaitGroup
	done := make(chan bool)
	for range 8 {
		writers.Go(func() {
			for range 20 {
				if err := j.Append(Entry{Kind: Refused}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			for reading := true; reading; {
				select {
				case <-done:
					reading = false // once more
				default:
				}
				size, seen := j.Size(), int64(0)
				for _, err := range j.Replay() {
					if err != nil {
						t.Errorf("Replay: %v", err)
					}
					seen++
				}
				if seen < size {
					t.Errorf("Replay gave %d entries of %d", seen, size)
				}
				if report, err := VerifyDir(p.dir, verifier, nil); err != nil || report.Size < size {
					t.Errorf("VerifyDir: %d entries, %v, want at least %d", report.Size, err, size)
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
	if j.Size() != 8*20 {
		t.Errorf("%d entries, want %d", j.Size(), 8*20)
	}
}
