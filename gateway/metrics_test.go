package gateway

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"kidoban/gateway/policy"
)

// scrape gives every series, through a registry that checks each.
func (w *world) scrape() map[string]float64 {
	w.t.Helper()
	registry := prometheus.NewPedanticRegistry()
	for _, c := range w.metrics.Collectors(w.gateway, "kido0", policy.Key{1}) {
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
				if l.GetName() == "version" || l.GetName() == "goversion" || l.GetName() == "public_key" || l.GetName() == "digest" {
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
				series[name+"}"] = m.GetCounter().GetValue()
			case m.Histogram != nil:
				series[name+"}"] = float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return series
}

func histogram(t *testing.T, h prometheus.Histogram) (count int, sum float64) {
	t.Helper()
	var m dto.Metric
	if err := h.Write(&m); err != nil {
		t.Fatal(err)
	}
	return int(m.GetHistogram().GetSampleCount()), m.GetHistogram().GetSampleSum()
}

func TestMetricsAreClean(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.enter("acme/brown", address)
		w.hear("acme/brown", 5, 5)
		time.Sleep(2 * heartbeat)
		synctest.Wait()
		for _, c := range w.metrics.Collectors(w.gateway, "kido0", policy.Key{1}) {
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
			"kidoban_admissions_total{reason=admitted,vendor=acme}":                 1,
			"kidoban_admissions_total{reason=outside_window,vendor=medisys}":        1,
			"kidoban_admissions_total{reason=wrong_source,vendor=medisys}":          0,
			"kidoban_admissions_total{reason=unknown_key,vendor=}":                  0,
			"kidoban_session_active{vendor=acme}":                                   1,
			"kidoban_session_active{vendor=medisys}":                                0,
			"kidoban_sessions_total{ended=idle,vendor=acme}":                        0,
			"kidoban_session_receive_bytes_total{vendor=acme}":                      700,
			"kidoban_session_transmit_bytes_total{vendor=acme}":                     40,
			"kidoban_session_receive_bytes_total{vendor=medisys}":                   0,
			"kidoban_window_open{vendor=acme,window=night}":                         1,
			"kidoban_window_next_close_timestamp_seconds{vendor=acme,window=night}": float64(moment("02:00:00").Unix()),
			"kidoban_shut{scope=all}":                                               0,
			"kidoban_shut{scope=vendors}":                                           1,
			"kidoban_clock_synchronized{}":                                          1,
			"kidoban_policy_reload_successful{}":                                    1,
			"kidoban_policy_info{}":                                                 1,
			"kidoban_ruleset_drift_total{}":                                         0,
			"kidoban_reconcile_failures_total{}":                                    0,
			"kidoban_closing_lag_seconds{}":                                         0,
			"wireguard_peer_receive_bytes_total{}":                                  700,
			"kidoban_journal_size{}":                                                float64(len(w.durable())),
		} {
			if have, ok := got[name]; !ok || have != want {
				t.Errorf("%s = %g (present: %t), want %g", name, have, ok, want)
			}
		}
	})
}

// What comes from the network makes no series: neither keys nor addresses nor
// ports, in whatever number they come.
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
		same(t, "series", len(after), len(before))
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
		f.Engineer = w.engineer("acme/brown")
	case 1:
		f.Engineer = w.engineer("medisys/sato")
		f.To, f.Proto = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(random.Uint32())}), uint16(random.Uint32())), policy.TCP
	}
	w.tunnel.facts <- f
}
