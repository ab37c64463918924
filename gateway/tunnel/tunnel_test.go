package tunnel

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/device"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

func TestAdmittedEngineerReachesTheInside(t *testing.T) {
	s := newSite(t)
	s.open(later(), s.sato, s.tanaka)
	c := s.client(s.medisys, s.sato, medisysEndpoint)
	if err := s.ping(s.medisys, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	admission := s.kind(policy.Admission)
	if admission.Engineer != s.sato.Engineer || admission.Source.Addr().String() != "203.0.113.10" || admission.Timestamp == [12]byte{} || admission.Decision.Grant == nil {
		t.Errorf("admission of %v from %v, timestamp %x, grant %v", admission.Engineer, admission.Source, admission.Timestamp, admission.Decision.Grant)
	}
	confirmation := s.kind(policy.Confirmation)
	if confirmation.Admission != admission.Admission || confirmation.Source != admission.Source || confirmation.Engineer != s.sato.Engineer {
		t.Errorf("confirmation of admission %d from %v by %v, want %d from %v by %v",
			confirmation.Admission, confirmation.Source, confirmation.Engineer, admission.Admission, admission.Source, s.sato.Engineer)
	}
	if got := s.timestamps()[s.sato.Key]; got != admission.Timestamp {
		t.Errorf("greatest timestamp %x, want %x", got, admission.Timestamp)
	}
	if _, err := s.medisys.Ping(within(t, 5*time.Second), netip.MustParseAddr("fd00:99::1")); err != nil {
		t.Errorf("IPv6 inside: %v", err)
	}
	c.Close()
	s.client(s.other, s.tanaka, otherEndpoint)
	if err := s.ping(s.other, 5*time.Second); err != nil {
		t.Errorf("the other vendor: %v", err)
	}
	lab.WaitFor(t, 5*time.Second, "two peers with counts, two live", func() bool {
		peers := s.peers()
		return len(peers) == 2 && len(s.live()) == 2 && !slices.ContainsFunc(peers, func(p Peer) bool {
			return !p.Open || p.Received == 0 || p.Transmitted == 0 || p.LastHandshake.IsZero()
		})
	})
}

// wireguard-go sends to a wrong IPv6 address after it sent to an IPv4 one.
func TestBothFamiliesAtATime(t *testing.T) {
	s := newSite(t)
	s.open(later(), s.sato, s.tanaka)
	s.client(s.medisys, s.sato, netip.MustParseAddrPort("[2001:db8:1::1]:51820"))
	s.client(s.other, s.tanaka, otherEndpoint)
	for i := range 20 {
		if err := s.ping(s.other, 5*time.Second); err != nil {
			t.Fatalf("ping %d over IPv4: %v", i, err)
		}
		if err := s.ping(s.medisys, 5*time.Second); err != nil {
			t.Fatalf("ping %d over IPv6: %v", i, err)
		}
	}
	if f := s.fact("of sato", func(f policy.Fact) bool { return f.Kind == policy.Confirmation && f.Engineer == s.sato.Engineer }); f.Source.Addr().String() != "2001:db8:1::10" {
		t.Errorf("confirmed from %v, want 2001:db8:1::10", f.Source)
	}
}

// TestSetKey: a tunnel without a key has no interface. With the key engineers get
// in, and another key ends every session.
func TestSetKey(t *testing.T) {
	s := newSite(t)
	private := s.private
	s.private = [32]byte{}
	s.start()
	interfaces := func() string {
		out, _ := s.gateway.Command(within(t, 5*time.Second), "ip", "-o", "link", "show", "dev", "kido0").Output()
		return string(out)
	}
	s.open(later(), s.sato)
	if out := interfaces(); out != "" {
		t.Errorf("without a key: %s", out)
	}
	s.client(s.medisys, s.sato, medisysEndpoint)
	key := func(private [32]byte) {
		t.Helper()
		if err := s.gateway.Do(func() error { return s.tunnel.SetKey(private) }); err != nil {
			t.Fatal(err)
		}
		s.open(later(), s.sato)
	}
	key(private)
	if err := s.ping(s.medisys, 20*time.Second); err != nil {
		t.Fatalf("with the key: %v", err)
	}
	other, _ := lab.NewKey()
	key(other)
	if live := s.live(); len(live) > 0 {
		t.Errorf("live with another key: %v", live)
	}
	if err := s.ping(s.medisys, time.Second); err == nil {
		t.Error("the old session goes on with another key")
	}
}

// TestFault87NobodyProvesAKeyWithoutTheGateways: while the gateway has no private key,
// an initiation for a key that everybody knows proves nothing. It would name an engineer
// in a refusal, and lock the engineer out with its timestamp.
func TestFault87NobodyProvesAKeyWithoutTheGateways(t *testing.T) {
	s := newSite(t)
	private := s.private
	s.private = [32]byte{}
	s.start()
	do := func(f func() error) {
		t.Helper()
		if err := s.gateway.Do(f); err != nil {
			t.Fatal(err)
		}
	}
	do(func() error { return s.tunnel.Set(s.state.Plan(time.Now()).Doubted("the private key is missing")) })
	known, err := newOpener([32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	// The secret of this key with sato's public key is known to all, so anybody can make this.
	forged := initiate(t, s.sato.private, known.public, stampAt(time.Now().Add(time.Hour)), nil)
	s.tunnel.Inspect(forged, netip.MustParseAddrPort("203.0.113.10:4000"), 0)
	if f := s.refusal(policy.NotReady); f.Engineer != nil {
		t.Errorf("it is refused as %v's", f.Engineer)
	}
	// Nor is a right client told to have another gateway's key.
	right := initiate(t, s.sato.private, s.public, stampAt(time.Now()), nil)
	s.tunnel.Inspect(right, netip.MustParseAddrPort("203.0.113.10:4000"), 0)
	if f := s.refusal(policy.NotReady); f.Claim != (policy.Claim{}) {
		t.Errorf("the right client's claim is %+v", f.Claim)
	}
	do(func() error { return s.tunnel.SetKey(private) })
	s.open(later(), s.sato)
	s.client(s.medisys, s.sato, medisysEndpoint)
	if err := s.ping(s.medisys, 20*time.Second); err != nil {
		t.Errorf("with the key: %v", err)
	}
}

func TestClosedFromTheStart(t *testing.T) {
	s := newSite(t)
	wire := s.medisys.Capture("eth0")
	c := s.client(s.medisys, s.sato, medisysEndpoint)
	if err := c.Initiate(); err != nil {
		t.Fatal(err)
	}
	if f := s.refusal(policy.NotReady); f.Engineer != nil {
		t.Errorf("without a policy the refusal names %v", f.Engineer)
	}
	if got := answers(wire); len(got) != 0 {
		t.Errorf("a gateway without a plan answered\n%s", lab.Lines(got))
	}
}

// refusedPacket is a packet that a host sends, and the reason for which it is
// refused, in silence.
type refusedPacket struct {
	name   string
	from   func(*site) (*lab.Host, string, netip.AddrPort)
	packet func(*site) []byte
	want   policy.Reason
	whom   func(*site) *policy.Engineer // nil: nobody is named
}

func TestRefusedAndSilent(t *testing.T) {
	strangerPrivate, stranger := lab.NewKey()
	refusedAndSilent(t, []refusedPacket{
		{
			name:   "stolen key from an unlisted address",
			from:   fromOutsider,
			packet: func(s *site) []byte { return initiate(t, s.sato.private, s.public, stampAt(time.Now()), nil) },
			want:   policy.WrongSource,
			whom:   func(s *site) *policy.Engineer { return s.sato.Engineer },
		}, {
			name:   "noise from an unlisted address",
			from:   fromOutsider,
			packet: func(*site) []byte { return []byte("GET / HTTP/1.1\r\n") },
			want:   policy.UnlistedSource,
		}, {
			name:   "another vendor's listed address",
			from:   fromOther,
			packet: func(s *site) []byte { return initiate(t, s.sato.private, s.public, stampAt(time.Now()), nil) },
			want:   policy.WrongSource,
			whom:   func(s *site) *policy.Engineer { return s.sato.Engineer },
		}, {
			name:   "a colleague whose window is not open",
			from:   fromMedisys,
			packet: func(s *site) []byte { return initiate(t, s.suzuki.private, s.public, stampAt(time.Now()), nil) },
			want:   policy.OutsideWindow,
			whom:   func(s *site) *policy.Engineer { return s.suzuki.Engineer },
		}, {
			name:   "unknown key",
			from:   fromMedisys,
			packet: func(s *site) []byte { return initiate(t, strangerPrivate, s.public, stampAt(time.Now()), nil) },
			want:   policy.UnknownKey,
		}, {
			name: "MAC1 wrong",
			from: fromMedisys,
			packet: func(s *site) []byte {
				p := initiate(t, s.sato.private, s.public, stampAt(time.Now()), nil)
				p[mac1At] ^= 1
				return p
			},
			want: policy.Malformed,
		}, {
			name: "sealed to another gateway, under our MAC1",
			from: fromMedisys,
			packet: func(s *site) []byte {
				p := initiate(t, s.sato.private, stranger, stampAt(time.Now()), nil)
				return withMACs(s.public, p)
			},
			want: policy.Malformed,
		}, {
			name: "type 1 with a reserved byte set",
			from: fromMedisys,
			packet: func(s *site) []byte {
				p := initiate(t, s.sato.private, s.public, stampAt(time.Now()), nil)
				p[3] = 1
				return withMACs(s.public, p)
			},
			want: policy.Malformed,
		}, {
			name:   "one byte",
			from:   fromMedisys,
			packet: func(*site) []byte { return []byte{1} },
			want:   policy.Malformed,
		},
	})
}

// TestFault30FutureTimestamp: the key of a client whose clock is far ahead
// would be locked out once the clock is right; so such a timestamp is refused,
// and not kept.
func TestFault30FutureTimestamp(t *testing.T) {
	refusedAndSilent(t, []refusedPacket{
		{
			name: "timestamp two days ahead",
			from: fromMedisys,
			packet: func(s *site) []byte {
				return initiate(t, s.sato.private, s.public, stampAt(time.Now().Add(48*time.Hour)), nil)
			},
			want: policy.FutureTimestamp,
			whom: func(s *site) *policy.Engineer { return s.sato.Engineer },
		},
	})
}

// TestFault59WhatAnswersNothing: the gateway never initiates, so responses and
// cookie replies never reach WireGuard, which would answer the first with
// cookie replies of its own and go under load.
func TestFault59WhatAnswersNothing(t *testing.T) {
	refusedAndSilent(t, []refusedPacket{
		{
			name: "response with a valid MAC1",
			from: fromMedisys,
			packet: func(s *site) []byte {
				p := make([]byte, device.MessageResponseSize)
				p[0] = device.MessageResponseType
				return withMACs(s.public, p)
			},
			want: policy.Malformed,
		}, {
			name: "cookie reply",
			from: fromMedisys,
			packet: func(*site) []byte {
				p := make([]byte, device.MessageCookieReplySize)
				p[0] = device.MessageCookieReplyType
				return p
			},
			want: policy.Malformed,
		},
	})
}

// TestFault60ClaimedIdentity: whoever knows two public keys can claim to be an
// engineer. Nothing is held against the engineer, and nobody is locked out.
func TestFault60ClaimedIdentity(t *testing.T) {
	strangerPrivate, _ := lab.NewKey()
	refusedAndSilent(t, []refusedPacket{
		{
			name: "static key claimed with public keys alone",
			from: fromMedisys,
			packet: func(s *site) []byte {
				key := lab.Key(s.sato.Key)
				return initiate(t, strangerPrivate, s.public, [12]byte{0x7f}, &key)
			},
			want: policy.UnknownKey,
		},
	})
}

func refusedAndSilent(t *testing.T, packets []refusedPacket) {
	for _, test := range packets {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t)
			s.open(later(), s.sato, s.tanaka)
			host, source, endpoint := test.from(s)
			wire := host.Capture("eth0")
			s.send(host, source, endpoint, test.packet(s))
			f := s.refusal(test.want)
			var whom *policy.Engineer
			if test.whom != nil {
				whom = test.whom(s)
			}
			if f.Engineer != whom || f.Decision.Engineer != whom || f.Source.String() != source || f.Count != 1 {
				t.Errorf("refusal of %v from %v, count %d, want %v from %s, 1", f.Engineer, f.Source, f.Count, whom, source)
			}
			// What comes after is answered, and nothing before it was: the
			// refused packet changed nothing for the engineer it names.
			s.client(s.medisys, s.sato, medisysEndpoint)
			if err := s.ping(s.medisys, 5*time.Second); err != nil {
				t.Errorf("sato afterwards: %v", err)
			}
			if got := wire.Packets(lab.Incoming, lab.Protocol(17), toPort(source)); len(got) != 0 {
				t.Errorf("the gateway answered\n%s", lab.Lines(got))
			}
		})
	}
}

