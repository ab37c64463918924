package gateway

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
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
				if kept, want := len(w.gateway.Snapshot().Refusals), strangersKept+2*roomKept; kept != want {
					t.Errorf("%d summaries kept, want %d", kept, want)
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
	for i := range strangersKept + 10 {
		r.add(stranger(at.Add(time.Duration(i)*time.Second), i))
	}
	list := r.list()
	same(t, "kept", len(list), strangersKept)
	same(t, "the newest comes first", list[0].Source.String(), "10.0.2.9")
	same(t, "the oldest that is kept", list[len(list)-1].Source.String(), "10.0.0.10")
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

// TestNoFloodHidesAnother: whatever strangers and other engineers do, and the
// same engineer inside the tunnel, a key that is used from a wrong address is
// listed and recorded by name.
func TestNoFloodHidesAnother(t *testing.T) {
	vendor := &policy.Vendor{Name: "acme"}
	var people []*policy.Engineer
	for i := range 1000 {
		people = append(people, &policy.Engineer{Vendor: vendor, Name: fmt.Sprintf("e%d", i)})
	}
	victim := people[0]
	for _, c := range []struct {
		name    string
		another func(at time.Time, i int) policy.Fact
	}{
		{"strangers", stranger},
		{"one engineer's scan", func(at time.Time, i int) policy.Fact { return scan(at, people[1], i) }},
		{"the victim's own scan", func(at time.Time, i int) policy.Fact { return scan(at, victim, i) }},
		{"one key from many addresses", func(at time.Time, i int) policy.Fact { return stolen(at, people[1], i) }},
		{"scans of many engineers", func(at time.Time, i int) policy.Fact { return scan(at, people[1+i%(len(people)-1)], i) }},
		{"strangers and scans of many engineers", func(at time.Time, i int) policy.Fact {
			if i%2 == 0 {
				return stranger(at, i)
			}
			return scan(at, people[1+i%(len(people)-1)], i)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRefusals()
			at := moment("01:00:00")
			perMinute := map[int]int{}
			recorded, total, sum := 0, 0, 0
			for second := range 150 {
				if second == 70 { // in the midst of a minute whose places are long taken
					r.add(stolen(at, victim, 77))
					total++
				}
				for i := range 100 {
					r.add(c.another(at, 100*second+i))
					total++
				}
				for _, e := range r.entries(at) {
					perMinute[second/60]++
					sum += int(e.Count)
					if e.Engineer == victim.Name && e.Reason == "wrong_source" {
						recorded++
					}
				}
				at = at.Add(time.Second)
			}
			for _, e := range r.entries(at.Add(time.Minute)) {
				sum += int(e.Count)
			}
			same(t, "refusals recorded in all", sum, total)
			same(t, "entries about the stolen key", recorded, 1)
			for minute, n := range perMinute {
				if n > refusalsRecorded+1 {
					t.Errorf("%d entries in minute %d", n, minute)
				}
			}
			list := r.list()
			listed := slices.ContainsFunc(list, func(s view.Refusal) bool {
				return s.Engineer == victim.Name && s.Reason == "wrong_source" && s.Source == netip.MustParseAddr("10.0.0.77")
			})
			if !listed || len(list) > strangersKept+engineersKept {
				t.Errorf("%d are listed, the stolen key among them: %t", len(list), listed)
			}
			for i, s := range list[1:] {
				if s.Engineer != "" && list[i].Engineer == "" {
					t.Fatal("strangers are listed before engineers")
				}
			}
		})
	}
}

// Where every engineer has one, the one that is oldest makes room.
func TestTheNextEngineerFindsARoom(t *testing.T) {
	r := newRefusals()
	vendor := &policy.Vendor{Name: "medisys"}
	at := moment("01:00:00")
	for i := range engineersKept + 10 {
		at = at.Add(time.Second)
		r.add(stolen(at, &policy.Engineer{Vendor: vendor, Name: fmt.Sprint("e", i)}, 77))
		if i < engineersKept {
			continue
		}
		if newest := r.list()[0]; newest.Engineer != fmt.Sprint("e", i) {
			t.Fatalf("the newest that is listed after %d engineers is of %s", i+1, newest.Engineer)
		}
	}
	list := r.list()
	same(t, "listed", len(list), engineersKept)
	same(t, "the oldest that is listed", list[len(list)-1].Engineer, "e10")
	same(t, "rooms", len(r.kept), engineersKept)
}

// A client that is left switched on outside its window does not fill the
// journal; nothing of it is uncounted, and after a pause it is news again.
func TestWhoKnocksForDaysIsRecordedMoreRarely(t *testing.T) {
	r := newRefusals()
	e := &policy.Engineer{Vendor: &policy.Vendor{Name: "medisys"}, Name: "sato"}
	at := moment("01:00:00")
	var told, sum, total int
	knock := func(f policy.Fact) {
		f.Timestamp = [12]byte{byte(total >> 16), byte(total >> 8), byte(total)}
		r.add(f)
		total++
	}
	hear := func(entries []journal.Entry) (newest string) {
		for _, e := range entries {
			told++
			sum += int(e.Count)
			newest = e.Timestamp
		}
		return newest
	}
	for range 24 * 3600 / 5 {
		at = at.Add(5 * time.Second)
		knock(stolen(at, e, 77))
		hear(r.entries(at))
	}
	if most := refusedOften + int(24*time.Hour/refusedRarely); told < most-3 || told > most {
		t.Errorf("%d entries in a day, want about %d", told, most)
	}
	newest := hear(r.entries(at.Add(refusedRarely))) // as a stop does
	same(t, "recorded", sum, total)
	same(t, "the newest timestamp", newest, fmt.Sprintf("%06x%018x", total-1, 0))

	told = 0
	at = at.Add(time.Hour)
	hear(r.entries(at))
	hear(r.entries(at.Add(time.Minute)))
	at = at.Add(2 * time.Minute)
	knock(stolen(at, e, 77))
	hear(r.entries(at))
	same(t, "entries after a pause", told, 1)
}
