// Package metrics counts events and shows states to Prometheus. States are read
// from the newest Snapshot at each scrape, so status and metrics cannot disagree.
//
// No label takes a value from the network: facts without a proven key count
// under vendor="". Every other label comes from the policy, except the id of an
// open session, which the gateway makes; an engineer has at most one.
package metrics

import (
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kidoban/gateway/policy"
	"kidoban/gateway/session"
	"kidoban/gateway/view"
)

// Metrics is a gateway.Metrics. Its public fields are set before Collectors.
type Metrics struct {
	// MostEngineers limits series of single engineers. If the policy lists more,
	// engineers have none; if more sessions are open, sessions have none.
	MostEngineers int
	// SyslogDropped counts log records that did not reach the collector.
	SyslogDropped func() uint64
	// LogDropped counts lines of the gateway's own log that were dropped.
	LogDropped func() uint64
	// Room is about how many more entries of the journal the disk takes.
	Room func() (entries uint64, known bool)
	// Waiting is what waits for people; false: the journal is being read. nil: it is not known.
	Waiting func() (Waiting, bool)
	// Sinks are those of the policy in force, to which notices go.
	Sinks func() []view.SinkStatus
	// Witness gives the name of the witness, empty if there is none, the time of its newest
	// cosignature, and whether it refuses.
	Witness func() (name string, cosigned time.Time, refuses bool)
	// Copied gives the time of the newest copy of the journal; zero if none is known.
	Copied func() time.Time
	// Probed gives the times of the last probe and of the last one without a broken promise, zero if there was none, and
	// how many trials of the last one were broken; false: no probe is known.
	Probed func() (last, kept time.Time, broken int64, ok bool)

	vendors  vendorCounters
	ruleset  rulesetCounters
	requests requestCounters
	keyTimes

	append   prometheus.Observer
	replaced prometheus.Counter
	steps    prometheus.Counter
	reload   prometheus.Gauge

	all []prometheus.Collector
}

// vendorCounters are by vendor.
type vendorCounters struct {
	admissions, sessions, received, sent, open, used *prometheus.CounterVec
	duration                                         *prometheus.HistogramVec
}

// rulesetCounters are about the kernel's ruleset.
type rulesetCounters struct {
	refused          *prometheus.CounterVec
	drift, failures  prometheus.Counter
	lag, reconciling prometheus.Observer
	last             map[string]uint64 // the kernel's counters, as last read
}

// keyTimes keeps instants of engineers' keys.
type keyTimes struct {
	mu      sync.Mutex
	seen    map[policy.Key]time.Time // admitted or heard last
	listed  map[policy.Key]time.Time // since when policies have listed the key
	refused map[refusal]time.Time    // refused last, in this process
}

// refusal is a reason for which a proven key was refused.
type refusal struct {
	key    policy.Key
	reason policy.Reason
}

// defaultEngineers is a number of engineers that a small machine has no trouble
// with: each has about ten series.
const defaultEngineers = 1000

