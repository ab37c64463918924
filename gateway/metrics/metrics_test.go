package metrics

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"kidoban/gateway/policy"
	"kidoban/gateway/session"
	"kidoban/gateway/view"
)

// Dashboards and rules of others name these: neither name nor labels change.
// The names of wireguard_exporter are among them; its endpoint is not, being a
// value from the network.
func TestMetricsKeepTheirNames(t *testing.T) {
	reference, err := os.ReadFile("../../docs/REFERENCE.md") // whose table the program makes
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"wireguard_device_info | gauge | device, public_key",
		"wireguard_peer_info | gauge | device, public_key, name",
		"wireguard_peer_receive_bytes_total | counter | public_key",
		"wireguard_peer_transmit_bytes_total | counter | public_key",
		"wireguard_peer_last_handshake_seconds | gauge | public_key",
		"kidoban_build_info | gauge | goversion, version",
		"kidoban_policy_info | gauge | digest",
		"kidoban_policy_reload_successful | gauge | ",
		"kidoban_ready | gauge | ",
		"kidoban_admissions_total | counter | vendor, reason",
		"kidoban_session_active | gauge | vendor",
		"kidoban_sessions_total | counter | vendor, ended",
		"kidoban_session_duration_seconds | histogram | vendor",
		"kidoban_session_receive_bytes_total | counter | vendor",
		"kidoban_session_transmit_bytes_total | counter | vendor",
		"kidoban_window_open | gauge | vendor, window",
		"kidoban_window_next_open_timestamp_seconds | gauge | vendor, window",
		"kidoban_window_next_close_timestamp_seconds | gauge | vendor, window",
		"kidoban_closing_lag_seconds | histogram | ",
		"kidoban_ruleset_drift_total | counter | ",
		"kidoban_reconcile_failures_total | counter | ",
		"kidoban_ruleset_waiting_seconds | gauge | ",
		"kidoban_journal_size | gauge | ",
		"kidoban_journal_checkpoint_timestamp_seconds | gauge | ",
		"kidoban_journal_append_seconds | histogram | ",
		"kidoban_clock_synchronized | gauge | ",
		"kidoban_shut | gauge | scope",
		"kidoban_requests | gauge | state",
		"kidoban_requests_total | counter | vendor, outcome",
		"kidoban_request_decision_seconds | histogram | ",
		"kidoban_emergencies_unratified | gauge | vendor",
		"kidoban_emergencies_overdue | gauge | vendor",
		"kidoban_reviews_pending | gauge | ",
		"kidoban_grants_frozen | gauge | ",
		"kidoban_vendor_info | gauge | vendor, name",
		"kidoban_engineer_info | gauge | vendor, engineer, vendor_name, engineer_name",
		"kidoban_engineer_last_refusal_timestamp_seconds | gauge | vendor, engineer, reason",
	} {
		if !strings.Contains(strings.ReplaceAll(string(reference), "`", ""), "| "+want+" |") {
			t.Errorf("there is no longer a metric as others know it: %s", want)
		}
	}
}

// Whoever asks for OpenMetrics is told which session stands behind a count.
func TestExemplarsNameTheSession(t *testing.T) {
	m := New("test")
	m.SessionEnded("acme", "ABCDEFGHIJKLMNOP", session.WindowClosed, 20*time.Minute)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(m.vendors.sessions, m.vendors.duration)
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
	for accept, want := range map[string]int{"application/openmetrics-text; version=1.0.0": 2, "text/plain": 0} {
		request := httptest.NewRequest("GET", "/metrics", nil)
		request.Header.Set("Accept", accept)
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		if got := strings.Count(answer.Body.String(), `# {session="ABCDEFGHIJKLMNOP"}`); got != want {
			t.Errorf("%s: %d exemplars, want %d:\n%s", accept, got, want, answer.Body)
		}
	}
}

// The kernel's counters begin anew with its table; ours go on.
func TestDroppedPacketsOnlyGrow(t *testing.T) {
	m := New("test")
	for _, n := range []uint64{5, 5, 7, 2, 2, 3} {
		m.Dropped(map[string]uint64{"source": n})
	}
	if got := testutil.ToFloat64(m.ruleset.refused.WithLabelValues("source")); got != 10 {
		t.Errorf("%g dropped, want 10", got)
	}
}

// still is a Source that does not change.
type still struct {
	snapshot *view.Snapshot
	now      time.Time
}

func (s still) Snapshot() *view.Snapshot { return s.snapshot }
func (s still) Now() time.Time           { return s.now }

