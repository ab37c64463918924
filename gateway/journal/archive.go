package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"
	"unicode/utf8"

	"kidoban/gateway/durable"
)

// makeIfNew makes folder and key where both are missing, and finishes what a crash interrupted. A
// crash leaves nothing that counts, or a key and DIR.new, or everything.
func makeIfNew(disk storage, dir, keyFile string) error {
	_, dirErr := disk.stat(dir)
	_, keyErr := disk.stat(keyFile)
	for _, err := range []error{dirErr, keyErr} {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	switch {
	case dirErr == nil && keyErr == nil:
		// Another process may have made them and died before the names were on disk.
		if err := disk.SyncFolder(filepath.Dir(keyFile)); err != nil {
			return err
		}
		return disk.SyncFolder(filepath.Dir(dir))
	case dirErr == nil:
		return fmt.Errorf("its key %s is not there: put it back, or archive this journal and begin another with `kidoban recover`", keyFile)
	case keyErr == nil:
		k, err := readKey(disk, keyFile)
		if err != nil {
			return err
		}
		if _, tree, err := (reader{disk, dir + ".new"}).checkpoint(k.verifier); err != nil || tree.N != 0 {
			return damaged(0, "the folder is gone, its key %s is there: put the folder back, or begin another with `kidoban recover`", keyFile)
		}
		if err := disk.SyncFolder(filepath.Dir(keyFile)); err != nil {
			return err
		}
		return putInPlace(disk, dir)
	}
	if err := makeNew(disk, dir, keyFile); err != nil {
		return err
	}
	return putInPlace(disk, dir)
}

// makeNew makes an empty journal in DIR.new, and a key if there is none.
func makeNew(disk storage, dir, keyFile string) error {
	k, err := readKey(disk, keyFile)
	made := ""
	if errors.Is(err, fs.ErrNotExist) {
		k, made, err = newKey()
	}
	if err != nil {
		return err
	}
	checkpoint, err := k.sign((&edge{}).tree())
	if err != nil {
		return err
	}
	if err := disk.mkdir(dir + ".new"); err != nil {
		return err
	}
	if err := durable.ReplaceOn(disk, filepath.Join(dir+".new", "checkpoint"), checkpoint); err != nil {
		return err
	}
	if err := disk.SyncFolder(filepath.Dir(dir)); err != nil || made == "" {
		return err
	}
	return durable.ReplaceOn(disk, keyFile, []byte(made))
}

// putInPlace turns DIR.new into DIR.
func putInPlace(disk storage, dir string) error {
	if err := disk.Rename(dir+".new", dir); err != nil {
		return err
	}
	return disk.SyncFolder(filepath.Dir(dir))
}

// Archive renames a broken journal to DIR.broken-TIME and puts an empty one in its place. The new
// one has the same key, or a new key if that is gone. Archive returns the new path and the last
// checkpoint, if there is one; the new journal should record it first. Both are empty if there is
// no journal.
//
// No Journal may be open in the folder. An interrupted Archive can be run again, or Open finishes
// it.
func Archive(dir, keyFile string) (broken, lastCheckpoint string, err error) {
	return archive(realDisk, dir, keyFile, time.Now())
}

func archive(disk storage, dir, keyFile string, now time.Time) (broken, lastCheckpoint string, err error) {
	dir = filepath.Clean(dir)
	lock, err := disk.lock(LockFile(dir))
	if err != nil {
		return "", "", err
	}
	defer lock.Close()
	if err := makeNew(disk, dir, keyFile); err != nil {
		return "", "", fmt.Errorf("begin a new journal: %w", err)
	}
	// A checkpoint that is not even text stays in the broken journal only.
	text, err := disk.readFile(filepath.Join(dir, "checkpoint"), maxCheckpoint/8)
	if err == nil && utf8.Valid(text) {
		lastCheckpoint = string(text)
	}
	broken = dir + ".broken-" + now.UTC().Format("20060102T150405.000000000Z")
	switch err := disk.Rename(dir, broken); {
	case errors.Is(err, fs.ErrNotExist):
		broken = ""
	case err != nil:
		return "", "", err
	}
	// The name must be on disk before the old one is used again.
	if err := disk.SyncFolder(filepath.Dir(dir)); err != nil {
		return "", "", err
	}
	return broken, lastCheckpoint, putInPlace(disk, dir)
}