// New makes all counters; Collectors gives them to a registry.
func New(version string) *Metrics {
	none := func() uint64 { return 0 }
	m := &Metrics{MostEngineers: defaultEngineers, SyslogDropped: none, LogDropped: none, Room: func() (uint64, bool) { return 0, false },
		Sinks:    func() []view.SinkStatus { return nil },
		Witness:  func() (string, time.Time, bool) { return "", time.Time{}, false },
		Copied:   func() time.Time { return time.Time{} },
		Probed:   func() (last, kept time.Time, broken int64, ok bool) { return },
		keyTimes: keyTimes{seen: map[policy.Key]time.Time{}, listed: map[policy.Key]time.Time{}, refused: map[refusal]time.Time{}}}
	m.vendors = vendorCounters{
		admissions: m.counter("kidoban_admissions_total", "Decisions about initiations and flows, by vendor (empty where no identity is proven) and reason.", "vendor", "reason"),
		sessions:   m.counter("kidoban_sessions_total", "Sessions that ended, by vendor and why they ended.", "vendor", "ended"),
		duration: m.histogram("kidoban_session_duration_seconds", "How long sessions that ended had lasted, by vendor; exemplars name the session.", []string{"vendor"},
			10, 60, 300, 900, 1800, 3600, 2*3600, 4*3600, 8*3600, 24*3600),
		received: m.counter("kidoban_session_receive_bytes_total", "Bytes received from engineers in sessions, by vendor.", "vendor"),
		sent:     m.counter("kidoban_session_transmit_bytes_total", "Bytes transmitted to engineers in sessions, by vendor.", "vendor"),
		open:     m.counter("kidoban_window_open_seconds_total", "Time for which the window was open.", "vendor", "window"),
		used:     m.counter("kidoban_window_used_seconds_total", "Time for which the window was open and somebody inside by it.", "vendor", "window"),
	}
	m.ruleset = rulesetCounters{
		refused: m.counter("kidoban_refused_packets_total", "Packets that the kernel's ruleset dropped, by cause. They include what admissions count under a reason.", "cause"),
		lag: m.histogram("kidoban_closing_lag_seconds", "From the end of a grant to the moment gate and ruleset were both set without it.", nil,
			.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5).WithLabelValues(),
		drift:    m.counter("kidoban_ruleset_drift_total", "Times the kernel's ruleset, or the tunnel's interface, was not as it had been set.").WithLabelValues(),
		failures: m.counter("kidoban_reconcile_failures_total", "Times the ruleset could not be set or read back.").WithLabelValues(),
		reconciling: m.histogram("kidoban_reconcile_seconds", "Time to make the kernel's ruleset match a plan.", nil,
			.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5).WithLabelValues(),
		last: map[string]uint64{},
	}
	m.append = m.histogram("kidoban_journal_append_seconds", "Time until journal entries were durable.", nil,
		.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5).WithLabelValues()
	m.replaced = m.counter("kidoban_journal_replaced_total", "Times `kidoban recover` moved a broken journal aside and began a new one.").WithLabelValues()
	m.steps = m.counter("kidoban_clock_steps_total", "Times the wall clock was set.").WithLabelValues()
	m.reload = m.gauge(nil, "kidoban_policy_reload_successful", "1 if the last reading of the policy file succeeded.")
	m.gauge(prometheus.Labels{"goversion": runtime.Version(), "version": version}, "kidoban_build_info", "Always 1; the version is in the label.").Set(1)
	m.elsewhere(&m.SyslogDropped, "kidoban_syslog_dropped_total", "Log records that did not reach the syslog collector, because it was away or too slow.")
	m.elsewhere(&m.LogDropped, "kidoban_log_dropped_total", "Lines of the gateway's own log that were dropped, because nobody read it in time.")
	m.newRequestCounters()
	for _, r := range policy.Reasons() {
		m.vendors.admissions.WithLabelValues("", r.String())
	}
	return m
}

func add[C prometheus.Collector](m *Metrics, c C) C {
	m.all = append(m.all, c)
	return c
}

func (m *Metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	return add(m, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels))
}

// elsewhere is a counter that another package counts.
func (m *Metrics) elsewhere(count *func() uint64, name, help string) {
	add(m, prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64((*count)()) }))
}

func (m *Metrics) gauge(labels prometheus.Labels, name, help string) prometheus.Gauge {
	return add(m, prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}))
}

// histogram has classic buckets for every Prometheus, and is native for those
// that ask.
func (m *Metrics) histogram(name, help string, labels []string, buckets ...float64) *prometheus.HistogramVec {
	return add(m, prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour}, labels))
}

// Collectors gives all counters, and a collector of states. device names the
// tunnel's interface.
func (m *Metrics) Collectors(source Source, device string) []prometheus.Collector {
	return append(slices.Clip(m.all), &states{source, m, device})
}

// Remember adds instants that the journal has.
func (k *keyTimes) Remember(listed, seen map[policy.Key]time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, at := range listed {
		if have, ok := k.listed[key]; !ok || at.Before(have) {
			k.listed[key] = at
		}
	}
	for key, at := range seen {
		if at.After(k.seen[key]) {
			k.seen[key] = at
		}
	}
}

// ClockAccepted takes the instants later than now back to it: an operator
// accepted the clock.
func (k *keyTimes) ClockAccepted(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	takeBack(k.seen, now)
	takeBack(k.listed, now)
	takeBack(k.refused, now)
}

func takeBack[K comparable](times map[K]time.Time, now time.Time) {
	for key, at := range times {
		if at.After(now) {
			times[key] = now
		}
	}
}

// set sets an instant in seen or refused.
func set[K comparable](mu *sync.Mutex, times map[K]time.Time, key K, at time.Time) {
	mu.Lock()
	defer mu.Unlock()
	times[key] = at
}

func (k *keyTimes) copy() (listed, seen map[policy.Key]time.Time, refused map[refusal]time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.listed), maps.Clone(k.seen), maps.Clone(k.refused)
}

