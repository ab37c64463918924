package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"kidoban/gateway/policy"
)

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
