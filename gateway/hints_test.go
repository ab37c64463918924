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

// TestHintOfNoRoute: only a session of which nothing comes back is told of,
// whatever the sums are.
func TestHintOfNoRoute(t *testing.T) {
	for _, c := range []struct {
		name      string
		received  uint64 // every second
		sent      func(second int) uint64
		handshake bool // every two minutes
		hint      bool
	}{
		{"attempts at a connection that nobody answers", 96, func(int) uint64 { return 0 }, false, true},
		{"the same, with keepalives and handshakes", 96, func(s int) uint64 { return map[bool]uint64{s%10 == 0: 32}[true] }, true, true},
		{"an upload, whose acknowledgements are a hundredth", 1 << 20, func(int) uint64 { return 10 * 96 }, false, false},
		{"one small answer in a minute", 96, func(s int) uint64 { return map[bool]uint64{s == 40: 96}[true] }, false, false},
		{"a tunnel at rest, with persistent keepalives", 32, func(int) uint64 { return 0 }, true, false},
		{"silence", 0, func(int) uint64 { return 0 }, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("01:10:00")
				w.start()
				w.enter("acme/brown", address)
				w.hear("acme/brown", 148+32, 92)
				hinted := false
				for second := range 300 {
					in, out := c.received, c.sent(second)
					if c.handshake && second%120 == 119 {
						in, out = in+148, out+92
					}
					w.hear("acme/brown", in, out)
					time.Sleep(time.Second)
					synctest.Wait()
					hints := strings.Join(w.gateway.Snapshot().StatusAt(w.wall()).Hints, "\n")
					hinted = strings.Contains(hints, "acme/brown sends (") && strings.Contains(hints, "nothing comes back")
					if second == 4 && hinted {
						t.Error("hinted at once")
					}
				}
				same(t, "hinted", hinted, c.hint)
			})
		})
	}
}

func TestHintOfNoRouteNamesWhatIsRefused(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:10:00")
		w.start()
		w.enter("acme/brown", address)
		for range 10 {
			w.hear("acme/brown", 96, 0)
			time.Sleep(time.Second)
		}
		w.tunnel.facts <- scan(w.wall(), w.engineer("acme/brown"), 22)
		synctest.Wait()
		hints := strings.Join(w.gateway.Snapshot().StatusAt(w.wall()).Hints, "\n")
		if want := "or it is what `kidoban refusals` shows: unlisted_target to 10.1.0.5:tcp/23"; !strings.Contains(hints, want) {
			t.Errorf("hints %q, want %q in them", hints, want)
		}
	})
}

func TestHintOfANATInFront(t *testing.T) {
	type attempt struct{ who, from string }
	some := func(n int, who, from string) (all []attempt) {
		for range n {
			all = append(all, attempt{who, from})
		}
		return all
	}
	for _, c := range []struct {
		name     string
		attempts []attempt
		later    time.Duration
		hint     string
	}{
		{"all from a private address", []attempt{{"acme/brown", "192.168.1.1:1"}, {"medisys/sato", "192.168.1.1:2"}}, 0, "2 of 2 attempts of engineers come from 192.168.1.1"},
		{"one alone says nothing", some(1, "acme/brown", "192.168.1.1:1"), 0, ""},
		{"all from a carrier's NAT", some(3, "acme/brown", "100.64.7.7:1"), 0, "3 of 3 attempts of engineers come from 100.64.7.7"},
		{"IPv6 too", some(3, "acme/brown", "[fd00::1]:1"), 0, "come from fd00::1"},
		{"all from a public address", some(3, "acme/brown", "198.51.100.1:1"), 0, ""},
		{"a packet from elsewhere that proves nothing", append(some(2, "acme/brown", "192.168.1.1:1"), some(9, "", "10.1.0.5:999")...), 0, "2 of 2"},
		{"somebody tries once from elsewhere", append(some(4, "acme/brown", "192.168.1.1:1"), attempt{"medisys/sato", "10.1.0.5:1"}), 0, "4 of 5"},
		{"many from elsewhere", append(some(4, "acme/brown", "192.168.1.1:1"), some(4, "medisys/sato", "198.51.100.1:1")...), 0, ""},
		{"it was long ago", some(4, "acme/brown", "192.168.1.1:1"), 61 * time.Minute, ""},
		{"one enters from where it is listed", append(some(4, "acme/brown", "192.168.1.1:1"), attempt{"acme/brown", address}), 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("01:01:00")
				w.start()
				for i, a := range c.attempts {
					switch {
					case a.who == "":
						w.tunnel.facts <- policy.Fact{Kind: policy.Refusal, Source: stranger(w.wall(), i).Source, Decision: policy.Decision{Reason: policy.UnknownKey}}
					case a.from == address:
						w.enter(a.who, a.from)
					default:
						w.knock(a.who, a.from)
					}
				}
				time.Sleep(c.later)
				synctest.Wait()
				hints := strings.Join(w.gateway.Snapshot().StatusAt(w.wall()).Hints, "\n")
				if got := strings.Contains(hints, "a NAT in front"); got != (c.hint != "") || !strings.Contains(hints, c.hint) {
					t.Errorf("hints %q, want %q", hints, c.hint)
				}
			})
		})
	}
}

