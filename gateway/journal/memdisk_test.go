package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// memDisk is a disk that forgets at a power cut what POSIX lets it forget,
// and whose every write can fail in every way.
//
// It starts with one directory, /state, which lasts.
type memDisk struct {
	root   *memNode
	locked map[string]bool

	writes int     // calls so far that change something
	failAt int     // the one of them that fails, counted from 1; 0: none does
	how    failure // and how
	failed string  // what failed
}

// failure is how a call fails. All return errFault.
type failure int

const (
	notPersisted failure = iota // nothing happened
	butPersisted                // all happened
	halfWritten                 // of a file: the first half reached the disk. Else: notPersisted
	onlyCached                  // of a file: all is visible until the power fails, then half (Rebello et al.). Else: butPersisted
)

var (
	failures = []failure{notPersisted, butPersisted, halfWritten, onlyCached}
	errFault = errors.New("input/output error")
)

func (f failure) String() string {
	return [...]string{"not persisted", "but persisted", "half written", "only cached"}[f]
}

// memNode is a file or a directory.
type memNode struct {
	content, lasting []byte // of a file; lasting is what a power cut leaves

	names        map[string]*memNode // of a directory; nil: a file
	lastingNames map[string]*memNode
	changes      []change // of names since the last SyncFolder
}

// change is one atomic change of a directory's names.
type change struct {
	unlink, link string // empty: none
	node         *memNode
}

func (c change) apply(names map[string]*memNode) {
	if c.unlink != "" {
		delete(names, c.unlink)
	}
	if c.link != "" {
		names[c.link] = c.node
	}
}

func newMemDir() *memNode {
	return &memNode{names: map[string]*memNode{}, lastingNames: map[string]*memNode{}}
}

func newMemDisk() *memDisk {
	d := &memDisk{root: newMemDir(), locked: map[string]bool{}}
	state := newMemDir()
	d.root.names["state"], d.root.lastingNames["state"] = state, state
	return d
}

// clone copies the disk, with what a power cut would do to it.
func (d *memDisk) clone() *memDisk {
	copies := map[*memNode]*memNode{}
	var node func(n *memNode) *memNode
	names := func(from map[string]*memNode) map[string]*memNode {
		to := map[string]*memNode{}
		for name, n := range from {
			to[name] = node(n)
		}
		return to
	}
	node = func(n *memNode) *memNode {
		if n == nil {
			return nil
		}
		if c, ok := copies[n]; ok {
			return c
		}
		c := &memNode{content: n.content, lasting: n.lasting} // never changed in place
		copies[n] = c
		if n.names != nil {
			c.names, c.lastingNames = names(n.names), names(n.lastingNames)
			for _, change := range n.changes {
				change.node = node(change.node)
				c.changes = append(c.changes, change)
			}
		}
		return c
	}
	c := *d
	c.root, c.locked = node(d.root), maps.Clone(d.locked)
	return &c
}

// fault reports whether this call fails, and counts it.
func (d *memDisk) fault(call string) bool {
	d.writes++
	if d.writes == d.failAt {
		d.failed = call
		return true
	}
	return false
}

func (d *memDisk) find(name string) (*memNode, error) {
	n := d.root
	for _, element := range strings.Split(strings.TrimPrefix(name, "/"), "/") {
		next, ok := n.names[element]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		n = next
	}
	return n, nil
}

func (d *memDisk) readFile(name string, limit int64) ([]byte, error) {
	n, err := d.find(name)
	if err != nil {
		return nil, err
	}
	if n.names != nil || int64(len(n.content)) > limit {
		return nil, fmt.Errorf("%s: a directory, or too long", name)
	}
	return slices.Clone(n.content), nil
}

func (d *memDisk) readSecret(name string, limit int64) ([]byte, error) {
	return d.readFile(name, limit)
}

func (d *memDisk) readDir(name string) ([]fs.DirEntry, error) {
	n, err := d.find(name)
	if err != nil {
		return nil, err
	}
	var list []fs.DirEntry
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		list = append(list, memEntry{name, n.names[name].names != nil})
	}
	return list, nil
}

type memEntry struct {
	name string
	dir  bool
}

func (e memEntry) Name() string               { return e.name }
func (e memEntry) IsDir() bool                { return e.dir }
func (e memEntry) Type() fs.FileMode          { return 0 }
func (e memEntry) Info() (fs.FileInfo, error) { return nil, errors.ErrUnsupported }

// memInfo is a file with mode 0600 and the same time for all.
type memInfo struct{ fs.FileInfo }

func (memInfo) Mode() fs.FileMode  { return 0o600 }
func (memInfo) ModTime() time.Time { return time.Unix(1, 0) }

func (d *memDisk) stat(name string) (fs.FileInfo, error) {
	if _, err := d.find(name); err != nil {
		return nil, err
	}
	return memInfo{}, nil
}

