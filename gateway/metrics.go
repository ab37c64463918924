package gateway

import (
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kidoban/gateway/policy"
)

// Metrics is the only place that touches Prometheus. Counters are counted by
// the loop; everything that is a state is read from the newest Snapshot when
// it is scraped, so that status and metrics cannot disagree.
//
// No label takes a value from the network: what carries no proven identity
// counts under vendor="".
type Metrics struct {
	admissions     *prometheus.CounterVec
	sessions       *prometheus.CounterVec
	duration       prometheus.Histogram
	received, sent *prometheus.CounterVec
	lag            prometheus.Histogram
	drift          prometheus.Counter
	reconcile      prometheus.Counter
	append         prometheus.Histogram
	reload         prometheus.Gauge
	build          prometheus.Gauge
	all            []prometheus.Collector
}

// NewMetrics makes all counters; Collectors registers them.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
		admissions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kidoban_admissions_total",
			Help: "Decisions about initiations and flows, by vendor (empty where no identity is proven) and reason."}, []string{"vendor", "reason"}),
		sessions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kidoban_sessions_total",
			Help: "Sessions that ended, by vendor and why they ended."}, []string{"vendor", "ended"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kidoban_session_duration_seconds",
			Help:    "How long sessions that ended had lasted.",
			Buckets: []float64{10, 60, 300, 900, 1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600, 24 * 3600}, NativeHistogramBucketFactor: 1.1}),
		received: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kidoban_session_receive_bytes_total",
			Help: "Bytes received from engineers in sessions, by vendor."}, []string{"vendor"}),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kidoban_session_transmit_bytes_total",
			Help: "Bytes transmitted to engineers in sessions, by vendor."}, []string{"vendor"}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kidoban_closing_lag_seconds",
			Help:    "From the end of a grant to the moment gate and ruleset were both set without it.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}, NativeHistogramBucketFactor: 1.1}),
		drift: prometheus.NewCounter(prometheus.CounterOpts{Name: "kidoban_ruleset_drift_total",
			Help: "Times the kernel's ruleset read back differently from what was set."}),
		reconcile: prometheus.NewCounter(prometheus.CounterOpts{Name: "kidoban_reconcile_failures_total",
			Help: "Times the ruleset could not be set or read back."}),
		append: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kidoban_journal_append_seconds",
			Help:    "Time until journal entries were durable.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}, NativeHistogramBucketFactor: 1.1}),
		reload: prometheus.NewGauge(prometheus.GaugeOpts{Name: "kidoban_policy_reload_successful",
			Help: "1 if the last reading of the policy file succeeded."}),
		build: prometheus.NewGauge(prometheus.GaugeOpts{Name: "kidoban_build_info", Help: "Always 1; the version is in the label.",
			ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()}}),
	}
	m.build.Set(1)
	for _, r := range policy.Reasons() {
		m.admissions.WithLabelValues("", r.String())
	}
	m.all = []prometheus.Collector{m.admissions, m.sessions, m.duration, m.received, m.sent, m.lag, m.drift, m.reconcile, m.append, m.reload, m.build}
	return m
}

// policy lets every series of the policy's vendors begin at 0.
func (m *Metrics) policy(p *policy.Policy) {
	for _, v := range p.Vendors {
		for _, r := range policy.Reasons() {
			m.admissions.WithLabelValues(v.Name, r.String())
		}
		for _, e := range Endings() {
			m.sessions.WithLabelValues(v.Name, string(e))
		}
		m.received.WithLabelValues(v.Name)
		m.sent.WithLabelValues(v.Name)
	}
}

func (m *Metrics) refused(f policy.Fact) {
	vendor := ""
	if f.Engineer != nil {
		vendor = f.Engineer.Vendor.Name
	}
	m.admissions.WithLabelValues(vendor, f.Decision.Reason.String()).Add(float64(max(f.Count, 1)))
}

func (m *Metrics) admitted(vendor string) {
	m.admissions.WithLabelValues(vendor, policy.Admitted.String()).Inc()
}

func (m *Metrics) sessionEnded(vendor string, why Ended, lasted time.Duration) {
	m.sessions.WithLabelValues(vendor, string(why)).Inc()
	m.duration.Observe(lasted.Seconds())
}

func (m *Metrics) traffic(vendor string, received, transmitted uint64) {
	m.received.WithLabelValues(vendor).Add(float64(received))
	m.sent.WithLabelValues(vendor).Add(float64(transmitted))
}

func (m *Metrics) closed(lag time.Duration)    { m.lag.Observe(lag.Seconds()) }
func (m *Metrics) drifted()                    { m.drift.Inc() }
func (m *Metrics) reconcileFailed()            { m.reconcile.Inc() }
func (m *Metrics) appended(took time.Duration) { m.append.Observe(took.Seconds()) }

func (m *Metrics) reloaded(ok bool) {
	m.reload.Set(0)
	if ok {
		m.reload.Set(1)
	}
}

// Collectors gives everything to register: the loop's counters and what is
// read from the gateway's snapshots. device names the tunnel's interface,
// key is the gateway's own public key.
func (m *Metrics) Collectors(g *Gateway, device string, key policy.Key) []prometheus.Collector {
	return append(m.all, &states{g, device, key.String()})
}

