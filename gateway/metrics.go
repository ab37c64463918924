package gateway

import (
	"maps"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kidoban/gateway/policy"
)

// Metrics is the only place that touches Prometheus. Counters are counted by
// the loop; everything that is a state is read from the newest Snapshot when
// it is scraped, so that status and metrics cannot disagree.
//
// No label takes a value from the network: what carries no proven identity
// counts under vendor="". The one label that is not in the policy is the id of
// an open session, which the gateway made itself; each engineer has one at most.
type Metrics struct {
	// MostEngineers is how many engineers a policy may list for each of them
	// to have series of their own, and how many may be inside for each of those
	// to have some; 0: never. It is set before Collectors.
	MostEngineers int
	// SyslogDropped counts the log records that found no way to a collector;
	// nil: there is none.
	SyslogDropped func() uint64
	// LogDropped counts the lines of the gateway's own log that nobody read in
	// time; nil: none is dropped. It is set before Collectors.
	LogDropped func() uint64

	admissions     *prometheus.CounterVec
	sessions       *prometheus.CounterVec
	duration       *prometheus.HistogramVec
	received, sent *prometheus.CounterVec
	open, used     *prometheus.CounterVec
	refusedPackets *prometheus.CounterVec
	lag            prometheus.Histogram
	drift          prometheus.Counter
	reconcile      prometheus.Counter
	reconciling    prometheus.Histogram
	append         prometheus.Histogram
	replaced       prometheus.Counter
	steps          prometheus.Counter
	reload         prometheus.Gauge
	build          prometheus.Gauge
	syslogDropped  prometheus.CounterFunc
	logDropped     prometheus.CounterFunc
	all            []prometheus.Collector

	mu     sync.Mutex
	seen   map[policy.Key]time.Time // when an engineer was heard last, in this process and as the journal tells
	listed map[policy.Key]time.Time // since when policies have listed a key
	barred map[barring]time.Time    // when an engineer was last refused, in this process
	kernel map[string]uint64        // what the kernel's counters showed last
}

// barring is a reason for which an engineer's key, proven, was refused.
type barring struct {
	key    policy.Key
	reason policy.Reason
}

// defaultEngineers is for how many engineers a small machine keeps history
// without effort: some ten series each.
const defaultEngineers = 1000

// histogramOptions gives classic buckets for every Prometheus, and a native histogram
// for those that ask for it.
func histogramOptions(name, help string, buckets ...float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour}
}

// NewMetrics makes all counters; Collectors registers them.
func NewMetrics(version string) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &Metrics{
		MostEngineers: defaultEngineers,
		seen:          map[policy.Key]time.Time{}, listed: map[policy.Key]time.Time{}, barred: map[barring]time.Time{},
		kernel: map[string]uint64{},
		admissions: counter("kidoban_admissions_total",
			"Decisions about initiations and flows, by vendor (empty where no identity is proven) and reason.", "vendor", "reason"),
		sessions: counter("kidoban_sessions_total", "Sessions that ended, by vendor and why they ended.", "vendor", "ended"),
		duration: prometheus.NewHistogramVec(histogramOptions("kidoban_session_duration_seconds",
			"How long sessions that ended had lasted, by vendor; exemplars name the session.",
			10, 60, 300, 900, 1800, 3600, 2*3600, 4*3600, 8*3600, 24*3600), []string{"vendor"}),
		received: counter("kidoban_session_receive_bytes_total", "Bytes received from engineers in sessions, by vendor.", "vendor"),
		sent:     counter("kidoban_session_transmit_bytes_total", "Bytes transmitted to engineers in sessions, by vendor.", "vendor"),
		open:     counter("kidoban_window_open_seconds_total", "Time for which the window was open.", "vendor", "window"),
		used:     counter("kidoban_window_used_seconds_total", "Time for which the window was open and somebody inside by it.", "vendor", "window"),
		refusedPackets: counter("kidoban_refused_packets_total",
			"Packets that the kernel's ruleset dropped, by cause. They include what admissions count under a reason.", "cause"),
		lag: prometheus.NewHistogram(histogramOptions("kidoban_closing_lag_seconds",
			"From the end of a grant to the moment gate and ruleset were both set without it.",
			.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5)),
		drift: prometheus.NewCounter(prometheus.CounterOpts{Name: "kidoban_ruleset_drift_total",
			Help: "Times the kernel's ruleset read back differently from what was set."}),
		reconcile: prometheus.NewCounter(prometheus.CounterOpts{Name: "kidoban_reconcile_failures_total",
			Help: "Times the ruleset could not be set or read back."}),
		reconciling: prometheus.NewHistogram(histogramOptions("kidoban_reconcile_seconds",
			"Time to make the kernel's ruleset match a plan.",
			.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5)),
		append: prometheus.NewHistogram(histogramOptions("kidoban_journal_append_seconds",
			"Time until journal entries were durable.",
			.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5)),
		replaced: prometheus.NewCounter(prometheus.CounterOpts{Name: "kidoban_journal_replaced_total",
			Help: "Times `kidoban recover` moved a broken journal aside and began a new one."}),
		steps: prometheus.NewCounter(prometheus.CounterOpts{Name: "kidoban_clock_steps_total", Help: "Times the wall clock was set."}),
		reload: prometheus.NewGauge(prometheus.GaugeOpts{Name: "kidoban_policy_reload_successful",
			Help: "1 if the last reading of the policy file succeeded."}),
		build: prometheus.NewGauge(prometheus.GaugeOpts{Name: "kidoban_build_info", Help: "Always 1; the version is in the label.",
			ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()}}),
	}
	m.syslogDropped = prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "kidoban_syslog_dropped_total",
		Help: "Log records that did not reach the syslog collector, because it was away or too slow."}, func() float64 {
		if m.SyslogDropped == nil {
			return 0
		}
		return float64(m.SyslogDropped())
	})
	m.logDropped = prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "kidoban_log_dropped_total",
		Help: "Lines of the gateway's own log that were dropped, because nobody read it in time."}, func() float64 {
		if m.LogDropped == nil {
			return 0
		}
		return float64(m.LogDropped())
	})
	m.build.Set(1)
	for _, r := range policy.Reasons() {
		m.admissions.WithLabelValues("", r.String())
	}
	m.all = []prometheus.Collector{m.admissions, m.sessions, m.duration, m.received, m.sent, m.open, m.used, m.refusedPackets,
		m.lag, m.drift, m.reconcile, m.reconciling, m.append, m.replaced, m.steps, m.reload, m.build, m.syslogDropped, m.logDropped}
	return m
}

