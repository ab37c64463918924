package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// keeper writes the marker off the loop, in the order in which it is asked.
type keeper struct {
	marker Marker
	mu     sync.Mutex
	queue  []keeping
	shut   []policy.ShutRecord // what the loop last had it keep
	held   []*held             // kept beside that
	wake   chan struct{}
	quit   chan struct{}
	done   chan struct{} // closed when run has returned
}

// keeping is what the marker is to say, and who is told when it does.
type keeping struct {
	shut []policy.ShutRecord
	done func(error)
}

// held is a close that a loop which hangs has not settled: neither the journal
// nor what the loop has the marker say has it for certain.
type held struct {
	record  policy.ShutRecord
	settled bool
}

func newKeeper(m Marker) *keeper {
	return &keeper{marker: m, wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
}

// save never blocks; done is called on another goroutine and must not either.
func (k *keeper) save(n keeping) {
	k.mu.Lock()
	k.shut = n.shut
	k.queue = append(k.queue, n)
	k.mu.Unlock()
	k.kick()
}

// begin tells a keeper that does not run yet what the marker says.
func (k *keeper) begin(shut []policy.ShutRecord) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.shut = shut
}

func (k *keeper) kick() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// hold keeps a close until the loop settles it.
func (k *keeper) hold(h *held, r policy.ShutRecord) <-chan error {
	result := make(chan error, 1)
	k.mu.Lock()
	defer k.mu.Unlock()
	if h.settled {
		result <- nil
		return result
	}
	if h.record = r; !slices.Contains(k.held, h) {
		k.held = append(k.held, h)
	}
	k.queue = append(k.queue, keeping{k.shut, func(err error) { result <- err }})
	k.kick()
	return result
}

// settle lets go of a close that the journal has, or the loop keeps, or that
// is refused, and reports whether the marker may say it. It does until the loop
// has the marker say something else.
func (k *keeper) settle(h *held) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	h.settled = true
	i := slices.Index(k.held, h)
	if i < 0 {
		return false
	}
	k.held = slices.Delete(k.held, i, i+1)
	k.shut = append(slices.Clone(k.shut), h.record)
	return true
}

// says is what the marker is to say now.
func (k *keeper) says() []policy.ShutRecord {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.held) == 0 {
		return k.shut
	}
	var all []policy.ShutRecord
	for _, h := range k.held {
		all = append(all, h.record)
	}
	return append(all, k.shut...)
}

// run saves until quit is closed, and what then waits before it returns.
func (k *keeper) run() {
	defer close(k.done)
	for quit := false; !quit; {
		select {
		case <-k.wake:
		case <-k.quit:
			quit = true
		}
		for {
			k.mu.Lock()
			waiting := k.queue
			k.queue = nil
			k.mu.Unlock()
			if len(waiting) == 0 {
				break
			}
			// Only the newest matters; all hear what became of it.
			err := k.marker.Save(k.says())
			for _, n := range waiting {
				n.done(err)
			}
		}
	}
}

// mark keeps what is shut where a restart finds it while the journal is dead,
// or does not answer. The result comes when it is durable.
func (l *loop) mark() <-chan error {
	result := make(chan error, 1)
	shut := l.state.Shuts()
	if len(shut) == 0 && !l.marked {
		result <- nil
		return result
	}
	l.marked = true
	l.keeper.save(keeping{shut, func(err error) {
		if err != nil {
			l.cfg.Logger.Error("what is shut could not be kept outside the journal", "err", err)
		}
		result <- err
	}})
	return result
}

// unmark removes the marker once the journal has all that it says.
func (l *loop) unmark() {
	if !l.marked || l.doubted(doubtJournal) || l.shutting > 0 {
		return
	}
	l.marked = false
	l.keeper.save(keeping{nil, func(err error) {
		if err != nil {
			l.cfg.Logger.Error("the marker of what is shut cannot be removed", "err", err)
		}
	}})
}