func fromOutsider(s *site) (*lab.Host, string, netip.AddrPort) {
	return s.outsider, "192.0.2.66:4000", outsiderEndpoint
}

func fromOther(s *site) (*lab.Host, string, netip.AddrPort) {
	return s.other, "198.51.100.10:4000", otherEndpoint
}

func fromMedisys(s *site) (*lab.Host, string, netip.AddrPort) {
	return s.medisys, "203.0.113.9:4000", medisysEndpoint
}

func toPort(destination string) func(lab.Packet) bool {
	to := netip.MustParseAddrPort(destination)
	return func(p lab.Packet) bool { return p.Destination == to }
}

func withMACs(gateway lab.Key, packet []byte) []byte {
	var macs device.CookieGenerator
	macs.Init(gateway)
	macs.AddMacs(packet)
	return packet
}

// What was counted of a key is kept while policies list it, by whatever name,
// for one policy more, and over a tunnel that is made anew.
func TestCountsAreKeptWhileTheKeyIsListed(t *testing.T) {
	s := newSite(t)
	sources := lab.Prefixes("203.0.113.0/28", "2001:db8:1::/64")
	var addresses []netip.Prefix // of the tunnel; nil: as usual
	load := func(engineers ...*engineerAt) {
		t.Helper()
		vendor := testVendor("medisys", sources)
		for _, e := range engineers {
			e.Vendor, e.Sources = vendor, sources
			vendor.Engineers = append(vendor.Engineers, e.Engineer)
		}
		vendor.Windows[0].Engineers = vendor.Engineers
		p := testPolicy(vendor)
		if addresses != nil {
			p.Tunnel.Addresses = addresses
		}
		if err := s.state.Apply(time.Now(), "test", policy.PolicyLoaded{Digest: "test", Policy: p}); err != nil {
			t.Fatal(err)
		}
		s.open(later(), engineers...)
	}
	renewed := func(e *engineerAt, name string, key policy.Key) *engineerAt {
		x := *e.Engineer
		x.Name, x.Key = name, key
		return &engineerAt{&x, e.private}
	}
	counted := func(key policy.Key) uint64 {
		for _, p := range s.peers() {
			if p.Key == key {
				return p.Received
			}
		}
		return 0
	}
	// matched waits until the policy has been compared with the counts, and the device knows nobody
	// besides these engineers
	matched := func(engineers ...*engineerAt) {
		t.Helper()
		lab.WaitFor(t, 5*time.Second, "the peers of the policy", func() bool {
			return s.matched() && !slices.ContainsFunc(s.peers(), func(p Peer) bool {
				return p.Open && !slices.ContainsFunc(engineers, func(e *engineerAt) bool { return e.Key == p.Key })
			})
		})
	}
	var least, most uint64 // what must be counted of sato's key, and what was sent with it
	enter := func() {
		t.Helper()
		c := s.client(s.medisys, s.sato, medisysEndpoint)
		s.enter(c)
		lab.WaitFor(t, 5*time.Second, "what sato sent is counted", func() bool { return counted(s.sato.Key) >= least+device.MessageInitiationSize })
		// A client counts what it sent after it was sent: once it is down, all of it.
		if err := c.Down(); err != nil {
			t.Fatal(err)
		}
		least, most = counted(s.sato.Key), most+c.Status().Transmitted
		c.Close()
	}
	kept := func(when string) {
		t.Helper()
		if got := counted(s.sato.Key); got < least || got > most {
			t.Errorf("%s: %d bytes of the key are counted, want %d to %d", when, got, least, most)
		}
	}

	load(s.sato, s.suzuki)
	enter()

	saito := renewed(s.sato, "saito", s.sato.Key)
	load(saito, s.suzuki)
	matched(saito, s.suzuki)
	kept("under another name")
	load(renewed(s.sato, "sato", policy.Key{1}))
	matched(renewed(s.sato, "sato", policy.Key{1}))
	kept("when the engineer has another key")
	load(s.sato)
	matched(s.sato)
	kept("when the key is back with the next policy")
	addresses = lab.Prefixes("10.99.0.9/24", "fd00:99::1/64")
	load(s.sato)
	matched(s.sato)
	kept("when the tunnel has other addresses")
	link, err := s.gateway.Command(t.Context(), "ip", "addr", "show", "dev", "kido0").Output()
	if err != nil || !strings.Contains(string(link), "10.99.0.9/24") || strings.Contains(string(link), "10.99.0.1/24") {
		t.Errorf("the interface has not the addresses of the policy: %v\n%s", err, link)
	}
	addresses = nil
	load(s.sato)
	matched(s.sato)
	enter()

	s.open(later())
	matched() // so that the device does not know the key any more either
	load(s.suzuki)
	matched(s.suzuki)
	kept("with the first policy that does not list it")
	s.open(later())
	matched()
	s.open(later(), s.suzuki)
	matched(s.suzuki)
	kept("with more plans of that policy")
	load(s.tanaka)
	matched(s.tanaka)
	lab.WaitFor(t, 5*time.Second, "only keys of the last two policies have counts", func() bool {
		return !slices.ContainsFunc(s.peers(), func(p Peer) bool { return p.Key != s.suzuki.Key && p.Key != s.tanaka.Key })
	})
}

