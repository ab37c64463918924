package gateway

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// hinted gives the hints of now that contain a text.
func (w *world) hinted(text string) []string {
	synctest.Wait()
	found := []string{}
	for _, h := range w.gateway.Snapshot().StatusAt(w.wall()).Hints {
		if strings.Contains(h, text) {
			found = append(found, h)
		}
	}
	return found
}

// TestFault98KeyInTurn: two machines with one key take the session from each
// other, and operators hear of it. A change of address is silent.
func TestFault98KeyInTurn(t *testing.T) {
	const router = "203.0.113.1:2000"
	for _, c := range []struct {
		name  string
		every time.Duration
		from  []string
		want  string // in the hint; empty: there is none
	}{
		{"two machines", 15 * time.Second, []string{address, otherAddress, address, otherAddress, address, otherAddress}, "from 203.0.113.1 and 203.0.113.2 in turn"},
		{"the same, with rekeys between", 40 * time.Second, []string{address, otherAddress, otherAddress, address, otherAddress, address, address, otherAddress}, "from 203.0.113.1 and 203.0.113.2 in turn"},
		{"two machines behind one router", 15 * time.Second, []string{address, router, address, router, address, router}, "from 203.0.113.1:1000 and 203.0.113.1:2000 in turn"},
		{"an address changes", 15 * time.Second, []string{address, otherAddress, otherAddress, otherAddress, otherAddress}, ""},
		{"it changes, and back, and again", 15 * time.Second, []string{address, otherAddress, address, otherAddress}, ""},
		{"ports that a router makes anew", 15 * time.Second, []string{"203.0.113.1:1", "203.0.113.1:2", "203.0.113.1:3", "203.0.113.1:4", "203.0.113.1:5", "203.0.113.1:6"}, ""},
		{"to and fro in an hour", 4 * time.Minute, []string{address, otherAddress, address, otherAddress, address, otherAddress}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("01:10:00")
				w.start()
				for _, from := range c.from {
					time.Sleep(c.every)
					w.enter("acme/brown", from)
				}
				want := 0
				if c.want != "" {
					want = 1
				}
				hints := w.hinted("the key of acme/brown is used ")
				if len(hints) != want || want == 1 && !strings.Contains(hints[0], c.want) {
					t.Errorf("hints %q, want %q", hints, c.want)
				}
				same(t, "counted", w.scrape()["kidoban_engineers_in_turn{vendor=acme}"], float64(want))
				same(t, "of others", w.scrape()["kidoban_engineers_in_turn{vendor=medisys}"], 0)
				time.Sleep(11 * time.Minute)
				same(t, "later", len(w.hinted("the key of acme/brown is used ")), 0)
			})
		})
	}
}

// TestFault98InTurnEndsWithTheKey: with a new key the engineer begins anew.
func TestFault98InTurnEndsWithTheKey(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:10:00")
		w.start()
		for range 3 {
			w.enter("acme/brown", address)
			w.enter("acme/brown", otherAddress)
		}
		same(t, "hinted", len(w.hinted("in turn")), 1)
		p := oneHour()
		p.Digest, p.Engineer("acme/brown").Key = "new key", policy.Key{77}
		w.reload(p)
		same(t, "with a new key", len(w.hinted("in turn")), 0)
	})
}

// TestFault99AdmittedInVainIsHinted: an engineer who is admitted again and again,
// and never completes a handshake, is told of by status and explain, with the
// likely causes. A lost answer or two are nothing.
func TestFault99AdmittedInVainIsHinted(t *testing.T) {
	const every = 5 * time.Second
	tries := func(n int) func(w *world) {
		return func(w *world) {
			for range n {
				time.Sleep(every)
				w.knock("acme/brown", address)
			}
		}
	}
	for _, c := range []struct {
		name      string
		preshared bool
		happens   func(w *world)
		want      string // empty: no hint
	}{
		{"three in a row", false, tries(3), "acme/brown was admitted 3 times in a row and completed no handshake: the client has a preshared key and the policy has none"},
		{"with a preshared key in the policy", true, tries(4), "acme/brown was admitted 4 times in a row and completed no handshake: the preshared key is missing in the client"},
		{"two", false, tries(2), ""},
		{"a confirmation between", false, func(w *world) { tries(2)(w); w.enter("acme/brown", address); tries(2)(w) }, ""},
		{"a confirmation at last", false, func(w *world) { tries(9)(w); w.enter("acme/brown", address) }, ""},
		{"each after a long pause", false, func(w *world) {
			tries(1)(w)
			time.Sleep(5 * time.Minute)
			tries(1)(w)
			time.Sleep(5 * time.Minute)
			tries(1)(w)
		}, "3 times in a row"},
		{"a quarter of an hour ago", false, func(w *world) { tries(5)(w); time.Sleep(15*time.Minute + 2*heartbeat) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := oneHour()
			if c.preshared {
				p.Engineer("acme/brown").PresharedKey = [32]byte{1}
			}
			simulate(t, p, func(t *testing.T, w *world) {
				w.at("01:10:00")
				w.start()
				c.happens(w)
				hints := strings.Join(w.hinted("completed no handshake"), "\n")
				if (hints != "") != (c.want != "") || !strings.Contains(hints, c.want) {
					t.Errorf("hints %q, want %q", hints, c.want)
				}
				if from := "the last of them came from " + netip.MustParseAddrPort(address).Addr().String(); hints != "" && !strings.Contains(hints, from) {
					t.Errorf("hints %q, want %q", hints, from)
				}
				d := policy.Decision{Reason: policy.Admitted, Engineer: w.engineer("acme/brown"), Grant: w.plan().Grants[0]}
				told := strings.Join(view.Texts(w.gateway.Snapshot().Obstacles(policy.Query{}, d, w.wall(), w.wall())), "\n")
				if told != hints {
					t.Errorf("explain tells %q, want %q", told, hints)
				}
			})
		})
	}
}

