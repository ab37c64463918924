package main

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"kidoban/config"
	"kidoban/gateway"
	"kidoban/gateway/clock"
	"kidoban/gateway/confine"
	"kidoban/gateway/firewall"
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
	"kidoban/gateway/view"
)

// Layers that a gateway under test can be without:
//
//	gate     WireGuard as it is, with every engineer as a peer at all times
//	kernel   no ruleset; the host forwards
//	record   a journal that says at once that everything is on disk
//	doubt    what should shut the gateway is not seen, or not heeded
//	copies   nobody looks at what the kernel refused
//	reason   the tunnel gives another reason than was decided
//	counts   conntrack does not count what flows carry
const (
	gateLayer   = "gate"
	kernelLayer = "kernel"
	recordLayer = "record"
	doubtLayer  = "doubt"
	copiesLayer = "copies"
	reasonLayer = "reason"
	countsLayer = "counts"
)

// What the process of a gateway under test is told by its environment, by the
// tests of gateway/e2e.
const (
	layersVariable = "PROMISE_WITHOUT" // the layers to leave out, with commas
	offsetVariable = "PROMISE_OFFSET"  // a file: by how much the wall clock is off; none: not at all
	hangVariable   = "PROMISE_HANG"    // a file: while it is there, the disk does not answer
	stuckVariable  = "PROMISE_STUCK"   // a file: while it is there, the loop does not turn

	profileVariable = "BENCH_PROFILE" // a file: the processor profile between SIGUSR1 and SIGUSR2, there when it is whole
)

// init leaves layers out where this process is the gateway of such a test.
func init() {
	without := os.Getenv(layersVariable)
	if filepath.Base(os.Args[0]) != "kidoban" {
		return
	}
	if file := os.Getenv(profileVariable); file != "" {
		profileInto(file)
	}
	if file := os.Getenv(intruderVariable); file != "" {
		go intrude(file)
	}
	confined = func(r confine.Rules) confine.Rules {
		for _, name := range []string{offsetVariable, hangVariable, stuckVariable, profileVariable, intruderVariable} {
			if file := os.Getenv(name); file != "" {
				r.Write = append(r.Write, filepath.Dir(file))
			}
		}
		return r
	}
	wired = func(c gateway.Config) gateway.Config {
		if file := os.Getenv(offsetVariable); exists(file) {
			c.Clock = offsetClock(c.Clock, file)
		}
		if file := os.Getenv(hangVariable); file != "" {
			c.Journals = otherJournals{c.Journals, func(open func() (store.Journal, error)) (store.Journal, error) {
				j, err := open()
				if err != nil {
					return nil, err
				}
				return hangingJournal{j, file}, nil
			}}
		}
		if file := os.Getenv(stuckVariable); file != "" {
			c.Tunnel = stuckTunnel{c.Tunnel, file}
		}
		for layer := range strings.SplitSeq(without, ",") {
			switch layer {
			case "":
			case gateLayer:
				c.Tunnel = &plainTunnel{facts: make(chan policy.Fact)}
			case kernelLayer:
				if err := c.Firewall.Close(); err != nil {
					panic(err)
				}
				c.Firewall = noFirewall{}
			case recordLayer:
				c.Journals = otherJournals{c.Journals, func(func() (store.Journal, error)) (store.Journal, error) { return noJournal{}, nil }}
			case doubtLayer:
				c = undoubting(c)
			case copiesLayer:
				c.Firewall = noCopies{c.Firewall}
				c.Tunnel = newUninspecting(c.Tunnel)
			case reasonLayer:
				c.Tunnel = newOtherReason(c.Tunnel)
			case countsLayer:
				c.Firewall = notCounting{c.Firewall}
			default:
				panic("no layer " + layer)
			}
		}
		return c
	}
}

// profileInto writes a profile for each pair of signals.
func profileInto(file string) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for {
			if err := profileOnce(file, signals); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}()
}

func profileOnce(file string, signals <-chan os.Signal) error {
	for <-signals != syscall.SIGUSR1 {
	}
	f, err := os.Create(file + ".part")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := pprof.StartCPUProfile(f); err != nil {
		return err
	}
	for <-signals != syscall.SIGUSR2 {
	}
	pprof.StopCPUProfile() // waits until all is written
	return os.Rename(file+".part", file)
}

// notCounting turns conntrack's counters off whenever they were turned on.
type notCounting struct{ gateway.Firewall }

func (n notCounting) Set(p *policy.Plan, live []netip.AddrPort) error {
	return errors.Join(n.Firewall.Set(p, live), n.off())
}
func (n notCounting) Check() error { return errors.Join(n.Firewall.Check(), n.off()) }
func (n notCounting) off() error {
	return errors.Join(os.WriteFile("/proc/sys/net/netfilter/nf_conntrack_acct", []byte("0"), 0),
		os.WriteFile("/proc/sys/net/netfilter/nf_conntrack_timestamp", []byte("0"), 0))
}