func TestFault29ReplayIsRefusedForEver(t *testing.T) {
	s := newSite(t)
	s.open(later(), s.tanaka)
	packet := initiate(t, s.tanaka.private, s.public, stampAt(time.Now()), nil)
	const source = "198.51.100.10:4000"
	wire := s.other.Capture("eth0")
	s.send(s.other, source, otherEndpoint, packet)
	s.kind(policy.Admission)
	lab.WaitFor(t, 5*time.Second, "the response to the first", func() bool { return len(wire.Packets(lab.Incoming, toPort(source))) == 1 })
	replay := func(when string) {
		t.Helper()
		s.send(s.other, "198.51.100.10:4001", otherEndpoint, packet)
		if f := s.refusal(policy.Replayed); f.Engineer != s.tanaka.Engineer {
			t.Errorf("%s: refusal of %v, want %v", when, f.Engineer, s.tanaka)
		}
		if n := len(answers(wire)); n != 1 {
			t.Errorf("%s: %d answers in all, want 1", when, n)
		}
	}
	replay("at once")
	s.open(later(), s.sato)
	lab.WaitFor(t, 5*time.Second, "the peer removed", func() bool {
		return slices.ContainsFunc(s.peers(), func(p Peer) bool { return p.Key == s.tanaka.Key && !p.Open })
	})
	s.open(later(), s.tanaka)
	replay("after the peer was added again")
	kept := s.timestamps()
	s.start()
	s.tunnel.SetTimestamps(kept)
	s.open(later(), s.tanaka)
	replay("after a restart")
	s.tunnel.SetTimestamps(nil)
	s.send(s.other, source, otherEndpoint, packet)
	s.kind(policy.Admission)
	lab.WaitFor(t, 5*time.Second, "a response after the reset", func() bool { return len(wire.Packets(lab.Incoming, toPort(source))) == 2 })
}

