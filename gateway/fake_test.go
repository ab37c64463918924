package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/clock"
	"kidoban/gateway/journal"
	"kidoban/gateway/metrics"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
	"kidoban/gateway/view"
)

// yamada is an operator.
var yamada = policy.Actor{ID: "yamada", Via: "socket", Text: "yamada"}

// world is everything around a gateway, faked: what survives a process (disk,
// marker, clock, policy file) and what does not (tunnel, firewall). Every call
// of a fake can be made to fail, to be slow, to hang, or to fail after it took
// effect. A world lives in one synctest bubble, whose time begins at midnight
// of 2000-01-01 UTC; the times of its policies are of that day.
type world struct {
	look func() error // at the shut file; nil: there is none
	t    *testing.T
	mu   sync.Mutex // guards all fakes; never held while one hangs

	effects []string // what was done to the world, in order

	wallOffset   time.Duration // by which the wall clock was set
	bootOffset   time.Duration // how long the machine had been up when the bubble began
	began        time.Time
	stepped      chan struct{}
	synchronized bool

	key       policy.Key     // in the private key's file; zero: there is no file
	keyError  error          // why that file cannot be read
	keyMakes  error          // why none can be made
	file      *policy.Policy // what the policy file says
	fileError error          // what is wrong with it
	fileDisk  func()         // nil: what holds the disk of the policy file up
	host      []view.Hint

	disk       []journal.Entry // the journal's entries that are durable
	opening    fault           // of the journal; only waits
	damage     error           // why the journal does not open
	gone       map[int]bool    // which of its entries cannot be read then
	lost       error           // why what can be read may not be all; nil: it is
	tooLong    []journal.Kind  // entries that it refused
	archived   [][]journal.Entry
	archiveErr error
	append     fault
	close      fault               // of the journal
	faults     chan error          // found in the journal in use; nil: none are
	latch      []policy.ShutRecord // nil: there is no file
	partial    bool                // the latch may say less than what is shut
	save       fault               // of the latch
	saves      int                 // how often the latch was to be saved
	loadErr    error               // of the latch

	gateway  *Gateway
	logger   *slog.Logger // nil: none
	metrics  *metrics.Metrics
	tunnel   *fakeTunnel
	firewall *fakeFirewall
	notified []string
	process  int // counts starts; what an older process does to the disk is lost
	cancel   context.CancelFunc
	ended    chan error

	watch func(*policy.Plan) // sees every plan that the tunnel is given
}

// fault says how a call goes wrong. The zero fault is none.
type fault struct {
	err     error
	after   bool          // it takes effect and fails all the same
	slow    time.Duration // before it does anything
	hang    chan struct{} // it does nothing until this is closed
	partial int           // with after: how many entries take effect; 0: all
	opening bool          // of a firewall: only what has grants meets it
}

// wait is the time a faulty call takes. The world's lock is not held.
func (f fault) wait() {
	if f.hang != nil {
		<-f.hang
	}
	time.Sleep(f.slow)
}

var errFault = errors.New("provoked")

func newWorld(t *testing.T, p *policy.Policy) *world {
	return &world{t: t, file: p, began: time.Now(), bootOffset: time.Hour, synchronized: true, key: policy.Key{255}, stepped: make(chan struct{}, 1)}
}

func (w *world) wall() time.Time { return time.Now().Add(w.wallOffset) }

func (w *world) boot() time.Duration { return w.bootOffset + time.Since(w.began) }

// step sets the wall clock and tells the gateway, as the kernel does.
func (w *world) step(by time.Duration) {
	w.do(func() { w.wallOffset += by })
	select {
	case w.stepped <- struct{}{}:
	default:
	}
	synctest.Wait()
}

// do changes the world while no fake looks.
func (w *world) do(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) effect(format string, args ...any) {
	w.effects = append(w.effects, fmt.Sprintf(format, args...))
}

// reads waits for the disk of the policy file.
func (w *world) reads() {
	w.mu.Lock()
	disk := w.fileDisk
	w.mu.Unlock()
	if disk != nil {
		disk()
	}
}