// TestFault100WrongKeysAreHinted: a client at a vendor's source that has a key that
// no engineer has, or another gateway's key, is told of by status, and by explain
// about an engineer who may come from there. Whatever is told is what somebody
// claims, and it is little.
func TestFault100WrongKeysAreHinted(t *testing.T) {
	offered := policy.Key{1, 2, 3}
	refuse := func(w *world, from string, reason policy.Reason, c policy.Claim) {
		w.tunnel.facts <- policy.Fact{Kind: policy.Refusal, At: w.wall(), Source: netip.MustParseAddrPort(from), Decision: policy.Decision{Reason: reason}, Claim: c, Count: 1}
	}
	times := func(n int, from string, reason policy.Reason, c policy.Claim) func(*world) {
		return func(w *world) {
			for range n {
				refuse(w, from, reason, c)
				time.Sleep(5 * time.Second)
			}
		}
	}
	const elsewhere = "192.0.2.66:1000"
	for _, c := range []struct {
		name    string
		happens func(*world)
		want    string // in hint and explanation; empty: there is none
		brown   bool   // explain about acme/brown tells it
	}{
		{"an unknown key", times(3, address, policy.UnknownKey, policy.Claim{Key: offered}),
			"3 attempts from 203.0.113.1, a source of acme, medisys, offer the key " + offered.String() + ", which no engineer has", true},
		{"another gateway's key", times(3, address, policy.Malformed, policy.Claim{Foreign: true}),
			"3 attempts from 203.0.113.1, a source of acme, medisys, are for a gateway with another public key", true},
		{"the same, while no window is open", times(3, address, policy.UnlistedSource, policy.Claim{Foreign: true}),
			"are for a gateway with another public key", true},
		{"two only", times(2, address, policy.UnknownKey, policy.Claim{Key: offered}), "", true},
		{"long ago", func(w *world) {
			times(3, address, policy.UnknownKey, policy.Claim{Key: offered})(w)
			time.Sleep(10 * time.Minute)
		}, "", true},
		{"from an address of no vendor", times(9, elsewhere, policy.UnknownKey, policy.Claim{Key: offered}), "", true},
		{"noise", times(9, address, policy.Malformed, policy.Claim{}), "", true},
		{"an engineer's public key, which anybody may know", func(w *world) {
			times(9, address, policy.UnknownKey, policy.Claim{Key: w.engineer("acme/brown").Key})(w)
		}, "", true},
		{"the engineer is inside", func(w *world) {
			w.enter("acme/brown", address)
			times(3, address, policy.UnknownKey, policy.Claim{Key: offered})(w)
		}, "offer the key", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("01:10:00")
				w.start()
				c.happens(w)
				hints := strings.Join(w.hinted("attempts from"), "\n")
				if (hints != "") != (c.want != "") || !strings.Contains(hints, c.want) {
					t.Errorf("hints %q, want %q", hints, c.want)
				}
				d := policy.Decision{Reason: policy.Admitted, Engineer: w.engineer("acme/brown"), Grant: w.plan().Grants[0]}
				told := strings.Join(view.Texts(w.gateway.Snapshot().Obstacles(policy.Query{}, d, w.wall(), w.wall())), "\n")
				if (told != "") != (c.brown && c.want != "") {
					t.Errorf("explain tells %q, and status %q", told, hints)
				}
			})
		})
	}
	t.Run("few are told", func(t *testing.T) {
		simulate(t, oneHour(), func(t *testing.T, w *world) {
			w.at("01:10:00")
			w.start()
			for i := range 3 * 15 {
				refuse(w, netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i / 3)}), 1).String(), policy.UnknownKey, policy.Claim{Key: policy.Key{byte(i)}})
			}
			same(t, "by address", len(w.hinted("attempts from")), 5)
			same(t, "of others", len(w.hinted("from more sources of vendors")), 1)
		})
	})
}