// TestFault76ExcessIsHinted: of an engineer who is inside and was lately refused
// connections because of the share, status and explain tell; of nobody else.
func TestFault76ExcessIsHinted(t *testing.T) {
	const hint = "medisys/sato has as many connections open as one engineer may have, or begins them too fast, and more are refused (last: to 10.1.0.5:tcp/22)"
	excess := func(at time.Time, e *policy.Engineer) policy.Fact {
		f := scan(at, e, 21)
		f.Kind, f.Decision.Reason = policy.Refusal, policy.RateLimited
		return f
	}
	for _, c := range []struct {
		name    string
		happens func(w *world)
		hint    bool
	}{
		{"excess", func(w *world) { w.tunnel.facts <- excess(w.wall(), w.engineer("medisys/sato")) }, true},
		{"it goes on elsewhere", func(w *world) {
			f := excess(w.wall(), w.engineer("medisys/sato"))
			f.To = netip.MustParseAddrPort("10.1.0.5:23")
			w.tunnel.facts <- f
			time.Sleep(time.Second)
			w.tunnel.facts <- excess(w.wall(), w.engineer("medisys/sato"))
		}, true},
		{"it ended nine minutes ago", func(w *world) {
			w.tunnel.facts <- excess(w.wall(), w.engineer("medisys/sato"))
			for range 9 { // so that the session lasts
				w.hear("medisys/sato", 96, 96)
				time.Sleep(time.Minute)
			}
		}, true},
		{"it ended ten minutes ago", func(w *world) {
			w.tunnel.facts <- excess(w.wall(), w.engineer("medisys/sato"))
			for range 10 {
				w.hear("medisys/sato", 96, 96)
				time.Sleep(time.Minute)
			}
		}, false},
		{"handshakes in excess", func(w *world) {
			f := excess(w.wall(), w.engineer("medisys/sato"))
			f.To = netip.AddrPort{}
			w.tunnel.facts <- f
		}, false},
		{"a target that is not listed", func(w *world) { w.tunnel.facts <- scan(w.wall(), w.engineer("medisys/sato"), 21) }, false},
		{"who is closed", func(w *world) {
			w.tunnel.facts <- excess(w.wall(), w.engineer("medisys/sato"))
			synctest.Wait()
			w.shut("medisys/sato")
		}, false},
		{"another engineer, who is not inside", func(w *world) { w.tunnel.facts <- excess(w.wall(), w.engineer("acme/brown")) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, site(window{name: "acme/night", from: "01:00:00", until: "02:00:00"}, window{name: "medisys/night", from: "01:00:00", until: "02:00:00"}), func(t *testing.T, w *world) {
				w.at("01:10:00")
				w.start()
				w.enter("medisys/sato", address)
				c.happens(w)
				synctest.Wait()
				s, now := w.gateway.Snapshot(), w.wall()
				hints := strings.Join(s.StatusAt(now).Hints, "\n")
				if got := strings.Contains(hints, hint); got != c.hint || strings.Count(hints, "as many connections") > 1 || !c.hint && strings.Contains(hints, "as many connections") {
					t.Errorf("hints %q, want %q in them: %v", hints, hint, c.hint)
				}
				explained := func(name string, to netip.AddrPort) string {
					q := policy.Query{Key: w.engineer(name).Key, Proven: true, Fault: policy.Admitted, Proto: policy.TCP, To: to}
					return strings.Join(view.Texts(s.Obstacles(q, s.Explain(q, now, now), now, now)), "\n")
				}
				listed := netip.MustParseAddrPort("10.1.0.5:22")
				same(t, "explain says it", strings.Contains(explained("medisys/sato", listed), hint), c.hint)
				same(t, "explain without a target", explained("medisys/sato", netip.AddrPort{}), "")
				same(t, "explain another", explained("acme/brown", listed), "")
			})
		})
	}
}

// TestAWayThatIsMissingIsSaid: of a target to which the host sends nothing, an
// answer that admits says so; of others it does not.
func TestAWayThatIsMissingIsSaid(t *testing.T) {
	simulate(t, site(window{name: "acme/night", from: "01:00:00", until: "02:00:00", targets: "ehr pacs"}), func(t *testing.T, w *world) {
		w.host = []view.Hint{{Message: view.Say("no_route", view.Args{"targets": "pacs"}), Targets: []string{"pacs"}},
			{Message: view.Say("routes_unread", view.Args{"cause": "busy"})}}
		noRoute := w.host[0].Message.String()
		w.at("01:30:00")
		w.start()
		s, now := w.gateway.Snapshot(), w.wall()
		same(t, "hints", w.hints(), []string{w.host[1].Message.String(), noRoute})
		for _, c := range []struct {
			to   string
			at   time.Time
			want string
		}{
			{"10.1.2.5:104", now, noRoute},
			{"10.1.2.5:104", now.Add(time.Minute), ""}, // nobody knows
			{"10.1.2.5:105", now, ""},                  // refused
			{"10.1.0.5:22", now, ""},
			{"", now, ""},
		} {
			q := policy.Query{Key: w.engineer("acme/brown").Key, Proven: true, Fault: policy.Admitted, Proto: policy.TCP}
			if c.to != "" {
				q.To = netip.MustParseAddrPort(c.to)
			}
			same(t, "to "+c.to, strings.Join(view.Texts(s.Obstacles(q, s.Explain(q, c.at, now), c.at, now)), "\n"), c.want)
		}
	})
}
