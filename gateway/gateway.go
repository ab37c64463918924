package gateway

import (
	"context"
	"iter"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"kidoban/gateway/clock"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
	"kidoban/gateway/view"
)

// Tunnel is the WireGuard device and the gate in front of it.
type Tunnel interface {
	// Set puts a plan in force. Everything else is closed in both directions
	// when Set returns. It never waits for a peer or a disk;
	// a plan with other tunnel addresses has the device built anew.
	Set(*policy.Plan) error
	// Facts reports admissions, confirmations, refusals and failures.
	Facts() <-chan policy.Fact
	// Cut ends an engineer's session, keys included; a new handshake may follow
	// if the plan admits it.
	Cut(*policy.Engineer)
	// Recorded tells that an admission is on disk. Without it the tunnel cuts
	// the admission after a second, and admits no other engineer until Recorded
	// comes or a plan in doubt is set. It reports whether it came in time. It
	// never waits.
	Recorded(admission uint64) bool
	// Traffic returns the bytes of each key since the process began, also after
	// another engineer got the key. Two policies in a row without the key drop its
	// totals.
	Traffic() iter.Seq2[policy.Key, view.Traffic]
	// SetTimestamps seeds the greatest handshake timestamp seen of each key;
	// an empty map forgets all.
	SetTimestamps(map[policy.Key][12]byte)
	// SetKey gives the gateway's private key. Before it there is no interface.
	SetKey(private [32]byte) error
	// Restart builds the device anew after a Failure, which may take a second.
	Restart() error
	Close() error
}

// Firewall is the kernel's half of the gate.
type Firewall interface {
	// Set makes the ruleset match a plan; live are the outer addresses of
	// sessions, which keep a rate of their own. It may take long, and is
	// called by one goroutine at a time.
	Set(p *policy.Plan, live []netip.AddrPort) error
	// Check reads the ruleset back and mends it. An error says why it is still
	// wrong.
	Check() error
	// Facts reports refused flows and drift.
	Facts() <-chan policy.Fact
	// Used gives what passed in the connections of tunnel addresses, since the process
	// began. It does not wait.
	Used(of func(netip.Addr) bool) iter.Seq2[policy.Flow, policy.Use]
	// Counted says until when Used is whole, and when something was lost last.
	Counted() (until, lost time.Time)
	// Counting says whether the kernel counts at all.
	Counting() bool
	// Recount asks for a count at once, and does not wait for it.
	Recount()
	// Forget drops what was counted of an address, but for live connections.
	Forget(netip.Addr)
	// Close denies everything, restores the host's settings, and removes the
	// table last.
	Close() error
}

// PolicyFile is the policy on disk.
type PolicyFile interface {
	// Load reads the file. Its error text is shown to operators.
	Load() (*policy.Policy, []view.Message, error)
	// Check returns the file's digest, or why a restart would not take the file.
	// It is asked often and must be cheap while the file does not change.
	Check() (digest string, err error)
	// Warnings returns the warnings that Load would give at another time about a
	// policy that it has given.
	Warnings(*policy.Policy, time.Time) []view.Message
}

// KeyFile is the gateway's private key on disk.
type KeyFile interface {
	// Load reads the key. An error that wraps fs.ErrNotExist says that there is no file.
	Load() (private [32]byte, public policy.Key, err error)
	// Make makes a key, if there is no file.
	Make() error
}

// Config has the parts of a Gateway. Everything but Switch, Dropped, Hints, Notify and
// Logger is required.
type Config struct {
	Tunnel     Tunnel
	Firewall   Firewall
	Clock      clock.Source
	PolicyFile PolicyFile
	KeyFile    KeyFile
	Journals   store.Journals
	Latch      store.LatchFile
	Switch     *store.Switch // nil: there is no shut file
	Metrics    Metrics
	// Dropped returns how many packets the kernel has dropped, by cause, since
	// the table was made; nil: they are not counted.
	Dropped func() (map[string]uint64, error)
	// Hints returns hints about this host for operators. It does not wait.
	Hints func() []view.Hint
	// Notify tells the service manager: "ready", "stopping", "watchdog", or a status line.
	Notify  func(state string)
	Logger  *slog.Logger
	Version string
}

// Gateway is the loop that owns the state. Other packages read snapshots, and
// change the state by Do, Reload and Recover.
type Gateway struct {
	cfg      Config
	store    *store.Store // owned by the loop, except for its latch
	snapshot atomic.Pointer[view.Snapshot]
	commands chan func(*loop)
	stopped  chan struct{}
	reading  chan struct{} // full while the policy file is being read
	recovery sync.Mutex    // held by a recovery
}

// New prepares a gateway; Run does everything.
func New(cfg Config) *Gateway {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Notify == nil {
		cfg.Notify = func(string) {}
	}
	g := &Gateway{cfg: cfg, store: store.New(cfg.Journals, cfg.Latch, cfg.Logger), commands: make(chan func(*loop)),
		stopped: make(chan struct{}), reading: make(chan struct{}, 1)}
	state := policy.NewState()
	starting := view.Say(view.Begins, nil)
	g.snapshot.Store(&view.Snapshot{Plan: state.Plan(cfg.Clock.Wall()).Doubted(starting.String()), Base: state,
		Doubts: []view.Doubt{{About: view.Starting, Message: starting}}, Sessions: []view.SessionStatus{}, Version: cfg.Version, At: cfg.Clock.Boot()})
	return g
}

// Snapshot returns the state of the gateway at the loop's last turn. A loop that
// does not turn records no admission, and so the tunnel admits no engineer: the
// snapshot says so then.
func (g *Gateway) Snapshot() *view.Snapshot {
	s := g.snapshot.Load()
	if age := g.age(s); g.stuck(s) {
		return s.Stuck(age)
	}
	return s
}

// liveWithin is how old the newest snapshot of a loop that turns may be: the
// loop turns at least once a heartbeat.
const liveWithin = 10 * time.Second

// Live reports whether the loop still turns, or starts.
func (g *Gateway) Live() bool { return !g.stuck(g.snapshot.Load()) }

func (g *Gateway) stuck(s *view.Snapshot) bool {
	within := liveWithin
	if s.InDoubt(view.Starting) {
		within = startWait
	}
	return g.age(s) >= within
}

func (g *Gateway) age(s *view.Snapshot) time.Duration { return g.cfg.Clock.Boot() - s.At }

// Now is the wall clock as the gateway reads it.
func (g *Gateway) Now() time.Time { return g.cfg.Clock.Wall() }

// leave gives f to the loop, which runs it however late. The channel is closed
// when f has run.
func (g *Gateway) leave(f func(*loop)) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		select {
		case g.commands <- func(l *loop) { defer close(done); f(l) }:
		case <-g.stopped:
		}
	}()
	return done
}

// send runs f on the loop. If the loop does not take f in time, f never runs.
func (g *Gateway) send(ctx context.Context, f func(*loop)) error {
	done := make(chan struct{})
	timeout := time.NewTimer(liveWithin)
	defer timeout.Stop()
	select {
	case g.commands <- func(l *loop) { defer close(done); f(l) }:
	case <-g.stopped:
		return errStopped
	case <-ctx.Done():
		return ctx.Err()
	case <-timeout.C:
		return &view.Error{Message: view.Say("nothing_done", view.Args{"wait": liveWithin})}
	}
	select {
	case <-done:
		return nil
	case <-g.stopped:
		return errStopped
	}
}