// stuckTunnel holds the loop up while a file is there: it asks for the traffic
// once a second.
type stuckTunnel struct {
	gateway.Tunnel
	file string
}

func (s stuckTunnel) Traffic() iter.Seq2[policy.Key, view.Traffic] {
	for exists(s.file) {
		_ = os.WriteFile(s.file+".held", nil, 0o600) // for the test to see
		time.Sleep(time.Millisecond)
	}
	return s.Tunnel.Traffic()
}

// plainTunnel is WireGuard without a gate.
type plainTunnel struct {
	facts chan policy.Fact

	mu     sync.Mutex
	device *device.Device
}

func (p *plainTunnel) Set(plan *policy.Plan) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.device != nil || plan.Policy == nil {
		return nil
	}
	settings, err := config.FromEnvironment(os.Environ())
	if err != nil {
		return err
	}
	private, _, err := config.KeyFile{Path: settings.PrivateKeyFile}.Load()
	if err != nil {
		return err
	}
	native, err := tun.CreateTUN(settings.Interface, device.DefaultMTU)
	if err != nil {
		return err
	}
	p.device = device.NewDevice(native, conn.NewStdNetBind(), device.NewLogger(device.LogLevelSilent, ""))
	var b strings.Builder
	fmt.Fprintf(&b, "private_key=%x\nlisten_port=%d\n", private[:], settings.ListenPort)
	for _, v := range plan.Policy.Vendors {
		for _, e := range v.Engineers {
			fmt.Fprintf(&b, "public_key=%x\n", e.Key[:])
			for _, a := range e.Addresses {
				fmt.Fprintf(&b, "allowed_ip=%v\n", netip.PrefixFrom(a, a.BitLen()))
			}
		}
	}
	if err := errors.Join(p.device.IpcSet(b.String()), p.device.Up()); err != nil {
		return err
	}
	link, err := netlink.LinkByName(settings.Interface)
	if err != nil {
		return err
	}
	for _, a := range plan.Policy.Tunnel.Addresses {
		address, err := netlink.ParseAddr(a.String())
		if err == nil {
			err = netlink.AddrReplace(link, address)
		}
		if err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

func (p *plainTunnel) Facts() <-chan policy.Fact { return p.facts }
func (p *plainTunnel) Cut(*policy.Engineer)      {}
func (p *plainTunnel) Recorded(uint64) bool      { return true }
func (p *plainTunnel) SetKey([32]byte) error     { return nil }

func (p *plainTunnel) SetTimestamps(map[policy.Key][12]byte) {}
func (p *plainTunnel) Restart() error                        { return nil }
func (p *plainTunnel) Close() error                          { return nil }
func (p *plainTunnel) Traffic() iter.Seq2[policy.Key, view.Traffic] {
	return func(func(policy.Key, view.Traffic) bool) {}
}

// noFirewall lets everything pass.
type noFirewall struct{}

func (noFirewall) Set(*policy.Plan, []netip.AddrPort) error {
	return errors.Join(os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0),
		os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0))
}
func (noFirewall) Check() error              { return nil }
func (noFirewall) Facts() <-chan policy.Fact { return nil }
func (noFirewall) Close() error              { return nil }
func (noFirewall) Used(func(netip.Addr) bool) iter.Seq2[policy.Flow, policy.Use] {
	return func(func(policy.Flow, policy.Use) bool) {}
}
func (noFirewall) Counted() (until, lost time.Time) { return time.Now(), time.Time{} }
func (noFirewall) Counting() bool                   { return false }
func (noFirewall) Forget(netip.Addr)                {}
func (noFirewall) Recount()                         {}

// noJournal keeps nothing.
type noJournal struct{}

func (noJournal) Append(...journal.Entry) error { return nil }
func (noJournal) Replay() iter.Seq2[journal.Entry, error] {
	return func(func(journal.Entry, error) bool) {}
}
func (noJournal) Size() int64               { return 0 }
func (noJournal) CheckpointTime() time.Time { return time.Time{} }
func (noJournal) Close() error              { return nil }

// hangingJournal is on a disk that does not answer while a file is there.
type hangingJournal struct {
	store.Journal
	file string
}

func (h hangingJournal) Append(entries ...journal.Entry) error {
	for exists(h.file) {
		time.Sleep(time.Millisecond)
	}
	return h.Journal.Append(entries...)
}

// noCopies is a firewall whose refusals nobody hears of.
type noCopies struct{ gateway.Firewall }

func (noCopies) Facts() <-chan policy.Fact { return nil }

// uninspecting is a tunnel that names nobody whom the kernel refused: their
// addresses are not listed.
type uninspecting struct {
	otherFacts
	plan *atomic.Pointer[policy.Plan]
}

func newUninspecting(t gateway.Tunnel) gateway.Tunnel {
	plan := &atomic.Pointer[policy.Plan]{}
	return uninspecting{changeFacts(t, func(f policy.Fact) (policy.Fact, bool) {
		p := plan.Load()
		return f, f.Kind != policy.Refusal || p != nil && p.Listed(f.Source.Addr(), "", time.Now())
	}), plan}
}

