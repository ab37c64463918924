package store

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/policy"
)

// fakeFile is a LatchFile that outlives processes.
type fakeFile struct {
	mu      sync.Mutex
	process int
	shut    []policy.ShutRecord
	known   bool
	err     error // of Save, and with ErrUntilBoot it takes effect
	slow    time.Duration
	torn    bool // cannot be read
}

var errFault = errors.New("provoked")

// oneProcess is the file as one process has it: a Save of an earlier process
// does nothing.
type oneProcess struct {
	*fakeFile
	process int
}

func (f oneProcess) Save(shut []policy.ShutRecord) error {
	f.mu.Lock()
	slow := f.slow
	f.mu.Unlock()
	time.Sleep(slow)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.process != f.fakeFile.process {
		return errFault
	}
	if f.known = f.err == nil || errors.Is(f.err, ErrUntilBoot); f.known {
		f.shut, f.torn = shut, false
	}
	return f.err
}

func (f oneProcess) Load() ([]policy.ShutRecord, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.torn {
		return nil, false, errFault
	}
	return f.shut, f.known, nil
}

// TestLatchNeverSaysLess: whatever fails, is slow or is killed, a latch that can
// be read has every close of which it was said that it is kept, until it is
// reopened.
func TestLatchNeverSaysLess(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { latchAtRandom(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func latchAtRandom(t *testing.T, random *rand.Rand) {
	all := policy.ShutRecord{Scope: policy.All}
	file := &fakeFile{}
	var latch *Latch
	var shut map[policy.Scope]bool // by the loop
	var added []*Added             // that the loop has not handled
	kept, reopened := map[policy.Scope]bool{}, map[policy.Scope]int{}
	type ask struct {
		scope             policy.Scope
		process, reopened int
		result            <-chan error
	}
	var asked []ask
	list := func() (records []policy.ShutRecord) {
		for _, scope := range slices.Sorted(maps.Keys(shut)) {
			records = append(records, policy.ShutRecord{Scope: scope})
		}
		return records
	}
	start := func() {
		file.mu.Lock()
		file.process++
		process := file.process
		file.mu.Unlock()
		latch = newLatch(oneProcess{file, process}, slog.New(slog.DiscardHandler))
		loaded, known, err := latch.begin(all)
		go latch.run()
		shut, added = map[policy.Scope]bool{}, nil
		if !known || err != nil { // so that the loop shuts everything
			if err != nil {
				kept = map[policy.Scope]bool{}
			}
			kept[policy.All], shut[policy.All] = true, true
		}
		for _, r := range loaded {
			shut[r.Scope] = true
		}
	}
	start()
	defer func() { <-latch.Quit() }()
	latch.Set(nil)
	shut = map[policy.Scope]bool{}
	kept = map[policy.Scope]bool{}
	for step := range 300 {
		scope := policy.Scope(fmt.Sprint("v", random.IntN(5)))
		did := ""
		switch random.IntN(9) {
		case 0, 1:
			did = "close " + string(scope)
			a, result := latch.Add(policy.ShutRecord{Scope: scope})
			added = append(added, a)
			asked = append(asked, ask{scope, file.process, reopened[scope], result})
		case 2, 3:
			did = "handle"
			if len(added) > 0 {
				shut[added[0].record.Scope] = true
				latch.Set(list(), added[0])
				added = added[1:]
			}
		case 4:
			did = "reopen " + string(scope)
			if shut[scope] && !slices.ContainsFunc(added, func(a *Added) bool { return a.record.Scope == scope }) {
				delete(shut, scope)
				delete(kept, scope)
				reopened[scope]++
				latch.Set(list())
			}
		case 5:
			did = "turn"
			latch.Set(list())
		case 6:
			file.mu.Lock()
			file.err = []error{nil, nil, errFault, fmt.Errorf("%w: provoked", ErrUntilBoot)}[random.IntN(4)]
			file.slow = []time.Duration{0, 10 * time.Millisecond}[random.IntN(2)]
			did = fmt.Sprint("fault ", file.err, file.slow)
			file.mu.Unlock()
		case 7:
			did = "wait"
			time.Sleep(2 * time.Second)
		case 8:
			if random.IntN(4) > 0 {
				continue
			}
			file.mu.Lock()
			file.torn = file.torn || random.IntN(3) == 0
			did = fmt.Sprint("kill, torn ", file.torn)
			file.mu.Unlock()
			old := latch
			start()
			<-old.Quit()
		}
		synctest.Wait()
		asked = slices.DeleteFunc(asked, func(a ask) bool {
			select {
			case err := <-a.result:
				current := a.process == file.process && a.reopened == reopened[a.scope]
				kept[a.scope] = kept[a.scope] || current && (err == nil || errors.Is(err, ErrUntilBoot))
				return true
			default:
				return false
			}
		})
		file.mu.Lock()
		says, partly, torn := file.shut, !file.known, file.torn
		file.mu.Unlock()
		for scope, is := range kept {
			if is && !torn && !(partly && scope == policy.All) && !slices.ContainsFunc(says, func(r policy.ShutRecord) bool { return r.Scope == scope }) {
				t.Fatalf("after step %d, %s: the latch says %v, without %s", step, did, says, scope)
			}
		}
	}
}
