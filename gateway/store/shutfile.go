package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"kidoban/gateway/durable"
	"kidoban/gateway/policy"
)

// ShutFile is the latch in two files. It is a LatchFile.
type ShutFile struct {
	// Lasting is on the disk of the state, beside the journal.
	Lasting string
	// Passing is lost at a boot, as in /run. It helps while the disk of the state is
	// dead. Empty: there is none.
	Passing string
}

// room is how many bytes the lasting file takes at least: enough for some 1,000
// records, 200 of the longest, or 4,500 keys.
const room = 256 << 10

// latchVersion is the version of the files' format. Version 0 was the list alone.
const latchVersion = 1

// latchFile is the content of a file.
type latchFile struct {
	Version int                 `json:"version"`
	Shut    []policy.ShutRecord `json:"shut"`
}

// read reads the content of a file.
func (f *latchFile) read(text []byte) error {
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("[")) {
		return json.Unmarshal(text, &f.Shut)
	}
	var any struct{ Version int }
	switch err := json.Unmarshal(text, &any); {
	case err != nil:
		return err
	case any.Version > latchVersion:
		return fmt.Errorf("a newer kidoban wrote it: it has version %d, this one knows versions up to %d. Start that kidoban, or a newer one", any.Version, latchVersion)
	case any.Version < 1:
		return errors.New("it has no version")
	}
	return json.Unmarshal(text, f)
}

// Reserve takes room for the lasting file, so that a disk that is full later
// still takes the latch: Save then writes over the file in place, which needs no
// more room on ext4, XFS and tmpfs; btrfs and ZFS need some.
func (f ShutFile) Reserve() error {
	if f.Exists() {
		return nil
	}
	return durable.Create(f.Lasting, durable.Padded(nil, room)) // not over a Save that comes meanwhile
}

// Exists reports whether the lasting file is there, stale or not.
func (f ShutFile) Exists() bool {
	_, err := os.Stat(f.Lasting)
	_, errStale := os.Stat(f.Lasting + stale)
	return !errors.Is(err, fs.ErrNotExist) || !errors.Is(errStale, fs.ErrNotExist)
}

// Save writes both files.
func (f ShutFile) Save(shut []policy.ShutRecord) error {
	text, err := json.MarshalIndent(latchFile{latchVersion, append([]policy.ShutRecord{}, shut...)}, "", "  ")
	if err != nil {
		return err
	}
	// The passing file first: the other disk may not answer.
	passing := errors.New("there is no other place")
	if f.Passing != "" {
		passing = save(f.Passing, text, 0)
	}
	switch lasting := save(f.Lasting, text, room); {
	case lasting == nil:
		return nil
	case passing == nil:
		return fmt.Errorf("%w: %w", ErrUntilBoot, lasting)
	default:
		return errors.Join(lasting, passing)
	}
}

// stale ends the name of a file that may lack closes.
const stale = ".stale"

// save replaces a file; the new one has at least the size. If the disk has no room
// for both, save writes over the file in place. A file that it cannot write
// becomes stale: its records still count, but they are not all.
func save(path string, text []byte, size int) error {
	err := durable.Replace(path, durable.Padded(text, size), 0o600)
	if err == nil {
		_ = os.Remove(path + stale) // a file that stays says more, not less
		return nil
	}
	if kept := durable.Rename(path, path+stale); kept != nil && !errors.Is(kept, fs.ErrNotExist) {
		return fmt.Errorf("%w; nor can the file before be marked as stale: %w", err, kept)
	}
	if size > 0 && durable.Overwrite(path+stale, text, size) == nil && durable.Rename(path+stale, path) == nil {
		err = nil
	}
	return errors.Join(err, durable.SyncFolder(filepath.Dir(path)))
}

// Load returns the records of both files, stale or not. They are known to be all
// if a file that is not stale has records or an empty list.
func (f ShutFile) Load() (all []policy.ShutRecord, known bool, err error) {
	paths := []string{f.Lasting, f.Lasting + stale}
	if f.Passing != "" {
		paths = append(paths, f.Passing, f.Passing+stale)
	}
	for _, path := range paths {
		text, readErr := os.ReadFile(path)
		if errors.Is(readErr, fs.ErrNotExist) || readErr == nil && len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		var file latchFile
		if readErr == nil {
			readErr = file.read(text)
		}
		if readErr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", path, readErr))
			continue
		}
		known = known || !strings.HasSuffix(path, stale)
		all = append(all, file.Shut...)
	}
	return all, known, err
}