// copyShuts has the copy say what is shut. Before a journal was read to its end
// nobody knows that, and the copy may be what tells it.
func (l *loop) copyShuts() {
	if l.cfg.Copy == nil || l.journal == nil {
		return
	}
	shut := l.state.Shuts()
	if l.copied != nil && slices.EqualFunc(l.copied, shut, sameRecord) {
		return
	}
	again := l.copyAgain
	l.copied, l.copyAgain = append([]policy.ShutRecord{}, shut...), false
	l.copier.save(keeping{l.copied, func(err error) {
		l.copyFailed.Store(err != nil)
		switch {
		case err != nil && !again:
			l.cfg.Logger.Error("the copy of what is shut cannot be written, which is tried again: should the journal be damaged meanwhile, `kidoban recover` shuts everything", "err", err)
		case err == nil && again:
			l.cfg.Logger.Info("the copy of what is shut is written again")
		}
	}})
}

// copyRetry has a copy that could not be written be written again.
func (l *loop) copyRetry() {
	if l.copyFailed.Swap(false) {
		l.copied, l.copyAgain = nil, true
	}
}

func sameRecord(a, b policy.ShutRecord) bool {
	return a.Scope == b.Scope && a.Reason == b.Reason && a.Actor == b.Actor && a.At.Equal(b.At) && slices.Equal(a.Keys, b.Keys)
}

// FileCopy keeps what is shut in a file. It is a Marker for Config.Copy.
type FileCopy struct{ Path string }

// Save replaces the file, durably. One that it cannot replace it removes, which
// takes no room: what says that less is shut is worse than nothing.
func (c FileCopy) Save(shut []policy.ShutRecord) error {
	text, err := json.MarshalIndent(append([]policy.ShutRecord{}, shut...), "", "  ")
	if err != nil {
		return err
	}
	if err = replaceDurably(c.Path, append(text, '\n')); err == nil {
		return nil
	}
	if gone := os.Remove(c.Path); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		return fmt.Errorf("%w; nor can the one before be removed: %w", err, gone)
	}
	return errors.Join(err, syncFolder(c.Path))
}

// Load fails if there is no file.
func (c FileCopy) Load() (shut []policy.ShutRecord, err error) {
	text, err := os.ReadFile(c.Path)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &shut); err != nil {
		return nil, fmt.Errorf("%s: %w", c.Path, err)
	}
	if shut == nil {
		return nil, fmt.Errorf("%s does not say what is shut", c.Path)
	}
	return shut, nil
}

// ErrUntilBoot is what Save returns when the marker outlives the process, and
// not the machine's next boot.
var ErrUntilBoot = errors.New("kept until the next boot only")

// FileMarker keeps what is shut in files. It is a Marker.
type FileMarker struct {
	// Lasting is on the disk of the state, beside the journal.
	Lasting string
	// Passing is where a boot finds nothing any more, as in /run: for the time
	// that the disk of the state is dead. Empty: there is none.
	Passing string
}

// markerRoom is how many bytes a marker takes on the disk at least: enough for
// some 1,000 records, 200 of the longest, or 4,500 keys.
const markerRoom = 256 << 10