// BenchmarkScrape is a scrape, as the program serves it and Prometheus asks for
// it, of 400 vendors with 25 engineers and 5 windows each, a tenth of the
// engineers inside; with and without series of engineers. It may take half a
// second, of which share-allowed is what it takes.
func BenchmarkScrape(b *testing.B) {
	p := &policy.Policy{Site: "a prefecture", Zone: time.UTC, Digest: "d"}
	target := &policy.Target{Name: "ehr", Prefix: netip.MustParsePrefix("10.1.0.5/32"), Services: []policy.Service{{Protocol: policy.TCP, First: 22, Last: 22}}}
	n := 0
	for i := range 400 {
		v := &policy.Vendor{Name: fmt.Sprintf("vendor-%d", i), Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}
		for j := range 25 {
			n++
			v.Engineers = append(v.Engineers, &policy.Engineer{Vendor: v, Name: fmt.Sprintf("engineer-%d", j), Key: policy.Key{byte(n), byte(n >> 8), 1},
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 99, byte(n >> 8), byte(n)})}, Sources: v.Sources})
		}
		for j := range 5 {
			v.Windows = append(v.Windows, &policy.Window{Vendor: v, Name: fmt.Sprintf("window-%d", j), Targets: []*policy.Target{target}, Engineers: v.Engineers,
				Schedule: &policy.Days{Weekdays: [7]bool{true, true, true, true, true, true, true}, From: 0, To: policy.TimeOfDay(3600 * (j + 1))}})
		}
		p.Vendors = append(p.Vendors, v)
	}
	now := time.Date(2026, 12, 1, 0, 30, 0, 0, time.UTC)
	s, err := view.Offline(p, now)
	if err != nil {
		b.Fatal(err)
	}
	s.Traffic = map[policy.Key]view.Traffic{}
	for i, v := range p.Vendors {
		for j, e := range v.Engineers {
			s.Traffic[e.Key] = view.Traffic{Received: uint64(i), LastHandshake: now}
			if j%10 == 0 {
				s.Sessions = append(s.Sessions, view.SessionStatus{ID: fmt.Sprintf("%016d", i*100+j), Vendor: v.Name, Engineer: e.Name, OpenedAt: now, Until: now.Add(time.Hour)})
			}
		}
	}
	for name, most := range map[string]int{"with engineers": 20_000, "without": 1000} {
		b.Run(name, func(b *testing.B) {
			m := New("test")
			m.MostEngineers = most
			m.Reloaded(p, now)
			registry := prometheus.NewPedanticRegistry()
			registry.MustRegister(m.Collectors(still{s, now}, "kido0")...)
			handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
			scrape := func(encoding string) *bytes.Buffer {
				request := httptest.NewRequest("GET", "/metrics", nil)
				request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
				request.Header.Set("Accept-Encoding", encoding)
				answer := httptest.NewRecorder()
				handler.ServeHTTP(answer, request)
				return answer.Body
			}
			lines := bytes.Count(scrape("identity").Bytes(), []byte("\n"))
			if lines < 20_000 {
				b.Fatalf("only %d lines", lines)
			}
			for b.Loop() {
				scrape("gzip")
			}
			one := b.Elapsed() / time.Duration(b.N)
			b.ReportMetric(float64(lines), "lines")
			b.ReportMetric(float64(one)/float64(time.Second/2), "share-allowed")
		})
	}
}

// Names for people are in two series, which others join by the short names:
// each vendor and each engineer has one, also where the policy gives no name. Of
// more engineers than may be shown, those inside have one.
func TestNamesForPeople(t *testing.T) {
	medisys, acme := &policy.Vendor{Name: "medisys", DisplayName: "株式会社メディシス"}, &policy.Vendor{Name: "acme"}
	medisys.Engineers = []*policy.Engineer{{Vendor: medisys, Name: "sato", DisplayName: "佐藤 太郎", Key: policy.Key{1}}}
	acme.Engineers = []*policy.Engineer{{Vendor: acme, Name: "brown", Key: policy.Key{2}}}
	s := &view.Snapshot{Base: policy.NewState(), Plan: &policy.Plan{Policy: &policy.Policy{Zone: time.UTC, Vendors: []*policy.Vendor{acme, medisys}}},
		Sessions: []view.SessionStatus{{ID: "A", Vendor: "medisys", Engineer: "sato", Names: view.NamesOf(medisys.Engineers[0])}}}
	const names = "# HELP kidoban_vendor_info Always 1 for each vendor; its name for people is in the label, or the short one where the policy gives none.\n" +
		"# TYPE kidoban_vendor_info gauge\n" +
		"kidoban_vendor_info{name=\"acme\",vendor=\"acme\"} 1\nkidoban_vendor_info{name=\"株式会社メディシス\",vendor=\"medisys\"} 1\n" +
		"# HELP kidoban_engineer_info Always 1 for each engineer; the names for people are in the labels, or the short ones where the policy gives none.\n" +
		"# TYPE kidoban_engineer_info gauge\n"
	const inside = "kidoban_engineer_info{engineer=\"sato\",engineer_name=\"佐藤 太郎\",vendor=\"medisys\",vendor_name=\"株式会社メディシス\"} 1\n"
	const outside = "kidoban_engineer_info{engineer=\"brown\",engineer_name=\"brown\",vendor=\"acme\",vendor_name=\"acme\"} 1\n"
	for most, want := range map[int]string{2: names + inside + outside, 1: names + inside} {
		m := New("test")
		m.MostEngineers = most
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(m.Collectors(still{s, time.Now()}, "kido0")...)
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "kidoban_vendor_info", "kidoban_engineer_info"); err != nil {
			t.Errorf("with at most %d engineers: %v", most, err)
		}
	}
}

// Histograms have classic buckets and are native as well.
func TestHistogramsAreClassicAndNative(t *testing.T) {
	m := New("test")
	m.SessionEnded("acme", "ABCDEFGHIJKLMNOP", session.Idle, time.Minute)
	for _, o := range []prometheus.Observer{m.ruleset.lag, m.ruleset.reconciling, m.append, m.vendors.duration.WithLabelValues("acme")} {
		h, out := o.(prometheus.Histogram), dto.Metric{}
		if err := h.Write(&out); err != nil {
			t.Fatal(err)
		}
		if got := out.GetHistogram(); len(got.GetBucket()) < 5 || got.Schema == nil {
			t.Errorf("%v: %d classic buckets, native: %t", h.Desc(), len(got.GetBucket()), got.Schema != nil)
		}
	}
}
