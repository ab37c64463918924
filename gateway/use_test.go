package gateway

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// TestWhatASessionUsesIsRecorded: the count that closes a session waits for the kernel,
// and the closing does not.
func TestWhatASessionUsesIsRecorded(t *testing.T) {
	of := func(w *world) (told []string) {
		for _, e := range w.durable() {
			switch e.Kind {
			case journal.SessionClosed:
				told = append(told, "closed "+e.Reason)
			case journal.Used:
				text := fmt.Sprintf("used %d", e.ReceivedBytes)
				for _, u := range e.Used {
					text += fmt.Sprintf(" %s,%s,%s,%d,%d", u.Target, u.Address, u.Service, u.ReceivedBytes, u.TransmittedBytes)
				}
				if !*e.Complete {
					text += " incomplete " + e.Reason
				}
				told = append(told, text)
			}
		}
		return told
	}
	flow := policy.Flow{From: netip.MustParseAddr("10.99.0.9"), To: netip.MustParseAddrPort("10.1.0.5:22"), Protocol: policy.TCP}
	for _, c := range []struct {
		name string
		do   func(*world)
		want []string
	}{
		{"behind by five seconds", func(w *world) {
			w.do(func() { w.firewall.behind = 5 * time.Second })
			w.shut("acme")
			w.at("01:55:12")
			same(w.t, "closed before it is counted", of(w), []string{"closed vendor_shut"})
			w.at("01:55:20")
		}, []string{"closed vendor_shut", "used 100 srv,10.1.0.5,tcp/22,1000,50"}},
		{"the kernel lost something", func(w *world) { w.do(func() { w.firewall.lost = w.wall() }); w.shut("acme"); w.at("01:55:30") },
			[]string{"closed vendor_shut", "used 100 srv,10.1.0.5,tcp/22,1000,50 incomplete "}},
		{"the kernel does not count", func(w *world) {
			w.do(func() { w.firewall.uncounted, w.firewall.used = true, nil })
			w.shut("acme")
			w.at("01:55:30")
		}, []string{"closed vendor_shut", "used 100 incomplete not_counted"}},
		{"the gateway stops, and the kernel has counted", func(w *world) {
			if err := w.stop(); err != nil {
				w.t.Error(err)
			}
		}, []string{"closed gateway_stopped", "used 100 srv,10.1.0.5,tcp/22,1000,50"}},
		{"the gateway stops", func(w *world) {
			w.do(func() { w.firewall.behind = 5 * time.Second })
			if err := w.stop(); err != nil {
				w.t.Error(err)
			}
		}, []string{"closed gateway_stopped", "used 100 srv,10.1.0.5,tcp/22,1000,50 incomplete "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := oneHour()
			e := p.Vendors[0].Engineers[0]
			e.Addresses = []netip.Addr{flow.From}
			p.Targets = []*policy.Target{{Name: "srv", Prefix: netip.MustParsePrefix("10.1.0.0/24"), Services: []policy.Service{{Protocol: policy.TCP, First: 22, Last: 22}}}}
			simulate(t, p, func(t *testing.T, w *world) {
				w.at("01:55:00")
				w.start()
				w.at("01:55:02")
				w.enter("acme/brown", address)
				w.hear("acme/brown", 100, 20)
				w.do(func() {
					w.firewall.used = map[policy.Flow]policy.Use{flow: {Connections: 1, ReceivedPackets: 9, ReceivedBytes: 1000, TransmittedBytes: 50, First: w.wall(), Last: w.wall()}}
				})
				w.at("01:55:10")
				c.do(w)
				same(t, "recorded", of(w), c.want)
			})
		})
	}
}

// TestASessionNamesItsHandshake: the opening has the port and the handshake, and the
// end of a doubt its subject.
func TestASessionNamesItsHandshake(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:55:00")
		w.start()
		w.enter("acme/brown", address)
		w.do(func() { w.firewall.check = errFault })
		w.at("01:55:10")
		w.do(func() { w.firewall.check = nil })
		w.at("01:55:30")
		var admitted, opened, ended journal.Entry
		for _, e := range w.durable() {
			switch e.Kind {
			case journal.Admission:
				admitted = e
			case journal.SessionOpened:
				opened = e
			case journal.Trusted:
				ended = e
			}
		}
		same(t, "port", opened.SourcePort, 1000)
		if _, err := hex.DecodeString(opened.Timestamp); err != nil || opened.Timestamp != admitted.Timestamp || opened.Timestamp == "" {
			t.Errorf("the session's handshake is %q, the admission's %q", opened.Timestamp, admitted.Timestamp)
		}
		same(t, "the end of the doubt", ended.Reason, view.Ruleset)
	})
}
