// Package durable has the files that outlive the process. It writes them so that a
// power cut leaves the old or the new content, never a part of either (durable.go),
// and opens them only where no other user can replace them (guard.go).
package durable

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Disk is a file system, as far as ReplaceOn uses it.
type Disk interface {
	// Write makes or truncates a regular file, writes it and syncs it. A new name lasts
	// after SyncFolder.
	Write(path string, data []byte) error
	// Rename is atomic. It lasts after SyncFolder of both folders.
	Rename(from, to string) error
	// Remove removes a file or an empty folder. It syncs nothing.
	Remove(path string) error
	// SyncFolder makes the names in a folder last.
	SyncFolder(folder string) error
}

// OS is the real disk. Its value is the mode of new files.
type OS fs.FileMode

// Write implements Disk. It follows no link: a folder may be somebody else's, and the writer root.
func (mode OS) Write(path string, data []byte) error {
	const careful = syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|careful, fs.FileMode(mode))
	if err != nil {
		return err
	}
	return write(f, data)
}

// Rename implements Disk.
func (OS) Rename(from, to string) error { return Rename(from, to) }

// Remove implements Disk.
func (OS) Remove(path string) error { return os.Remove(path) }

// SyncFolder implements Disk.
func (OS) SyncFolder(folder string) error { return SyncFolder(folder) }

// write writes and syncs an open file, and closes it.
func write(f *os.File, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Rename renames a file. It lasts after SyncFolder of both folders.
func Rename(from, to string) error { return os.Rename(from, to) }

// Replace replaces a file atomically. The temporary file is path.tmp, so only
// one Replace of a path may run at a time.
func Replace(path string, data []byte, mode fs.FileMode) error {
	return ReplaceOn(OS(mode), path, data)
}

// ReplaceOn is Replace on any disk.
func ReplaceOn(d Disk, path string, data []byte) error {
	fresh := path + ".tmp"
	err := d.Write(fresh, data)
	if err == nil {
		err = d.Rename(fresh, path)
	}
	if err != nil {
		d.Remove(fresh)
		return err
	}
	return d.SyncFolder(filepath.Dir(path))
}

// Create makes a file of mode 0600 atomically. It keeps a file that is already
// there, and that is no error. Several processes may call it at once.
func Create(path string, data []byte) error {
	err := CreateBy(path, func(w io.Writer) error { _, err := w.Write(data); return err })
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// CreateBy is Create for what a function writes. If anything has the name
// already, it stays, and the error is fs.ErrExist.
func CreateBy(path string, put func(w io.Writer) error) error {
	folder := filepath.Dir(path)
	f, err := os.CreateTemp(folder, "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err = put(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := claim(f.Name(), path); err != nil {
		return err
	}
	return SyncFolder(folder)
}

// claim renames a file to a name that nothing has. Some file systems have no
// links (VFAT), others do not know RENAME_NOREPLACE (rename(2)).
func claim(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return os.Link(from, to)
	}
	return err
}

// Exists reports whether anything has a name, a link that leads nowhere
// too. What cannot be looked at is taken to be there.
func Exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// Overwrite writes over a file in place, so that it needs no free space. Blanks
// fill the rest of the file. A file that is missing or too small is replaced
// by one of size bytes, or more if data is longer.
//
// A power cut may leave a mix of old and new content.
func Overwrite(path string, data []byte, size int) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return Replace(path, Padded(data, size), 0o600)
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if info.Size() < int64(len(data)) {
		return errors.Join(f.Close(), Replace(path, Padded(data, size), 0o600))
	}
	return write(f, Padded(data, int(info.Size())))
}

// Padded returns data with blanks behind it, of a size at least.
func Padded(data []byte, size int) []byte {
	return append(bytes.Clone(data), bytes.Repeat([]byte{' '}, max(size-len(data), 0))...)
}

// SyncFolder makes the names in a folder last.
func SyncFolder(folder string) error {
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
