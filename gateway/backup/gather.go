package backup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"kidoban/gateway/durable"
	"kidoban/gateway/journal"
	"kidoban/gateway/view"
)

// Machine has the places of a machine's files that go into a backup.
type Machine struct {
	State      string   // the folder of the journal, its key and the latch
	PrivateKey string   // the file of the gateway's private key
	Policy     string   // the policy file
	Passing    string   // the file of shut scopes that a boot removes; empty: there is none
	Office     string   // the state folder of kidoban office; it may be missing
	Names      []string // full paths of the files that the policy and the settings name
}

// environment is the file of the settings. kidoban.service reads it from the policy's folder.
const environment = "environment"

func (m Machine) journal() (dir, keyFile string) {
	return filepath.Join(m.State, "journal"), filepath.Join(m.State, "journal.key")
}

// About has the program, the host and the time that the manifest names.
type About struct {
	Program, Host string
	Made          time.Time
}

// Made describes a backup that was written.
type Made struct {
	Manifest
	Missing []string // files that the policy names and that do not exist
}

// Create writes a backup to a new file of mode 0600. The file gets its name once it is complete. The
// gateway may run meanwhile. While a restore is unfinished it refuses: the files are of two machines.
func Create(file string, m Machine, about About, to []age.Recipient) (made Made, err error) {
	if err := Unfinished(m.State); err != nil {
		return made, err
	}
	taken := refuse(view.Say("backup_exists", view.Args{"file": file}))
	if _, err := os.Lstat(file); err == nil {
		return made, taken
	}
	err = durable.CreateBy(file, func(w io.Writer) (err error) {
		made, err = m.write(w, about, to)
		return err
	})
	if errors.Is(err, fs.ErrExist) {
		err = taken
	}
	return made, err
}

func (m Machine) write(w io.Writer, about About, to []age.Recipient) (Made, error) {
	dir, keyFile := m.journal()
	key, err := journal.VerifierKey(keyFile)
	if err != nil {
		return Made{}, err
	}
	a, err := newArchive(w, Manifest{Program: about.Program, Host: about.Host, Made: about.Made.UTC(), Journal: Journal{Key: key}}, to)
	if err != nil {
		return Made{}, err
	}
	// The journal comes before the latch, so that a close in between is in the latch at least.
	a.manifest.Journal.Size, err = journal.Stream(dir, key, func(name string, data []byte) error {
		if name == "checkpoint" {
			a.manifest.Journal.Checkpoint = string(data)
		}
		return a.add(stateDir+"/journal/"+name, data, 0o600)
	})
	made := Made{}
	for _, part := range []func(*archive) error{m.state, m.passing, m.own, m.named(&made.Missing), m.office} {
		if err == nil {
			err = part(a)
		}
	}
	if err == nil {
		err = a.close()
	}
	made.Manifest = a.manifest
	return made, err
}

// state adds the state folder without the journal.
func (m Machine) state(a *archive) error {
	return tree(m.State, func(name string) bool {
		return name == "journal" || name == "journal.new" || name == stage || name == pending ||
			strings.HasSuffix(name, ".lock") || strings.HasSuffix(name, ".tmp") || filepath.Join(m.State, name) == filepath.Clean(m.PrivateKey)
	}, func(name string, data []byte, mode fs.FileMode) error { return a.add(stateDir+"/"+name, data, mode) })
}

// passing adds the latch that a boot removes.
func (m Machine) passing(a *archive) error {
	if m.Passing == "" {
		return nil
	}
	for _, file := range []string{m.Passing, m.Passing + ".stale"} {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = a.add(runDir+"/shut.json"+strings.TrimPrefix(file, m.Passing), data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// own adds the private key and the policy. It tolerates that one is missing: the gateway reports that.
func (m Machine) own(a *archive) error {
	for _, f := range []struct{ name, path string }{{keyName, m.PrivateKey}, {policyName, m.Policy}} {
		if err := addFile(a, f.name, f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// named adds the settings and the files that the policy names. missing gets the names of missing files.
func (m Machine) named(missing *[]string) func(a *archive) error {
	return func(a *archive) error {
		folder, err := filepath.Abs(filepath.Dir(m.Policy))
		if err != nil {
			return err
		}
		settings := filepath.Join(folder, environment)
		files := append(slices.Clone(m.Names), settings)
		slices.Sort(files)
		for _, file := range slices.Compact(files) {
			name := outsideDir + file
			if inside, err := filepath.Rel(folder, file); err == nil && filepath.IsLocal(inside) {
				name = besideDir + "/" + inside
			}
			err := addFile(a, name, file)
			if errors.Is(err, fs.ErrNotExist) {
				if file != settings {
					*missing = append(*missing, file)
				}
				continue
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// office adds the cursors of kidoban office.
func (m Machine) office(a *archive) error {
	err := tree(m.Office, func(name string) bool { return name == "lock" || strings.HasSuffix(name, ".tmp") },
		func(name string, data []byte, mode fs.FileMode) error { return a.add(officeDir+"/"+name, data, mode) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func addFile(a *archive, name, file string) error {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file (%s)", file, info.Mode().Type())
	}
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return err
	}
	return a.add(name, data, info.Mode())
}

// tree gives the regular files below a folder to add, sorted by name. It follows no link out of the
// folder. It leaves out files that are removed meanwhile, sockets and pipes, and names directly in the
// folder for which skips returns true.
func tree(folder string, skips func(name string) bool, add func(name string, data []byte, mode fs.FileMode) error) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return gone(err)
		}
		info, err := d.Info()
		switch {
		case err != nil:
			return gone(err)
		case !strings.Contains(name, "/") && skips(name):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case info.Mode().Type() == fs.ModeSymlink:
			return fmt.Errorf("%s is a link, which no backup can have: put the file there", filepath.Join(folder, name))
		case !info.Mode().IsRegular():
			return nil
		case info.Size() > maxFile:
			return fmt.Errorf("%s has %d bytes: allowed in a backup are %d", filepath.Join(folder, name), info.Size(), maxFile)
		}
		data, err := root.ReadFile(name)
		if err != nil {
			return gone(err)
		}
		return add(name, data, info.Mode())
	})
}

// gone returns nil for a file that does not exist any more, else the error.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
