package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kidoban/gateway/journal"
)

// placeOf is a place for a journal, with a feed.
func placeOf(t testing.TB) OnDisk {
	dir := t.TempDir()
	return OnDisk{Folder: filepath.Join(dir, "journal"), KeyFile: filepath.Join(dir, "journal.key"), Latch: ShutFile{Lasting: filepath.Join(dir, "shut.json")},
		Feed: &Feed{}, Logger: slog.New(slog.DiscardHandler)}
}

func opened(t testing.TB, place OnDisk) Journal {
	t.Helper()
	j, err := place.Open()
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// append appends n entries with a text of some length.
func appendSome(t testing.TB, j Journal, n, length int) {
	t.Helper()
	var entries []journal.Entry
	for i := range n {
		entries = append(entries, journal.Entry{Kind: journal.Drift, Text: fmt.Sprint(i, strings.Repeat("x", length))})
	}
	if err := j.Append(entries...); err != nil {
		t.Fatal(err)
	}
}

func onDisk(t testing.TB, place OnDisk) (all []string) {
	t.Helper()
	for line, err := range journal.List(place.Folder, 0) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprint(line.Index, string(line.JSON)))
	}
	return all
}

// TestStreamsHaveEveryEntryOnce: streams that begin anywhere, at any time, and stop and go on,
// have the entries of the journal, while it grows and is opened again.
func TestStreamsHaveEveryEntryOnce(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	place := placeOf(t)
	j := opened(t, place)
	appendSome(t, j, 700, 10)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const followers, most = 6, 3000
	got := make([][]string, followers)
	begun := make([]int64, followers)
	var wait sync.WaitGroup
	for i := range followers {
		begun[i] = []int64{-1, 0, 255, 256, 600, 699}[i]
		wait.Go(func() {
			after := begun[i]
			random := rand.New(rand.NewPCG(2, uint64(i)))
			for after < most-1 && ctx.Err() == nil {
				s, err := place.Feed.After(after)
				if err != nil {
					if !errors.Is(err, ErrNotOpen) {
						t.Error(err)
						return
					}
					continue
				}
				for range random.IntN(5) {
					lines, err := s.Next(ctx)
					if err != nil {
						if !errors.Is(err, ErrReplaced) {
							t.Error(err)
						}
						break
					}
					for _, l := range lines {
						got[i] = append(got[i], fmt.Sprint(l.Index, string(l.JSON)))
					}
				}
				after = s.After
			}
		})
	}
	for size := 700; size < most; {
		n := min(most-size, 1+random.IntN(120))
		appendSome(t, j, n, 10)
		size += n
		if random.IntN(4) == 0 {
			j.Close()
			j = opened(t, place)
		}
	}
	wait.Wait()
	all := onDisk(t, place)
	for i, lines := range got {
		if want := all[begun[i]+1:]; !slices.Equal(lines, want) {
			t.Errorf("the stream after %d has %d entries, want %d", begun[i], len(lines), len(want))
		}
	}
	j.Close()
}

