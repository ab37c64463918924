package gateway

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
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

// TestHostBehindAPlainLine drives the hosts of a caterer, who uses no WireGuard, through windows, closes,
// a doubt and a kill. What the kernel counts makes their sessions.
func TestHostBehindAPlainLine(t *testing.T) {
	p := oneHour()
	line := &policy.Line{Name: "leased", Interface: "eth1.310", Kind: policy.Leased, Plain: true}
	v := &policy.Vendor{Name: "kyushoku", Line: line}
	for _, a := range []string{"10.20.0.5", "10.20.0.6"} {
		v.Engineers = append(v.Engineers, policy.HostOf(v, netip.MustParseAddr(a)))
	}
	for _, w := range []struct{ name, from, until string }{{"lunch", "01:00:00", "01:30:00"}, {"supper", "01:40:00", "02:00:00"}} {
		at := func(clock string) policy.LocalTime {
			return policy.LocalTime{Date: policy.DateOf(moment(clock)), Time: policy.TimeOfDay(moment(clock).Sub(moment("00:00:00")) / time.Second)}
		}
		v.Windows = append(v.Windows, &policy.Window{Vendor: v, Name: w.name, Engineers: v.Engineers, Targets: p.Targets[:1],
			Schedule: &policy.Once{From: at(w.from), Until: at(w.until)}})
	}
	p.Vendors, p.Lines = slices.Insert(p.Vendors, 1, v), []*policy.Line{line}
	orders := policy.Flow{From: v.Engineers[0].Addresses[0], To: netip.MustParseAddrPort("10.1.0.5:22"), Protocol: policy.TCP}
	simulate(t, p, func(t *testing.T, w *world) {
		sends := func(connections, bytes uint64) {
			w.do(func() {
				if w.firewall.used == nil {
					w.firewall.used = map[policy.Flow]policy.Use{}
				}
				u := w.firewall.used[orders]
				if u.First.IsZero() {
					u.First = w.wall()
				}
				u.Connections, u.ReceivedPackets, u.ReceivedBytes, u.Last = u.Connections+connections, u.ReceivedPackets+1, u.ReceivedBytes+bytes, w.wall()
				w.firewall.used[orders] = u
			})
		}
		read := 0
		is := func(when string, want ...string) {
			t.Helper()
			told, all := []string{}, w.durable()
			for _, e := range all[read:] {
				text := ""
				switch e.Kind {
				case journal.SessionOpened:
					text = "opened " + e.Engineer
					if e.Source != "10.20.0.5" || e.SourcePort != 0 || e.Timestamp != "" || e.Key != "" || len(e.Grants) != 1 {
						t.Errorf("%s: the session is %+v", when, e)
					}
				case journal.SessionClosed:
					text = fmt.Sprintf("closed %s %d", e.Reason, e.ReceivedBytes)
				case journal.Used:
					text = fmt.Sprintf("used %d", e.ReceivedBytes)
					for _, u := range e.Used {
						text += fmt.Sprintf(" %s,%s,%d", u.Target, u.Service, u.ReceivedBytes)
					}
					if !*e.Complete {
						text += " incomplete"
					}
				case journal.Admission:
					text = "an admission"
				}
				if text != "" {
					told = append(told, text)
				}
			}
			read = len(all)
			same(t, when, told, append([]string{}, want...))
		}
		const seen = "kidoban_engineer_last_seen_timestamp_seconds{engineer=host-10-20-0-5,vendor=kyushoku}"
		w.at("00:59:50")
		w.start()
		sends(1, 500) // outside its window
		w.at("01:01:00")
		is("in the window, and silent")
		got := w.scrape()
		same(t, "never seen", got[seen], 0)
		same(t, "listed", got["kidoban_engineer_listed_timestamp_seconds{engineer=host-10-20-0-5,vendor=kyushoku}"] > 0, true)
		same(t, "hosts", got["kidoban_engineers{vendor=kyushoku}"], 2)

		w.at("01:05:00")
		sends(1, 100)
		w.at("01:05:02")
		is("the first flow", "opened host-10-20-0-5")
		same(t, "sessions", w.sessions(), []string{"kyushoku/host-10-20-0-5 from 10.20.0.5"})
		same(t, "admitted at the port", w.live(), "[]")
		for minute := 7; minute <= 21; minute += 2 {
			w.at(fmt.Sprintf("01:%02d:00", minute))
			sends(0, 10)
		}
		w.at("01:21:02")
		is("the quarter of an hour", "used 170 ehr,tcp/22,170") // that of the last minute came later
		text, err := json.Marshal(w.gateway.Snapshot().StatusAt(w.wall()))
		if err != nil || strings.Contains(string(text), v.Engineers[0].Key.String()) || !strings.Contains(string(text), `"last_handshake":null`) {
			t.Errorf("the status is %s, %v", text, err)
		}
		same(t, "hints", w.hints(), []string{})
		got = w.scrape()
		same(t, "inside", got["kidoban_session_active{vendor=kyushoku}"], 1)
		same(t, "received", got["kidoban_session_receive_bytes_total{vendor=kyushoku}"], 180)
		same(t, "admissions", got["kidoban_admissions_total{reason=admitted,vendor=kyushoku}"], 0)
		for series := range got {
			if strings.HasPrefix(series, "wireguard_peer_info{device=kido0,name=kyushoku/") || strings.HasPrefix(series, "kidoban_engineers_in_turn{vendor=kyushoku") {
				t.Errorf("there is %s", series)
			}
		}

		w.crash()
		w.start()
		is("after a kill", "closed crashed 0")
		if at := w.scrape()[seen]; at < float64(moment("01:20:00").Unix()) {
			t.Errorf("the host was last seen at %f after a restart", at)
		}
		w.at("01:22:00")
		is("nothing comes")
		sends(1, 40)
		w.at("01:22:02")
		is("it comes back", "opened host-10-20-0-5")
		w.shut("kyushoku")
		w.at("01:22:04")
		is("close", "closed vendor_shut 40", "used 40 ehr,tcp/22,40")
		w.at("01:22:06")
		sends(1, 7) // dropped, and not read before the reopening
		w.reopen("kyushoku")
		w.at("01:22:10")
		is("reopen")
		sends(1, 20)
		w.at("01:22:12")
		is("it comes once more", "opened host-10-20-0-5")
		w.do(func() { w.firewall.check = errFault })
		w.at("01:22:20")
		is("a doubt", "closed gateway_shut 20", "used 20 ehr,tcp/22,20")
		w.do(func() { w.firewall.check = nil })
		w.at("01:23:00")
		is("no doubt any more")
		sends(1, 9)
		w.at("01:26:02")
		is("idle", "opened host-10-20-0-5", "closed idle 9", "used 9 ehr,tcp/22,9")
		w.do(func() { same(t, "cuts in the tunnel", len(w.tunnel.cuts), 0) })
		w.at("01:29:59.500")
		sends(0, 6)
		w.at("01:30:03")
		is("the end of the window", "opened host-10-20-0-5", "closed window_closed 6", "used 6 ehr,tcp/22,6")
		w.at("01:40:05")
		is("the next window")
		sends(1, 5)
		w.at("01:40:07")
		is("in the next window", "opened host-10-20-0-5")
		sends(0, 3)
		if err := w.stop(); err != nil {
			t.Error(err)
		}
		is("the stop", "closed gateway_stopped 8", "used 8 ehr,tcp/22,8")
	})
}
