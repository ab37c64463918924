package backup

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"kidoban/gateway/durable"
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
	"kidoban/gateway/view"
)

// Change says what a restore does with a file or a folder.
type Change string

// The changes of a restore.
const (
	New      Change = "new"      // the machine has none
	Same     Change = "same"     // the machine has the same content: it stays
	Replaced Change = "replaced" // the machine has another content: it is moved aside
	Kept     Change = "kept"     // the machine's own stays, even if it differs
	Aside    Change = "aside"    // it belongs to the replaced journal, and is moved aside with it
	ByHand   Change = "by_hand"  // it is unpacked only: a person has to put it in its place
)

// Item is a file or a folder of a restore.
type Item struct {
	Path   string `json:"path"`
	Change Change `json:"change"`

	name string // of the file in the backup
}

// Comparison compares the journal of a backup with the journal of this machine.
type Comparison struct {
	Backup  int64 `json:"backup"`  // entries in the backup's journal
	Machine int64 `json:"machine"` // entries in this machine's journal; 0: it has none, or it cannot be read
	Common  int64 `json:"common"`  // entries that both have, from the first one on
	Lost    int64 `json:"lost"`    // entries that only this machine's journal has
	// First and Last are the times of the first and the last lost entry; zero: unknown.
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
	Fault string    `json:"fault,omitempty"` // why this machine's journal cannot be read

	checkpoint string // of this machine's journal
}

// RollsBack reports whether the restore loses entries of this machine's journal, or may lose some.
func (c Comparison) RollsBack() bool { return c.Lost > 0 || c.Fault != "" }

// Whole reports whether it is proven that the backup has every entry of this machine's journal.
func (c Comparison) Whole() bool { return c.Machine > 0 && !c.RollsBack() }

// Plan is a restore before anything is written.
type Plan struct {
	Manifest
	Compared Comparison
	Items    []Item
	Shut     []policy.ShutRecord // scopes that stay shut: the machine's and the backup's
	All      bool                // everything is shut as well, until an operator reopens it

	machine Machine
	now     time.Time
	lock    io.Closer
}

// Names of the folder of a restore in the state folder, one after the other, and of a folder in it.
const (
	stage   = "restore.new"        // while the restore is prepared: it may be removed
	pending = "restore.unfinished" // once it is decided: it must be finished before a gateway starts
	before  = "before"             // in the folder of the restore: the replaced files
)

// ErrRuns says that a gateway has the state open.
var ErrRuns = errors.New("a gateway runs on this state")

// Begin unpacks a backup into a folder of its own in the state folder, checks it, and compares it with
// this machine. It changes no other file. If a gateway runs, the error is ErrRuns; until Drop no gateway
// can open the journal. now is the time of the restore.
func Begin(m Machine, file io.Reader, identities []age.Identity, now time.Time) (*Plan, error) {
	lock, err := m.hold()
	if err != nil {
		return nil, err
	}
	p := &Plan{machine: m, now: now.UTC(), lock: lock}
	if err := p.begin(file, identities); err != nil {
		return nil, errors.Join(err, p.Drop())
	}
	return p, nil
}

