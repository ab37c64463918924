package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// readTexts are the texts of entries until the first error.
func readTexts(j *Journal, from int64) (all []string, err error) {
	for e, err := range j.ReplayFrom(from) {
		if err != nil {
			return all, err
		}
		if e.Index != from+int64(len(all)) {
			return all, fmt.Errorf("entry %d in the place of %d", e.Index, from+int64(len(all)))
		}
		all = append(all, e.Text)
	}
	return all, nil
}

// TestOpenUnread appends as Open does, and reads any part of the journal.
func TestOpenUnread(t *testing.T) {
	for _, size := range []int{0, 1, 255, 256, 257, 511, 512, 700} {
		p := closed(t, size)
		for range 2 {
			j, err := OpenUnread(p.dir, p.keyFile)
			if err != nil {
				t.Fatalf("%d entries: %v", size, err)
			}
			for _, from := range []int64{0, 1, int64(size) / 2, max(int64(size)-1, 0), int64(size)} {
				if got, err := readTexts(j, from); err != nil || !slices.Equal(got, counted(j.Size())[from:]) {
					t.Errorf("%d entries from %d on: %d, %v", size, from, len(got), err)
				}
			}
			fill(t, j, 1)
			fillAtOnce(t, j, 256)
			j.Close()
		}
		if _, err := VerifyDir(p.dir, p.verifierKey(t), nil); err != nil {
			t.Errorf("%d entries, then more: %v", size, err)
		}
	}
}

// TestReplayFromGivesSignedEntriesAlone whatever is changed, and finds every change of what it gives.
func TestReplayFromGivesSignedEntriesAlone(t *testing.T) {
	const size, from = 600, 300
	p := closed(t, size)
	all := files(t, p.dir)
	for name, data := range all {
		for at := 0; at < len(data); at += 1 + len(data)/40 {
			changed := slices.Clone(data)
			changed[at] ^= 1
			p.write(t, name, changed)
			j, err := OpenUnread(p.dir, p.keyFile)
			var got []string
			if err == nil {
				got, err = readTexts(j, from)
				j.Close()
			}
			if want := counted(size)[from:]; !slices.Equal(got, want[:len(got)]) || err == nil && len(got) != len(want) {
				t.Errorf("%s, byte %d: %d entries, %v", name, at, len(got), err)
			}
			needed := name != "tile/entries/000" && name != "tile/0/000"
			if damage := new(DamageError); needed != errors.As(err, &damage) {
				t.Errorf("%s, byte %d: %v", name, at, err)
			}
			p.write(t, name, data)
		}
	}
}

// TestStates finds whole states alone, the newest first.
func TestStates(t *testing.T) {
	p := newPlace(t)
	j := p.open(t)
	state := func(count int64, part, parts int) Entry {
		return Entry{Kind: State, Count: count, Part: part, Parts: parts, Text: fmt.Sprintf("%d.%d", count, part)}
	}
	fillAtOnce(t, j, 250)
	for _, some := range [][]Entry{
		{state(250, 1, 3), state(250, 2, 3), state(250, 3, 3)},
		{state(253, 0, 0)},
		{state(254, 1, 3), state(254, 2, 3)}, // a crash came
		{state(256, 1, 2)},
		{numbered(257)},
		{state(256, 2, 2)}, // not in its place
		{state(9, 0, 0)},
		{{Kind: Drift, Text: `"kind":"state"`}},
	} {
		if err := j.Append(some...); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for parts := range j.States() {
		var places []string
		for _, e := range parts {
			places = append(places, fmt.Sprintf("%d=%s", e.Index, e.Text))
		}
		got = append(got, strings.Join(places, " "))
	}
	if want := []string{"253=253.0", "250=250.1 251=250.2 252=250.3"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if err := os.Remove(filepath.Join(p.dir, "tile", "entries", "000")); err != nil {
		t.Fatal(err)
	}
	for parts := range j.States() {
		t.Errorf("without its file: %v", parts)
	}
}
