package firewall

import (
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// accounts counts what the flows of engineers carry, by conntrack's own counters. Conntrack tells
// the end of each flow, and is read every few seconds for those that live. Nothing waits for it.
type accounts struct {
	events    *os.File // the netlink socket that hears of ends; nil: it could not be opened
	raw       syscall.RawConn
	buffer    []byte // for a message
	logger    *slog.Logger
	engineers atomic.Pointer[map[netip.Addr]policy.Key] // the tunnel addresses that count, and those of hosts on plain lines
	hosts     atomic.Pointer[hosts]                     // nil: there never was one
	sessions  atomic.Bool                               // there are sessions, or may be
	asked     atomic.Bool                               // a reading is wanted at once
	off       atomic.Pointer[error]                     // why conntrack does not count; nil: it does
	unread    atomic.Pointer[error]                     // why its counts cannot be read; nil: they can

	walking sync.Mutex
	walker  *connections // with a socket of its own; held by walking

	mu     sync.Mutex
	ledger ledger
	until  time.Time // all that passed before is in the ledger, but for what was lost
}

// A TCP connection that was reset stays for 10 s, so a reading finds it.
const (
	walkEvery = 5 * time.Second
	lookEvery = time.Second // for an overflow of the socket, and whether to read
)

// eventsRoom is the room for ends that wait to be read, in bytes of the kernel's memory: some
// thousand. They come in a burst when windows close.
const eventsRoom = 4 << 20

// openAccounts begins to count, in the calling thread's network namespace. It does so too if it
// cannot: then nothing is counted, and hints says so.
func openAccounts(room int, logger *slog.Logger) *accounts {
	// The kernel tells each end alone, in less than 1 KiB.
	a := &accounts{buffer: make([]byte, 1<<14), logger: logger, ledger: newLedger()}
	var err error
	if a.walker, err = openConnections(); err == nil {
		a.events, a.raw, err = openEvents(room)
	}
	if err != nil {
		a.cannotRead(err)
		return a
	}
	go a.run()
	return a
}

// openEvents opens a socket that hears of each flow that ends.
func openEvents(room int) (*os.File, syscall.RawConn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, nil, fmt.Errorf("conntrack's events: %w", err)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room) // an overflow is told
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (ctEnds - 1)}); err != nil {
		unix.Close(fd)
		return nil, nil, fmt.Errorf("conntrack's events: %w", err)
	}
	file := os.NewFile(uintptr(fd), "conntrack's events")
	raw, err := file.SyscallConn()
	return file, raw, err
}

// close ends the counting, and does not wait for a reading that is under way.
func (a *accounts) close() { a.events.Close() } // nil: an error

// run takes ended flows, and reads live ones, until closed.
func (a *accounts) run() {
	defer func() {
		a.walking.Lock()
		defer a.walking.Unlock()
		a.walker.close()
	}()
	var walked time.Time
	var rest time.Duration // after a reading, so that readings leave the processor to others
	for due := false; ; {
		wait := lookEvery
		if due {
			wait = time.Until(walked.Add(rest))
		}
		_ = a.events.SetReadDeadline(time.Now().Add(wait))
		if a.asked.Load() { // before the deadline was set
			_ = a.events.SetReadDeadline(time.Now())
		}
		overflow := false
		err := a.raw.Read(func(fd uintptr) bool { overflow = a.hear(int(fd)); return overflow })
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return // closed
		}
		due = a.asked.Swap(false) || due || overflow
		if since := time.Since(walked); since >= rest && due || since >= walkEvery {
			walked = time.Now()
			due = !a.count(walked, due)
			rest = max(lookEvery/10, 4*time.Since(walked))
		}
		if a.unread.Load() != nil {
			time.Sleep(lookEvery / 10)
		}
	}
}

// inside takes whether there are sessions, or hosts may enter. When that is over, what was used is read
// once more.
func (a *accounts) inside(sessions bool) {
	if a.sessions.Swap(sessions) && !sessions {
		a.recount()
	}
}

// recount has the flows read at once.
func (a *accounts) recount() {
	a.asked.Store(true)
	if a.events != nil {
		_ = a.events.SetReadDeadline(time.Now()) // wakes run
	}
}

// count reads conntrack, if there may be flows, or if it must. It reports whether all that passed
// until now is in the ledger.
func (a *accounts) count(now time.Time, must bool) bool {
	a.mu.Lock()
	must = must || a.sessions.Load() || len(a.ledger.live) > 0
	a.mu.Unlock()
	if must {
		if err := a.walk(now); err != nil {
			a.cannotRead(err)
			return false
		}
	}
	lost := false
	// Ends that came until now.
	if a.raw.Control(func(fd uintptr) { lost = a.hear(int(fd)) }) != nil || lost {
		return false
	}
	a.mu.Lock()
	a.until = now
	a.mu.Unlock()
	if a.unread.Swap(nil) != nil {
		a.logger.Info("flows are counted again")
	}
	return true
}