// Reloaded starts every series of the policy's vendors at 0. Refusals of keys
// that it does not list are forgotten.
func (m *Metrics) Reloaded(p *policy.Policy, at time.Time) {
	m.reload.Set(number(p != nil))
	if p == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c, current := &m.vendors, map[policy.Key]bool{}
	for _, v := range p.Vendors {
		for _, r := range policy.Reasons() {
			c.admissions.WithLabelValues(v.Name, r.String())
		}
		for _, e := range session.Endings() {
			c.sessions.WithLabelValues(v.Name, string(e))
		}
		c.duration.WithLabelValues(v.Name)
		c.received.WithLabelValues(v.Name)
		c.sent.WithLabelValues(v.Name)
		for _, w := range v.Windows {
			c.open.WithLabelValues(v.Name, w.Name)
			c.used.WithLabelValues(v.Name, w.Name)
		}
		if v.OnRequest != nil {
			m.requests.begin(v.Name)
		}
		for _, e := range v.Engineers {
			current[e.Key] = true
			if _, ok := m.listed[e.Key]; !ok {
				m.listed[e.Key] = at
			}
		}
	}
	maps.DeleteFunc(m.refused, func(r refusal, _ time.Time) bool { return !current[r.key] })
}

func (m *Metrics) Admitted(e *policy.Engineer, at time.Time) {
	m.vendors.admissions.WithLabelValues(e.Vendor.Name, policy.Admitted.String()).Inc()
	set(&m.mu, m.seen, e.Key, at)
}

func (m *Metrics) Refused(f policy.Fact) {
	vendor := ""
	if f.Engineer != nil {
		vendor = f.Engineer.Vendor.Name
		set(&m.mu, m.refused, refusal{f.Engineer.Key, f.Decision.Reason}, f.At)
	}
	m.vendors.admissions.WithLabelValues(vendor, f.Decision.Reason.String()).Add(float64(max(f.Count, 1)))
}

func (m *Metrics) Traffic(e *policy.Engineer, received, transmitted uint64, at time.Time) {
	m.vendors.received.WithLabelValues(e.Vendor.Name).Add(float64(received))
	m.vendors.sent.WithLabelValues(e.Vendor.Name).Add(float64(transmitted))
	if received > 0 {
		set(&m.mu, m.seen, e.Key, at)
	}
}

// SessionEnded adds exemplars that name the session.
func (m *Metrics) SessionEnded(vendor, id string, why session.Ended, lasted time.Duration) {
	exemplar := prometheus.Labels{"session": id}
	m.vendors.sessions.WithLabelValues(vendor, string(why)).(prometheus.ExemplarAdder).AddWithExemplar(1, exemplar)
	m.vendors.duration.WithLabelValues(vendor).(prometheus.ExemplarObserver).ObserveWithExemplar(lasted.Seconds(), exemplar)
}

func (m *Metrics) Usage(d time.Duration, p *policy.Plan, inside []*policy.Engineer, now time.Time) {
	count := func(c *prometheus.CounterVec, grants []*policy.Grant) {
		counted := map[[2]string]bool{}
		for _, g := range grants {
			if name := [2]string{g.Window.Vendor.Name, g.Window.Name}; g.Contains(now) && !counted[name] && !g.Window.IsRequest() {
				counted[name] = true
				c.WithLabelValues(name[:]...).Add(d.Seconds())
			}
		}
	}
	count(m.vendors.open, p.Grants)
	var used []*policy.Grant
	for _, e := range inside {
		used = append(used, p.GrantsOf(e)...)
	}
	count(m.vendors.used, used)
}

// Dropped adds the gain of the kernel's counters since the last call.
func (m *Metrics) Dropped(packets map[string]uint64) {
	for cause, n := range packets {
		gained := n
		if last := m.ruleset.last[cause]; n >= last {
			gained -= last
		}
		m.ruleset.last[cause] = n
		m.ruleset.refused.WithLabelValues(cause).Add(float64(gained))
	}
}

func (m *Metrics) Reconciled(took time.Duration) { m.ruleset.reconciling.Observe(took.Seconds()) }
func (m *Metrics) ReconcileFailed()              { m.ruleset.failures.Inc() }
func (m *Metrics) Closed(lag time.Duration)      { m.ruleset.lag.Observe(lag.Seconds()) }
func (m *Metrics) Drifted()                      { m.ruleset.drift.Inc() }
func (m *Metrics) Appended(took time.Duration)   { m.append.Observe(took.Seconds()) }
func (m *Metrics) JournalReplaced()              { m.replaced.Inc() }
func (m *Metrics) ClockStepped()                 { m.steps.Inc() }
