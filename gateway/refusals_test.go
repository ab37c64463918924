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
				if kept := len(w.gateway.Snapshot().Refusals); kept != refusalsKept {
					t.Errorf("%d summaries kept, want %d", kept, refusalsKept)
				}
				// In any minute: those of one period, or of the ends of two.
				perMinute := map[time.Time]int{}
				for _, e := range w.refused() {
					perMinute[e.Time.Truncate(time.Minute)]++
				}
				for minute, n := range perMinute {
					if n > 2*(refusalsRecorded+1) {
						t.Errorf("%d entries in the minute of %s", n, minute)
					}
				}
				if all := len(w.refused()); all > 6*(refusalsRecorded+1) {
					t.Errorf("%d entries in 5 minutes, want at most %d a minute", all, refusalsRecorded+1)
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

func TestRefusalsForgetTheOldest(t *testing.T) {
	r := newRefusals()
	at := moment("01:00:00")
	for i := range refusalsKept + 10 {
		r.add(policy.Fact{At: at.Add(time.Duration(i) * time.Second), Source: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1),
			Decision: policy.Decision{Reason: policy.UnlistedSource}})
	}
	list := r.list()
	same(t, "kept", len(list), refusalsKept)
	same(t, "the newest comes first", list[0].Source.String(), "10.0.2.9")
	same(t, "the oldest that is kept", list[len(list)-1].Source.String(), "10.0.0.10")
}

func TestHintOfANATInFront(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("00:30:00")
		w.start()
		hints := func() int {
			synctest.Wait()
			return len(w.gateway.Snapshot().StatusAt(w.wall()).Hints)
		}
		w.knock("acme/brown", "192.168.1.1:1000")
		w.knock("medisys/sato", "192.168.1.1:1000")
		same(t, "hints when all come from one private address", hints(), 1)
		w.knock("acme/brown", address)
		same(t, "hints when one comes from elsewhere", hints(), 0)
	})
}
