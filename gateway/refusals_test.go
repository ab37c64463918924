package gateway

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/tally"
)

func (w *world) refused() []journal.Entry {
	var all []journal.Entry
	for _, e := range w.durable() {
		if e.Kind == journal.Refused {
			all = append(all, e)
		}
	}
	return all
}

func TestRefusalsAreSummedUp(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		for range 5 {
			w.knock("acme/brown", "198.51.100.1:1000") // not the vendor's
		}
		time.Sleep(2 * heartbeat)
		synctest.Wait()
		same(t, "recorded at once", len(w.refused()), 1)
		for range 7 {
			w.knock("acme/brown", "198.51.100.1:2000") // another port is the same source
			time.Sleep(time.Second)
		}
		synctest.Wait()
		same(t, "recorded within the minute", len(w.refused()), 1)
		time.Sleep(time.Minute)
		synctest.Wait()
		all := w.refused()
		same(t, "recorded after it", len(all), 2)
		same(t, "counts", fmt.Sprint(all[0].Count, all[1].Count), "5 7")
		same(t, "the second's span", all[1].Last.Sub(all[1].First), 6*time.Second)
		list := w.gateway.Snapshot().Refusals
		if len(list) != 1 || list[0].Count != 12 || list[0].Reason != "wrong_source" || list[0].Vendor != "acme" || list[0].Engineer != "brown" || list[0].Source.String() != "198.51.100.1" {
			t.Errorf("refusals: %+v, want one of 12", list)
		}
	})
}

// TestLastAttempt: where an engineer last came from is known, admitted or not,
// after the session too and after a restart; and a flow that is refused inside
// the tunnel is told with the address outside.
func TestLastAttempt(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		last := func() string {
			synctest.Wait()
			return w.gateway.Snapshot().LastAttempt(w.engineer("acme/brown")).String()
		}
		w.at("01:30:00")
		w.start()
		same(t, "before any", last(), "invalid IP")
		w.knock("acme/brown", "198.51.100.1:1000")
		same(t, "refused", last(), "198.51.100.1")
		time.Sleep(time.Second) // of one moment the journal knows no order
		w.enter("acme/brown", address)
		same(t, "admitted", last(), netip.MustParseAddrPort(address).Addr().String())
		w.firewall.facts <- policy.Fact{Kind: policy.Refusal, Engineer: w.engineer("acme/brown"), Count: 1,
			To: netip.MustParseAddrPort("10.1.0.9:23"), Proto: policy.TCP, Decision: policy.Decision{Reason: policy.UnlistedTarget}}
		same(t, "after a flow", last(), netip.MustParseAddrPort(address).Addr().String())
		for _, r := range w.gateway.Snapshot().Refusals {
			if r.Target != "" {
				same(t, "source of the flow", r.Source.String(), netip.MustParseAddrPort(address).Addr().String())
			}
		}
		w.shut("acme")
		same(t, "after the session", last(), netip.MustParseAddrPort(address).Addr().String())
		w.knock("acme/brown", "198.51.100.2:1000")
		time.Sleep(2 * heartbeat)
		if err := w.stop(); err != nil {
			t.Error(err)
		}
		w.start()
		same(t, "after a restart", last(), "198.51.100.2")
	})
}

func TestAFloodFillsNoDisk(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.start()
				random := rand.New(rand.NewPCG(seed, 0))
				total := 0
				for range 300 { // seconds
					for range random.IntN(40) {
						w.refuse(random)
						total++
					}
					time.Sleep(time.Second)
				}
				synctest.Wait()
				// Of strangers, of brown's handshakes, of sato's flows.
				if kept, want := len(w.gateway.Snapshot().Refusals), tally.StrangersKept+2*tally.RoomKept; kept != want {
					t.Errorf("%d summaries kept, want %d", kept, want)
				}
				// In any minute: those of one period, or of the ends of two.
				perMinute := map[time.Time]int{}
				for _, e := range w.refused() {
					perMinute[e.Time.Truncate(time.Minute)]++
				}
				for minute, n := range perMinute {
					if n > 2*(tally.Recorded+1) {
						t.Errorf("%d entries in the minute of %s", n, minute)
					}
				}
				if all := len(w.refused()); all > 6*(tally.Recorded+1) {
					t.Errorf("%d entries in 5 minutes, want at most %d a minute", all, tally.Recorded+1)
				}
				if err := w.stop(); err != nil {
					t.Error(err)
				}
				sum := 0
				for _, e := range w.refused() {
					sum += int(e.Count)
				}
				same(t, "refusals recorded in all", sum, total)
			})
		})
	}
}

// stranger is a refusal of nobody who could be named, from the i-th address.
func stranger(at time.Time, i int) policy.Fact {
	return policy.Fact{At: at, Source: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1),
		Decision: policy.Decision{Reason: policy.UnlistedSource}}
}

// stolen is a refusal of an engineer's key from the i-th address, and scan one
// of the engineer's flow to the i-th port.
func stolen(at time.Time, e *policy.Engineer, i int) policy.Fact {
	f := stranger(at, i)
	f.Engineer, f.Decision.Reason = e, policy.WrongSource
	return f
}

func scan(at time.Time, e *policy.Engineer, i int) policy.Fact {
	f := stolen(at, e, 1)
	f.Decision.Reason, f.To, f.Proto = policy.UnlistedTarget, netip.AddrPortFrom(netip.MustParseAddr("10.1.0.5"), uint16(1+i)), policy.TCP
	return f
}