func (a *accounts) cannotRead(err error) {
	if a.unread.Swap(&err) == nil {
		a.logger.Warn("what engineers' flows carry cannot be read; that is tried again", "err", err)
	}
}

// hear takes the ends that wait. It reports whether some are lost.
func (a *accounts) hear(fd int) (lost bool) {
	for {
		n, from, err := unix.Recvfrom(fd, a.buffer, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return lost
		case err != nil: // ENOBUFS: the socket overflowed
			a.mu.Lock()
			a.ledger.lost = time.Now()
			a.mu.Unlock()
			if !errors.Is(err, unix.ENOBUFS) {
				a.cannotRead(err)
				return true
			}
			lost = true
			continue
		}
		if k, ok := from.(*unix.SockaddrNetlink); ok && k.Pid == 0 {
			a.heard(a.buffer[:n])
		}
	}
}

// heard takes the kernel's messages of ends.
func (a *accounts) heard(b []byte) {
	messages, _ := syscall.ParseNetlinkMessage(b) // a broken message is left out
	for _, m := range messages {
		if m.Header.Type != unix.NFNL_SUBSYS_CTNETLINK<<8|ctDelete {
			continue
		}
		if c, ok := parseCount(m.Data, a.counts); ok {
			a.mu.Lock()
			a.ledger.ended(c, time.Now())
			a.mu.Unlock()
		}
	}
}

// hosts are the addresses of hosts on plain lines, and the targets, of all policies so far. Conntrack
// also has what such a host uses of the gateway itself and of others, which is neither counted nor forgotten.
type hosts struct {
	policy    *policy.Policy // the last one
	addresses map[netip.Addr]bool
	targets   policy.TargetTable
}

// knows adds the hosts and targets of a policy, and reports whether there may be more of them now. Those
// of earlier ones stay: their flows may end later.
func (a *accounts) knows(p *policy.Policy) bool {
	before := a.hosts.Load()
	if before != nil && before.policy == p || before == nil && !p.PlainLines() {
		return false
	}
	now := &hosts{policy: p, addresses: map[netip.Addr]bool{}}
	if before != nil {
		now.addresses, now.targets = maps.Clone(before.addresses), before.targets.Clone()
	}
	for _, v := range p.Vendors {
		for _, e := range v.Engineers {
			if e.Plain() {
				now.addresses[e.Addresses[0]] = true
			}
		}
	}
	for _, t := range p.Targets {
		now.targets.Add(t)
	}
	a.hosts.Store(now)
	return true
}

// elsewhere reports whether a flow goes from a host to no target.
func (h *hosts) elsewhere(from, to netip.Addr) bool {
	return h != nil && h.addresses[from] && h.targets.At(to) == nil
}

// hostsMayEnter reports whether a grant of a host on a plain line is open. Such a session begins with
// the first flow that is counted.
func hostsMayEnter(p *policy.Plan, now time.Time) bool {
	return p != nil && p.Doubt == "" && slices.ContainsFunc(p.Grants, func(g *policy.Grant) bool { return g.Engineer.Plain() && g.Contains(now) })
}

// counts reports whether a flow is from an engineer's address, or one that was; of a host, to a target.
func (a *accounts) counts(from, to netip.Addr) bool {
	engineers := a.engineers.Load()
	if engineers == nil {
		return false
	}
	_, ok := (*engineers)[from]
	return ok && !a.hosts.Load().elsewhere(from, to)
}

// walk reads all flows of engineers that conntrack holds.
func (a *accounts) walk(now time.Time) error {
	a.walking.Lock()
	defer a.walking.Unlock()
	all, err := a.walker.counted(a.counts)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ledger.walked(all, now)
	return nil
}

// counted gives the flows between such addresses, but for those that are about to go.
func (c *connections) counted(of func(from, to netip.Addr) bool) (all []ctCount, err error) {
	for _, family := range families {
		err := c.ask(family, ctGet, unix.NLM_F_DUMP, nil, func(message []byte) bool {
			if flow, ok := parseCount(message, of); ok && number(find(message[4:], ctStatus))&ctDying == 0 {
				all = append(all, flow)
			}
			return true
		})
		if err != nil {
			return nil, fmt.Errorf("listing flows: %w", err)
		}
	}
	return all, nil
}

