package tunnel

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/device"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// eager is how many engineers with an open grant get their peers at once;
// beyond it a peer is added at its first proven initiation.
const eager = 1000

// chunk is how many peers one call adds, so that a handshake need not wait
// for all of them.
const chunk = 64

// Peer is the device's counts for one key, up to a second old. Received and
// Transmitted are bytes of UDP payload, and grow for as long as policies list
// the key, whether or not the device knows it now, and also under another
// engineer.
type Peer struct {
	Key      policy.Key
	Open     bool           // the device knows the key now
	Endpoint netip.AddrPort // of the last authenticated packet; zero: none
	view.Traffic

	unlisted bool // the policy in force does not list the key
}

// peers makes the device's peers match the plan, and keeps their counts.
type peers struct {
	table *table

	// mu is held over device calls, so neither Set nor the data path may
	// take it.
	mu     sync.Mutex
	device *device.Device
	held   map[policy.Key]*held

	listed *policy.Policy // last compared with the counts; guarded by mu

	countsMu sync.Mutex
	counts   map[policy.Key]*Peer
}

// held is a peer that the device has.
type held struct {
	engineer              *policy.Engineer
	handshake             int64 // nanoseconds since 1970, when last asked
	received, transmitted uint64
}

func newPeers(h *table) *peers {
	return &peers{table: h, held: map[policy.Key]*held{}, counts: map[policy.Key]*Peer{}}
}

// renew goes on with a new device.
func (p *peers) renew(d *device.Device) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.device = d
	for key := range p.held {
		p.forget(key)
	}
}

// ready reports whether there has been a device.
func (p *peers) ready() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.device != nil
}

// ensure makes the device ready for a handshake of the engineer: it knows the
// peer, and holds no keys of closed sessions.
func (p *peers) ensure(e *policy.Engineer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	stale := p.table.takeStale(e.Key)
	if h := p.held[e.Key]; h != nil {
		if !stale && policy.SamePeer(h.engineer, e) {
			return nil
		}
		p.remove(e.Key)
	}
	return p.add(e)
}

// match adds and removes peers. Removing one zeroes its keys.
func (p *peers) match(now time.Time) (watch []policy.Fact, err error) {
	plan := p.table.current()
	open := map[policy.Key]*policy.Engineer{}
	for _, a := range plan.Accesses() {
		if !policy.ContiguousEnd(a.Grants, now).IsZero() {
			open[a.Engineer.Key] = a.Engineer
		}
	}
	surplus := p.surplus(plan, open)
	if len(surplus) > 0 {
		// The last counts of the peers that are removed.
		if watch, err = p.ask(now); err != nil {
			return watch, err
		}
	}
	for _, key := range surplus {
		p.mu.Lock()
		// The authenticator may have seen to it meanwhile, under a newer plan.
		current := p.table.current()
		e := current.ByKey(key)
		h := p.held[key]
		if h != nil && (p.table.takeStale(key) || !policy.SamePeer(e, h.engineer) || current.Until(e, now).IsZero()) {
			p.remove(key)
		}
		p.mu.Unlock()
	}
	if len(open) > eager || !p.ready() {
		return watch, nil
	}
	for missing := range slices.Chunk(p.missing(open), chunk) {
		p.mu.Lock()
		err = p.add(missing...)
		p.mu.Unlock()
		if err != nil {
			return watch, err
		}
	}
	return watch, nil
}

// surplus lists the peers that the device must not have any more, as they are
// or at all. Of the others it notes which engineer of the plan they are.
func (p *peers) surplus(plan *policy.Plan, open map[policy.Key]*policy.Engineer) []policy.Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keep(plan)
	stale := p.table.staleKeys()
	var surplus []policy.Key
	for key, h := range p.held {
		if stale[key] || !policy.SamePeer(open[key], h.engineer) {
			surplus = append(surplus, key)
		} else {
			h.engineer = open[key]
		}
	}
	for key := range stale {
		if p.held[key] == nil {
			p.table.takeStale(key)
		}
	}
	return surplus
}

// missing lists the open engineers that are no peers of the device.
func (p *peers) missing(open map[policy.Key]*policy.Engineer) []*policy.Engineer {
	p.mu.Lock()
	defer p.mu.Unlock()
	var missing []*policy.Engineer
	for key, e := range open {
		if p.held[key] == nil {
			missing = append(missing, e)
		}
	}
	return missing
}