// policy lets every series of the policy's vendors begin at 0, remembers since
// when its keys are listed, and forgets who was refused with any other.
func (m *Metrics) policy(p *policy.Policy, at time.Time) {
	for _, v := range p.Vendors {
		for _, r := range policy.Reasons() {
			m.admissions.WithLabelValues(v.Name, r.String())
		}
		for _, e := range Endings() {
			m.sessions.WithLabelValues(v.Name, string(e))
		}
		m.duration.WithLabelValues(v.Name)
		m.received.WithLabelValues(v.Name)
		m.sent.WithLabelValues(v.Name)
		for _, w := range v.Windows {
			m.open.WithLabelValues(v.Name, w.Name)
			m.used.WithLabelValues(v.Name, w.Name)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	current := map[policy.Key]bool{}
	for _, v := range p.Vendors {
		for _, e := range v.Engineers {
			current[e.Key] = true
			if _, ok := m.listed[e.Key]; !ok {
				m.listed[e.Key] = at
			}
		}
	}
	maps.DeleteFunc(m.barred, func(b barring, _ time.Time) bool { return !current[b.key] })
}

// remember takes over what the journal tells of keys.
func (m *Metrics) remember(listed, seen map[policy.Key]time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, at := range listed {
		if have, ok := m.listed[key]; !ok || at.Before(have) {
			m.listed[key] = at
		}
	}
	for key, at := range seen {
		if at.After(m.seen[key]) {
			m.seen[key] = at
		}
	}
}

// heard notes that an engineer was there.
func (m *Metrics) heard(key policy.Key, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen[key] = at
}

// times gives a copy of what is known of keys.
func (m *Metrics) times() (listed, seen map[policy.Key]time.Time, barred map[barring]time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.listed), maps.Clone(m.seen), maps.Clone(m.barred)
}

func (m *Metrics) refused(f policy.Fact) {
	vendor := ""
	if f.Engineer != nil {
		vendor = f.Engineer.Vendor.Name
		m.mu.Lock()
		m.barred[barring{f.Engineer.Key, f.Decision.Reason}] = f.At
		m.mu.Unlock()
	}
	m.admissions.WithLabelValues(vendor, f.Decision.Reason.String()).Add(float64(max(f.Count, 1)))
}

func (m *Metrics) admitted(vendor string) {
	m.admissions.WithLabelValues(vendor, policy.Admitted.String()).Inc()
}

// sessionEnded counts, and lets whoever asks for exemplars find the session.
func (m *Metrics) sessionEnded(vendor, session string, why Ended, lasted time.Duration) {
	which := prometheus.Labels{"session": session}
	m.sessions.WithLabelValues(vendor, string(why)).(prometheus.ExemplarAdder).AddWithExemplar(1, which)
	m.duration.WithLabelValues(vendor).(prometheus.ExemplarObserver).ObserveWithExemplar(lasted.Seconds(), which)
}

func (m *Metrics) traffic(vendor string, received, transmitted uint64) {
	m.received.WithLabelValues(vendor).Add(float64(received))
	m.sent.WithLabelValues(vendor).Add(float64(transmitted))
}

// windowOpen counts time for which a window was open, and in use or not.
func (m *Metrics) windowOpen(w *policy.Window, d time.Duration, used bool) {
	m.open.WithLabelValues(w.Vendor.Name, w.Name).Add(d.Seconds())
	if used {
		m.used.WithLabelValues(w.Vendor.Name, w.Name).Add(d.Seconds())
	}
}

// dropped takes the kernel's counters over. They begin anew with the table.
func (m *Metrics) dropped(packets map[string]uint64) {
	for cause, n := range packets {
		more := n
		if before := m.kernel[cause]; n >= before {
			more = n - before
		}
		m.kernel[cause] = n
		m.refusedPackets.WithLabelValues(cause).Add(float64(more))
	}
}

func (m *Metrics) closed(lag time.Duration)      { m.lag.Observe(lag.Seconds()) }
func (m *Metrics) drifted()                      { m.drift.Inc() }
func (m *Metrics) reconcileFailed()              { m.reconcile.Inc() }
func (m *Metrics) reconciled(took time.Duration) { m.reconciling.Observe(took.Seconds()) }
func (m *Metrics) appended(took time.Duration)   { m.append.Observe(took.Seconds()) }
func (m *Metrics) journalReplaced()              { m.replaced.Inc() }
func (m *Metrics) clockStepped()                 { m.steps.Inc() }

func (m *Metrics) reloaded(ok bool) {
	m.reload.Set(0)
	if ok {
		m.reload.Set(1)
	}
}