// Reserve takes room for the marker on the disk of the state, so that a disk
// that is full later still keeps it: Save writes over what is there, which
// takes no more room where file systems write in place (ext4, XFS, tmpfs;
// btrfs and ZFS do not). What the marker says already is left as it is.
func (m FileMarker) Reserve() (err error) {
	f, err := os.OpenFile(m.Lasting, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil || info.Size() >= markerRoom {
		return err
	}
	if _, err := f.Write(padded(nil, markerRoom-info.Size())); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return syncFolder(m.Lasting)
}

// Save writes both places, durably. It fails with ErrUntilBoot if only the
// passing one has it. A write that the power cut leaves torn is one that Load
// cannot read.
func (m FileMarker) Save(shut []policy.ShutRecord) error {
	// The passing one first: the other's disk may not answer.
	passing := errors.New("there is no other place")
	if m.Passing != "" {
		passing = savePassing(m.Passing, shut)
	}
	lasting := saveLasting(m.Lasting, shut)
	switch {
	case len(shut) == 0 && m.Passing != "":
		return errors.Join(passing, lasting)
	case lasting != nil && passing == nil:
		return fmt.Errorf("%w: %w", ErrUntilBoot, lasting)
	case lasting != nil:
		return errors.Join(lasting, passing)
	}
	return nil
}

// Load gives all that any place keeps.
func (m FileMarker) Load() ([]policy.ShutRecord, error) {
	var all []policy.ShutRecord
	var errs []error
	for _, path := range []string{m.Lasting, m.Passing} {
		text, err := os.ReadFile(path)
		if path == "" || errors.Is(err, fs.ErrNotExist) || err == nil && len(bytes.TrimSpace(text)) == 0 {
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

func markerText(shut []policy.ShutRecord) ([]byte, error) {
	if len(shut) == 0 {
		return nil, nil
	}
	text, err := json.MarshalIndent(shut, "", "  ")
	return append(text, '\n'), err
}

// padded gives a text with blanks behind it, which JSON passes over.
func padded(text []byte, size int64) []byte {
	room := bytes.Repeat([]byte{' '}, int(size))
	copy(room, text)
	return room
}

// saveLasting writes over what is there, blanks included, and replaces the
// file only where it is too small or gone.
func saveLasting(path string, shut []policy.ShutRecord) (err error) {
	text, err := markerText(shut)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if len(shut) == 0 {
			return nil
		}
		return replaceDurably(path, padded(text, max(markerRoom, int64(len(text)))))
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if size := int64(len(text)); size > info.Size() {
		return replaceDurably(path, padded(text, max(markerRoom, size)))
	}
	if _, err := f.WriteAt(padded(text, info.Size()), 0); err != nil {
		return err
	}
	return f.Sync()
}

// savePassing replaces the file, or removes it where there is nothing to keep.
func savePassing(path string, shut []policy.ShutRecord) error {
	text, err := markerText(shut)
	if err != nil {
		return err
	}
	if len(shut) > 0 {
		return replaceDurably(path, text)
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// replaceDurably replaces a file whole: it is written beside it, synced,
// renamed over it, and the folder is synced.
func replaceDurably(path string, text []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(path)
}

// syncFolder makes the name of a file last.
func syncFolder(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// loadMarker shuts what was shut while the journal was dead.
func (l *loop) loadMarker() {
	marked, err := l.cfg.Marker.Load()
	if err != nil {
		// What it said is lost; that something was shut is not.
		l.cfg.Logger.Error("a marker of what is shut cannot be read: everything is shut", "err", err)
		marked = append(marked, policy.ShutRecord{Scope: policy.All, At: l.now, Actor: "gateway", Reason: clip(fmt.Sprintf("the marker cannot be read: %v", err))})
	}
	if len(marked) == 0 {
		return
	}
	l.marked = true
	l.keeper.begin(marked)
	// One record: the marker goes when the journal has all that it says.
	l.add(record{entries: shutAlso(l.state, marked), done: func(l *loop, err error) {
		if err == nil {
			l.unmark()
		}
	}})
}

// shutAlso shuts in a state that has no policy yet, and so takes any scope, what
// is shut elsewhere, and gives the entries that say so.
func shutAlso(state *policy.State, shut []policy.ShutRecord) []journal.Entry {
	var entries []journal.Entry
	for _, r := range shut {
		event := policy.Shut{Scope: r.Scope, Reason: r.Reason, Keys: r.Keys}
		if have, ok := state.Shut(r.Scope); ok {
			event.Keys, event.Added = without(r.Keys, have.Keys), true
			if len(event.Keys) == 0 {
				continue
			}
		}
		if err := state.Apply(r.At, r.Actor, event); err == nil {
			entries = append(entries, shutEntries(r.Actor, event)...)
		}
	}
	return entries
}