// Numbers of nfnetlink_conntrack.h and nf_conntrack_common.h that golang.org/x/sys lacks.
const (
	ctEnds = 3 // NFNLGRP_CONNTRACK_DESTROY

	ctStatus      = 3      // CTA_STATUS
	ctDying       = 1 << 9 // IPS_DYING: its end has been told
	ctOriginal    = 9      // CTA_COUNTERS_ORIG
	ctReply       = 10     // CTA_COUNTERS_REPLY
	ctPackets     = 1      // CTA_COUNTERS_PACKETS
	ctBytes       = 2      // CTA_COUNTERS_BYTES
	ctTimes       = 20     // CTA_TIMESTAMP
	ctTimeOfStart = 1      // CTA_TIMESTAMP_START
)

// parseCount reads what an entry of conntrack has counted, if it began between such addresses.
func parseCount(message []byte, of func(from, to netip.Addr) bool) (ctCount, bool) {
	if len(message) < 4 {
		return ctCount{}, false
	}
	all := message[4:]
	addresses := find(all, ctTupleOriginal, ctTupleIP)
	source, destination := find(addresses, ctSource4), find(addresses, ctDestination4)
	if source == nil {
		source, destination = find(addresses, ctSource6), find(addresses, ctDestination6)
	}
	from, ok := netip.AddrFromSlice(source)
	to, _ := netip.AddrFromSlice(destination) // as long as the source
	if !ok || !of(from, to) {
		return ctCount{}, false
	}
	f, ok := parseFlow(message)
	if !ok {
		return ctCount{}, false
	}
	protocol := find(all, ctTupleOriginal, ctTupleProtocol)
	start := find(all, ctTimes, ctTimeOfStart)
	c := ctCount{id: string(f.itself) + string(start), flow: policy.Flow{
		From: from, To: netip.AddrPortFrom(to, uint16(number(find(protocol, ctPort)))), Protocol: uint8(number(find(protocol, ctProtocol))),
	}}
	if len(start) == 8 {
		c.began = time.Unix(0, int64(number(start)))
	}
	original, reply := find(all, ctOriginal), find(all, ctReply)
	c.uncounted = original == nil || reply == nil
	c.received = packetCount{number(find(original, ctPackets)), number(find(original, ctBytes))}
	c.transmitted = packetCount{number(find(reply, ctPackets)), number(find(reply, ctBytes))}
	return c, true
}

// hints says so if nothing is counted.
func (a *accounts) hints() []view.Hint {
	for _, cause := range []*error{a.off.Load(), a.unread.Load()} {
		if cause != nil {
			return []view.Hint{{Message: view.Say("flows_uncounted", view.Args{"cause": *cause})}}
		}
	}
	return nil
}

// Used gives what the engineers with such tunnel addresses have used since this process began, in
// ended and in live flows, but for what Forget dropped. It never waits for the kernel. An address
// has at most 512 rows; flows to further destinations are in one row without a destination.
//
// Bytes count where packets come in. So a packet of a known flow that the ruleset then drops
// counts too.
func (f *Firewall) Used(of func(netip.Addr) bool) iter.Seq2[policy.Flow, policy.Use] {
	type used struct {
		flow policy.Flow
		use  policy.Use
	}
	return func(yield func(policy.Flow, policy.Use) bool) {
		a := f.kernel.accounts
		var all []used
		a.mu.Lock()
		for address, rows := range a.ledger.rows {
			if of(address) {
				for flow, r := range rows {
					all = append(all, used{flow, r.Use})
				}
			}
		}
		a.mu.Unlock()
		for _, u := range all {
			if !yield(u.flow, u.use) {
				return
			}
		}
	}
}

// Counted says how far Used goes. It has all that passed before until, but for what may have been
// lost: last at lost; zero means never. While nothing is counted, that is now. Both are wall clock.
func (f *Firewall) Counted() (until, lost time.Time) {
	a := f.kernel.accounts
	a.mu.Lock()
	defer a.mu.Unlock()
	if !f.Counting() {
		return a.until, time.Now()
	}
	return a.until, a.ledger.lost
}

// Counting reports whether flows are counted. If not, Hints has the reason.
func (f *Firewall) Counting() bool { return f.kernel.accounts.hints() == nil }

// Recount asks for a reading of live flows at once, and does not wait for it. Without it they are
// read every 5 s.
func (f *Firewall) Recount() { f.kernel.accounts.recount() }

// Forget drops what flows from a tunnel address have used: the caller keeps it. Live flows count
// from now on.
func (f *Firewall) Forget(address netip.Addr) {
	a := f.kernel.accounts
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ledger.forget(address)
}
