package gateway

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"kidoban/gateway/policy"
)

// seconds is an instant as metrics give it.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// scrape gives every series, through a registry that checks each.
func (w *world) scrape() map[string]float64 {
	w.t.Helper()
	registry := prometheus.NewPedanticRegistry()
	for _, c := range w.metrics.Collectors(w.gateway, "kido0") {
		registry.MustRegister(c)
	}
	families, err := registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	series := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName() + "{"
			for i, l := range m.GetLabel() {
				if l.GetName() == "version" || l.GetName() == "goversion" || l.GetName() == "public_key" || l.GetName() == "digest" || l.GetName() == "session" {
					continue
				}
				if i > 0 && name[len(name)-1] != '{' {
					name += ","
				}
				name += l.GetName() + "=" + l.GetValue()
			}
			switch {
			case m.Gauge != nil:
				series[name+"}"] = m.GetGauge().GetValue()
			case m.Counter != nil:
				series[name+"}"] += m.GetCounter().GetValue() // of all keys
			case m.Histogram != nil:
				series[name+"}"] = float64(m.GetHistogram().GetSampleCount())
				series[name+"} sum"] = m.GetHistogram().GetSampleSum()
			}
		}
	}
	return series
}

func TestMetricsAreClean(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.enter("acme/brown", address)
		w.hear("acme/brown", 5, 5)
		time.Sleep(2 * heartbeat)
		synctest.Wait()
		for _, c := range w.metrics.Collectors(w.gateway, "kido0") {
			problems, err := testutil.CollectAndLint(c)
			if err != nil {
				t.Error(err)
			}
			for _, p := range problems {
				t.Errorf("%s: %s", p.Metric, p.Text)
			}
		}
	})
}

func TestMetricsTellHowThingsStand(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.enter("acme/brown", address)
		w.hear("acme/brown", 700, 40)
		w.knock("medisys/sato", address)
		time.Sleep(2 * heartbeat)
		synctest.Wait()
		w.shut("medisys")
		got := w.scrape()
		for name, want := range map[string]float64{
			"kidoban_ready{}": 1,
			"kidoban_admissions_total{reason=admitted,vendor=acme}":                                               1,
			"kidoban_admissions_total{reason=outside_window,vendor=medisys}":                                      1,
			"kidoban_admissions_total{reason=wrong_source,vendor=medisys}":                                        0,
			"kidoban_admissions_total{reason=unknown_key,vendor=}":                                                0,
			"kidoban_session_active{vendor=acme}":                                                                 1,
			"kidoban_session_active{vendor=medisys}":                                                              0,
			"kidoban_sessions_total{ended=idle,vendor=acme}":                                                      0,
			"kidoban_session_receive_bytes_total{vendor=acme}":                                                    700,
			"kidoban_session_transmit_bytes_total{vendor=acme}":                                                   40,
			"kidoban_session_receive_bytes_total{vendor=medisys}":                                                 0,
			"kidoban_window_open{vendor=acme,window=night}":                                                       1,
			"kidoban_window_next_close_timestamp_seconds{vendor=acme,window=night}":                               float64(moment("02:00:00").Unix()),
			"kidoban_shut{scope=all}":                                                                             0,
			"kidoban_shut{scope=vendors}":                                                                         1,
			"kidoban_clock_synchronized{}":                                                                        1,
			"kidoban_policy_reload_successful{}":                                                                  1,
			"kidoban_policy_info{}":                                                                               1,
			"kidoban_ruleset_drift_total{}":                                                                       0,
			"kidoban_reconcile_failures_total{}":                                                                  0,
			"kidoban_ruleset_waiting_seconds{}":                                                                   0,
			"kidoban_closing_lag_seconds{}":                                                                       0,
			"wireguard_peer_receive_bytes_total{}":                                                                700,
			"kidoban_journal_size{}":                                                                              float64(len(w.durable())),
			"kidoban_journal_replaced_total{}":                                                                    0,
			"kidoban_doubt{about=journal}":                                                                        0,
			"kidoban_grant_active{vendor=acme}":                                                                   1,
			"kidoban_vendor_shut{vendor=acme}":                                                                    0,
			"kidoban_vendor_shut{vendor=medisys}":                                                                 1,
			"kidoban_session_next_end_timestamp_seconds{vendor=acme}":                                             float64(moment("02:00:00").Unix()),
			"kidoban_session_until_timestamp_seconds{engineer=brown,vendor=acme}":                                 float64(moment("02:00:00").Unix()),
			"kidoban_session_next_end_timestamp_seconds{vendor=medisys}":                                          0,
			"kidoban_engineer_last_seen_timestamp_seconds{engineer=sato,vendor=medisys}":                          0,
			"kidoban_engineer_last_refusal_timestamp_seconds{engineer=sato,reason=outside_window,vendor=medisys}": float64(moment("01:30:00").Unix()),
			"kidoban_policy_file_valid{}":                                                                         1,
			"kidoban_syslog_dropped_total{}":                                                                      0,
			"kidoban_log_dropped_total{}":                                                                         0,
		} {
			if have, ok := got[name]; !ok || have != want {
				t.Errorf("%s = %g (present: %t), want %g", name, have, ok, want)
			}
		}
	})
}