// start starts a gateway and waits until it has nothing to do.
func (w *world) start() {
	w.t.Helper()
	w.do(func() { w.process++ })
	w.tunnel = &fakeTunnel{w: w, facts: make(chan policy.Fact, 4096), traffic: map[policy.Key]view.Traffic{}, due: map[uint64]time.Duration{}}
	w.firewall = &fakeFirewall{w: w, facts: make(chan policy.Fact, 4096), busy: make(chan struct{}, 1)}
	w.metrics = metrics.New("test")
	process := w.process
	w.gateway = New(Config{
		Tunnel: w.tunnel, Firewall: w.firewall, Metrics: w.metrics, Version: "test", Logger: w.logger,
		Clock: clock.Source{
			Wall:         func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.wall() },
			Boot:         w.boot,
			Set:          w.stepped,
			Synchronized: func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.synchronized },
		},
		PolicyFile: fakeFile{w}, KeyFile: fakeKey{w}, Journals: fakeJournals{w, process}, Latch: fakeLatch{w, process},
		Hints: func() []view.Hint { w.mu.Lock(); defer w.mu.Unlock(); return w.host },
		Notify: func(s string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.notified = append(w.notified, s)
		},
	})
	if w.look != nil {
		w.gateway.cfg.Switch = store.NewSwitch("/run/kidoban-shut", func(string) (bool, error) { return false, w.look() })
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	w.cancel, w.ended = cancel, make(chan error, 1)
	g, ended := w.gateway, w.ended
	go func() { ended <- g.Run(ctx) }()
	synctest.Wait()
}

// stop stops the gateway in order.
func (w *world) stop() error {
	w.cancel()
	return <-w.ended
}

// crash ends the gateway as a kill does: nothing of what it does on its way
// out reaches the disk.
func (w *world) crash() {
	w.do(func() { w.process++ })
	w.cancel()
	<-w.ended
}

// at waits until the wall clock shows a time of 2000-01-01 (HH:MM:SS[.fff]),
// and until the gateway has done what is due then.
func (w *world) at(clock string) {
	w.t.Helper()
	d := moment(clock).Sub(w.wall())
	if d < 0 {
		w.t.Fatalf("%s is over", clock)
	}
	time.Sleep(d)
	synctest.Wait()
}

func moment(clock string) time.Time {
	t, err := time.Parse("2006-01-02 15:04:05", "2000-01-01 "+clock)
	if err != nil {
		panic(err)
	}
	return t
}

// durable is the journal as it is on disk.
func (w *world) durable() []journal.Entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.disk)
}

// told gives the journal's entries of some kinds, one line each.
func (w *world) told(kinds ...journal.Kind) []string {
	synctest.Wait()
	lines := []string{}
	for _, e := range w.durable() {
		if !slices.Contains(kinds, e.Kind) {
			continue
		}
		var parts []string
		for _, part := range []string{string(e.Kind), e.Scope, e.Engineer, e.Window, e.Reason} {
			if part != "" {
				parts = append(parts, part)
			}
		}
		lines = append(lines, strings.Join(parts, " "))
	}
	return lines
}

// open lists what the tunnel's plan opens now.
func (w *world) open() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return openIn(w.tunnel.plan, w.wall())
}

// plan is what the tunnel was given last.
func (w *world) plan() *policy.Plan {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tunnel.plan
}

// ruleset is what the firewall was given last.
func (w *world) ruleset() *policy.Plan {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.firewall.plan
}

// did gives the effects since the last time, in order.
func (w *world) did() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	did := w.effects
	w.effects = nil
	return did
}

// kernel lists what the firewall's plan opens now.
func (w *world) kernel() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return openIn(w.firewall.plan, w.wall())
}

// openIn lists the grants of a plan that are open at an instant, without their instants.
func openIn(p *policy.Plan, now time.Time) []string {
	open := []string{}
	if p == nil {
		return open
	}
	for _, g := range p.Grants {
		if g.Contains(now) {
			id, _, _ := strings.Cut(g.ID, "@")
			open = append(open, id)
		}
	}
	return open
}

func (w *world) sessions() []string {
	names := []string{}
	for _, s := range w.gateway.Snapshot().Sessions {
		names = append(names, s.Vendor+"/"+s.Engineer+" from "+s.Source.String())
	}
	slices.Sort(names)
	return names
}