// hold makes the state folder if it is missing, and locks the journal against gateways and other restores.
func (m Machine) hold() (io.Closer, error) {
	if err := m.makeState(); err != nil {
		return nil, err
	}
	dir, _ := m.journal()
	lock, err := journal.Lock(dir)
	if errors.Is(err, journal.ErrLocked) {
		return nil, &view.Error{Message: view.Say("restore_runs", view.Args{"folder": m.State}), Cause: ErrRuns}
	}
	if err != nil {
		return nil, err
	}
	if err := m.owner().take(journal.LockFile(dir)); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

func (p *Plan) begin(file io.Reader, identities []age.Identity) error {
	if err := Unfinished(p.machine.State); err != nil {
		return err
	}
	if err := os.RemoveAll(p.staged()); err != nil {
		return err
	}
	if err := os.Mkdir(p.staged(), 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(p.staged())
	if err != nil {
		return err
	}
	defer root.Close()
	if p.Manifest, err = unpack(file, identities, root); err != nil {
		return err
	}
	// The keys are refused in folders of another user than theirs.
	if err := p.machine.owner().takeAll(p.staged()); err != nil {
		return err
	}
	if err := p.verify(); err != nil {
		return err
	}
	p.compare()
	p.latch()
	return p.list()
}

// Drop ends a plan, and removes what was unpacked for it.
func (p *Plan) Drop() error {
	return errors.Join(os.RemoveAll(p.staged()), p.lock.Close())
}

// staged is the path of an unpacked file, by its name in the backup.
func (p *Plan) staged(name ...string) string {
	return filepath.Join(append([]string{p.machine.State, stage}, name...)...)
}

// PolicyText is the text of the backup's policy.
func (p *Plan) PolicyText() ([]byte, error) { return os.ReadFile(p.staged(policyName)) }

// SettingsText is the text of the backup's settings.
func (p *Plan) SettingsText() ([]byte, error) { return os.ReadFile(p.staged(besideDir, environment)) }

// PrivateKey is the path of the backup's private key. It is there until Drop.
func (p *Plan) PrivateKey() string { return p.staged(keyName) }

func (p *Plan) journal() (dir, keyFile string) {
	return p.staged(stateDir, "journal"), p.staged(stateDir, "journal.key")
}

// verify verifies the journal of the backup.
func (p *Plan) verify() error {
	dir, keyFile := p.journal()
	key, err := journal.VerifierKey(keyFile)
	if err != nil {
		return broken(err.Error())
	}
	if key != p.Manifest.Journal.Key {
		return broken(fmt.Sprintf("its journal.key is that of %s, and its journal's is %s", key, p.Manifest.Journal.Key))
	}
	var newer error
	report, err := journal.ReadDir(dir, key, nil, false, func(e journal.Entry, _ int64) { newer = cmp.Or(newer, e.Newer()) })
	if newer = cmp.Or(newer, err); errors.As(newer, new(*journal.NewerError)) {
		return refuse(view.Say("backup_newer_journal", view.Args{"program": fmt.Sprintf("%.40q", p.Program), "cause": newer}))
	}
	if err != nil {
		return broken(err.Error())
	}
	if report.Size != p.Manifest.Journal.Size || report.Checkpoint != p.Manifest.Journal.Checkpoint {
		return broken(fmt.Sprintf("its journal has %d entries, its manifest says %d", report.Size, p.Manifest.Journal.Size))
	}
	return nil
}

// compare compares the journals of backup and machine.
func (p *Plan) compare() {
	p.Compared.Backup = p.Manifest.Journal.Size
	dir, keyFile := p.machine.journal()
	if !durable.Exists(dir) {
		return
	}
	if err := p.compareWith(dir, keyFile); err != nil {
		p.Compared.Fault = err.Error()
	}
}

func (p *Plan) compareWith(dir, keyFile string) error {
	key, err := journal.VerifierKey(keyFile)
	if err != nil {
		return err
	}
	here, err := journal.OpenFolder(dir, key)
	if err != nil {
		return err
	}
	staged, _ := p.journal()
	there, err := journal.OpenFolder(staged, p.Manifest.Journal.Key)
	if err != nil {
		return err
	}
	c := &p.Compared
	c.Machine, c.checkpoint = here.Tree.N, string(here.Checkpoint)
	if c.Common, err = here.Common(there); err != nil {
		return err
	}
	if c.Lost = c.Machine - c.Common; c.Lost > 0 {
		c.First, c.Last = timeOf(dir, c.Common), timeOf(dir, c.Machine-1)
	}
	return nil
}

// timeOf returns the time of an entry; zero: the entry cannot be read, or was pruned.
func timeOf(dir string, index int64) time.Time {
	for line, err := range journal.List(dir, index) {
		if e, bad := journal.Decode(line); err == nil && bad == nil && line.Index == index {
			return e.Time
		}
		break
	}
	return time.Time{}
}

// latch finds the scopes that stay shut. A backup may lack closes of this machine. Everything is shut
// unless it is proven that it lacks none.
func (p *Plan) latch() {
	theirs, _, errTheirs := store.ShutFile{Lasting: p.staged(stateDir, "shut.json"), Passing: p.staged(runDir, "shut.json")}.Load()
	ours, known, errOurs := p.machine.latch().Load()
	dir, keyFile := p.machine.journal()
	var recorded []policy.ShutRecord
	if durable.Exists(dir) {
		silent := slog.New(slog.DiscardHandler)
		past, err := store.New(store.OnDisk{Folder: dir, KeyFile: keyFile, Logger: silent}, nil, silent).Damaged()
		recorded = past.State.Shuts()
		p.All = err != nil && !known
	}
	p.Shut = slices.Concat(ours, recorded, theirs)
	p.All = p.All || errTheirs != nil || errOurs != nil || !p.Compared.Whole()
}

func (m Machine) latch() store.ShutFile {
	return store.ShutFile{Lasting: filepath.Join(m.State, "shut.json"), Passing: m.Passing}
}

// list lists the items, in the order of the steps.
func (p *Plan) list() error {
	entries, err := os.ReadDir(p.staged(stateDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := p.stateItem(e); err != nil {
			return err
		}
	}
	if durable.Exists(filepath.Join(p.machine.State, "journal")) {
		for _, name := range []string{"journal.fault", "journal.new", "shut.json.stale"} {
			if path := filepath.Join(p.machine.State, name); durable.Exists(path) && !durable.Exists(p.staged(stateDir, name)) {
				p.Items = append(p.Items, Item{path, Aside, ""})
			}
		}
	}
	for _, f := range p.Files {
		if to, change, err := p.place(f.Name); err != nil {
			return err
		} else if to != "" {
			p.Items = append(p.Items, Item{to, change, f.Name})
		}
	}
	return nil
}

// stateItem lists a file or a folder directly in the state folder.
func (p *Plan) stateItem(e fs.DirEntry) error {
	name := e.Name()
	to := filepath.Join(p.machine.State, name)
	change := New
	switch {
	case name == "shut.json" || name == "shut.json.stale": // Apply writes the closes of both
		return nil
	case !durable.Exists(to):
	case name == "journal":
		change = Replaced
	case e.IsDir(): // an earlier restore's folder, or an old journal: these never change
		change = Kept
	default:
		same, err := sameFile(p.staged(stateDir, name), to)
		if err != nil {
			return err
		}
		if change = Replaced; same {
			change = Same
		}
	}
	p.Items = append(p.Items, Item{to, change, path.Join(stateDir, name)})
	return nil
}

// place returns the path for a file outside of the state folder; empty: it has none.
func (p *Plan) place(name string) (to string, change Change, err error) {
	top, rest, _ := strings.Cut(name, "/")
	otherwise := Replaced
	switch top {
	case policyName:
		to = p.machine.Policy
	case keyName:
		to = p.machine.PrivateKey
	case besideDir:
		to = filepath.Join(filepath.Dir(p.machine.Policy), filepath.FromSlash(rest))
	case officeDir:
		to, otherwise = filepath.Join(p.machine.Office, filepath.FromSlash(rest)), Kept
	case outsideDir:
		to, otherwise = "/"+rest, ByHand
	default:
		return "", "", nil
	}
	if !durable.Exists(to) {
		if otherwise == ByHand || !durable.Exists(filepath.Dir(to)) && top == officeDir {
			return to, ByHand, nil
		}
		return to, New, nil
	}
	real, err := filepath.EvalSymlinks(to)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("%s is a link to a file that is not there: remove the link, or make that file", to)
	}
	if err == nil {
		to = real
	}
	same, err := sameFile(p.staged(filepath.FromSlash(name)), to)
	if same {
		otherwise = Same
	}
	return to, otherwise, err
}

// sameFile reports whether two regular files have the same content.
func sameFile(a, b string) (bool, error) {
	if info, err := os.Stat(b); err != nil || !info.Mode().IsRegular() {
		return false, err
	}
	x, err := os.ReadFile(a)
	if err != nil {
		return false, err
	}
	y, err := os.ReadFile(b)
	return bytes.Equal(x, y), err
}
