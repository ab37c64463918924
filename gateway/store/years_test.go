package store

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

var (
	years    = flag.Int("years", 0, "measure the start with a journal of so many entries, as 1000000")
	yearsDir = flag.String("years-dir", "", "where that journal is kept for the next time")
)

// TestStartAfterYears measures starts. It runs only where -years is given.
func TestStartAfterYears(t *testing.T) {
	if *years == 0 {
		t.Skip("-years is not given")
	}
	folder := *yearsDir
	if folder == "" {
		folder = t.TempDir()
	}
	place := OnDisk{Folder: filepath.Join(folder, "journal"), KeyFile: filepath.Join(folder, "journal.key"), Latch: ShutFile{Lasting: filepath.Join(folder, "shut.json")}, Logger: slog.New(slog.DiscardHandler)}
	if place.None() {
		fillYears(t, place, *years, true)
	}
	measure := func(name string, whole int64) {
		t.Helper()
		place.wholeBelow = whole
		for range 3 {
			runtime.GC()
			began, cpu := time.Now(), processorTime(t)
			j, err := place.Open()
			if err != nil {
				t.Fatal(err)
			}
			opened := time.Since(began)
			past, err := Read(j.Replay())
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: %d entries, %d still open: opened after %v, ready after %v, %v of processor", name, j.Size(), len(past.open), opened.Round(time.Millisecond),
				time.Since(began).Round(time.Millisecond), (processorTime(t) - cpu).Round(time.Millisecond))
			j.Close()
		}
		place.wholeBelow = 0
	}
	measure("from the newest state", 0)
	measure("from the first entry", 1<<40)
	place.wholeBelow = 0
	j, err := place.Open()
	if err != nil {
		t.Fatal(err)
	}
	past, err := Read(j.Replay())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	j.(*signedJournal).begin(past)
	t.Logf("the copy of the past took %v", time.Since(began).Round(time.Microsecond))
	if err, found := <-j.(*signedJournal).Faults(); found {
		t.Error(err)
	}
	t.Logf("the rest was verified after %v", time.Since(began).Round(time.Millisecond))
	j.Close()
	crashed := place
	crashed.stateEvery = 1 << 40 // the process was killed before the next state
	fillYears(t, crashed, int(j.Size())+49_000, false)
	measure("after a crash 49,000 entries behind the newest state", 0)
}

func processorTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// fillYears appends what years of work do: 40 engineers come and go, and strangers knock.
func fillYears(t *testing.T, place OnDisk, count int, stops bool) {
	j, err := place.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	past, err := Read(j.Replay())
	if err != nil {
		t.Fatal(err)
	}
	j.(*signedJournal).begin(past)
	at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	if past.Newest.After(at) {
		at = past.Newest
	}
	for n := 0; int(j.Size()) < count; n++ {
		var batch []journal.Entry
		for len(batch) < 1000 {
			at = at.Add(40 * time.Second)
			e := n % 40
			who := journal.Entry{Actor: "gateway", Vendor: fmt.Sprintf("vendor%d", e/4), VendorName: "メディシス株式会社", Engineer: fmt.Sprintf("engineer%d", e), EngineerName: "佐藤 健",
				Source: "203.0.113.10", Session: fmt.Sprint("s", n), Time: at, Key: policy.Key{byte(e), 1}.String()}
			stamp := fmt.Sprintf("%024x", n*3+1)
			for i, kind := range []journal.Kind{journal.Admission, journal.SessionOpened, journal.Refused, journal.SessionClosed, journal.Refused} {
				x := who
				x.Kind = kind
				switch {
				case i == 0:
					x.Timestamp, x.Session = stamp, ""
				case i == 4:
					x = journal.Entry{Kind: journal.Refused, Time: at, Source: fmt.Sprintf("198.51.100.%d", n%250), Reason: "not_for_us", Count: 17, First: at.Add(-time.Minute), Last: at}
				case kind == journal.Refused:
					x.Target, x.Reason, x.Count, x.First, x.Last, x.Key = "10.10.20.7:445", "unlisted_target", 3, at, at, ""
				}
				if kind == journal.SessionClosed {
					x.Reason, x.ReceivedBytes, x.TransmittedBytes = "idle", 123456, 234567
				}
				batch = append(batch, x)
			}
			n++
		}
		n--
		if err := j.Append(batch...); err != nil {
			t.Fatal(err)
		}
	}
	if !stops {
		return
	}
	if err := j.Append(journal.Entry{Kind: journal.Stop, Actor: "gateway", Time: at}); err != nil {
		t.Fatal(err)
	}
	var size int64
	var files int
	err = filepath.WalkDir(place.Folder, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			info, _ := d.Info()
			size, files = size+info.Size(), files+1
		}
		return err
	})
	t.Logf("built: %d entries, %d MB in %d files, %v", j.Size(), size>>20, files, err)
}