// What comes from the network makes no series: neither keys nor addresses nor
// ports, in whatever number they come. Engineers of the policy have one for
// each reason at most, once they were refused for it.
func TestTheNumberOfSeriesIsConstant(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		before := w.scrape()
		random := rand.New(rand.NewPCG(1, 2))
		for range 3000 {
			w.refuse(random)
		}
		synctest.Wait()
		after := w.scrape()
		refused := 2 * (len(policy.Reasons()) - 1) // two engineers, every reason but admitted
		same(t, "series", len(after), len(before)+refused)
		for range 3000 {
			w.refuse(random)
		}
		synctest.Wait()
		same(t, "series after as many again", len(w.scrape()), len(after))
		sum := 0.0
		for _, r := range policy.Reasons() {
			for _, vendor := range []string{"", "acme", "medisys"} {
				sum += after["kidoban_admissions_total{reason="+r.String()+",vendor="+vendor+"}"]
			}
		}
		same(t, "refusals counted", sum, 3000)
	})
}

// refuse reports a refusal of a random reason, engineer and source.
func (w *world) refuse(random *rand.Rand) {
	reasons := policy.Reasons()
	f := policy.Fact{Kind: policy.Refusal, Count: 1, Source: netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(random.Uint32()), byte(random.Uint32()), 1, 1}), uint16(random.Uint32()))}
	for f.Decision.Reason = policy.Admitted; f.Decision.Reason == policy.Admitted; {
		f.Decision.Reason = reasons[random.IntN(len(reasons))]
	}
	switch random.IntN(4) {
	case 0:
		f.Engineer = w.file.Vendors[0].Engineers[0]
	case 1:
		f.Engineer = w.file.Vendors[1].Engineers[0]
		f.To, f.Proto = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(random.Uint32())}), uint16(random.Uint32())), policy.TCP
	}
	w.tunnel.facts <- f
}

// Hours open and hours used are counted apart, and an engineer's last visit is
// known after a restart.
func TestUseAndLastVisit(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("00:59:00")
		w.file.Text = "sato: {public_key: " + w.engineer("medisys/sato").Key.String() + "}"
		w.start()
		time.Sleep(6 * time.Minute) // the window opens at 01:00
		w.enter("acme/brown", address)
		visited := w.wall()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		got := w.scrape()
		open, used := got["kidoban_window_open_seconds_total{vendor=acme,window=night}"], got["kidoban_window_used_seconds_total{vendor=acme,window=night}"]
		if open < 415 || open > 425 || used < 115 || used > 125 {
			t.Errorf("open for %g s and used for %g s, want about 420 and 120", open, used)
		}
		same(t, "sato was never there", got["kidoban_engineer_last_seen_timestamp_seconds{engineer=sato,vendor=medisys}"], 0)
		listed := got["kidoban_engineer_listed_timestamp_seconds{engineer=sato,vendor=medisys}"]
		same(t, "sato's key is listed since the start", listed, float64(moment("00:59:00").Unix()))
		w.crash()
		time.Sleep(time.Minute)
		w.start()
		got = w.scrape()
		same(t, "sato's key is listed since then after a restart", got["kidoban_engineer_listed_timestamp_seconds{engineer=sato,vendor=medisys}"], listed)
		if seen := got["kidoban_engineer_last_seen_timestamp_seconds{engineer=brown,vendor=acme}"]; seen < seconds(visited)-1 || seen > seconds(visited)+1 {
			t.Errorf("brown was last seen at %f, want %f", seen, seconds(visited))
		}
	})
}