func (u uninspecting) Set(p *policy.Plan) error {
	u.plan.Store(p)
	return u.otherFacts.Set(p)
}

// offsetClock is off by what a file says, and tells when that changes, as the
// kernel tells when its clock is set.
func offsetClock(c clock.Source, file string) clock.Source {
	var mu sync.Mutex
	var offset time.Duration
	set := make(chan struct{}, 1)
	read := func() {
		text, err := os.ReadFile(file)
		if err != nil {
			return
		}
		d, err := time.ParseDuration(strings.TrimSpace(string(text)))
		if err != nil {
			return // half written: the next reading gets it
		}
		mu.Lock()
		changed := d != offset
		offset = d
		mu.Unlock()
		if changed {
			select {
			case set <- struct{}{}:
			default:
			}
		}
	}
	read()
	go func() {
		for {
			time.Sleep(5 * time.Millisecond)
			read()
		}
	}()
	wall := c.Wall
	c.Wall = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return wall().Add(offset)
	}
	c.Set = set
	return c
}

// undoubting makes a gateway that sees no cause for doubt: it takes the last
// good policy for a bad one, a journal that does not verify for an empty one, a
// new private key for a lost one, any for the journal's, believes the machine's own clock, and hears of no drift and no failure.
func undoubting(c gateway.Config) gateway.Config {
	settings, err := config.FromEnvironment(os.Environ())
	if err != nil {
		panic(err)
	}
	good := &config.File{Path: settings.PolicyFile + ".good", Addresses: func() ([]netip.Addr, error) { return firewall.HostAddresses(settings.Interface) }}
	c.PolicyFile = goodFile{c.PolicyFile, good}
	c.Journals = otherJournals{c.Journals, func(open func() (store.Journal, error)) (store.Journal, error) {
		if j, err := open(); err == nil {
			return anyKey{j}, nil
		}
		return noJournal{}, nil
	}}
	c.KeyFile = madeKey{c.KeyFile}
	c.Clock.Wall = time.Now
	c.Tunnel = newDoubtless(c.Tunnel)
	c.Firewall = doubtlessFirewall{c.Firewall}
	return c
}

// goodFile is a policy file that is never bad.
type goodFile struct {
	gateway.PolicyFile
	good *config.File
}

func (f goodFile) Load() (*policy.Policy, []view.Message, error) {
	p, warnings, err := f.PolicyFile.Load()
	if err != nil {
		return f.good.Load()
	}
	return p, warnings, nil
}

func (goodFile) Check() (string, error) { return "", nil }

// anyKey is a journal that does not tell of the gateway's key.
type anyKey struct{ store.Journal }

func (a anyKey) Replay() iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		for e, err := range a.Journal.Replay() {
			if (err != nil || e.Kind != journal.Identity) && !yield(e, err) {
				return
			}
		}
	}
}

// madeKey is a private key that is made where it is missing.
type madeKey struct{ gateway.KeyFile }

func (m madeKey) Load() ([32]byte, policy.Key, error) {
	_ = m.Make()
	return m.KeyFile.Load()
}

// otherJournals open in another way.
type otherJournals struct {
	store.Journals
	open func(open func() (store.Journal, error)) (store.Journal, error)
}

func (o otherJournals) Open() (store.Journal, error) { return o.open(o.Journals.Open) }

// otherFacts is a tunnel whose facts are changed before they are heard.
type otherFacts struct {
	gateway.Tunnel
	facts chan policy.Fact
}

func (o otherFacts) Facts() <-chan policy.Fact { return o.facts }

func changeFacts(t gateway.Tunnel, change func(policy.Fact) (policy.Fact, bool)) otherFacts {
	o := otherFacts{t, make(chan policy.Fact)}
	go func() {
		for f := range t.Facts() {
			if f, ok := change(f); ok {
				o.facts <- f
			}
		}
	}()
	return o
}

type doubtlessTunnel struct{ otherFacts }

func newDoubtless(t gateway.Tunnel) doubtlessTunnel {
	return doubtlessTunnel{changeFacts(t, func(f policy.Fact) (policy.Fact, bool) { return f, f.Kind != policy.Failure })}
}

func (d doubtlessTunnel) Set(p *policy.Plan) error {
	_ = d.otherFacts.Set(p)
	return nil
}

type doubtlessFirewall struct{ gateway.Firewall }

func (d doubtlessFirewall) Set(p *policy.Plan, live []netip.AddrPort) error {
	_ = d.Firewall.Set(p, live)
	return nil
}

func (d doubtlessFirewall) Check() error { return nil }

// newOtherReason gives every refusal of the tunnel one and the same reason.
func newOtherReason(t gateway.Tunnel) gateway.Tunnel {
	return changeFacts(t, func(f policy.Fact) (policy.Fact, bool) {
		if f.Kind == policy.Refusal {
			f.Decision.Reason = policy.Malformed
		}
		return f, true
	})
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