// alter changes a directory's names, or fails.
func (d *memDisk) alter(call, dir string, c change) error {
	parent, err := d.find(dir)
	if err != nil {
		return err
	}
	fails := d.fault(call)
	if !fails || d.how == butPersisted || d.how == onlyCached {
		c.apply(parent.names)
		parent.changes = append(parent.changes, c)
	}
	if fails {
		return errFault
	}
	return nil
}

func (d *memDisk) mkdir(name string) error {
	if _, err := d.find(name); err == nil {
		return nil
	}
	return d.alter("mkdir "+name, filepath.Dir(name), change{link: filepath.Base(name), node: newMemDir()})
}

func (d *memDisk) Write(name string, data []byte) error {
	parent, err := d.find(filepath.Dir(name))
	if err != nil {
		return err
	}
	fails := d.fault("write " + name)
	if fails && d.how == notPersisted {
		return errFault
	}
	n, ok := parent.names[filepath.Base(name)]
	if !ok {
		n = &memNode{}
		c := change{link: filepath.Base(name), node: n}
		c.apply(parent.names)
		parent.changes = append(parent.changes, c)
	}
	n.content, n.lasting = slices.Clone(data), slices.Clone(data)
	if !fails {
		return nil
	}
	half := slices.Clone(data[:len(data)/2])
	switch d.how {
	case halfWritten:
		n.content, n.lasting = half, half
	case onlyCached:
		n.lasting = half
	}
	return errFault
}

func (d *memDisk) Rename(from, to string) error {
	if filepath.Dir(from) != filepath.Dir(to) {
		return errors.New("renames between directories are not modelled")
	}
	n, err := d.find(from)
	if err != nil {
		return err
	}
	if there, err := d.find(to); err == nil && len(there.names) > 0 {
		return errors.New("the directory is not empty")
	}
	return d.alter("rename "+from, filepath.Dir(from), change{filepath.Base(from), filepath.Base(to), n})
}

func (d *memDisk) Remove(name string) error {
	n, err := d.find(name)
	if err != nil {
		return err
	}
	if len(n.names) > 0 {
		return errors.New("the directory is not empty")
	}
	return d.alter("remove "+name, filepath.Dir(name), change{unlink: filepath.Base(name)})
}

func (d *memDisk) SyncFolder(name string) error {
	n, err := d.find(name)
	if err != nil {
		return err
	}
	fails := d.fault("sync " + name)
	if !fails || d.how == butPersisted {
		n.lastingNames, n.changes = maps.Clone(n.names), nil
	}
	if fails {
		return errFault
	}
	return nil
}

type memLock struct {
	d    *memDisk
	name string
}

func (l memLock) Close() error {
	delete(l.d.locked, l.name)
	return nil
}

func (d *memDisk) lock(name string) (io.Closer, error) {
	if d.locked[name] {
		return nil, errors.New("locked")
	}
	d.locked[name] = true
	return memLock{d, name}, nil
}

// restart ends the process that used the disk. Failures are over.
func (d *memDisk) restart() {
	clear(d.locked)
	d.failAt = 0
}

// powerCut leaves only what was synced, and of the changes since then those
// that keep chooses.
func (d *memDisk) powerCut(keep func() bool) {
	d.restart()
	var cut func(n *memNode)
	cut = func(n *memNode) {
		if n.names == nil {
			n.content = n.lasting
			return
		}
		names := maps.Clone(n.lastingNames)
		for _, c := range n.changes {
			if keep() {
				c.apply(names)
			}
		}
		n.names, n.lastingNames, n.changes = names, maps.Clone(names), nil
		for _, name := range slices.Sorted(maps.Keys(names)) {
			cut(names[name])
		}
	}
	cut(d.root)
}

// skips reports whether a way to fail is for this call the same as another.
func (d *memDisk) skips(how failure) bool {
	return (how == halfWritten || how == onlyCached) && !strings.HasPrefix(d.failed, "write ")
}

// ending is what happens to a process after a failure.
type ending struct {
	name string
	end  func(d *memDisk, random *rand.Rand)
}

var ends = []ending{
	{"restart", func(d *memDisk, _ *rand.Rand) { d.restart() }},
	{"power cut, names lost", func(d *memDisk, _ *rand.Rand) { d.powerCut(func() bool { return false }) }},
	{"power cut, names kept", func(d *memDisk, _ *rand.Rand) { d.powerCut(func() bool { return true }) }},
	{"power cut, some names kept", func(d *memDisk, r *rand.Rand) { d.powerCut(func() bool { return r.IntN(2) == 0 }) }},
}

// tree lists the files below a directory.
func (d *memDisk) tree(name string) []string {
	var all []string
	var walk func(prefix string, n *memNode)
	walk = func(prefix string, n *memNode) {
		for name, below := range n.names {
			if below.names == nil {
				all = append(all, prefix+name)
			} else {
				walk(prefix+name+"/", below)
			}
		}
	}
	if n, err := d.find(name); err == nil {
		walk("", n)
	}
	slices.Sort(all)
	return all
}
