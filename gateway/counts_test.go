package gateway

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// Sessions, vendors' counters, series of peers and the journal say the same
// of who gets another key or another name: nothing is counted twice, and who
// sends nothing is idle.
func TestCountsAreOfTheKey(t *testing.T) {
	swap := func(p *policy.Policy) {
		e := p.Vendors[1].Engineers
		e[0].Key, e[1].Key = e[1].Key, e[0].Key
	}
	for _, c := range []struct {
		name     string
		policies []func(*policy.Policy)
		who      string // enters then
		before   int    // bytes that the key of who had received
		peers    []string
	}{
		{"another key", []func(*policy.Policy){func(p *policy.Policy) { sato(p).Key = policy.Key{200} }}, "medisys/sato", 0,
			[]string{"medisys/sato 7", "medisys/suzuki 2000"}},
		{"another key, and the one of before again", []func(*policy.Policy){func(p *policy.Policy) { sato(p).Key = policy.Key{200} }, func(*policy.Policy) {}}, "medisys/sato", 1000,
			[]string{"medisys/sato 1007", "medisys/suzuki 2000"}},
		{"another name", []func(*policy.Policy){func(p *policy.Policy) { sato(p).Name = "saito" }}, "medisys/saito", 1000,
			[]string{"medisys/saito 1007", "medisys/suzuki 2000"}},
		{"another vendor's name", []func(*policy.Policy){func(p *policy.Policy) { p.Vendors[1].Name = "medisys2" }}, "medisys2/sato", 1000,
			[]string{"medisys2/sato 1007", "medisys2/suzuki 2000"}},
		{"removed, and added again", []func(*policy.Policy){func(p *policy.Policy) { leave(p, "sato") }, func(*policy.Policy) {}}, "medisys/sato", 1000,
			[]string{"medisys/sato 1007", "medisys/suzuki 2000"}},
		{"two who swap their keys", []func(*policy.Policy){swap}, "medisys/sato", 2000,
			[]string{"medisys/sato 2007", "medisys/suzuki 1000"}},
		{"two who swap their keys, and back", []func(*policy.Policy){swap, func(*policy.Policy) {}}, "medisys/sato", 1000,
			[]string{"medisys/sato 1007", "medisys/suzuki 2000"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, aNight(), func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.start()
				w.enter("medisys/sato", "203.0.113.1:1000")
				w.enter("medisys/suzuki", "203.0.113.2:1000")
				w.hear("medisys/sato", 1000, 500)
				w.hear("medisys/suzuki", 2000, 600)
				w.at("01:30:05")
				for i, change := range c.policies {
					p := aNight()
					change(p)
					p.Digest = fmt.Sprint(p.Digest, i)
					w.reload(p)
				}
				e := w.engineer(c.who)
				same(t, "counted of the key before", w.gateway.Snapshot().Traffic[e.Key].Received, uint64(c.before))
				w.enter(c.who, "203.0.113.1:1000")
				agree := func(at string, received, transmitted uint64) {
					t.Helper()
					w.at(at)
					i := slices.IndexFunc(w.gateway.Snapshot().Sessions, func(s view.SessionStatus) bool { return s.Vendor+"/"+s.Engineer == c.who })
					if i < 0 {
						t.Fatalf("%s: %s has no session", at, c.who)
					}
					s, series := w.gateway.Snapshot().Sessions[i], w.scrape()
					var in, out float64
					for _, vendor := range []string{"acme", "medisys", "medisys2"} {
						in += series["kidoban_session_receive_bytes_total{vendor="+vendor+"}"]
						out += series["kidoban_session_transmit_bytes_total{vendor="+vendor+"}"]
					}
					same(t, at+": received in the session", s.Received, received)
					same(t, at+": transmitted in the session", s.Transmitted, transmitted)
					same(t, at+": received of all vendors", in, float64(3000+received))
					same(t, at+": transmitted of all vendors", out, float64(1100+transmitted))
				}
				for _, at := range []string{"01:30:06", "01:30:07", "01:30:08", "01:30:09"} {
					agree(at, 0, 0)
				}
				w.hear(c.who, 7, 3)
				for _, at := range []string{"01:30:11", "01:30:12", "01:33:09"} {
					agree(at, 7, 3)
				}
				same(t, "peers", w.peers(), c.peers)
				seen := fmt.Sprintf("kidoban_engineer_last_seen_timestamp_seconds{engineer=%s,vendor=%s}", e.Name, e.Vendor.Name)
				if at := w.scrape()[seen]; at < seconds(moment("01:30:09")) || at > seconds(moment("01:30:11")) {
					t.Errorf("last seen at %v", time.Unix(int64(at), 0).UTC())
				}
				w.at("01:33:12")
				same(t, "sessions after 180 s of silence", w.sessions(), []string{})
				var told []string
				for _, e := range w.durable() {
					if e.Kind == journal.SessionClosed {
						told = append(told, fmt.Sprint(e.Vendor, "/", e.Engineer, " ", e.Reason, " ", e.ReceivedBytes, " ", e.TransmittedBytes))
					}
				}
				if line := c.who + " idle 7 3"; told[len(told)-1] != line && told[len(told)-2] != line || !slices.Contains(told, "medisys/sato policy_changed 1000 500") {
					t.Errorf("closed in the journal: %q", told)
				}
			})
		})
	}
}

// A session keeps what was counted of it where the tunnel has forgotten the key.
func TestASessionKeepsItsCounts(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.enter("acme/brown", address)
		w.hear("acme/brown", 100, 20)
		w.at("01:30:02")
		w.do(func() { clear(w.tunnel.traffic) })
		w.at("01:30:04")
		same(t, "received", w.gateway.Snapshot().Sessions[0].Received, 100)
		w.shut("acme")
		same(t, "received, of the vendor", w.scrape()["kidoban_session_receive_bytes_total{vendor=acme}"], 100)
		for _, e := range w.durable() {
			if e.Kind == journal.SessionClosed {
				same(t, "received, recorded", e.ReceivedBytes, 100)
				same(t, "transmitted, recorded", e.TransmittedBytes, 20)
			}
		}
	})
}

// peers gives the name and the received bytes of each series of a peer.
func (w *world) peers() []string {
	w.t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(w.metrics.Collectors(w.gateway, "kido0")...)
	families, err := registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	received := map[string]float64{}
	peers := []string{}
	for _, f := range slices.Backward(families) { // the bytes before the names
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			switch f.GetName() {
			case "wireguard_peer_receive_bytes_total":
				received[labels["public_key"]] = m.GetCounter().GetValue()
			case "wireguard_peer_info":
				if n := received[labels["public_key"]]; n > 0 {
					peers = append(peers, fmt.Sprintf("%s %v", labels["name"], n))
				}
			}
		}
	}
	slices.Sort(peers)
	return peers
}
