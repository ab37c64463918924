package gateway

import (
	"fmt"
	"net/netip"
	"slices"
)

// hints says in a person's words what the numbers point at, and what to do.
func (l *loop) hints() []string {
	var hints []string
	if l.fileError != "" {
		hints = append(hints, "the policy file on disk has errors and would not survive a restart: mend it, then `kidoban check` and `kidoban reload`")
	} else if l.fileChanged {
		hints = append(hints, "the policy file on disk is not the policy in force: `kidoban reload` takes it")
	}
	if !l.synchronized {
		hints = append(hints, "the kernel says that the clock is not synchronized: windows open and close by it, so let chrony or systemd-timesyncd run")
	}
	for _, s := range l.sessions {
		// A handshake's answer and a keepalive are all that goes out when no
		// target answers; a ping or a TCP SYN that is repeated comes in.
		in, out := s.received(), s.transmitted()
		if l.now.Sub(s.openedAt).Seconds() > 5 && in > 1000 && out < in/8 {
			hints = append(hints, fmt.Sprintf("%s sends (%d bytes) and hardly anything comes back (%d bytes): the target may have no route to the tunnel; give it one, or set masquerade: true on the target", s.engineer, in, out))
		}
	}
	if hint := l.natHint(); hint != "" {
		hints = append(hints, hint)
	}
	hints = append(hints, l.warnings...)
	if l.cfg.Hints != nil {
		hints = append(hints, l.cfg.Hints()...)
	}
	slices.Sort(hints)
	return slices.Compact(hints)
}

// natHint sees every attempt come from one private address: a router in front
// that rewrites sources, so that no vendor can be told from another.
func (l *loop) natHint() string {
	var only netip.Addr
	attempts := 0
	for _, r := range l.refusalList {
		if r.Target != "" || !r.Source.IsValid() {
			continue
		}
		if only.IsValid() && only != r.Source {
			return ""
		}
		only = r.Source
		attempts += r.Count
	}
	for _, s := range l.sessions {
		if only.IsValid() && only != s.source.Addr() {
			return ""
		}
	}
	if attempts < 2 || !only.IsPrivate() {
		return ""
	}
	return fmt.Sprintf("every attempt comes from %s, a private address: a NAT in front hides the vendors' addresses; let the router forward UDP without rewriting sources (no source NAT on the port forward)", only)
}