// TestFault29RefusedEarlyCannotBePlayedLater: an initiation that came before
// its time, or while nobody could be let in, is worth nothing later.
func TestFault29RefusedEarlyCannotBePlayedLater(t *testing.T) {
	const source = "203.0.113.9:4000"
	for _, test := range []struct {
		name   string
		refuse func(t *testing.T, s *site, packet []byte) policy.Fact
	}{
		{"outside its window, by the gate", func(t *testing.T, s *site, packet []byte) policy.Fact {
			s.open(later(), s.sato)
			s.send(s.medisys, source, medisysEndpoint, packet)
			return s.refusal(policy.OutsideWindow)
		}},
		{"outside its window, by the kernel", func(t *testing.T, s *site, packet []byte) policy.Fact {
			s.open(later())
			s.tunnel.Inspect(packet, netip.MustParseAddrPort(source), 0)
			return s.refusal(policy.OutsideWindow)
		}},
		{"while an admission was not on disk", func(t *testing.T, s *site, packet []byte) policy.Fact {
			s.open(later(), s.suzuki, s.tanaka)
			s.deaf.Store(true)
			s.send(s.other, "198.51.100.10:4000", otherEndpoint, initiate(s.t, s.tanaka.private, s.public, stampAt(time.Now()), nil))
			s.kind(policy.Admission)
			s.boot.advance(2 * recordWithin)
			s.send(s.medisys, source, medisysEndpoint, packet)
			defer s.recordAll(t, false)
			return s.refusal(policy.NotReady)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t)
			stamp := stampAt(time.Now())
			packet := initiate(t, s.suzuki.private, s.public, stamp, nil)
			if f := test.refuse(t, s, packet); f.Timestamp != stamp {
				t.Errorf("the refusal tells %x, which is to be kept over a restart, want %x", f.Timestamp, stamp)
			}
			s.open(later(), s.suzuki)
			s.send(s.medisys, "203.0.113.9:4001", medisysEndpoint, packet)
			if f := s.refusal(policy.Replayed); f.Engineer != s.suzuki.Engineer {
				t.Errorf("refused: %v, want suzuki", f.Engineer)
			}
		})
	}
}

