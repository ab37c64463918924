package tunnel

import (
	"net/netip"
	"testing"
	"time"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// by gives sato's vendor a line, whose interface is this; empty: takes it away. The next plan has it.
func (s *site) by(name string) {
	var l *policy.Line
	if name != "" {
		l = &policy.Line{Name: "kyushoku", Interface: name, Kind: policy.Leased}
	}
	of := *s.state.Plan(time.Now()).Policy
	old := of.Vendors[0]
	v := *old
	v.Line, v.Engineers, v.Windows = l, nil, nil
	for _, e := range []*engineerAt{s.sato, s.suzuki} {
		copied := *e.Engineer
		copied.Vendor, copied.Line = &v, l
		e.Engineer = &copied
		v.Engineers = append(v.Engineers, e.Engineer)
	}
	for _, w := range old.Windows {
		copied := *w
		copied.Vendor, copied.Engineers = &v, v.Engineers
		v.Windows = append(v.Windows, &copied)
	}
	of.Vendors = []*policy.Vendor{&v, of.Vendors[1]}
	if err := s.state.Apply(time.Now(), "test", policy.PolicyLoaded{Digest: name, Policy: &of}); err != nil {
		s.t.Fatal(err)
	}
}

// secondWire joins medisys to the gateway once more, and sends what medisys has for the gateway's first
// address by the wire that way chooses.
func (s *site) secondWire(l *lab.Lab) (way func(device string)) {
	l.Link(s.gateway, "eth3", lab.Prefixes("10.77.0.1/24"), s.medisys, "eth1", lab.Prefixes("10.77.0.10/24"))
	return func(device string) {
		args := []string{"route", "replace", "203.0.113.1/32", "dev", "eth0", "src", "203.0.113.10"}
		if device == "eth1" {
			args = []string{"route", "replace", "203.0.113.1/32", "via", "10.77.0.1", "dev", "eth1", "src", "203.0.113.10"}
		}
		if out, err := s.medisys.Command(s.t.Context(), "ip", args...).CombinedOutput(); err != nil {
			s.t.Fatal(err, string(out))
		}
	}
}

// TestFault118TheGateAsksForTheLine: without any ruleset, the gate takes initiations and data of a vendor
// with a line by its interface alone, answers by that alone, and a forged initiation locks nobody out.
func TestFault118TheGateAsksForTheLine(t *testing.T) {
	s, l := newSiteIn(t)
	way := s.secondWire(l)
	s.by("eth0")
	s.open(later(), s.sato)
	// From the right address, by another interface: a thief of the key beside the vendor.
	wire, second := s.outsider.Capture("eth0"), s.medisys.Capture("eth1")
	stamp := stampAt(time.Now())
	packet := initiate(t, s.sato.private, s.public, stamp, nil)
	s.send(s.outsider, "203.0.113.9:4000", netip.MustParseAddrPort("192.0.2.1:51820"), packet)
	if f := s.refusal(policy.WrongLine); f.Engineer != s.sato.Engineer || f.Timestamp != ([12]byte{}) {
		t.Errorf("refused: %v, timestamp %x; want sato, none", f.Engineer, f.Timestamp)
	}
	client := s.client(s.medisys, s.sato, medisysEndpoint)
	if f := s.enter(client); f.Ingress != "eth0" {
		t.Errorf("confirmed by %q, want eth0", f.Ingress)
	}
	if err := s.ping(s.medisys, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	// The session's own packets, by the other wire.
	way("eth1")
	if err := s.ping(s.medisys, 500*time.Millisecond); err == nil {
		t.Error("data passes by another interface")
	}
	s.refuses(policy.WrongLine, func() { _ = client.Handshake(within(t, time.Second)) })
	if got := append(answers(wire), answers(second)...); len(got) > 0 {
		t.Errorf("answers by another interface:\n%s", lab.Lines(got))
	}
	way("eth0")
	if err := s.ping(s.medisys, 5*time.Second); err != nil {
		t.Errorf("by the line again: %v", err)
	}
	// What the kernel dropped has its interface too.
	fresh := initiate(t, s.sato.private, s.public, stampAt(time.Now().Add(time.Second)), nil)
	s.tunnel.Inspect(fresh, netip.MustParseAddrPort("203.0.113.10:4000"), 0)
	s.refusal(policy.WrongLine)
}

// TestFault118WithoutALineAnyInterface: the guard of the test above: without a line the same packets pass.
func TestFault118WithoutALineAnyInterface(t *testing.T) {
	s, l := newSiteIn(t)
	way := s.secondWire(l)
	s.open(later(), s.sato)
	way("eth1")
	if f := s.enter(s.client(s.medisys, s.sato, medisysEndpoint)); f.Ingress != "eth3" {
		t.Errorf("confirmed by %q, want eth3", f.Ingress)
	}
	ping := func(what string, want bool) {
		t.Helper()
		if err := s.ping(s.medisys, 3*time.Second); (err == nil) != want {
			t.Errorf("%s: %v", what, err)
		}
	}
	ping("inside", true)
	// A policy with a line cuts who came by another interface, and keeps the others.
	s.by("eth3")
	s.open(later(), s.sato)
	ping("by what has become the line", true)
	s.by("eth0")
	s.open(later(), s.sato)
	if err := s.ping(s.medisys, 500*time.Millisecond); err == nil {
		t.Error("a session stays inside though its vendor has another line")
	}
}

// refuses waits for a refusal while it does something again and again.
func (s *site) refuses(reason policy.Reason, do func()) {
	s.t.Helper()
	lab.WaitFor(s.t, 10*time.Second, "refused: "+reason.String(), func() bool {
		do()
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, f := range s.facts {
			if f.Kind == policy.Refusal && f.Decision.Reason == reason {
				s.facts = s.facts[i+1:]
				return true
			}
		}
		return false
	})
}