// hints are those of status, without the one about a first start.
func (w *world) hints() []string {
	return slices.DeleteFunc(w.gateway.Snapshot().StatusAt(w.wall()).Hints, func(h string) bool { return strings.HasPrefix(h, "the state folder was empty") })
}

func (w *world) notReady() string { return w.gateway.Snapshot().Plan.Doubt }

// engineer finds one in the policy file.
func (w *world) engineer(name string) *policy.Engineer {
	e := w.file.Engineer(name)
	if e == nil {
		w.t.Fatalf("no engineer %q", name)
	}
	return e
}

var admissions uint64

// knock lets an engineer's initiation arrive at the gate. It reports the
// admission's number, or 0 if the gate's plan refuses it.
func (w *world) knock(name, source string) uint64 {
	e, from := w.engineer(name), netip.MustParseAddrPort(source)
	w.mu.Lock()
	now := w.wall()
	d := w.tunnel.plan.Decide(policy.Query{Key: e.Key, Proven: true, Fault: policy.Admitted, Source: from.Addr()}, now)
	admissions++
	n := admissions
	w.mu.Unlock()
	f := policy.Fact{Kind: policy.Refusal, At: now, Engineer: e, Source: from, Decision: d, Count: 1}
	if d.Reason == policy.Admitted {
		f.Kind, f.Admission, f.Timestamp = policy.Admission, n, [12]byte{11: byte(n), 10: byte(n >> 8), 9: byte(n >> 16)}
		w.do(func() { w.tunnel.due[n] = w.boot() + time.Second })
	} else {
		n = 0
	}
	w.tunnel.facts <- f
	return n
}

// confirm lets the first authenticated packet of an admission arrive.
func (w *world) confirm(n uint64, name, source string) {
	w.tunnel.facts <- policy.Fact{Kind: policy.Confirmation, Engineer: w.engineer(name), Source: netip.MustParseAddrPort(source), Ingress: "wan0", Admission: n}
	synctest.Wait()
}

// enter is a whole handshake.
func (w *world) enter(name, source string) {
	w.t.Helper()
	n := w.knock(name, source)
	if n == 0 {
		w.t.Fatalf("%s was refused from %s", name, source)
	}
	w.confirm(n, name, source)
}

// hear counts bytes of an engineer.
func (w *world) hear(name string, received, transmitted uint64) {
	key := w.engineer(name).Key
	w.do(func() {
		t := w.tunnel.traffic[key]
		t.Received += received
		t.Transmitted += transmitted
		w.tunnel.traffic[key] = t
	})
}

// fakeTunnel keeps the newest plan.
type fakeTunnel struct {
	w          *world
	facts      chan policy.Fact
	plan       *policy.Plan
	sets       int
	set        fault // hang and slow are ignored: a Set waits for nothing
	cuts       []string
	due        map[uint64]time.Duration // when an admission has waited too long, in boot time
	traffic    map[policy.Key]view.Traffic
	timestamps map[policy.Key][12]byte
	restarts   int
	restartErr error
	close      fault
	closed     time.Time // zero: not yet
	key        [32]byte  // zero: none was given
}

func (f *fakeTunnel) SetKey(private [32]byte) error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.key = private
	return nil
}

func (f *fakeTunnel) Set(p *policy.Plan) error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.sets++
	if f.set.err == nil || f.set.after {
		f.plan = p
		f.w.effect("tunnel %s", strings.Join(openIn(p, f.w.wall()), " "))
		if f.w.watch != nil {
			f.w.watch(p)
		}
	}
	return f.set.err
}

func (f *fakeTunnel) Facts() <-chan policy.Fact { return f.facts }

func (f *fakeTunnel) Cut(e *policy.Engineer) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.cuts = append(f.cuts, e.String())
}

func (f *fakeTunnel) Recorded(admission uint64) bool {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	due, ok := f.due[admission]
	delete(f.due, admission)
	return !ok || f.w.boot() < due
}

func (f *fakeTunnel) Traffic() iter.Seq2[policy.Key, view.Traffic] {
	return func(yield func(policy.Key, view.Traffic) bool) {
		f.w.mu.Lock()
		defer f.w.mu.Unlock()
		maps.All(f.traffic)(yield)
	}
}

func (f *fakeTunnel) SetTimestamps(all map[policy.Key][12]byte) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.timestamps = all
}

