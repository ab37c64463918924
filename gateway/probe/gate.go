package probe

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"kidoban/gateway/firewall"
	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
	"kidoban/gateway/tunnel"
)

// Config has the settings of the live gateway that the second gate uses too.
type Config struct {
	Interface     string // of the tunnel
	ListenPort    uint16
	MTU           int
	Masquerade    bool
	ForwardOthers bool

	// gate and kernel change the plan that a layer gets. Tests break a layer by them; nil: nothing is changed.
	gate, kernel func(*policy.Plan) *policy.Plan
}

// gate is the second gate with its ruleset, in the gateway's host.
type gate struct {
	host    *lab.Host
	config  Config
	tunnel  *tunnel.Tunnel
	kernel  *firewall.Firewall
	public  lab.Key
	closing chan struct{}

	mu       sync.Mutex
	refusals []policy.Fact
}

// openGate starts gate and ruleset, without a plan: nobody can enter. lan is the interface towards the targets.
func openGate(h *lab.Host, lan string, c Config) (*gate, error) {
	private, public := lab.NewKey()
	g := &gate{host: h, config: c, public: public, closing: make(chan struct{})}
	err := h.Do(func() (err error) {
		if g.tunnel, err = tunnel.New(tunnel.Config{Interface: c.Interface, ListenPort: c.ListenPort, MTU: c.MTU}); err != nil {
			return err
		}
		if err = g.tunnel.SetKey(private); err != nil {
			return err
		}
		g.kernel, err = firewall.New(firewall.Options{Interface: c.Interface, ListenPort: c.ListenPort, Masquerade: c.Masquerade, ForwardOthers: c.ForwardOthers,
			Inside: []string{lan}, Inspect: g.tunnel.Inspect, Logger: slog.New(slog.DiscardHandler)})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("the second gate does not start: %w", err)
	}
	go g.listen()
	return g, nil
}

// listen keeps the refusals. It confirms each admission as recorded, as the journal does in the live gateway.
func (g *gate) listen() {
	for {
		var f policy.Fact
		select {
		case <-g.closing:
			return
		case f = <-g.tunnel.Facts():
		case f = <-g.kernel.Facts():
		}
		switch f.Kind {
		case policy.Admission:
			g.tunnel.Recorded(f.Admission)
		case policy.Refusal:
			g.mu.Lock()
			g.refusals = append(g.refusals, f)
			g.mu.Unlock()
		}
	}
}

// set puts a plan in force in both layers.
func (g *gate) set(p *policy.Plan) error {
	forGate, forKernel := p, p
	if g.config.gate != nil {
		forGate = g.config.gate(p)
	}
	if g.config.kernel != nil {
		forKernel = g.config.kernel(p)
	}
	err := g.host.Do(func() error {
		if err := g.tunnel.Set(forGate); err != nil {
			return err
		}
		return g.kernel.Set(forKernel, nil)
	})
	if err != nil {
		err = fmt.Errorf("the second gate does not take the policy: %w", err)
	}
	return err
}

// forget drops the refusals so far.
func (g *gate) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refusals = nil
}

// refused waits for a refusal. ok is false if there is none in time.
func (g *gate) refused(is func(policy.Fact) bool) (f policy.Fact, ok bool) {
	ctx, cancel := within(eventually / 5)
	defer cancel()
	_ = lab.Wait(ctx, func() error { // the error is in ok
		g.mu.Lock()
		defer g.mu.Unlock()
		i := slices.IndexFunc(g.refusals, is)
		if ok = i >= 0; !ok {
			return context.DeadlineExceeded
		}
		f = g.refusals[i]
		return nil
	})
	return f, ok
}

// dropped returns how many packets the ruleset has dropped for a cause; 0 if that cannot be read.
func (g *gate) dropped(cause string) (n uint64) {
	if counts, err := g.kernel.Dropped(); err == nil {
		n = counts[cause]
	}
	return n
}

func (g *gate) close() {
	close(g.closing)
	_ = g.host.Do(func() error { // errors do not matter: the namespace is removed with everything in it
		_ = g.kernel.Close()
		return g.tunnel.Close()
	})
}

// ending gives a plan in which every grant ends at an instant, or sooner.
func ending(p *policy.Plan, end time.Time) *policy.Plan {
	return p.Restrict(func(g *policy.Grant) *policy.Grant {
		if !g.Until.After(end) {
			return g
		}
		sooner := *g
		sooner.Until = end
		return &sooner
	})
}