// add makes the device know engineers that it does not know. mu is held.
func (p *peers) add(engineers ...*policy.Engineer) error {
	var b strings.Builder
	for _, e := range engineers {
		if p.held[e.Key] != nil {
			continue
		}
		fmt.Fprintf(&b, "public_key=%x\n", e.Key[:])
		if e.PresharedKey != ([32]byte{}) {
			fmt.Fprintf(&b, "preshared_key=%x\n", e.PresharedKey[:])
		}
		b.WriteString("replace_allowed_ips=true\n")
		for _, a := range e.Addresses {
			fmt.Fprintf(&b, "allowed_ip=%s/%d\n", a, a.BitLen())
		}
	}
	if err := p.device.IpcSet(b.String()); err != nil {
		// Some may be there now; none is counted as held, and all go.
		for _, e := range engineers {
			if p.held[e.Key] == nil {
				p.device.RemovePeer(device.NoisePublicKey(e.Key))
			}
		}
		return fmt.Errorf("add %d peers to the device: %w", len(engineers), err)
	}
	p.countsMu.Lock()
	defer p.countsMu.Unlock()
	for _, e := range engineers {
		if p.held[e.Key] != nil {
			continue
		}
		p.held[e.Key] = &held{engineer: e}
		c := p.counts[e.Key]
		if c == nil {
			c = &Peer{Key: e.Key}
			p.counts[e.Key] = c
		}
		c.Open = true
	}
	return nil
}

// remove takes a peer out of the device, its keys with it. mu is held.
func (p *peers) remove(key policy.Key) {
	p.device.RemovePeer(device.NoisePublicKey(key))
	p.forget(key)
}

// forget takes note that the device no longer has a peer. mu is held.
func (p *peers) forget(key policy.Key) {
	delete(p.held, key)
	p.countsMu.Lock()
	defer p.countsMu.Unlock()
	if c := p.counts[key]; c != nil {
		c.Open, c.Endpoint = false, netip.AddrPort{}
	}
}

// keep drops the counts of keys that a second policy in a row does not list.
// With the first one sessions end, and their counts are read after it is in
// force. mu is held.
func (p *peers) keep(plan *policy.Plan) {
	if plan.Policy == nil || plan.Policy == p.listed {
		return
	}
	p.listed = plan.Policy
	p.countsMu.Lock()
	defer p.countsMu.Unlock()
	for key, c := range p.counts {
		unlisted := plan.ByKey(key) == nil
		if unlisted && c.unlisted && p.held[key] == nil {
			delete(p.counts, key)
		}
		c.unlisted = unlisted
	}
}

// ask reads the device's counts, and gives a confirmation for each handshake
// that was completed since the last time.
func (p *peers) ask(now time.Time) (confirmations []policy.Fact, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.held) == 0 {
		return nil, nil
	}
	text, err := p.device.IpcGet()
	if err != nil {
		return nil, fmt.Errorf("ask the device for its peers: %w", err)
	}
	p.countsMu.Lock()
	defer p.countsMu.Unlock()
	err = eachPeer(strings.NewReader(text), func(told toldPeer) {
		h, c := p.held[told.key], p.counts[told.key]
		if h == nil || c == nil {
			return
		}
		c.Received += told.received - h.received
		c.Transmitted += told.transmitted - h.transmitted
		h.received, h.transmitted = told.received, told.transmitted
		c.Endpoint = told.endpoint
		if told.handshake == h.handshake {
			return
		}
		h.handshake = told.handshake
		c.LastHandshake = time.Unix(0, told.handshake)
		if f, ok := p.table.confirm(told.key); ok {
			f.At = now
			confirmations = append(confirmations, f)
		}
	})
	return confirmations, err
}

// all copies the counts.
func (p *peers) all() []Peer {
	p.countsMu.Lock()
	defer p.countsMu.Unlock()
	all := make([]Peer, 0, len(p.counts))
	for _, c := range p.counts {
		all = append(all, *c)
	}
	return all
}

// toldPeer is a peer as the device tells of it.
type toldPeer struct {
	key                   policy.Key
	endpoint              netip.AddrPort
	handshake             int64 // nanoseconds since 1970; 0: none
	received, transmitted uint64
}

// eachPeer reads the answer to a "get" of the cross-platform interface
// (wireguard.com/xplatform).
func eachPeer(r io.Reader, f func(toldPeer)) error {
	var one toldPeer
	any := false
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		name, value, _ := strings.Cut(scanner.Text(), "=")
		var err error
		switch name {
		case "public_key":
			if any {
				f(one)
			}
			one, any = toldPeer{}, true
			_, err = hex.Decode(one.key[:], []byte(value))
		case "endpoint":
			one.endpoint, err = netip.ParseAddrPort(value)
		case "last_handshake_time_sec", "last_handshake_time_nsec":
			var n int64
			n, err = strconv.ParseInt(value, 10, 64)
			if name == "last_handshake_time_sec" {
				n *= int64(time.Second)
			}
			one.handshake += n
		case "rx_bytes":
			one.received, err = strconv.ParseUint(value, 10, 64)
		case "tx_bytes":
			one.transmitted, err = strconv.ParseUint(value, 10, 64)
		}
		if err != nil {
			return fmt.Errorf("the device told %s=%q: %w", name, value, err)
		}
	}
	if any {
		f(one)
	}
	return scanner.Err()
}
