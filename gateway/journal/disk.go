package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"kidoban/gateway/durable"
)

// storage is the disk of a journal. Missing files give fs.ErrNotExist. Nothing is retried.
type storage interface {
	// readFile reads a regular file of at most limit bytes. It never waits.
	readFile(name string, limit int64) ([]byte, error)
	// readDir lists a directory, sorted by name.
	readDir(name string) ([]fs.DirEntry, error)
	stat(name string) (fs.FileInfo, error)
	// readSecret reads a file that only its owner may read, and nobody else may replace.
	readSecret(name string, limit int64) ([]byte, error)

	// mkdir makes a folder with mode 0700, if there is none. The name lasts after SyncFolder of the
	// parent.
	mkdir(name string) error
	durable.Disk

	// lock takes an exclusive lock, until it is closed or the process ends. It does not wait.
	lock(name string) (io.Closer, error)
}

// ErrLocked is the error of a journal that is open already.
var ErrLocked = errors.New("another process has this journal open, and only one may write it")

// Lock keeps every writer away from the journal in a folder until it is closed, or the process ends.
// While a writer has the journal open, the error is ErrLocked.
func Lock(dir string) (io.Closer, error) { return realDisk.lock(LockFile(dir)) }

// LockFile is the path of the lock of a journal's folder.
func LockFile(dir string) string { return filepath.Clean(dir) + ".lock" }

// osDisk is the real disk.
type osDisk struct {
	durable.OS
	guard durable.Guard
}

var realDisk = osDisk{OS: 0o600}

// diskFor is the real disk for the owner of a key's folder.
func diskFor(keyFile string) osDisk {
	return osDisk{realDisk.OS, durable.GuardFor(filepath.Dir(keyFile))}
}

func (osDisk) readFile(name string, limit int64) ([]byte, error) {
	// A copy may come from anywhere: opening a named pipe would wait for ever.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, limit)
}

func (d osDisk) readSecret(name string, limit int64) ([]byte, error) {
	f, err := d.guard.Open(name, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOENT}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: the journal's key %w", name, err)
	}
	defer f.Close()
	return readAll(f, limit)
}

func readAll(f *os.File, limit int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file but %v", f.Name(), info.Mode().Type())
	}
	data := bytes.NewBuffer(make([]byte, 0, min(info.Size(), limit)+bytes.MinRead))
	if _, err = data.ReadFrom(io.LimitReader(f, limit+1)); err == nil && int64(data.Len()) > limit {
		err = fmt.Errorf("%s: longer than the %d bytes that are allowed", f.Name(), limit)
	}
	return data.Bytes(), err
}

func (osDisk) readDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

func (osDisk) stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

func (osDisk) mkdir(name string) error {
	if err := os.Mkdir(name, 0o700); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// lock uses flock(2), which ends with the process: a crash leaves no lock.
func (osDisk) lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s is locked: %w", name, ErrLocked)
		}
		return nil, fmt.Errorf("%s: lock: %w", name, err)
	}
	return f, nil
}

// writer puts tiles and checkpoints of one journal on disk.
type writer struct {
	reader
	// lasting has the folders whose names are certainly on disk. A folder that was found may lack
	// its fsync.
	lasting map[string]bool
}

type file struct {
	name string // inside dir
	data []byte
}

// commit puts tiles on disk, and then the checkpoint over them. A short bundle
// takes six fsyncs: 1 the entries, 2 their hashes, 3 and 4 the folders with their
// names, 5 the checkpoint before its rename, 6 the folder with its name.
//
// All are needed: POSIX may lose a name whose folder was not synced, and content
// whose file was not (1 to 4 before 6, so that no checkpoint is ahead of its
// entries; 5 before the rename, so that the name never has half a checkpoint).
// The hashes could be computed again; syncing them lets any tool verify a copy
// after a power cut. Tiles need no rename: before the checkpoint a torn one
// does not count.
func (w *writer) commit(tiles []file, checkpoint []byte) error {
	var dirs []string // in order, each once
	for _, tile := range tiles {
		parent := filepath.Dir(w.path(tile.name))
		if err := w.makeDirs(parent); err != nil {
			return err
		}
		if !slices.Contains(dirs, parent) {
			dirs = append(dirs, parent)
		}
		if err := w.disk.Write(w.path(tile.name), tile.data); err != nil {
			return err
		}
	}
	for _, dir := range dirs {
		if err := w.disk.SyncFolder(dir); err != nil {
			return err
		}
	}
	return durable.ReplaceOn(w.disk, w.path("checkpoint"), checkpoint)
}

// makeDirs makes a folder inside the journal's folder, with its parents, and syncs their names.
func (w *writer) makeDirs(name string) error {
	if name == w.dir || w.lasting[name] {
		return nil
	}
	parent := filepath.Dir(name)
	if err := w.makeDirs(parent); err != nil {
		return err
	}
	if err := w.disk.mkdir(name); err != nil {
		return err
	}
	if err := w.disk.SyncFolder(parent); err != nil {
		return err
	}
	w.lasting[name] = true
	return nil
}

// remove removes a tile, and its folder if that is empty. Errors do not matter: Open removes
// leftovers.
func (w *writer) remove(name string) {
	if w.disk.Remove(w.path(name)) == nil {
		w.removeEmpty(filepath.Dir(name))
	}
}

// removeEmpty removes the directory of partial tiles if it is empty.
func (w *writer) removeEmpty(name string) {
	if path := w.path(name); filepath.Ext(path) == ".p" && w.disk.Remove(path) == nil {
		delete(w.lasting, path)
	}
}
