package journal

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// closed makes a journal of some entries, and closes it. The last three are
// commits of their own.
func closed(t testing.TB, count int) place {
	t.Helper()
	p := newPlace(t)
	j := p.open(t)
	fillAtOnce(t, j, count-3)
	fill(t, j, 3)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return p
}

// write puts a file of the journal back, or something else in its place.
func (p place) write(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(p.dir, name)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// restore makes the folder what files found there earlier.
func (p place) restore(t testing.TB, all map[string][]byte) {
	t.Helper()
	if err := os.RemoveAll(p.dir); err != nil {
		t.Fatal(err)
	}
	for name, data := range all {
		p.write(t, name, data)
	}
}

// wantDamage verifies, then opens, a journal with a fault.
func (p place) wantDamage(t *testing.T, what string, entry int64) {
	t.Helper()
	var damage *DamageError
	if _, err := VerifyCopy(p.dir, p.verifierKey(t), nil); !errors.As(err, &damage) || damage.Entry != entry {
		t.Fatalf("%s: VerifyCopy: %v, want a DamageError of entry %d", what, err, entry)
	}
	p.wantUnopened(t, what, entry)
}

// wantUnopened is wantDamage for a fault that a copy may have.
func (p place) wantUnopened(t *testing.T, what string, entry int64) {
	t.Helper()
	_, err := VerifyDir(p.dir, p.verifierKey(t), nil)
	var damage *DamageError
	if !errors.As(err, &damage) || damage.Entry != entry {
		t.Fatalf("%s: VerifyDir: %v, want a DamageError of entry %d", what, err, entry)
	}
	if j, err := Open(p.dir, p.keyFile); !errors.As(err, &damage) || damage.Entry != entry {
		if err == nil {
			j.Close()
		}
		t.Fatalf("%s: Open: %v, want a DamageError of entry %d", what, err, entry)
	}
}

// offsets are where the entries of a bundle begin, and where it ends.
func offsets(t testing.TB, bundle []byte) []int {
	t.Helper()
	at := []int{0}
	for rest := bundle; len(rest) > 0; {
		_, after, err := nextEntry(rest)
		if err != nil {
			t.Fatal(err)
		}
		rest = after
		at = append(at, len(bundle)-len(rest))
	}
	return at
}

// A change of any byte of any entry, its length included, names that entry.
func TestFault48FlippedEntries(t *testing.T) {
	p := closed(t, 259)
	for _, c := range []struct {
		name  string
		first int64
	}{{"tile/entries/000", 0}, {"tile/entries/001.p/3", 256}} {
		bundle := files(t, p.dir)[c.name]
		at := offsets(t, bundle)
		for i := range len(at) - 1 {
			step := 1
			if c.first == 0 && i > 2 && i < 254 {
				step = 61 // every byte of the first and last entries is enough
			}
			for b := at[i]; b < at[i+1]; b += step {
				flipped := bytes.Clone(bundle)
				flipped[b] ^= 1 << (b % 8)
				p.write(t, c.name, flipped)
				entry := c.first + int64(i)
				_, err := VerifyDir(p.dir, p.verifierKey(t), nil)
				var damage *DamageError
				if !errors.As(err, &damage) || damage.Entry != entry {
					t.Fatalf("byte %d of %s: %v, want entry %d named", b, c.name, err, entry)
				}
				if b == at[i]+2 { // not in the length: then it is known which of the two was changed
					if want := c.name + ": the entry is not the one that was signed"; damage.What != want {
						t.Fatalf("byte %d of %s: %s, want %s", b, c.name, damage.What, want)
					}
					p.wantDamage(t, c.name, entry)
				}
			}
		}
		p.write(t, c.name, bundle)
	}
}

func TestFlippedHashes(t *testing.T) {
	p := closed(t, 259)
	for _, c := range []struct {
		name     string
		hashes   int
		first    int64
		covering int64
		what     string
	}{
		{"tile/0/000", 256, 0, 1, "tile/entries/000 and tile/0/000 do not agree, and the hashes do not belong to the signed checkpoint"},
		{"tile/0/001.p/3", 3, 256, 1, "tile/entries/001.p/3 and tile/0/001.p/3 do not agree, and the hashes do not belong to the signed checkpoint"},
		{"tile/1/000.p/1", 1, 0, 256, "tile/1/000.p/1: hash 0 is not that of its 256 entries"},
	} {
		tile := files(t, p.dir)[c.name]
		if len(tile) != c.hashes*tlog.HashSize {
			t.Fatalf("%s has %d bytes", c.name, len(tile))
		}
		for b := 0; b < len(tile); b += 11 {
			flipped := bytes.Clone(tile)
			flipped[b] ^= 1 << (b % 8)
			p.write(t, c.name, flipped)
			entry := c.first + int64(b/tlog.HashSize)*c.covering
			_, err := VerifyDir(p.dir, p.verifierKey(t), nil)
			var damage *DamageError
			if !errors.As(err, &damage) || damage.Entry != entry || damage.What != c.what {
				t.Fatalf("byte %d of %s: %v, want entry %d: %s", b, c.name, err, entry, c.what)
			}
		}
		p.wantDamage(t, c.name, c.first+int64((len(tile)-1)/11*11/tlog.HashSize)*c.covering)
		p.write(t, c.name, tile)
	}
}

func TestFlippedCheckpoint(t *testing.T) {
	p := closed(t, 5)
	checkpoint := files(t, p.dir)["checkpoint"]
	for b := range checkpoint {
		for bit := range 8 {
			flipped := bytes.Clone(checkpoint)
			flipped[b] ^= 1 << bit
			p.write(t, "checkpoint", flipped)
			_, err := VerifyDir(p.dir, p.verifierKey(t), nil)
			var damage *DamageError
			if !errors.As(err, &damage) || damage.Entry != 0 {
				t.Fatalf("bit %d of byte %d: %v, want a DamageError of entry 0", bit, b, err)
			}
		}
	}
}

// Every file of a journal cut at every byte, and removed, is a tail behind the
// checkpoint: refused, with the first entry that is missing.
func TestTruncatedFiles(t *testing.T) {
	for _, c := range []struct{ count, step int }{{5, 1}, {259, 251}} {
		p := closed(t, c.count)
		for name, data := range files(t, p.dir) {
			wantDamage := func(what string, entry int64) {
				t.Helper()
				p.wantDamage(t, fmt.Sprintf("of %d entries, %s %s", c.count, name, what), entry)
			}
			var first int64 // entry that the file covers
			if strings.Contains(name, "/001") {
				first = 256
			}
			if strings.HasPrefix(name, "tile/") && !strings.HasPrefix(name, "tile/entries/") { // a copy does without it
				wantDamage = func(what string, entry int64) {
					t.Helper()
					p.wantUnopened(t, name+" "+what, entry)
					if report, err := VerifyCopy(p.dir, p.verifierKey(t), nil); err != nil || !slices.Equal(report.Lacking, []string{name}) {
						t.Errorf("of %d entries, %s %s: VerifyCopy: %v, lacking %q", c.count, name, what, err, report.Lacking)
					}
				}
			}
			for length := 0; length < len(data); length += c.step {
				p.write(t, name, data[:length])
				entry := first
				switch {
				case strings.HasPrefix(name, "tile/entries/"):
					entry += whole(t, data, length)
				case strings.HasPrefix(name, "tile/0/"):
					entry += int64(length / tlog.HashSize)
				}
				wantDamage(fmt.Sprintf("cut to %d bytes", length), entry)
			}
			if err := os.Remove(filepath.Join(p.dir, name)); err != nil {
				t.Fatal(err)
			}
			wantDamage("removed", first)
			p.write(t, name, append(bytes.Clone(data), 0))
			if _, err := VerifyDir(p.dir, p.verifierKey(t), nil); err == nil {
				t.Errorf("of %d entries, %s with a byte more verifies", c.count, name)
			}
			p.write(t, name, data)
		}
		p.open(t)
	}
}

// whole is how many entries of a bundle are whole in its first bytes.
func whole(t testing.TB, bundle []byte, length int) int64 {
	count, _ := slices.BinarySearch(offsets(t, bundle), length+1)
	return int64(count - 1)
}

// What a commit left that never got its checkpoint, cut at every byte: whole
// entries are adopted and signed, the rest goes.
func TestFault48TornTail(t *testing.T) {
	const more = 4
	for _, c := range []struct{ size, step int }{{6, 1}, {254, 5}, {256, 5}} {
		whole := newMemDisk()
		if err := new(history).live(t, whole, []int{c.size - 1, 1}); err != nil {
			t.Fatal(err)
		}
		before := whole.clone()
		j, err := open(whole, memDir, memKey)
		if err != nil {
			t.Fatal(err)
		}
		fillAtOnce(t, j, more)
		for _, name := range whole.tree(memDir) {
			bundle, err := parseTilePath(name)
			if err != nil || bundle.L != entriesLevel || inTree(bundle, int64(c.size)) {
				continue
			}
			data, err := whole.readFile(filepath.Join(memDir, name), maxBundle)
			if err != nil {
				t.Fatal(err)
			}
			covered := int64(c.size) - bundle.N*tileWidth // of this bundle, by the checkpoint
			start := offsets(t, data)[max(covered, 0)]
			for length := start; length <= len(data); length++ {
				if length%c.step != 0 && length < len(data) {
					continue
				}
				d := before.clone()
				put(t, d, name, data[:length])
				put(t, d, "checkpoint.tmp", []byte("half a check"))
				j, err := open(d, memDir, memKey)
				if err != nil {
					t.Fatalf("%s with %d of %d bytes: %v", name, length, len(data), err)
				}
				end := offsets(t, data)
				count, _ := slices.BinarySearch(end, length+1)
				want := Recovered{int64(count-1) - covered, int64(length - end[count-1])}
				if covered < 0 {
					want = Recovered{} // the bundle before it is not there whole: nothing joins it
				}
				if got := j.Recovered(); got != want || j.Size() != int64(c.size)+want.Adopted {
					t.Fatalf("%d entries, then %s with %d of %d bytes: %+v and %d entries, want %+v", c.size, name, length, len(data), got, j.Size(), want)
				}
				j.Close()
				h := &history{acknowledged: counted(int64(c.size) + want.Adopted)}
				h.check(t, d)
				h.check(t, d)
			}
		}
	}
}

// put puts a file into the journal on a disk, where it lasts.
func put(t testing.TB, d *memDisk, name string, data []byte) {
	t.Helper()
	w := writer{reader: reader{d, memDir}, lasting: map[string]bool{}}
	path := filepath.Join(memDir, name)
	if err := errors.Join(w.makeDirs(filepath.Dir(path)), d.Write(path, data), d.SyncFolder(filepath.Dir(path))); err != nil {
		t.Fatal(err)
	}
}

// Blocks of a file whose data never reached the disk read as zeros, or as
// what was there before.
func TestGarbageTail(t *testing.T) {
	p := closed(t, 6)
	before := files(t, p.dir)
	signed := before["tile/entries/000.p/6"]
	for _, c := range []struct {
		name string
		tail []byte
	}{
		{"zeros", make([]byte, 4096)},
		{"text", []byte("\x00\x05hello")},
		{"JSON that is no entry", []byte("\x00\x02{}")},
		{"a list", []byte("\x00\x02[]")},
	} {
		before["tile/entries/000.p/9"] = append(bytes.Clone(signed), c.tail...)
		p.restore(t, before)
		j := p.open(t)
		if got, want := j.Recovered(), (Recovered{0, int64(len(c.tail))}); got != want {
			t.Errorf("%s: recovered %+v, want %+v", c.name, got, want)
		}
		checkFiles(t, p.dir, 6)
		j.Close()
	}
	before["tile/entries/000.p/9"] = []byte("\x00\x05another past, longer than what was signed")
	p.restore(t, before)
	if j := p.open(t); j.Size() != 6 {
		t.Errorf("%d entries, want 6", j.Size())
	}
}

// Without the key, nobody can rewrite an entry, even with all hashes.
func TestFault48RewrittenPast(t *testing.T) {
	p := closed(t, 300)
	other := newPlace(t)
	j := other.open(t)
	fillAtOnce(t, j, 7)
	if err := j.Append(Entry{Kind: Refused, Text: "nobody was here"}); err != nil {
		t.Fatal(err)
	}
	fillAtOnce(t, j, 292)
	forged := files(t, other.dir)
	forged["checkpoint"] = files(t, p.dir)["checkpoint"]
	p.restore(t, forged)
	p.wantDamage(t, "all but the checkpoint from another journal", 0)
	p.restore(t, files(t, other.dir))
	p.wantDamage(t, "another journal altogether", 0)

	// The key's signature on another origin, as by a key used for two things.
	k, err := readKey(realDisk, p.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := note.Sign(&note.Note{Text: fmt.Sprintf("elsewhere\n0\n%s\n", (&edge{}).tree().Hash)}, k.signer)
	if err != nil {
		t.Fatal(err)
	}
	p.restore(t, map[string][]byte{"checkpoint": foreign})
	p.wantDamage(t, "a checkpoint of another origin", 0)
}

// A restored copy of the whole folder shows against a checkpoint that was
// kept elsewhere, and only there.
func TestFault48RollbackShowsOnlyAgainstAnEarlierCheckpoint(t *testing.T) {
	p := closed(t, 300)
	verifier := p.verifierKey(t)
	copied := files(t, p.dir)
	j := p.open(t)
	fill(t, j, 5)
	kept, _ := j.Checkpoint()
	j.Close()

	want := func(what string, since string, entry int64, message string) {
		t.Helper()
		_, err := VerifyDir(p.dir, verifier, []byte(since))
		var damage *DamageError
		if !errors.As(err, &damage) || damage.Entry != entry || !strings.HasPrefix(damage.What, message) {
			t.Errorf("%s: %v, want entry %d: %s...", what, err, entry, message)
		}
	}
	for _, since := range [][]byte{nil, copied["checkpoint"], []byte(kept)} {
		if report, err := VerifyDir(p.dir, verifier, since); err != nil || report.Size != 305 {
			t.Errorf("as it should be: %d entries, %v", report.Size, err)
		}
	}
	p.restore(t, copied)
	if _, err := VerifyDir(p.dir, verifier, nil); err != nil {
		t.Errorf("an old copy verifies alone; got %v", err)
	}
	want("rolled back", kept, 300, "rolled back: it has 300 entries, the earlier checkpoint has 305")

	// Then it goes on, past the size of the checkpoint that was kept.
	j = p.open(t)
	fillAtOnce(t, j, 50)
	j.Close()
	want("another future", kept, 0, "another past: its first 305 entries have root ")
	if _, err := VerifyDir(p.dir, verifier, copied["checkpoint"]); err != nil {
		t.Errorf("of the copy it is a continuation; got %v", err)
	}

	// The empty journal is the beginning of every one.
	empty := newPlace(t)
	j = empty.open(t)
	none, _ := j.Checkpoint()
	fill(t, j, 2)
	if report, err := VerifyDir(empty.dir, empty.verifierKey(t), []byte(none)); err != nil || report.Size != 2 {
		t.Errorf("against its empty checkpoint: %v", err)
	}
	_, err := VerifyDir(p.dir, verifier, []byte(none))
	if err == nil || !strings.HasPrefix(err.Error(), "the earlier checkpoint: the signature does not verify with the key kidoban/") {
		t.Errorf("against another journal's checkpoint: %v", err)
	}
}

// What tlog computes from the tiles is what any tool for such logs would.
func TestToolsAgree(t *testing.T) {
	for _, size := range []int64{4, 255, 256, 259, 1030} {
		p := closed(t, int(size))
		verifier, err := note.NewVerifier(p.verifierKey(t))
		if err != nil {
			t.Fatal(err)
		}
		all := files(t, p.dir)
		signed, err := note.Open(all["checkpoint"], note.VerifierList(verifier))
		if err != nil {
			t.Fatal(err)
		}
		var origin, root string
		var n int64
		if _, err := fmt.Sscanf(signed.Text, "%s\n%d\n%s\n", &origin, &n, &root); err != nil || n != size || origin != verifier.Name() {
			t.Fatalf("checkpoint %q: %v", signed.Text, err)
		}
		hash, err := tlog.ParseHash(root)
		if err != nil {
			t.Fatal(err)
		}
		hashes := tlog.TileHashReader(tlog.Tree{N: n, Hash: hash}, tileReader{reader{realDisk, p.dir}})
		for index := range size {
			if index > 10 && index < size-10 && index%50 != 0 {
				continue
			}
			proof, err := tlog.ProveRecord(size, index, hashes)
			if err != nil {
				t.Fatal(err)
			}
			for line, err := range List(p.dir, index) {
				if err != nil {
					t.Fatal(err)
				}
				if err := tlog.CheckRecord(proof, size, hash, index, tlog.RecordHash(line.JSON)); err != nil {
					t.Errorf("entry %d of %d: %v", index, size, err)
				}
				break
			}
		}
		grown := &edge{}
		for line, err := range List(p.dir, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if err := grown.add(tlog.RecordHash(line.JSON), nil); err != nil {
				t.Fatal(err)
			}
			if grown.size%37 != 0 && grown.size != size {
				continue
			}
			earlier := grown.tree()
			proof, err := tlog.ProveTree(size, earlier.N, hashes)
			if err == nil {
				err = tlog.CheckTree(proof, size, hash, earlier.N, earlier.Hash)
			}
			if err != nil {
				t.Errorf("from %d to %d: %v", earlier.N, size, err)
			}
		}
	}
}

// A copy made while the journal was written to, checkpoint first, has longer
// tiles than its checkpoint asks for.
func TestCopyOfALivingJournal(t *testing.T) {
	p := newPlace(t)
	j := p.open(t)
	fill(t, j, 250)
	early, _ := j.Checkpoint()
	for _, more := range []int{3, 5, 300} {
		fillAtOnce(t, j, more)
		copied := place{filepath.Join(t.TempDir(), "journal"), p.keyFile}
		all := files(t, p.dir)
		all["checkpoint"] = []byte(early)
		copied.restore(t, all)
		if report, err := VerifyDir(copied.dir, p.verifierKey(t), nil); err != nil || report.Size != 250 {
			t.Errorf("%d entries later: %d entries, %v", more, report.Size, err)
		}
	}
}

// aged is the files of a copy, some of which are older than others. An older
// part may also lack the partial tiles, which had gone when they were to be read.
func aged(older, newer map[string][]byte, checkpoint, hashes, entries string) map[string][]byte {
	all := map[string][]byte{}
	for _, age := range []string{"older", "gone", "newer"} {
		from := older
		if age == "newer" {
			from = newer
		}
		for name, data := range from {
			of := hashes
			switch {
			case name == "checkpoint":
				of = checkpoint
			case strings.HasPrefix(name, "tile/entries/"):
				of = entries
			}
			if of == age && (age != "gone" || !strings.Contains(name, ".p/")) {
				all[name] = data
			}
		}
	}
	return all
}

// TestFault85CopyOfFilesOfDifferentAges: a copy proves what its checkpoint covers
// if the entries are there, whatever became of the hash tiles. If they are not,
// it says so, and no more.
func TestFault85CopyOfFilesOfDifferentAges(t *testing.T) {
	for _, c := range []struct{ older, newer int64 }{{5, 9}, {250, 259}, {256, 300}, {300, 800}} {
		p := newPlace(t)
		j := p.open(t)
		fillAtOnce(t, j, int(c.older))
		older := files(t, p.dir)
		fillAtOnce(t, j, int(c.newer-c.older))
		newer := files(t, p.dir)
		for _, checkpoint := range []string{"older", "newer"} {
			for _, hashes := range []string{"older", "gone", "newer"} {
				for _, entries := range []string{"older", "gone", "newer"} {
					what := fmt.Sprintf("%d and %d entries, checkpoint %s, hashes %s, entries %s", c.older, c.newer, checkpoint, hashes, entries)
					copied := place{filepath.Join(t.TempDir(), "journal"), p.keyFile}
					copied.restore(t, aged(older, newer, checkpoint, hashes, entries))
					signed := map[string]int64{"older": c.older, "newer": c.newer}[checkpoint]
					there := map[string]int64{"older": c.older, "gone": c.older / tileWidth * tileWidth, "newer": c.newer}[entries]
					report, err := VerifyCopy(copied.dir, p.verifierKey(t), nil)
					whole := hashes == "newer" || hashes == "older" && checkpoint == "older"
					if there >= signed {
						if err != nil || report.Size != signed || report.Proven != signed || report.Beyond != there-signed || (len(report.Lacking) == 0) != whole {
							t.Errorf("%s: %v, %+v", what, err, report)
						}
						if _, err := VerifyDir(copied.dir, p.verifierKey(t), nil); (err == nil) != whole {
							t.Errorf("%s: VerifyDir: %v", what, err)
						}
						continue
					}
					var damage *DamageError
					if !errors.As(err, &damage) || damage.Entry != there || !damage.Missing {
						t.Errorf("%s: %v, want that entry %d is missing", what, err, there)
					}
					proven := int64(0)
					if hashes == "newer" || signed == c.older && hashes == "older" {
						proven = there
					}
					if report.Proven != proven {
						t.Errorf("%s: %d entries are proven, want %d", what, report.Proven, proven)
					}
					if there < c.older {
						continue
					}
					if report, err = VerifyCopy(copied.dir, p.verifierKey(t), older["checkpoint"]); err == nil || report.Proven != c.older {
						t.Errorf("%s: by the earlier checkpoint %d entries are proven (%v), want %d", what, report.Proven, err, c.older)
					}
				}
			}
		}
		forged := aged(older, newer, "newer", "gone", "newer")
		name := fmt.Sprintf("tile/entries/%03d.p/%d", c.newer/tileWidth, c.newer%tileWidth)
		forged[name] = bytes.Replace(forged[name], []byte(`"text":"`+strconv.FormatInt(c.newer-1, 10)), []byte(`"text":"`+strconv.FormatInt(c.newer-2, 10)), 1)
		copied := place{filepath.Join(t.TempDir(), "journal"), p.keyFile}
		copied.restore(t, forged)
		var damage *DamageError
		if _, err := VerifyCopy(copied.dir, p.verifierKey(t), nil); !errors.As(err, &damage) || damage.Missing || !strings.HasPrefix(damage.What, "the entries are not those that were signed: ") {
			t.Errorf("a changed entry without its hash tile: %v", err)
		}
	}
}

// TestFault85CopyWhileTheGatewayWrites copies a journal in several orders while it
// is written to. Each copy proves its checkpoint, or lacks entries.
func TestFault85CopyWhileTheGatewayWrites(t *testing.T) {
	p := newPlace(t)
	j := p.open(t)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := j.Append(numbered(int64(i))); err != nil {
				done <- err
				return
			}
		}
	}()
	type there struct {
		name    string
		written int64
	}
	list := func() (all []there) {
		_ = filepath.WalkDir(p.dir, func(path string, found fs.DirEntry, err error) error {
			if err != nil || found.IsDir() {
				return nil // it has gone meanwhile
			}
			if file, err := found.Info(); err == nil {
				name, _ := filepath.Rel(p.dir, path)
				all = append(all, there{name, file.ModTime().UnixNano()})
			}
			return nil
		})
		return all
	}
	byName := func(a, b there) int { return strings.Compare(a.name, b.name) }
	byAge := func(a, b there) int { return cmp.Compare(a.written, b.written) }
	outcomes := map[string]int{}
	for round := range 30 {
		for order, compare := range map[string]func(a, b there) int{
			"by name":       byName,
			"by name, back": func(a, b there) int { return byName(b, a) },
			"oldest first":  byAge,
			"newest first":  func(a, b there) int { return byAge(b, a) },
		} {
			all := list()
			slices.SortFunc(all, compare)
			copied := place{filepath.Join(t.TempDir(), "journal"), p.keyFile}
			for _, f := range all {
				if data, err := os.ReadFile(filepath.Join(p.dir, f.name)); err == nil {
					copied.write(t, f.name, data)
				}
			}
			report, err := VerifyCopy(copied.dir, p.verifierKey(t), nil)
			var damage *DamageError
			switch {
			case err == nil:
				outcomes["verified"]++
			case errors.As(err, &damage) && damage.Missing:
				outcomes["missing"]++
			default:
				t.Fatalf("round %d, copied %s: %v, %+v", round, order, err, report)
			}
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Log(outcomes)
}

// TestNamedPipes: nobody who verifies a copy from elsewhere waits for ever.
func TestNamedPipes(t *testing.T) {
	p := closed(t, 5)
	healthy := files(t, p.dir)
	for name := range healthy {
		path := filepath.Join(p.dir, name)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		result := make(chan error, 1)
		go func() {
			_, err := VerifyDir(p.dir, p.verifierKey(t), nil)
			result <- err
		}()
		select {
		case err := <-result:
			if err == nil || !strings.Contains(err.Error(), "not a regular file") {
				t.Errorf("%s is a named pipe: VerifyDir: %v", name, err)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s is a named pipe: VerifyDir waits for it", name)
		}
		p.restore(t, healthy)
	}
}

func TestLostFolderOrKey(t *testing.T) {
	p := closed(t, 5)
	aside := p.dir + ".aside"
	if err := os.Rename(p.dir, aside); err != nil {
		t.Fatal(err)
	}
	want := "journal " + p.dir + ": the journal does not verify from entry 0 on: the folder is gone, its key " + p.keyFile + " is there: put the folder back, or begin another with `kidoban recover`"
	if _, err := Open(p.dir, p.keyFile); err == nil || err.Error() != want {
		t.Errorf("without the folder: %v, want %s", err, want)
	}
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p.wantDamage(t, "with an empty folder", 0)
	if err := os.Remove(p.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(aside, p.dir); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(p.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		data string
		mode fs.FileMode
		want string
	}{
		{"open to others", string(key), 0o640, p.keyFile + ": the journal's key has mode 0640: allowed is 0600 or stricter (chmod 0600)"},
		{"half", string(key[:40]), 0o600, p.keyFile + ": not a journal key: allowed is one line PRIVATE+KEY+NAME+HASH+KEY"},
		{"empty", "", 0o600, p.keyFile + ": not a journal key: allowed is one line PRIVATE+KEY+NAME+HASH+KEY"},
		{"gone", "", 0, "its key " + p.keyFile + " is not there: put it back, or archive this journal and begin another with `kidoban recover`"},
	} {
		if err := os.Remove(p.keyFile); err != nil {
			t.Fatal(err)
		}
		if c.mode != 0 {
			if err := os.WriteFile(p.keyFile, []byte(c.data), c.mode); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Open(p.dir, p.keyFile); err == nil || err.Error() != "journal "+p.dir+": "+c.want {
			t.Errorf("with a key %s: %v, want %s", c.what, err, c.want)
		}
	}
	if _, err := VerifyDir(p.dir, "nonsense", nil); !errors.Is(err, errBadVerifierKey) {
		t.Errorf("with a verifier key that is none: %v", err)
	}
	if _, err := VerifyDir(p.dir+".nowhere", "nonsense", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a folder: %v", err)
	}
	if err := os.WriteFile(p.keyFile, key, 0o600); err != nil {
		t.Fatal(err)
	}
	if j := p.open(t); j.Size() != 5 {
		t.Errorf("%d entries after all was put back, want 5", j.Size())
	}
}

func TestArchive(t *testing.T) {
	p := closed(t, 259)
	before := files(t, p.dir)
	verifier := p.verifierKey(t)
	before["tile/entries/000"] = before["tile/entries/000"][:1000]
	p.write(t, "tile/entries/000", before["tile/entries/000"])
	if _, err := Open(p.dir, p.keyFile); err == nil {
		t.Fatal("a damaged journal opens")
	}
	broken, last, err := Archive(p.dir, p.keyFile)
	if err != nil || last != string(before["checkpoint"]) || !strings.HasPrefix(broken, p.dir+".broken-") {
		t.Fatalf("Archive: %q, %q, %v", broken, last, err)
	}
	if got := files(t, broken); len(got) != len(before) || !bytes.Equal(got["tile/entries/000"], before["tile/entries/000"]) {
		t.Errorf("the broken journal was not kept as it was: %d files of %d", len(got), len(before))
	}
	j := p.open(t)
	if err := j.Append(Entry{Kind: Recovery, Reason: "disk replaced", Text: last}); err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyDir(p.dir, verifier, nil); err != nil {
		t.Errorf("the new journal, with the same key: %v", err)
	}
	if _, err := VerifyDir(p.dir, verifier, []byte(last)); err == nil {
		t.Error("the new journal passes for a continuation of the old")
	}
	j.Close()

	// Key and folder gone altogether: there is still a way out.
	for _, name := range []string{p.dir, p.keyFile} {
		if err := os.RemoveAll(name); err != nil {
			t.Fatal(err)
		}
	}
	if broken, last, err = Archive(p.dir, p.keyFile); broken != "" || last != "" || err != nil {
		t.Errorf("Archive of nothing: %q, %q, %v", broken, last, err)
	}
	if j := p.open(t); j.Size() != 0 {
		t.Errorf("%d entries in a new journal", j.Size())
	}
}

// What can be read of a damaged journal is read, and that it is not all is
// told: not where everything signed is there and something else is wrong.
func TestReadDamaged(t *testing.T) {
	p := closed(t, 600)
	sound := files(t, p.dir)
	const first, second, last = "tile/entries/000", "tile/entries/001", "tile/entries/002.p/88"
	at := offsets(t, sound[first])
	change := func(file string, f func([]byte) []byte) func(*testing.T) {
		return func(t *testing.T) { p.write(t, file, f(bytes.Clone(sound[file]))) }
	}
	remove := func(name string) func(*testing.T) {
		return func(t *testing.T) {
			if err := os.RemoveAll(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	in := func(name string) string { return filepath.Join(p.dir, name) }
	key, err := os.ReadFile(p.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		do    func(*testing.T)
		count int
		lost  string // empty: all was read
	}{
		{"nothing is wrong", func(*testing.T) {}, 600, ""},
		{"an entry that still reads well", change(first, func(b []byte) []byte { return bytes.Replace(b, []byte(`"text":"7"`), []byte(`"text":"8"`), 1) }), 600, "its entries are not those that were signed"},
		{"an entry that is no JSON", change(first, func(b []byte) []byte { b[at[7]+2] ^= 1; return b }), 599, "entry 7: tile/entries/000: not JSON"},
		{"an entry's length", change(first, func(b []byte) []byte { b[at[7]] ^= 0x80; return b }), 600 - 249, "entry 7: tile/entries/000: ends inside an entry"},
		{"a bundle that is gone", remove(in(second)), 600 - 256, "entry 256: tile/entries/001 is not there"},
		{"the end of the last bundle", change(last, func(b []byte) []byte { return b[:len(b)-1] }), 599, "entry 599: tile/entries/002.p/88: ends inside an entry"},
		{"a hash tile that was changed", change("tile/0/001", func(b []byte) []byte { b[0] ^= 1; return b }), 600, ""},
		{"a hash tile that is gone", remove(in("tile/1/000.p/2")), 600, ""},
		{"a torn tail, which is no damage", func(t *testing.T) {
			p.write(t, "tile/entries/002.p/90", append(bytes.Clone(sound[last]), 0, 30, '{'))
		}, 600, ""},
		{"the checkpoint is all zeros", change("checkpoint", func(b []byte) []byte { return make([]byte, len(b)) }), 600, "checkpoint: "},
		{"the checkpoint claims more", change("checkpoint", func(b []byte) []byte { return bytes.Replace(b, []byte("600"), []byte("9999999999"), 1) }), 600, "checkpoint: "},
		{"the checkpoint is gone", remove(in("checkpoint")), 600, "there is no checkpoint in "},
		{"checkpoint and last bundle are gone", func(t *testing.T) { remove(in("checkpoint"))(t); remove(in(last))(t) }, 512, "there is no checkpoint in "},
		{"the folder is gone", remove(p.dir), 0, "there is no checkpoint in "},
		{"the key is gone", remove(p.keyFile), 600, "no such file or directory"},
		{"all is gone", func(t *testing.T) { remove(p.dir)(t); remove(p.keyFile)(t) }, 0, "no such file or directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.restore(t, sound)
			if err := os.WriteFile(p.keyFile, key, 0o600); err != nil {
				t.Fatal(err)
			}
			c.do(t)
			count, lost, next := 0, "", int64(0)
			for e, err := range ReadDamaged(p.dir, p.keyFile) {
				if lost != "" {
					t.Error("something follows the error")
				}
				if err != nil {
					lost = err.Error()
					continue
				}
				if count++; e.Index < next || e.Kind == "" {
					t.Errorf("entry %d, where %d or a later one comes: %+v", e.Index, next, e)
				}
				next = e.Index + 1
			}
			if count != c.count || (lost == "") != (c.lost == "") || !strings.Contains(lost, c.lost) {
				t.Errorf("%d entries and %q, want %d and %q", count, lost, c.count, c.lost)
			}
			for range ReadDamaged(p.dir, p.keyFile) {
				break // must not go on
			}
		})
	}
}

// What was kept may be all that a command printed, or have been mailed.
func TestFindCheckpoint(t *testing.T) {
	p := closed(t, 300)
	verifier := p.verifierKey(t)
	kept := string(files(t, p.dir)["checkpoint"])
	lines := strings.Split(strings.TrimSuffix(kept, "\n"), "\n")
	signature := lines[4]
	printed, err := json.Marshal(map[string]any{"ok": true, "size": 300, "checkpoint": kept})
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"as it is":             kept,
		"no last newline":      strings.TrimSuffix(kept, "\n"),
		"one newline more":     kept + "\n",
		"ends of lines":        strings.ReplaceAll(kept, "\n", "\r\n"),
		"all that is printed":  "VERIFIED  journal: 300 entries\nWith the key " + verifier + ", of journal.key.\n\n" + kept,
		"JSON":                 string(printed),
		"quoted in a mail":     "On Monday IT wrote:\n> " + strings.Join(lines, "\n> ") + "\n> \n> Regards\n",
		"a line broken":        strings.Replace(kept, signature, signature[:70]+"\n"+signature[70:], 1) + "\n-- \nIT\n",
		"broken after a name":  strings.Replace(kept, signature, strings.Replace(signature, " ", "\n", 2), 1),
		"a witness' signature": kept + "\u2014 witness.example/w AAAAAQ" + strings.Repeat("A", 97) + "=\n",
	} {
		if _, err := VerifyDir(p.dir, verifier, []byte(text)); err != nil {
			t.Errorf("%s: %v\n%s", what, err, text)
		}
	}
	changed := strings.Replace(kept, "\n300\n", "\n301\n", 1)
	for what, c := range map[string]struct{ text, want string }{
		"empty":            {"", "the earlier checkpoint: there is none: "},
		"the list":         {"     0  2030-12-08 13:59:50 CET  start\n", "the earlier checkpoint: there is none: "},
		"no signature":     {strings.Join(lines[:4], "\n") + "\n", "the earlier checkpoint: there is none: "},
		"half a signature": {kept[:len(kept)-20], "the earlier checkpoint: the signature does not verify "},
		"two":              {kept + "\n" + kept, "the earlier checkpoint: there are 2 in it: allowed is one"},
		"changed":          {changed, "the earlier checkpoint: the signature does not verify "},
	} {
		if _, err := VerifyDir(p.dir, verifier, []byte(c.text)); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s...", what, err, c.want)
		}
	}
}