// states is a prometheus.Collector over the newest Snapshot.
type states struct {
	gateway     *Gateway
	device, key string
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	descDevice        = desc("wireguard_device_info", "Metadata about the gateway's WireGuard device.", "device", "public_key")
	descPeer          = desc("wireguard_peer_info", "Metadata about an engineer's peer. Its endpoint is not shown: it is a value from the network.", "device", "public_key", "name")
	descPeerReceived  = desc("wireguard_peer_receive_bytes_total", "Bytes received from a peer since the gateway started.", "public_key")
	descPeerSent      = desc("wireguard_peer_transmit_bytes_total", "Bytes transmitted to a peer since the gateway started.", "public_key")
	descPeerHandshake = desc("wireguard_peer_last_handshake_seconds", "Unix time of a peer's last handshake; 0: none.", "public_key")
	descPolicy        = desc("kidoban_policy_info", "Always 1 while a policy is in force; its digest is in the label.", "digest")
	descReady         = desc("kidoban_ready", "1 if the gateway admits whom the policy admits, 0 if it is shut in doubt.")
	descActive        = desc("kidoban_session_active", "Open sessions, by vendor.", "vendor")
	descOpen          = desc("kidoban_window_open", "1 if the window is open.", "vendor", "window")
	descNextOpen      = desc("kidoban_window_next_open_timestamp_seconds", "Unix time at which the window opens next; absent: not within 400 days.", "vendor", "window")
	descNextClose     = desc("kidoban_window_next_close_timestamp_seconds", "Unix time at which the window closes next; absent: not within 400 days.", "vendor", "window")
	descJournalSize   = desc("kidoban_journal_size", "Entries in the journal.")
	descJournalTime   = desc("kidoban_journal_checkpoint_timestamp_seconds", "Unix time of the newest signed checkpoint.")
	descClock         = desc("kidoban_clock_synchronized", "1 if the kernel says that the clock is synchronized.")
	descShut          = desc("kidoban_shut", "How much operators closed: all (0 or 1), vendors, engineers.", "scope")
)

// Describe implements prometheus.Collector.
func (*states) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descDevice, descPeer, descPeerReceived, descPeerSent, descPeerHandshake, descPolicy, descReady,
		descActive, descOpen, descNextOpen, descNextClose, descJournalSize, descJournalTime, descClock, descShut} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *states) Collect(ch chan<- prometheus.Metric) {
	s := c.gateway.Snapshot()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(descDevice, 1, c.device, c.key)
	for _, p := range s.Peers {
		key := p.Engineer.Key.String()
		gauge(descPeer, 1, c.device, key, p.Engineer.String())
		counter(descPeerReceived, p.Received, key)
		counter(descPeerSent, p.Transmitted, key)
		gauge(descPeerHandshake, unixSeconds(p.LastHandshake), key)
	}
	gauge(descReady, number(s.Status.Ready))
	gauge(descClock, number(s.Status.ClockOK))
	gauge(descJournalSize, float64(s.Journal.Size))
	gauge(descJournalTime, unixSeconds(s.Journal.Checkpoint))
	gauge(descShut, number(s.Status.Shut.All), "all")
	gauge(descShut, float64(len(s.Status.Shut.Vendors)), "vendors")
	gauge(descShut, float64(len(s.Status.Shut.Engineers)), "engineers")
	if s.Plan.Policy == nil {
		return
	}
	gauge(descPolicy, 1, s.Plan.Policy.Digest)
	active := map[string]int{}
	for _, sess := range s.Sessions {
		active[sess.Vendor]++
	}
	for _, v := range s.Plan.Policy.Vendors {
		gauge(descActive, float64(active[v.Name]), v.Name)
	}
	open := map[string]bool{}
	now := c.gateway.cfg.Clock.Wall()
	for _, g := range s.Plan.Grants {
		if g.Contains(now) {
			open[g.Window.String()] = true
		}
	}
	for _, w := range s.Plan.Windows {
		vendor, window := w.Window.Vendor.Name, w.Window.Name
		gauge(descOpen, number(open[w.Window.String()]), vendor, window)
		if !w.Next.IsZero() {
			gauge(descNextOpen, unixSeconds(w.Next.From), vendor, window)
		}
		switch {
		case !w.Current.IsZero():
			gauge(descNextClose, unixSeconds(w.Current.Until), vendor, window)
		case !w.Next.IsZero():
			gauge(descNextClose, unixSeconds(w.Next.Until), vendor, window)
		}
	}
}

// Table is every metric as a row of a Markdown table, sorted by name.
func (m *Metrics) Table() string {
	var rows []string
	for _, c := range append(slices.Clone(m.all), &states{}) {
		descs := make(chan *prometheus.Desc)
		go func() {
			c.Describe(descs)
			close(descs)
		}()
		_, histogram := c.(prometheus.Histogram)
		for d := range descs {
			rows = append(rows, tableRow(d, histogram))
		}
	}
	slices.Sort(rows)
	return "| metric | type | labels | meaning |\n|---|---|---|---|\n" + strings.Join(rows, "")
}

// descText takes a prometheus.Desc apart, which shows itself only as a text.
var descText = regexp.MustCompile(`^Desc{fqName: ("[^"]+"), help: ("(?:[^"\\]|\\.)*"), .*constLabels: {(.*)}, variableLabels: {(.*)}}$`)

func tableRow(d *prometheus.Desc, histogram bool) string {
	found := descText.FindStringSubmatch(d.String())
	if found == nil {
		panic(fmt.Sprintf("a metric shows itself in another way: %v", d)) // another version of client_golang
	}
	name, _ := strconv.Unquote(found[1])
	help, _ := strconv.Unquote(found[2])
	kind := "gauge"
	switch {
	case histogram:
		kind = "histogram"
	case strings.HasSuffix(name, "_total"): // counters are named so, and nothing else is
		kind = "counter"
	}
	var labels []string
	for label := range strings.SplitSeq(found[3]+","+found[4], ",") {
		if label, _, _ = strings.Cut(label, "="); label != "" {
			labels = append(labels, "`"+label+"`")
		}
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s |\n", name, kind, strings.Join(labels, ", "), help)
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
