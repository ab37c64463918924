package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway/durable"
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// Unfinished returns an error if a restore was interrupted. No gateway may start then, until Continue
// has finished the restore.
func Unfinished(state string) error {
	_, err := os.Lstat(filepath.Join(state, pending))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err // this user may not look there
	}
	return refuse(view.Say("restore_unfinished", view.Args{"folder": filepath.Join(state, pending)}))
}

// stepsName is the file that lists the steps, in the folder of a restore.
const stepsName = "steps.json"

// steps is the rest of a restore, once it is decided. After a crash all steps are done again: a step
// that was done before does nothing.
type steps struct {
	Version int    `json:"version"`
	Final   string `json:"final"` // the name that the folder gets at the end
	Steps   []step `json:"steps"`
}

const stepsVersion = 1

// step puts a file or a folder in its place. In the state folder it renames; elsewhere it writes a file.
type step struct {
	From   string      `json:"from,omitempty"`   // path in the folder of the restore; empty: To is only moved to Before
	To     string      `json:"to"`               // full path
	Before string      `json:"before,omitempty"` // path in the folder of the restore to which the old To is moved; empty: To is outside of the state folder
	Mode   fs.FileMode `json:"mode,omitempty"`
	Owner  owner       `json:"owner,omitzero"`
}

// owner is a user and a group.
type owner struct {
	User  int `json:"user"`
	Group int `json:"group"`
}

// take gives a file to the owner. Only root can do that; other users own what they write.
func (o owner) take(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, o.User, o.Group)
}

// takeAll is take for a folder and everything in it.
func (o owner) takeAll(path string) error {
	return filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return o.take(path)
	})
}

func ownerOf(path string) (o owner, mode fs.FileMode, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return o, 0, err
	}
	s := info.Sys().(*syscall.Stat_t)
	return owner{int(s.Uid), int(s.Gid)}, info.Mode().Perm(), nil
}

// owner is the user of the state folder.
func (m Machine) owner() owner {
	o, _, err := ownerOf(m.State)
	if err != nil {
		return owner{os.Geteuid(), os.Getegid()}
	}
	return o
}

// makeState makes the state folder if it is missing, and gives it to user kidoban if there is one.
func (m Machine) makeState() error {
	if durable.Exists(m.State) {
		return nil
	}
	if err := os.MkdirAll(m.State, 0o700); err != nil {
		return err
	}
	service, err := user.Lookup("kidoban")
	if err != nil {
		return nil
	}
	uid, _ := strconv.Atoi(service.Uid)
	gid, _ := strconv.Atoi(service.Gid)
	return owner{uid, gid}.take(m.State)
}

// Apply carries out the plan. entry has the Actor and the Reason; it becomes the newest entry of the
// journal. kept is the folder with the replaced files, and with those that a person has to put in their
// place. With any error but `restore_stuck` nothing has changed.
func (p *Plan) Apply(entry journal.Entry) (kept string, err error) {
	if err := p.record(entry); err != nil {
		return "", err
	}
	if err := p.writeLatch(entry.Actor); err != nil {
		return "", err
	}
	all, err := p.steps()
	if err != nil {
		return "", err
	}
	if err := p.commit(all); err != nil {
		return "", err
	}
	return p.machine.finish()
}

// record appends the entry about the restore to the backup's journal.
func (p *Plan) record(entry journal.Entry) error {
	dir, keyFile := p.journal()
	j, err := journal.Open(dir, keyFile)
	if err != nil {
		return err
	}
	c := p.Compared
	entry.Kind, entry.Time, entry.Count, entry.First, entry.Last = journal.Restored, p.now, c.Lost, c.First, c.Last
	entry.Text = fmt.Sprintf("from a backup of %s of %s with %d entries", p.Host, p.Made.Format(time.RFC3339), c.Backup)
	if c.checkpoint != "" {
		entry.Text += "; the last checkpoint of the journal before:\n" + c.checkpoint
	}
	err = j.Append(entry)
	return errors.Join(err, j.Close(), os.Remove(journal.LockFile(dir)))
}

