package main

import (
	"errors"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"

	"kidoban/gateway/policy"
	"kidoban/gateway/tunnel"
	"kidoban/gateway/view"
)

// liveTunnel is a gateway.Tunnel over a tunnel that comes with the first
// policy, which names its addresses, and is built anew when they change or
// when it failed.
type liveTunnel struct {
	config tunnel.Config
	logger *slog.Logger

	facts chan policy.Fact

	mu      sync.Mutex
	current *tunnel.Tunnel // nil before the first policy
	quit    chan struct{}  // ends the pump of current
	plan    *policy.Plan
	stamps  map[policy.Key][12]byte
	peers   []tunnel.Peer // what was counted when there was a current last
	closed  bool
}

func newLiveTunnel(config tunnel.Config) *liveTunnel {
	return &liveTunnel{config: config, logger: config.Logger, facts: make(chan policy.Fact)}
}

// Facts implements gateway.Tunnel.
func (l *liveTunnel) Facts() <-chan policy.Fact { return l.facts }

// Set implements gateway.Tunnel.
func (l *liveTunnel) Set(p *policy.Plan) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.plan = p
	if p.Policy != nil && !l.closed && (l.current == nil || !slices.Equal(p.Policy.Tunnel.Addresses, l.config.Addresses)) {
		if l.current != nil {
			l.logger.Warn("the tunnel's own addresses changed: every session ends")
		}
		l.config.Addresses = slices.Clone(p.Policy.Tunnel.Addresses)
		if err := l.build(); err != nil {
			return err
		}
	}
	if l.current == nil {
		if p.Policy != nil && p.Doubt == "" {
			return errors.New("there is no tunnel")
		}
		return nil
	}
	return l.current.Set(p)
}

// build replaces the tunnel. The caller holds mu.
func (l *liveTunnel) build() error {
	l.drop()
	t, err := tunnel.New(l.config)
	if err != nil {
		return err
	}
	t.SetTimestamps(l.stamps)
	t.SetPeers(l.peers)
	l.current, l.quit = t, make(chan struct{})
	go l.pump(t, l.quit)
	return nil
}

// drop closes the tunnel, if there is one, and keeps what it has learned.
func (l *liveTunnel) drop() {
	if l.current == nil {
		return
	}
	close(l.quit)
	if err := l.current.Close(); err != nil {
		l.logger.Warn("the old tunnel did not close cleanly", "err", err)
	}
	l.stamps = l.current.Timestamps() // only now is nothing more admitted
	l.peers = l.current.Peers()
	l.current = nil
}

// pump hands facts on, from whichever tunnel is current.
func (l *liveTunnel) pump(t *tunnel.Tunnel, quit chan struct{}) {
	for {
		select {
		case <-quit:
			return
		case f := <-t.Facts():
			select {
			case l.facts <- f:
			case <-quit:
				return
			}
		}
	}
}

// Restart implements gateway.Tunnel.
func (l *liveTunnel) Restart() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.current == nil && (l.plan == nil || l.plan.Policy == nil):
		return nil // the first policy builds it
	case l.current == nil:
		if err := l.build(); err != nil {
			return err
		}
		return l.current.Set(l.plan)
	}
	return l.current.Restart()
}

// Cut implements gateway.Tunnel.
func (l *liveTunnel) Cut(e *policy.Engineer) {
	if t := l.get(); t != nil {
		t.Cut(e)
	}
}

// Recorded implements gateway.Tunnel.
func (l *liveTunnel) Recorded(admission uint64) bool {
	t := l.get()
	return t == nil || t.Recorded(admission)
}

// Traffic implements gateway.Tunnel.
func (l *liveTunnel) Traffic() iter.Seq2[policy.Key, view.Traffic] {
	return func(yield func(policy.Key, view.Traffic) bool) {
		for _, p := range l.counted() {
			if !yield(p.Key, view.Traffic{Received: p.Received, Transmitted: p.Transmitted, LastHandshake: p.LastHandshake}) {
				return
			}
		}
	}
}

// counted gives what every tunnel so far has counted.
func (l *liveTunnel) counted() []tunnel.Peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == nil {
		return l.peers
	}
	return l.current.Peers()
}

// SetTimestamps implements gateway.Tunnel.
func (l *liveTunnel) SetTimestamps(all map[policy.Key][12]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stamps = all
	if l.current != nil {
		l.current.SetTimestamps(all)
	}
}

// Inspect names who sent what the kernel dropped.
func (l *liveTunnel) Inspect(payload []byte, source netip.AddrPort) {
	if t := l.get(); t != nil {
		t.Inspect(payload, source)
	}
}

// hints gives what operators should know of the tunnel.
func (l *liveTunnel) hints() []view.Hint {
	t := l.get()
	if t == nil {
		return nil
	}
	err := t.Unshown()
	if err == nil {
		return nil
	}
	return []view.Hint{{Message: view.Say(view.Unshown, view.Args{"cause": err, "uid": os.Geteuid()})}}
}

// Close implements gateway.Tunnel.
func (l *liveTunnel) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.drop()
	return nil
}

func (l *liveTunnel) get() *tunnel.Tunnel {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}