func (f *fakeTunnel) Restart() error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.restarts++
	return f.restartErr
}

func (f *fakeTunnel) Close() error {
	f.close.wait()
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.closed, f.plan = time.Now(), nil
	f.w.effect("tunnel closed")
	return nil
}

// fakeFirewall keeps the newest plan.
type fakeFirewall struct {
	w       *world
	facts   chan policy.Fact
	plan    *policy.Plan
	live    []netip.AddrPort
	set     fault
	check   error
	opened  error         // what Check finds while something is open
	reading chan struct{} // nil, or Check hangs until it is closed
	busy    chan struct{} // holds one token while a call is under way: the next one waits
	close   fault
	closed  time.Time // zero: not yet

	used      map[policy.Flow]policy.Use
	behind    time.Duration // of the count
	lost      time.Time
	uncounted bool
}

func (f *fakeFirewall) Set(p *policy.Plan, live []netip.AddrPort) error {
	f.busy <- struct{}{}
	defer func() { <-f.busy }()
	f.w.mu.Lock()
	set := f.set
	f.w.mu.Unlock()
	if set.opening && len(p.Grants) == 0 {
		set = fault{}
	}
	set.wait()
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if set.err == nil || set.after {
		f.plan, f.live = p, live
		f.w.effect("firewall %s", strings.Join(openIn(p, f.w.wall()), " "))
	}
	return set.err
}

func (f *fakeFirewall) Check() error {
	f.busy <- struct{}{}
	defer func() { <-f.busy }()
	f.w.mu.Lock()
	reading := f.reading
	f.w.mu.Unlock()
	fault{hang: reading}.wait()
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if f.check == nil && f.plan != nil && len(f.plan.Grants) > 0 {
		return f.opened
	}
	return f.check
}

// Used gives what the test has counted.
func (f *fakeFirewall) Used(of func(netip.Addr) bool) iter.Seq2[policy.Flow, policy.Use] {
	return func(yield func(policy.Flow, policy.Use) bool) {
		f.w.mu.Lock()
		used := maps.Clone(f.used)
		f.w.mu.Unlock()
		for flow, use := range used {
			if of(flow.From) && !yield(flow, use) {
				return
			}
		}
	}
}

func (f *fakeFirewall) Counted() (until, lost time.Time) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	return f.w.wall().Add(-f.behind), f.lost
}

func (f *fakeFirewall) Recount() {}

func (f *fakeFirewall) Counting() bool {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	return !f.uncounted
}

func (f *fakeFirewall) Forget(a netip.Addr) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	maps.DeleteFunc(f.used, func(flow policy.Flow, _ policy.Use) bool { return flow.From == a })
}

func (f *fakeFirewall) Facts() <-chan policy.Fact { return f.facts }

func (f *fakeFirewall) Close() error {
	f.busy <- struct{}{}
	defer func() { <-f.busy }()
	f.close.wait()
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.closed, f.plan = time.Now(), nil
	f.w.effect("firewall closed")
	return nil
}

// fakeJournal appends to the world's disk as the real one does: times go back
// at a recovery alone, and once it has failed it fails for good.
type fakeJournal struct {
	w       *world
	process int
	failed  error
	closed  bool
	commit  chan struct{} // holds one token while an append is under way
}

// lengthOf is how many bytes an entry takes, as the real journal writes it.
func lengthOf(e journal.Entry) int {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(e); err != nil {
		panic(err)
	}
	return line.Len()
}

func (j *fakeJournal) Append(entries ...journal.Entry) error {
	j.commit <- struct{}{}
	defer func() { <-j.commit }()
	j.w.mu.Lock()
	defer j.w.mu.Unlock()
	if j.closed {
		j.w.t.Error("an append to a closed journal")
	}
	if j.failed != nil {
		return j.failed
	}
	for _, e := range entries {
		if length := lengthOf(e); length > journal.MaxEntry {
			j.w.tooLong = append(j.w.tooLong, e.Kind)
			return fmt.Errorf("an entry of %d bytes", length)
		}
	}
	f := j.w.append
	j.w.mu.Unlock()
	f.wait()
	j.w.mu.Lock()
	if j.process != j.w.process {
		return &journal.FailedError{Err: errors.New("the process was killed")}
	}
	keep := len(entries)
	if f.err != nil {
		j.failed = &journal.FailedError{Err: f.err}
		if !f.after {
			keep = 0
		} else if f.partial > 0 {
			keep = min(keep, f.partial)
		}
	}
	for _, e := range entries[:keep] {
		if e.Time.IsZero() {
			e.Time = j.w.wall()
		}
		if e.Kind == journal.Recovery {
			e.Time = e.From
		} else if n := len(j.w.disk); n > 0 && e.Time.Before(j.w.disk[n-1].Time) {
			e.Time = j.w.disk[n-1].Time
		}
		j.w.disk = append(j.w.disk, e)
		j.w.effect("journal %s", path.Join(string(e.Kind), e.Engineer, e.Window))
	}
	return j.failed
}