// TestInspectNamesAndChangesNothing: what the kernel dropped is told by name,
// and takes nothing from the engineer whom it names: who has a stolen key, and
// is elsewhere, does not lock its owner out.
func TestInspectNamesAndChangesNothing(t *testing.T) {
	s := newSite(t)
	// The kernel follows the gate, so what it drops at first is no refusal.
	s.boot.setSlow(true)
	s.open(later(), s.sato)
	first := stampAt(time.Now())
	s.tunnel.Inspect(initiate(t, s.sato.private, s.public, first, nil), netip.MustParseAddrPort("203.0.113.10:4001"), 0)
	lab.WaitFor(t, 5*time.Second, "the first to be looked at", func() bool { return len(s.timestamps()) == 1 })
	s.boot.setSlow(false)
	tomorrow := initiate(t, s.sato.private, s.public, stampAt(time.Now().Add(ahead/2)), nil)
	s.tunnel.Inspect(tomorrow, netip.MustParseAddrPort("[::ffff:192.0.2.66]:4000"), 0)
	if f := s.refusal(policy.WrongSource); f.Engineer != s.sato.Engineer || f.Source.String() != "192.0.2.66:4000" || f.Timestamp != [12]byte{} {
		t.Errorf("refusal of %v from %v, want %v from 192.0.2.66:4000", f.Engineer, f.Source, s.sato)
	}
	s.tunnel.Inspect([]byte{0}, netip.MustParseAddrPort("192.0.2.66:4000"), 0)
	s.refusal(policy.UnlistedSource)
	if got := s.timestamps(); len(got) != 1 || got[s.sato.Key] != first {
		t.Errorf("what came from elsewhere advanced timestamps: %v, want %x of sato", got, first)
	}
	s.boot.advance(settling)
	s.tunnel.Inspect(initiate(t, s.sato.private, s.public, stampAt(time.Now()), nil), netip.MustParseAddrPort("203.0.113.10:4000"), 0)
	if f := s.refusal(policy.RateLimited); f.Count != 1 || f.Source.Port() != 4000 {
		t.Errorf("%d refusals, the first from %v, want the one from port 4000", f.Count, f.Source)
	}
	s.send(s.medisys, "203.0.113.10:4000", medisysEndpoint, initiate(t, s.sato.private, s.public, stampAt(time.Now()), nil))
	s.kind(policy.Admission)
}

