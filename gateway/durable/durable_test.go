package durable

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, text := range []string{"first", "the second, which is longer", ""} {
		// A process that was killed may have left this.
		if err := os.WriteFile(path+".tmp", []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Replace(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		holds(t, path, text)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	alone(t, path)
}

// TestReplaceFollowsNothing: what somebody else put in the way is not written, and not waited for.
func TestReplaceFollowsNothing(t *testing.T) {
	folder := t.TempDir()
	victim, path := filepath.Join(folder, "victim"), filepath.Join(folder, "report.html")
	if err := os.WriteFile(victim, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func(at string) error{
		"a link": func(at string) error { return os.Symlink(victim, at) },
		"a pipe": func(at string) error { return syscall.Mkfifo(at, 0o600) },
	} {
		if err := put(path + ".tmp"); err != nil {
			t.Fatal(err)
		}
		if err := Replace(path, []byte("ours"), 0o600); err == nil {
			t.Errorf("%s: it is written", name)
		}
		if err := put(path); err != nil {
			t.Fatal(err)
		}
		if err := Replace(path, []byte("ours"), 0o600); err != nil {
			t.Errorf("%s in place of the file: %v", name, err)
		}
		if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s in place of the file: %v, %v", name, info, err)
		}
		if text, err := os.ReadFile(victim); string(text) != "theirs" {
			t.Errorf("%s: the other file is %q, %v", name, text, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReplaceFails: what was there stays, and no temporary file.
func TestReplaceFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "folder")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, []byte("text"), 0o600); err == nil {
		t.Error("a folder was replaced")
	}
	alone(t, path)
}

func TestCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			if err := Create(path, bytes.Repeat([]byte{byte('0' + i)}, 100)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	text, err := os.ReadFile(path)
	if err != nil || len(text) != 100 || bytes.Count(text, text[:1]) != 100 {
		t.Errorf("%q, %v", text, err)
	}
	if err := Create(path, []byte("another")); err != nil {
		t.Fatal(err)
	}
	holds(t, path, string(text))
	alone(t, path)
}

func TestCreateBy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	put := func(text string, err error) error {
		return CreateBy(path, func(w io.Writer) error {
			_, failed := io.WriteString(w, text)
			return errors.Join(failed, err)
		})
	}
	if err := put("half", io.ErrUnexpectedEOF); !errors.Is(err, io.ErrUnexpectedEOF) || Exists(path) {
		t.Errorf("what could not be written: %v, and a file: %t", err, Exists(path))
	}
	if err := put("whole", nil); err != nil {
		t.Fatal(err)
	}
	if err := put("another", nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second file: %v, want fs.ErrExist", err)
	}
	holds(t, path, "whole")
	alone(t, path)
}

func TestOverwrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, step := range []struct{ data, want string }{
		{"a", "a   "}, // made
		{"abc", "abc "},
		{"", "    "},
		{"abcdefg", "abcdefg"}, // too long: replaced
		{"b", "b      "},
	} {
		before, _ := os.Stat(path)
		if err := Overwrite(path, []byte(step.data), 4); err != nil {
			t.Fatal(err)
		}
		holds(t, path, step.want)
		after, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if before != nil && len(step.data) <= int(before.Size()) && !os.SameFile(before, after) {
			t.Errorf("%q: not in place", step.data)
		}
	}
	alone(t, path)
}

func holds(t *testing.T, path, want string) {
	t.Helper()
	if text, err := os.ReadFile(path); err != nil || string(text) != want {
		t.Errorf("%q, %v, want %q", text, err, want)
	}
}

func alone(t *testing.T, path string) {
	t.Helper()
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(files) != 1 {
		t.Errorf("%v, %v: want %s alone", files, err, filepath.Base(path))
	}
}
