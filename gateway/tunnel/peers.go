package tunnel

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/device"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// peers are the device's peers. The device has a peer from the engineer's first proven initiation
// (ensure) until the last admission of the engineer ends, or the engineer has no open grant any more
// (match). So engineers who are not inside take no memory of the device.
type peers struct {
	table *table

	// mu is held over device calls, so neither Set nor the data path may
	// take it.
	mu     sync.Mutex
	device *device.Device
	known  map[policy.Key]*peer
	open   int            // peers that the device has
	listed *policy.Policy // keep has compared it with known

	counts atomic.Pointer[[]count] // as of the last ask; never changed once stored
}

// peer is a key that the device knows, or knew. Its counts grow for as long as
// policies list the key, whatever devices and engineers it has had.
type peer struct {
	count
	engineer *policy.Engineer // as the device has the peer; nil: it does not
	told     toldPeer         // by the device, when last asked
	unlisted bool             // the policy in force does not list the key
}

type count struct {
	key policy.Key
	view.Traffic
}

func newPeers(h *table) *peers {
	p := &peers{table: h, known: map[policy.Key]*peer{}}
	p.counts.Store(new([]count))
	return p
}

// renew goes on with a new device.
func (p *peers) renew(d *device.Device) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.device = d
	for _, peer := range p.known {
		peer.engineer = nil
	}
	p.open = 0
}

// held gives the engineer as the device has the peer; nil: it does not. mu is
// held.
func (p *peers) held(key policy.Key) *policy.Engineer {
	if peer := p.known[key]; peer != nil {
		return peer.engineer
	}
	return nil
}

// ensure makes the device ready for a handshake of the engineer: it knows the
// peer, and holds no keys of closed sessions.
func (p *peers) ensure(e *policy.Engineer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	stale := p.table.takeStale(e.Key)
	if have := p.held(e.Key); have != nil {
		if !stale && policy.SamePeer(have, e) {
			return nil
		}
		p.remove(e.Key)
	}
	return p.add(e)
}

// match removes the peers that the device must not have any more, as they are or at all.
// Removing one zeroes its keys.
func (p *peers) match(now time.Time) (watch []policy.Fact, err error) {
	surplus := p.surplus(p.table.current(), now)
	if len(surplus) == 0 {
		return nil, nil
	}
	// The last counts of the peers that are removed.
	if watch, err = p.ask(now); err != nil {
		return watch, err
	}
	for _, key := range surplus {
		p.mu.Lock()
		// The authenticator may have seen to it meanwhile, under a newer plan.
		have := p.held(key)
		if have != nil && (p.table.takeStale(key) || entitled(p.table.current(), have, now) == nil) {
			p.remove(key)
		}
		p.mu.Unlock()
	}
	return watch, nil
}

// entitled gives the engineer of a plan that a peer of the device is; nil: the device must not
// have it.
func entitled(plan *policy.Plan, have *policy.Engineer, now time.Time) *policy.Engineer {
	e := plan.ByKey(have.Key)
	if !policy.SamePeer(e, have) || plan.Until(e, now).IsZero() {
		return nil
	}
	return e
}

// surplus lists the peers to remove. Of the others it notes which engineer of the plan they are.
func (p *peers) surplus(plan *policy.Plan, now time.Time) (surplus []policy.Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keep(plan)
	stale := p.table.staleKeys()
	for key, peer := range p.known {
		if peer.engineer == nil {
			continue
		}
		e := entitled(plan, peer.engineer, now)
		if stale[key] || e == nil {
			surplus = append(surplus, key)
		} else {
			peer.engineer = e
		}
	}
	for key := range stale {
		if p.held(key) == nil {
			p.table.takeStale(key)
		}
	}
	return surplus
}

// add makes the device, if there is one, know an engineer. mu is held.
func (p *peers) add(e *policy.Engineer) error {
	if p.device == nil {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "public_key=%x\n", e.Key[:])
	if e.PresharedKey != ([32]byte{}) {
		fmt.Fprintf(&b, "preshared_key=%x\n", e.PresharedKey[:])
	}
	b.WriteString("replace_allowed_ips=true\n")
	for _, a := range e.Addresses {
		fmt.Fprintf(&b, "allowed_ip=%s/%d\n", a, a.BitLen())
	}
	if err := p.device.IpcSet(b.String()); err != nil {
		p.device.RemovePeer(device.NoisePublicKey(e.Key)) // a part of it may be there
		return fmt.Errorf("add a peer to the device: %w", err)
	}
	if p.known[e.Key] == nil {
		p.known[e.Key] = &peer{count: count{key: e.Key}}
	}
	p.known[e.Key].engineer, p.known[e.Key].told = e, toldPeer{}
	p.open++
	return nil
}

// remove takes a peer out of the device, its keys with it. mu is held.
func (p *peers) remove(key policy.Key) {
	p.device.RemovePeer(device.NoisePublicKey(key))
	p.known[key].engineer = nil
	p.open--
}

// keep drops the counts of keys that a second policy in a row does not list.
// With the first one sessions end, and their counts are read after it is in
// force. mu is held.
func (p *peers) keep(plan *policy.Plan) {
	if plan.Policy == nil || plan.Policy == p.listed {
		return
	}
	p.listed = plan.Policy
	defer p.publish()
	for key, peer := range p.known {
		unlisted := plan.ByKey(key) == nil
		if unlisted && peer.unlisted && peer.engineer == nil {
			delete(p.known, key)
		}
		peer.unlisted = unlisted
	}
}

// ask reads the device's counts, and gives a confirmation for each handshake
// that was completed since the last time.
func (p *peers) ask(now time.Time) (confirmations []policy.Fact, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == 0 {
		return nil, nil
	}
	text, err := p.device.IpcGet()
	if err != nil {
		return nil, fmt.Errorf("ask the device for its peers: %w", err)
	}
	defer p.publish()
	err = eachPeer(text, func(told toldPeer) {
		peer := p.known[told.key]
		if peer == nil || peer.engineer == nil {
			return
		}
		before := peer.told
		peer.told = told
		peer.Received += told.received - before.received
		peer.Transmitted += told.transmitted - before.transmitted
		if told.handshake == before.handshake {
			return
		}
		peer.LastHandshake = time.Unix(0, told.handshake)
		if f, ok := p.table.confirm(told.key); ok {
			f.At = now
			confirmations = append(confirmations, f)
		}
	})
	return confirmations, err
}

// publish copies the counts for readers that must not wait for the device; mu is
// held.
func (p *peers) publish() {
	counts := make([]count, 0, len(p.known))
	for _, peer := range p.known {
		counts = append(counts, peer.count)
	}
	p.counts.Store(&counts)
}

// toldPeer is a peer as the device tells of it.
type toldPeer struct {
	key                   policy.Key
	handshake             int64 // nanoseconds since 1970; 0: none
	received, transmitted uint64
}

// eachPeer reads the answer to a "get" of the cross-platform interface
// (wireguard.com/xplatform).
func eachPeer(text string, f func(toldPeer)) error {
	var one toldPeer
	any := false
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		var err error
		switch name {
		case "public_key":
			if any {
				f(one)
			}
			one, any = toldPeer{}, true
			_, err = hex.Decode(one.key[:], []byte(value))
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
	return nil
}