// TestStreamEndsWithItsJournal: a stream gives no entry of the journal that took the place of its own.
func TestStreamEndsWithItsJournal(t *testing.T) {
	place := placeOf(t)
	j := opened(t, place)
	appendSome(t, j, 300, 10)
	j.Close()
	j = opened(t, place) // so that the entries are on disk only
	var streams []*Stream
	for _, after := range []int64{-1, 100, 299} {
		s, err := place.Feed.After(after)
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := streams[2].Next(context.Background())
		ended <- err
	}()
	j.Close()
	if _, _, err := place.Archive(); err != nil {
		t.Fatal(err)
	}
	if _, err := place.Feed.Now(); !errors.Is(err, ErrNotOpen) {
		t.Errorf("while the journal is replaced: %v", err)
	}
	j = opened(t, place)
	defer j.Close()
	appendSome(t, j, 400, 10)
	if err := <-ended; !errors.Is(err, ErrReplaced) {
		t.Errorf("the stream that waited: %v", err)
	}
	for i, s := range streams {
		if lines, err := s.Next(t.Context()); !errors.Is(err, ErrReplaced) {
			t.Errorf("stream %d: %d entries, %v", i, len(lines), err)
		}
	}
	if s, err := place.Feed.After(350); err != nil || s.Journal == "" || s.Journal == streams[0].Journal {
		t.Errorf("the new journal: %+v, %v", s, err)
	}
	// Where the stream does not look for that, it gives the other journal's entries.
	unguarded := *streams[0]
	unguarded.log = &followed{folder: place.Folder, next: 300, grown: make(chan struct{})}
	unguarded.feed = &Feed{}
	if lines, err := unguarded.Next(t.Context()); err != nil || len(lines) == 0 {
		t.Errorf("the test would not notice: %d entries, %v", len(lines), err)
	}
}

// TestFeedKeepsLittle: the newest entries are in memory, within bounds, and older ones are read from disk.
func TestFeedKeepsLittle(t *testing.T) {
	place := placeOf(t)
	j := opened(t, place)
	defer j.Close()
	s, err := place.Feed.Now()
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		appendSome(t, j, 500, 10)
	}
	for range 4 {
		appendSome(t, j, 100, 30_000)
	}
	log := s.log
	if log.bytes > feedBytes || len(log.lines) > feedEntries || log.lines[0].Index+int64(len(log.lines)) != log.next {
		t.Errorf("%d entries of %d bytes are kept", len(log.lines), log.bytes)
	}
	files, err := filepath.Glob(filepath.Join(place.Folder, "tile/entries/*"))
	if err != nil || len(files) < 20 {
		t.Fatal(files, err)
	}
	if s, err = place.Feed.After(9999); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Next(t.Context()); err != nil {
		t.Errorf("an entry on disk: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(place.Folder, "tile")); err != nil {
		t.Fatal(err)
	}
	if s, err = place.Feed.After(log.lines[0].Index - 1); err != nil {
		t.Fatal(err)
	}
	if lines, err := s.Next(t.Context()); err != nil || lines[0].Index != log.lines[0].Index {
		t.Errorf("an entry in memory: %v", err)
	}
	if s, err = place.Feed.After(5000); err != nil {
		t.Fatal(err)
	}
	if lines, err := s.Next(t.Context()); err == nil || !strings.Contains(err.Error(), "entry 5001") {
		t.Errorf("an entry that is lost: %d, %v", len(lines), err)
	}
}

// TestFeedIsAboutWhatIsThere: an index beyond the newest entry is refused, and entries are as the journal has them.
func TestFeedIsAboutWhatIsThere(t *testing.T) {
	place := placeOf(t)
	if _, err := place.Feed.Now(); !errors.Is(err, ErrNotOpen) {
		t.Errorf("before the journal: %v", err)
	}
	j := opened(t, place)
	defer j.Close()
	s, err := place.Feed.After(-1)
	if err != nil || s.Journal != "" {
		t.Fatal(s, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("of an empty journal: %v", err)
	}
	appendSome(t, j, 3, 1)
	lines, err := s.Next(t.Context())
	var e journal.Entry
	if err != nil || len(lines) != 3 || json.Unmarshal(lines[2].JSON, &e) != nil || e.Version != journal.Version || e.Time.IsZero() {
		t.Errorf("%+v, %v, %+v", lines, err, e)
	}
	for _, index := range []int64{-2, 3, 1 << 40} {
		if _, err := place.Feed.After(index); !errors.Is(err, ErrBeyond) {
			t.Errorf("after %d: %v", index, err)
		}
	}
	if s, err := place.Feed.After(2); err != nil || s.After != 2 || s.Journal == "" {
		t.Errorf("after the newest: %+v, %v", s, err)
	}
}