// writeLatch writes the scopes that stay shut.
func (p *Plan) writeLatch(actor string) error {
	shut := p.Shut
	if p.All {
		reason := view.Say("restore_shuts", view.Args{"host": p.Host, "made": p.Made.Format(time.RFC3339)}).String()
		shut = append(shut, policy.ShutRecord{Scope: policy.All, At: p.now, Actor: actor, Reason: reason})
	}
	file := (Machine{State: p.staged(stateDir)}).latch()
	if err := os.Remove(file.Lasting + ".stale"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return file.Save(shut)
}

// steps lists the steps. It copies the files that they will replace outside the state folder.
func (p *Plan) steps() (all []step, err error) {
	all = append(all, p.rename(stateDir+"/shut.json", filepath.Join(p.machine.State, "shut.json")))
	for _, i := range p.Items {
		switch {
		case i.Change != New && i.Change != Replaced && i.Change != Aside:
			continue
		case filepath.Dir(i.Path) == filepath.Clean(p.machine.State):
			all = append(all, p.rename(i.name, i.Path))
			continue
		}
		s, err := p.put(i)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// rename is the step for a file or a folder directly in the state folder.
func (p *Plan) rename(from, to string) step {
	return step{From: from, To: to, Before: filepath.Join(before, filepath.Base(to))}
}

// put is the step for a file outside of the state folder.
func (p *Plan) put(i Item) (step, error) {
	s := step{From: i.name, To: i.Path, Mode: p.mode(i.name)}
	var err error
	if i.Change == Replaced {
		s.Owner, s.Mode, err = ownerOf(i.Path)
		if err == nil {
			err = p.copyAside(i)
		}
		return s, err
	}
	s.Owner, err = makeFolder(filepath.Dir(i.Path))
	if i.name == keyName {
		s.Owner = p.machine.owner() // the service reads it, with mode 0600
	}
	return s, err
}

// makeFolder makes a folder, if it is missing, and returns its owner. A new folder has the owner of its
// parent, so that the service can read it by its group.
func makeFolder(path string) (o owner, err error) {
	if durable.Exists(path) {
		o, _, err = ownerOf(path)
		return o, err
	}
	if o, err = makeFolder(filepath.Dir(path)); err == nil {
		err = os.Mkdir(path, 0o750)
	}
	if err == nil {
		err = os.Chmod(path, 0o750) // Mkdir applied the umask
	}
	if err == nil {
		err = o.take(path)
	}
	return o, err
}

// mode is the mode that a file had, without write permission for group and others.
func (p *Plan) mode(name string) fs.FileMode {
	for _, f := range p.Files {
		if f.Name == name {
			return f.Mode.Perm() &^ 0o022
		}
	}
	return 0o600
}

// copyAside copies a file outside the state folder that will be replaced.
func (p *Plan) copyAside(i Item) error {
	to := p.staged(before, filepath.FromSlash(i.name))
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	text, err := os.ReadFile(i.Path)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o600)
}

// commit decides the restore. Once its rename is done, the restore can only be finished.
func (p *Plan) commit(all []step) error {
	if err := os.MkdirAll(p.staged(before), 0o700); err != nil {
		return err
	}
	final := "restore-" + p.now.Format("20060102T150405Z")
	for durable.Exists(filepath.Join(p.machine.State, final)) || durable.Exists(p.staged(stateDir, final)) {
		final += "+"
	}
	text, err := json.MarshalIndent(steps{stepsVersion, final, all}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(p.staged(stepsName), text, 0o600); err != nil {
		return err
	}
	if err := p.machine.owner().takeAll(p.staged()); err != nil {
		return err
	}
	if err := syncAll(p.machine.State); err != nil {
		return err
	}
	return os.Rename(p.staged(), filepath.Join(p.machine.State, pending))
}

// syncAll syncs the whole file system of a folder (syncfs(2)).
func syncAll(folder string) error {
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}

// Continue finishes a restore that was interrupted. kept is as with Apply.
func Continue(m Machine) (kept string, err error) {
	lock, err := m.hold()
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if Unfinished(m.State) == nil {
		return "", refuse(view.Say("restore_nothing", view.Args{"folder": m.State}))
	}
	return m.finish()
}

// finish does the steps. Before the first of them, the decision lasts.
func (m Machine) finish() (kept string, err error) {
	folder := filepath.Join(m.State, pending)
	unfinished := func(err error) (string, error) {
		return "", refuse(view.Say("restore_stuck", view.Args{"folder": folder, "cause": err}))
	}
	if err := durable.SyncFolder(m.State); err != nil {
		return unfinished(err)
	}
	text, err := os.ReadFile(filepath.Join(folder, stepsName))
	if err != nil {
		return unfinished(err)
	}
	var all steps
	if err := json.Unmarshal(text, &all); err != nil {
		return unfinished(err)
	}
	if all.Version != stepsVersion {
		return "", refuse(view.Say("restore_other", view.Args{"folder": folder, "version": all.Version, "known": stepsVersion}))
	}
	for _, s := range all.Steps {
		if err := s.do(folder); err != nil {
			return unfinished(err)
		}
	}
	final := filepath.Join(m.State, filepath.Base(all.Final))
	if err := os.Rename(folder, final); err != nil {
		return unfinished(err)
	}
	return final, durable.SyncFolder(m.State)
}

// do does a step, unless it was done before.
func (s step) do(folder string) error {
	from := filepath.Join(folder, s.From)
	if s.From != "" && !durable.Exists(from) {
		return nil
	}
	if s.Before == "" {
		return s.write(from)
	}
	if aside := filepath.Join(folder, s.Before); durable.Exists(s.To) && !durable.Exists(aside) {
		if err := os.Rename(s.To, aside); err != nil {
			return err
		}
	}
	if s.From == "" {
		return nil
	}
	if err := os.Rename(from, s.To); err != nil {
		return err
	}
	return errors.Join(durable.SyncFolder(filepath.Dir(s.To)), durable.SyncFolder(filepath.Dir(from)))
}

func (s step) write(from string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := durable.Replace(s.To, text, 0o600); err != nil {
		return err
	}
	if err := s.Owner.take(s.To); err != nil {
		return err
	}
	if err := os.Chmod(s.To, s.Mode); err != nil {
		return err
	}
	if err := os.Remove(from); err != nil {
		return err
	}
	return durable.SyncFolder(filepath.Dir(from))
}
