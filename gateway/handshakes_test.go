package gateway

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/policy"
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