func (j *fakeJournal) Replay() iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		for _, e := range j.w.durable() {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (j *fakeJournal) Faults() <-chan error { return j.w.faults }

func (j *fakeJournal) Size() int64 {
	j.w.mu.Lock()
	defer j.w.mu.Unlock()
	return int64(len(j.w.disk))
}

func (j *fakeJournal) CheckpointTime() time.Time { return time.Time{} }

func (j *fakeJournal) Close() error {
	j.commit <- struct{}{} // it waits for the append under way
	defer func() { <-j.commit }()
	j.w.close.wait()
	j.w.mu.Lock()
	defer j.w.mu.Unlock()
	j.closed = true
	return nil
}

// fakeKey is the private key's file of a world. Private and public keys are the same.
type fakeKey struct{ w *world }

func (f fakeKey) Load() ([32]byte, policy.Key, error) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	switch {
	case f.w.keyError != nil:
		return [32]byte{}, policy.Key{}, fmt.Errorf("private key \"/key\": %w", f.w.keyError)
	case f.w.key == policy.Key{}:
		return [32]byte{}, policy.Key{}, fmt.Errorf("private key \"/key\": cannot be read: %w", fs.ErrNotExist)
	}
	return f.w.key, f.w.key, nil
}

func (f fakeKey) Make() error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if f.w.keyMakes == nil && f.w.key == (policy.Key{}) {
		f.w.key = policy.Key{254}
	}
	return f.w.keyMakes
}

// fakeFile is the policy file of a world.
type fakeFile struct{ w *world }

func (f fakeFile) Load() (*policy.Policy, []view.Message, error) {
	f.w.reads()
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if f.w.fileError != nil {
		return nil, nil, f.w.fileError
	}
	return f.w.file, nil, nil
}

func (f fakeFile) Check() (string, error) {
	f.w.reads()
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if f.w.fileError != nil {
		return "", f.w.fileError
	}
	return f.w.file.Digest, nil
}

func (fakeFile) Warnings(p *policy.Policy, now time.Time) []view.Message {
	return []view.Message{endedOn(now.In(p.Zone).Format(time.DateOnly))}
}

// fakeJournals keep their journal in the world.
type fakeJournals struct {
	w       *world
	process int
}

func (f fakeJournals) Open() (store.Journal, error) {
	f.w.mu.Lock()
	opening := f.w.opening
	f.w.mu.Unlock()
	opening.wait()
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if f.w.damage != nil {
		return nil, f.w.damage
	}
	return &fakeJournal{w: f.w, process: f.process, commit: make(chan struct{}, 1)}, nil
}

func (f fakeJournals) ReadDamaged() iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		var gone map[int]bool
		var lost error
		f.w.do(func() { gone, lost = f.w.gone, f.w.lost })
		for i, e := range f.w.durable() {
			if !gone[i] && !yield(e, nil) {
				return
			}
		}
		if lost != nil {
			yield(journal.Entry{}, lost)
		}
	}
}

func (f fakeJournals) Archive() (string, string, error) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if f.w.archiveErr != nil {
		return "", "", f.w.archiveErr
	}
	f.w.archived, f.w.disk = append(f.w.archived, f.w.disk), nil
	f.w.damage, f.w.gone, f.w.lost = nil, nil, nil
	return "/journal.broken", "the last checkpoint", nil
}

// fakeLatch keeps what is shut in the world. After a Save that fails
// its records are stale, unless it takes effect all the same.
type fakeLatch struct {
	w       *world
	process int
}

