package office

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway/durable"
)

// cursor says how far the notices of a sink are.
type cursor struct {
	Journal string `json:"journal"` // the gateway's name for it; empty: nothing was delivered yet
	Next    int64  `json:"next"`    // index of the entry to look at next
}

// saved is a cursor on disk.
type saved struct {
	Version int `json:"version"` // of this format; 0 is 1
	cursor
}

const cursorVersion = 1

func cursorFile(folder, sink string) string { return filepath.Join(folder, "cursor-"+sink+".json") }

// load reads a cursor. One that was never saved is the zero value.
func load(folder, sink string) (c cursor, err error) {
	path := cursorFile(folder, sink)
	var s saved
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return cursor{}, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err == nil && s.Version > cursorVersion {
		err = fmt.Errorf("a newer kidoban wrote it: it has version %d, this one knows versions up to %d. Start that office, or a newer one", s.Version, cursorVersion)
	}
	if c = s.cursor; err == nil && c.Next < 0 {
		err = errors.New("the next entry is below 0")
	}
	if err != nil {
		return cursor{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// save makes a cursor last.
func (c cursor) save(folder, sink string) error {
	text, err := json.Marshal(saved{cursorVersion, c})
	if err != nil {
		return err
	}
	return durable.Replace(cursorFile(folder, sink), append(text, '\n'), 0o600)
}

// saveEvery is how often a cursor is saved that only passed entries without a notice.
const saveEvery = 10 * time.Second

// lock keeps a second office out of the folder, which would deliver everything twice.
func lock(folder string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: another office runs: %w", folder, err)
	}
	return f, nil
}
