package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"kidoban/gateway/policy"
)

// keeper writes the marker off the loop, in the order in which it is asked.
type keeper struct {
	marker Marker
	mu     sync.Mutex
	queue  []keeping
	wake   chan struct{}
	quit   chan struct{}
	done   chan struct{} // closed when run has returned
}

// keeping is what the marker is to say, and who is told when it does.
type keeping struct {
	shut []policy.ShutRecord
	done func(error)
}

func newKeeper(m Marker) *keeper {
	return &keeper{marker: m, wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
}

// save never blocks; done is called on another goroutine and must not either.
func (k *keeper) save(n keeping) {
	k.mu.Lock()
	k.queue = append(k.queue, n)
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// run saves until quit is closed, and what then waits before it returns.
func (k *keeper) run() {
	defer close(k.done)
	for quit := false; !quit; {
		select {
		case <-k.wake:
		case <-k.quit:
			quit = true
		}
		for {
			k.mu.Lock()
			waiting := k.queue
			k.queue = nil
			k.mu.Unlock()
			if len(waiting) == 0 {
				break
			}
			// Only the newest matters; all hear what became of it.
			err := k.marker.Save(waiting[len(waiting)-1].shut)
			for _, n := range waiting {
				n.done(err)
			}
		}
	}
}

// mark keeps what is shut where a restart finds it while the journal is dead,
// or does not answer. The result comes when it is durable.
func (l *loop) mark() <-chan error {
	result := make(chan error, 1)
	shut := l.state.Shuts()
	if len(shut) == 0 && !l.marked {
		result <- nil
		return result
	}
	l.marked = true
	l.keeper.save(keeping{shut, func(err error) {
		if err != nil {
			l.cfg.Logger.Error("what is shut could not be kept outside the journal", "err", err)
		}
		result <- err
	}})
	return result
}

// unmark removes the marker once the journal has all that it says.
func (l *loop) unmark() {
	if !l.marked || l.doubts[doubtJournal] != "" || l.shutting > 0 {
		return
	}
	l.marked = false
	l.keeper.save(keeping{nil, func(err error) {
		if err != nil {
			l.cfg.Logger.Error("the marker of what is shut cannot be removed", "err", err)
		}
	}})
}

// FileMarker keeps what is shut in a file, one of several places: the first
// may be on the disk that died. It is a Marker.
type FileMarker []string

// Save writes every place it can, durably, and fails only if it could write
// none. Nothing to keep removes the file from every place.
func (m FileMarker) Save(shut []policy.ShutRecord) error {
	var errs []error
	for _, path := range m {
		var err error
		if len(shut) == 0 {
			if err = os.Remove(path); errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
		} else {
			err = writeDurably(path, shut)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == len(m) || len(shut) == 0 {
		return errors.Join(errs...)
	}
	return nil
}

// Load gives all that any place keeps.
func (m FileMarker) Load() ([]policy.ShutRecord, error) {
	var all []policy.ShutRecord
	var errs []error
	for _, path := range m {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var shut []policy.ShutRecord
		if err == nil {
			err = json.Unmarshal(text, &shut)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
			continue
		}
		all = append(all, shut...)
	}
	return all, errors.Join(errs...)
}

// writeDurably replaces a file whole: it is written beside it, synced, renamed
// over it, and the folder is synced.
func writeDurably(path string, shut []policy.ShutRecord) (err error) {
	text, err := json.MarshalIndent(shut, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(append(text, '\n')); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