// TestStolenKeyTakesNothingFromItsOwner: also where the kernel lets a thief
// through, from an address that another vendor has listed.
func TestStolenKeyTakesNothingFromItsOwner(t *testing.T) {
	s := newSite(t)
	s.open(later(), s.sato, s.tanaka)
	thief := func(at time.Time) {
		t.Helper()
		s.send(s.other, "198.51.100.10:4000", otherEndpoint, initiate(t, s.sato.private, s.public, stampAt(at), nil))
		if f := s.refusal(policy.WrongSource); f.Engineer != s.sato.Engineer || f.Source.String() != "198.51.100.10:4000" || f.Timestamp != [12]byte{} {
			t.Errorf("refusal of %v from %v with timestamp %x, want %v from 198.51.100.10:4000 without", f.Engineer, f.Source, f.Timestamp, s.sato)
		}
	}
	thief(time.Now().Add(ahead / 2))
	for range engineerBurst {
		thief(time.Now())
	}
	s.send(s.medisys, "203.0.113.10:4000", medisysEndpoint, initiate(t, s.sato.private, s.public, stampAt(time.Now()), nil))
	s.kind(policy.Admission)
}

// TestAdmissionsAreNumberedThroughout: a device that takes the place of another
// gives no number again.
func TestAdmissionsAreNumberedThroughout(t *testing.T) {
	s := newSite(t)
	var last uint64
	for range 2 {
		s.open(later(), s.tanaka)
		s.send(s.other, "198.51.100.10:4000", otherEndpoint, initiate(t, s.tanaka.private, s.public, stampAt(time.Now()), nil))
		f := s.kind(policy.Admission)
		if f.Admission <= last {
			t.Errorf("admission %d after %d", f.Admission, last)
		}
		last = f.Admission
		if err := s.gateway.Do(s.tunnel.Restart); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFault37BusyRekeysNeverFreeze(t *testing.T) {
	s := newSite(t)
	s.open(later(), s.sato)
	c := s.client(s.medisys, s.sato, medisysEndpoint)
	s.enter(c)
	// A stream both ways all the while: what is echoed must keep coming.
	echo := s.gateway.Echo("udp", "10.99.0.1:0")
	stream, err := s.medisys.Dial(within(t, 5*time.Second), "udp", echo.String())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	echoed := make(chan struct{}, 1)
	go func() {
		answer := make([]byte, 2000)
		for ctx.Err() == nil {
			if err := stream.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				return
			}
			if _, err := stream.Read(answer); err == nil {
				select {
				case echoed <- struct{}{}:
				default:
				}
			}
		}
	}()
	go func() {
		message := make([]byte, 1000)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				for range 5 {
					_, _ = stream.Write(message) // what matters is what comes back
				}
			}
		}
	}()
	const rekeys = 20
	for i := range rekeys {
		if err := s.rekey(c); err != nil {
			t.Fatalf("rekey %d: %v", i, err)
		}
		select {
		case <-echoed: // one that waited
		default:
		}
		for range 3 {
			select {
			case <-echoed:
			case <-time.After(5 * time.Second):
				t.Fatalf("rekey %d of %d froze the tunnel", i, rekeys)
			}
		}
	}
}