func (l fakeLatch) Save(shut []policy.ShutRecord) error {
	l.w.mu.Lock()
	f := l.w.save
	l.w.saves++
	l.w.mu.Unlock()
	f.wait()
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if l.process != l.w.process {
		return errors.New("the process was killed")
	}
	if l.w.partial = f.err != nil && !f.after; !l.w.partial {
		l.w.latch = append([]policy.ShutRecord{}, shut...)
	}
	return f.err
}

func (l fakeLatch) Load() ([]policy.ShutRecord, bool, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return slices.Clone(l.w.latch), l.w.latch != nil && !l.w.partial, l.w.loadErr
}

// window is one window of a test's policy.
type window struct {
	name        string // vendor/window
	from, until string // HH:MM:SS of 2000-01-01
	targets     string // names, separated by spaces; empty: ehr
	engineers   string // short names; empty: all of the vendor
}

// site is a policy with two vendors (medisys: sato, suzuki; acme: brown), two
// targets (ehr, pacs), and these windows, each open once. All may come from
// 203.0.113.0/28.
func site(windows ...window) *policy.Policy {
	ehr := &policy.Target{Name: "ehr", Prefix: netip.MustParsePrefix("10.1.0.5/32"), Services: []policy.Service{{Protocol: policy.TCP, First: 22, Last: 22}}}
	pacs := &policy.Target{Name: "pacs", Prefix: netip.MustParsePrefix("10.1.2.0/28"), Services: []policy.Service{{Protocol: policy.TCP, First: 104, Last: 104}}}
	p := &policy.Policy{Site: "木戸市民病院", Zone: time.UTC, Targets: []*policy.Target{ehr, pacs}, Text: "a policy"}
	number := byte(1)
	vendor := func(name string, engineers ...string) {
		v := &policy.Vendor{Name: name, Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/28")}}
		for _, short := range engineers {
			number++
			v.Engineers = append(v.Engineers, &policy.Engineer{Vendor: v, Name: short, Key: policy.Key{number}, Sources: v.Sources,
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 99, 0, number})}})
		}
		p.Vendors = append(p.Vendors, v)
	}
	vendor("acme", "brown")
	vendor("medisys", "sato", "suzuki")
	for _, x := range windows {
		vendorName, name, _ := strings.Cut(x.name, "/")
		v := p.Vendor(vendorName)
		from, until := moment(x.from), moment(x.until)
		day := policy.DateOf(from)
		w := &policy.Window{Vendor: v, Name: name, ApprovedBy: "院長", Ticket: "CHG-1", Schedule: &policy.Once{
			From:  policy.LocalTime{Date: day, Time: policy.TimeOfDay(from.Sub(moment("00:00:00")) / time.Second)},
			Until: policy.LocalTime{Date: day, Time: policy.TimeOfDay(until.Sub(moment("00:00:00")) / time.Second)}}}
		for _, t := range p.Targets {
			if x.targets == "" && t.Name == "ehr" || slices.Contains(strings.Fields(x.targets), t.Name) {
				w.Targets = append(w.Targets, t)
			}
		}
		for _, e := range v.Engineers {
			if x.engineers == "" || slices.Contains(strings.Fields(x.engineers), e.Name) {
				w.Engineers = append(w.Engineers, e)
			}
		}
		v.Windows = append(v.Windows, w)
	}
	for _, v := range p.Vendors {
		slices.SortFunc(v.Windows, func(a, b *policy.Window) int { return strings.Compare(a.Name, b.Name) })
	}
	p.Digest = fmt.Sprintf("%x", sha256.Sum256([]byte(fmt.Sprint(windows))))
	return p
}

// prefixes reads some that are separated by spaces.
func prefixes(texts string) (all []netip.Prefix) {
	for text := range strings.FieldsSeq(texts) {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// oneHour is a policy with one window, of acme, 01:00 to 02:00.
func oneHour() *policy.Policy {
	return site(window{name: "acme/night", from: "01:00:00", until: "02:00:00"})
}

// simulate runs a test in a bubble with a world; the gateway is not started.
func simulate(t *testing.T, p *policy.Policy, f func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, p)
		f(t, w)
		if w.cancel != nil {
			w.cancel()
			synctest.Wait()
			time.Sleep(time.Minute) // whatever is bounded ends
		}
	})
}
