package gateway

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"kidoban/gateway/clock"
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// Tunnel is the WireGuard device and the gate in front of it.
type Tunnel interface {
	// Set puts a plan in force. What the plan no longer opens is closed in
	// both directions when Set returns. It never waits for a peer or a disk;
	// a plan with other tunnel addresses has the device built anew.
	Set(*policy.Plan) error
	// Facts reports admissions, confirmations, refusals and failures.
	Facts() <-chan policy.Fact
	// Cut ends what an engineer has open, keys included; a new handshake may
	// follow if the plan admits it.
	Cut(*policy.Engineer)
	// Recorded tells that an admission is on disk. One that is not within a
	// second is cut by the tunnel itself, and nobody new is admitted until
	// this is told, or a plan in doubt was set. The answer is whether it came
	// in time. It never waits.
	Recorded(admission uint64) bool
	// Traffic counts the bytes of each key since the process began, whoever
	// owns it by the plan in force; the totals outlive peers. They are kept
	// until a second policy in a row does not list the key.
	Traffic() iter.Seq2[policy.Key, view.Traffic]
	// SetTimestamps seeds the greatest handshake timestamp seen of each key;
	// an empty map forgets all of them.
	SetTimestamps(map[policy.Key][12]byte)
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
	// Check reads the ruleset back, mends what it may, and says what it may not.
	Check() error
	// Facts reports refused flows and drift.
	Facts() <-chan policy.Fact
	// Close denies everything, restores what was changed on the host, and
	// removes the table last.
	Close() error
}

// Journal is the append-only record.
type Journal interface {
	// Append returns when the entries are durable, all of them, in order.
	// Once it has failed it fails for good.
	Append(...journal.Entry) error
	Replay() iter.Seq2[journal.Entry, error]
	Size() int64
	CheckpointTime() time.Time
	Close() error
}

// Config is what a Gateway is made of. Everything but Warn, Dropped, Hints,
// Notify and Logger is required.
type Config struct {
	Tunnel   Tunnel
	Firewall Firewall
	Clock    clock.Source
	// LoadPolicy reads the policy file. Its error text is shown to operators.
	LoadPolicy func() (*policy.Policy, []view.Message, error)
	// CheckFile looks at the policy file on disk: its digest, or why a
	// restart would not take it. It is asked often and must be cheap while
	// the file does not change.
	CheckFile func() (digest string, err error)
	// Warn gives what LoadPolicy would warn of at another time in a policy
	// that it has given; asked when the site's date changes. nil: the warnings
	// stay what they were.
	Warn func(*policy.Policy, time.Time) []view.Message
	// OpenJournal opens, verifies and locks the journal.
	OpenJournal func() (Journal, error)
	// ReadDamaged gives what can still be read of a journal that does not
	// open: what it closed stays closed. An error, the last it gives, says
	// that this is not all that was recorded.
	ReadDamaged func() iter.Seq2[journal.Entry, error]
	// ArchiveJournal moves a broken journal aside and gives the path it has
	// now and its last checkpoint.
	ArchiveJournal func() (path, checkpoint string, err error)
	// Dropped gives how many packets the kernel has dropped, by cause, since
	// the table was made; nil: nobody counts.
	Dropped func() (map[string]uint64, error)
	// Hints gives what else operators should know of this host, in a person's
	// words; it does not wait. nil: nothing.
	Hints func() []view.Hint
	// Marker keeps what is shut while the journal cannot.
	Marker Marker
	// Copy keeps what is shut beside a journal that can, should it be damaged
	// one day: its Load fails where nothing was ever saved, and what is saved
	// may be nothing. A Save that fails leaves nothing for Load, as far as it
	// can. nil: nobody does.
	Copy Marker
	// Notify tells the service manager: "ready", "stopping", "watchdog", or a status line.
	Notify  func(state string)
	Metrics *Metrics
	Logger  *slog.Logger
	Version string
}

// Marker keeps what is shut outside the journal, for the time that the
// journal is dead.
type Marker interface {
	// Save returns when what is shut is durable, or with an error that wraps
	// ErrUntilBoot when it is so until the machine boots. Nothing to keep
	// removes the marker.
	Save([]policy.ShutRecord) error
	// Load gives what is kept, and an error if there is more that cannot be read.
	Load() ([]policy.ShutRecord, error)
}

// Gateway is the one loop that owns the state. Everything else reads
// Snapshots or sends it commands.
type Gateway struct {
	cfg      Config
	snapshot atomic.Pointer[view.Snapshot]
	commands chan func(*loop)
	stopped  chan struct{}
	reading  chan struct{} // full while somebody reads the policy file
	recovery sync.Mutex    // held by the one recovery at a time; guards broken
	broken   Journal       // a dead one that the loop let go of and that is not closed yet
	keeper   *keeper       // of Config.Marker
}

// starting is the doubt of a gateway that reads its journal.
const starting = "starting"

// New prepares a gateway; Run does everything.
func New(cfg Config) *Gateway {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Notify == nil {
		cfg.Notify = func(string) {}
	}
	g := &Gateway{cfg: cfg, commands: make(chan func(*loop)), stopped: make(chan struct{}), reading: make(chan struct{}, 1), keeper: newKeeper(cfg.Marker)}
	state := policy.NewState()
	plan := state.Plan(cfg.Clock.Wall()).Doubted(starting)
	g.snapshot.Store(&view.Snapshot{Plan: plan, Base: state, Doubts: []view.Doubt{{About: view.Starting, Message: view.Say(view.Begins, nil)}}, Version: cfg.Version, At: cfg.Clock.Boot()})
	return g
}

// Snapshot is how things stood at the loop's last turn. It is immutable. Of a
// loop that does not turn it says that nobody is admitted, since the tunnel
// cuts whom nobody records.
func (g *Gateway) Snapshot() *view.Snapshot {
	s := g.snapshot.Load()
	if age := g.age(s); age >= liveWithin {
		return s.Stuck(age)
	}
	return s
}

// send runs f on the loop, and reports whether it did. A loop that does not
// take it in time never will.
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
		return fmt.Errorf("nothing was done: the loop did not take the command within %s; stopping the gateway shuts everything", liveWithin)
	}
	select {
	case <-done:
		return nil
	case <-g.stopped:
		return errStopped
	}
}

// leave leaves f for the loop, which runs it once it takes it, however late.
// What it gives is closed when f has run.
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

// Now is the wall clock as the gateway reads it.
func (g *Gateway) Now() time.Time { return g.cfg.Clock.Wall() }

// liveWithin is how old the newest snapshot of a loop that turns may be: it
// turns at least once a heartbeat.
const liveWithin = 10 * time.Second

// Live reports whether the loop still turns.
func (g *Gateway) Live() bool { return g.age(g.snapshot.Load()) < liveWithin }

func (g *Gateway) age(s *view.Snapshot) time.Duration { return g.cfg.Clock.Boot() - s.At }