// An engineer's last refusal is known under the name that the policy in force
// has for the key, and of nobody else.
func TestLastRefusals(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		refusals := func() (all []string) {
			for name, at := range w.scrape() {
				if of, ok := strings.CutPrefix(name, "kidoban_engineer_last_refusal_timestamp_seconds"); ok {
					all = append(all, of+time.Unix(int64(at), 0).UTC().Format(" 15:04"))
				}
			}
			slices.Sort(all)
			return all
		}
		w.at("01:30:00")
		w.start()
		same(t, "nobody was refused", refusals(), nil)
		w.knock("medisys/sato", address)
		w.knock("acme/brown", "192.0.2.9:1")
		w.at("01:40:00")
		w.knock("medisys/sato", address)
		w.tunnel.facts <- policy.Fact{Kind: policy.Refusal, At: w.wall(), Count: 1, Decision: policy.Decision{Reason: policy.UnknownKey}}
		synctest.Wait()
		same(t, "sato twice, brown once, a stranger", refusals(), []string{
			"{engineer=brown,reason=wrong_source,vendor=acme} 01:30", "{engineer=sato,reason=outside_window,vendor=medisys} 01:40"})
		renamed, gone := oneHour(), oneHour()
		renamed.Vendor("medisys").Engineers[0].Name = "saito"
		gone.Vendors = gone.Vendors[:1]
		for i, p := range []*policy.Policy{renamed, gone} {
			p.Digest = fmt.Sprint("changed ", i)
		}
		brown := "{engineer=brown,reason=wrong_source,vendor=acme} 01:30"
		w.reload(renamed)
		same(t, "sato has another name", refusals(), []string{brown, "{engineer=saito,reason=outside_window,vendor=medisys} 01:40"})
		w.reload(gone)
		same(t, "sato is not listed", refusals(), []string{brown})
		w.reload(oneHour())
		same(t, "sato is listed anew", refusals(), []string{brown})
	})
}

// Series of engineers end where a policy lists more of them than the limit,
// and those of engineers inside where more are inside. An engineer inside keeps
// the names too.
func TestSeriesOfEngineersAreOptional(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.enter("acme/brown", address)
		w.hear("acme/brown", 5, 5)
		time.Sleep(2 * heartbeat)
		synctest.Wait()
		count := func(most int) (listed, inside, other int) {
			w.metrics.MostEngineers = most
			for name := range w.scrape() {
				switch {
				case strings.HasPrefix(name, "kidoban_session_") && strings.Contains(name, "engineer="):
					inside++
				case strings.Contains(name, "engineer=") || strings.HasPrefix(name, "wireguard_peer"):
					listed++
				default:
					other++
				}
			}
			return listed, inside, other
		}
		listed, inside, others := count(w.metrics.MostEngineers)
		if listed == 0 || inside != 3 {
			t.Errorf("%d series of engineers, %d of who is inside", listed, inside)
		}
		for most, want := range map[int][3]int{0: {0, 0, others}, 1: {1, inside, others}} {
			var got [3]int
			got[0], got[1], got[2] = count(most)
			same(t, fmt.Sprintf("series of engineers, of who is inside, and others, at most %d", most), got, want)
		}
	})
}