func TestFault31ThePortMayChangeTheAddressNot(t *testing.T) {
	s := newSite(t)
	s.open(later(), s.sato)
	c := s.client(s.medisys, s.sato, medisysEndpoint)
	first := s.enter(c)
	if err := s.ping(s.medisys, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	// A NAT that changes the port of a living session.
	ip(t, s.medisys, "nft add table ip nat; nft 'add chain ip nat post { type nat hook postrouting priority 100; }'; nft add rule ip nat post oifname eth0 udp dport 51820 snat to 203.0.113.10:7777; conntrack -F 2>/dev/null || true")
	lab.WaitFor(t, 5*time.Second, "a ping from the new port", func() bool {
		return s.ping(s.medisys, 300*time.Millisecond) == nil && slices.Contains(s.live(), netip.MustParseAddrPort("203.0.113.10:7777"))
	})
	ip(t, s.medisys, "nft delete table ip nat")
	_ = first

	ip(t, s.medisys, "ip addr add 203.0.113.12/24 dev eth0; ip addr del 203.0.113.10/24 dev eth0; ip addr replace 203.0.113.12/24 dev eth0")
	if err := s.ping(s.medisys, 500*time.Millisecond); err == nil {
		t.Error("data from another address of the vendor passed without a handshake")
	}
	second := s.enter(c)
	if second.Source.Addr().String() != "203.0.113.12" || second.Admission == first.Admission {
		t.Errorf("confirmed %d from %v, want another admission than %d, from 203.0.113.12", second.Admission, second.Source, first.Admission)
	}
	if err := s.ping(s.medisys, 5*time.Second); err != nil {
		t.Errorf("after the handshake from the new address: %v", err)
	}
}

func ip(t *testing.T, h *lab.Host, script string) {
	t.Helper()
	if out, err := h.Command(within(t, 10*time.Second), "sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}

func TestWgShowsAndDoesNotSet(t *testing.T) {
	s := newSite(t)
	s.open(later(), s.sato, s.tanaka)
	s.enter(s.client(s.medisys, s.sato, medisysEndpoint)) // tanaka is not inside
	out, err := s.gateway.Command(within(t, 5*time.Second), "wg", "show", "kido0").CombinedOutput()
	if err != nil {
		t.Fatalf("wg show: %v: %s", err, out)
	}
	for _, want := range []string{s.sato.Key.String(), "listening port: 51820", "10.99.0.2/32", "latest handshake"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("wg show lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(string(out), s.tanaka.Key.String()) {
		t.Errorf("wg show has a peer for an engineer who never came:\n%s", out)
	}
	out, err = s.gateway.Command(within(t, 5*time.Second), "wg", "showconf", "kido0").CombinedOutput()
	if err != nil {
		t.Fatalf("wg showconf: %v: %s", err, out)
	}
	for _, secret := range []string{"PrivateKey", "PresharedKey"} {
		if strings.Contains(string(out), secret) {
			t.Errorf("wg showconf tells a %s:\n%s", secret, out)
		}
	}
	out, err = s.gateway.Command(within(t, 5*time.Second), "wg", "set", "kido0", "peer", s.suzuki.Key.String(), "allowed-ips", "10.99.0.3/32").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "not permitted") {
		t.Errorf("wg set: %v: %s, want it not permitted", err, out)
	}
	if text, err := s.tunnel.machine.Load().device.IpcGet(); err != nil || strings.Contains(text, fmt.Sprintf("%x", s.suzuki.Key[:])) {
		t.Errorf("wg set added a peer (error %v)", err)
	}
}

func TestFault41LosingTheInterface(t *testing.T) {
	for _, test := range []struct {
		name, script, want string
		undo               string
	}{
		{"deleted", "ip link del kido0", "lost", ""},
		{"renamed", "ip link set kido0 down; ip link set kido0 name kido9; ip link set kido9 up", "renamed", "ip link set kido9 down; ip link set kido9 name kido0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t)
			s.open(later(), s.sato)
			ip(t, s.gateway, test.script)
			f := s.kind(policy.Failure)
			if f.Err == nil || !strings.Contains(f.Err.Error(), test.want) {
				t.Errorf("failure %v, want it to say %q", f.Err, test.want)
			}
			if s.tunnel.Err() == nil {
				t.Error("Err is nil after a failure")
			}
			if test.undo != "" {
				ip(t, s.gateway, test.undo)
				lab.WaitFor(t, 5*time.Second, "well again", func() bool { return s.tunnel.Err() == nil })
			} else if err := s.gateway.Do(s.tunnel.Restart); err != nil {
				t.Fatalf("Restart: %v", err)
			}
			if err := s.tunnel.Err(); err != nil {
				t.Errorf("after it: %v", err)
			}
			s.client(s.medisys, s.sato, medisysEndpoint)
			if err := s.ping(s.medisys, 5*time.Second); err != nil {
				t.Errorf("after it: %v", err)
			}
		})
	}
}

// TestFault41MendedInterface: what another program takes from the interface is given
// back within a beat, and told. Sessions stay.
func TestFault41MendedInterface(t *testing.T) {
	s := newSite(t)
	s.open(later(), s.sato)
	c := s.client(s.medisys, s.sato, medisysEndpoint)
	s.enter(c)
	for _, test := range []struct {
		name, script, want string
	}{
		{"down", "ip link set kido0 down", "it was down"},
		{"address removed", "ip addr del 10.99.0.1/24 dev kido0", "it had lost its address 10.99.0.1/24"},
		{"every address removed", "ip addr flush dev kido0", "it had lost its address fd00:99::1/64"},
		{"MTU", "ip link set kido0 mtu 1300", "its MTU was 1300"},
		{"an MTU at which the kernel takes IPv6 away", "ip link set kido0 mtu 1000", "its MTU was 1000"},
		{"route", "ip route del 10.99.0.0/24 dev kido0", "the route to 10.99.0.0/24 was gone"},
		{"IPv6 route", "ip -6 route del fd00:99::/64 dev kido0", "the route to fd00:99::/64 was gone"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.boot.advance(driftPause)
			if err := s.rekey(c); err != nil { // before the keys are too old for that clock
				t.Fatal(err)
			}
			before := s.hostState()
			ip(t, s.gateway, test.script)
			f := s.kind(policy.Drift)
			if f.Err == nil || !strings.Contains(f.Err.Error(), test.want) {
				t.Errorf("told %v, want it to say %q", f.Err, test.want)
			}
			if after := s.hostState(); after != before {
				t.Errorf("the interface is\n%s\nand was\n%s", after, before)
			}
			for _, a := range []string{"10.99.0.1", "fd00:99::1"} {
				if _, err := s.medisys.Ping(within(t, 5*time.Second), netip.MustParseAddr(a)); err != nil {
					t.Errorf("ping %s: %v", a, err)
				}
			}
			if err := s.tunnel.Err(); err != nil {
				t.Errorf("the tunnel says that it failed: %v", err)
			}
		})
	}
}

// hostState shows the interface, its addresses and its routes.
func (s *site) hostState() string {
	s.t.Helper()
	// What the kernel numbers or times itself is left out.
	out, err := s.gateway.Command(within(s.t, 5*time.Second), "sh", "-ec",
		"ip link show kido0 | grep -o 'mtu [0-9]*\\|[<,]UP[,>]'; ip addr show kido0 | grep -v fe80: | grep -o 'inet.*global'; ip route show dev kido0; ip -6 route show dev kido0 | grep -v '^fe80:\\|^multicast'").CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// What becomes of other interfaces of the host, many of them at once or one
// with thousands of addresses, is more than a socket that listens to it holds.
// It does not always come so fast that it is, so this also looks that nobody
// listens.
func TestFault41StormOfLinks(t *testing.T) {
	s := newSite(t)
	s.open(later(), s.sato)
	s.enter(s.client(s.medisys, s.sato, medisysEndpoint))
	var sockets []byte
	if err := s.gateway.Do(func() (err error) { sockets, err = os.ReadFile("/proc/thread-self/net/netlink"); return err }); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(sockets)) {
		// The socket, the protocol (0: NETLINK_ROUTE), whose it is, its groups.
		if f := strings.Fields(line); len(f) < 4 || f[0] != "sk" && f[1] == "0" && f[3] != "00000000" {
			t.Errorf("somebody listens to the host's interfaces: %q", line)
		}
	}
	for range 3 {
		ip(t, s.gateway, `ip link add storm type bridge
			for i in $(seq 0 15); do for j in $(seq 1 250); do echo "addr add 172.16.$i.$j/12 dev storm"; done; done | ip -batch -
			ip link del storm`)
	}
	// WireGuard reads packets after it, and the reconciler looks.
	for end := time.Now().Add(2 * beat); time.Now().Before(end); {
		if err := s.ping(s.medisys, 5*time.Second); err != nil {
			t.Fatalf("after a storm: %v", err)
		}
		time.Sleep(beat / 10)
	}
	if err := s.tunnel.Err(); err != nil {
		t.Errorf("the tunnel says that it failed: %v", err)
	}
}

// TestWithoutWgShow: what is in the way of the socket that wg(8) reads keeps
// nobody out, is told, and is got over once it is gone.
func TestWithoutWgShow(t *testing.T) {
	s := newSite(t)
	s.tunnel.Close()
	path := filepath.Join(UAPIDirectory, "kido0.sock")
	if err := os.MkdirAll(filepath.Join(path, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(path) })
	s.start()
	if h := s.tunnel.Hints(); len(h) != 1 || !strings.Contains(h[0].Message.String(), path) {
		t.Errorf("told %v, want %s named", h, path)
	}
	s.open(later(), s.sato)
	s.enter(s.client(s.medisys, s.sato, medisysEndpoint))
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	lab.WaitFor(t, time.Minute, "wg show shows the tunnel", func() bool {
		return s.gateway.Command(within(t, 5*time.Second), "wg", "show", "kido0").Run() == nil
	})
	if h := s.tunnel.Hints(); len(h) > 0 {
		t.Errorf("wg show works, and told is %v", h)
	}
}
