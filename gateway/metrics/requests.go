package metrics

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

var (
	descDecided    = desc("kidoban_requests_total", "Decisions about requests that the journal has, by vendor and kind. Each approval counts.", "vendor", "outcome")
	descRequests   = desc("kidoban_requests", "Requests, by where they stand. Those that have been over for 400 days are not counted.", "state")
	descUndecided  = desc("kidoban_request_undecided_start_timestamp_seconds", "Unix time at which the first of the vendor's undecided requests begins, or was to begin; absent: none is undecided.", "vendor")
	descUnratified = desc("kidoban_emergencies_unratified", "Emergencies that nobody has ratified, by vendor.", "vendor")
	descOverdue    = desc("kidoban_emergencies_overdue", "Emergencies that nobody has ratified in time, by vendor; until then no other can be declared.", "vendor")
	descReviews    = desc("kidoban_reviews_pending", "Requests that somebody has yet to sign: those that their recorder approved, and emergencies that are over.")
)

// requestCounters are about requests.
type requestCounters struct {
	decision prometheus.Observer

	mu      sync.Mutex
	total   map[decided]int
	pending map[string]bool // requests with an approval or a denial whose time decision may not have
}

// decided is a kind of decisions about a vendor's requests.
type decided struct {
	vendor  string
	outcome journal.Kind
}

// outcomes lists the kinds of entries that are counted.
func outcomes() []journal.Kind {
	all := []journal.Kind{journal.Requested, journal.Revoked}
	for _, v := range policy.Verbs() {
		all = append(all, journal.Kind(v))
	}
	return all
}

func (m *Metrics) newRequestCounters() {
	m.requests.decision = m.histogram("kidoban_request_decision_seconds", "From the recording of a request to its last approval, or to its denial.", nil,
		60, 300, 900, 1800, 3600, 4*3600, 12*3600, 24*3600, 72*3600).WithLabelValues()
	m.requests.total, m.requests.pending = map[decided]int{}, map[string]bool{}
}

// Recorded counts entries that the journal has.
func (m *Metrics) Recorded(entries []journal.Entry) {
	counted := outcomes()
	m.requests.mu.Lock()
	defer m.requests.mu.Unlock()
	for _, e := range entries {
		if e.Request == "" || !slices.Contains(counted, e.Kind) {
			continue
		}
		m.requests.total[decided{e.Vendor, e.Kind}]++
		if e.Kind == journal.Approved || e.Kind == journal.Denied {
			m.requests.pending[e.Request] = true
		}
	}
}

// begin starts the counts of a vendor at 0.
func (c *requestCounters) begin(vendor string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, kind := range outcomes() {
		c.total[decided{vendor, kind}] += 0
	}
}

// collect shows the counts. They are untyped: OpenMetrics calls the family of a counter by its name
// without _total, and that is the name of a gauge.
func (c *requestCounters) collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for of, n := range c.total {
		ch <- prometheus.MustNewConstMetric(descDecided, prometheus.UntypedValue, float64(n), of.vendor, string(of.outcome))
	}
}

// decisions observes how long the decisions took that the snapshot has. Each scrape does so first.
func (m *Metrics) decisions(s *view.Snapshot, now time.Time) {
	m.requests.mu.Lock()
	defer m.requests.mu.Unlock()
	for id := range m.requests.pending {
		r := s.Base.Request(id)
		if r == nil {
			continue // the snapshot is older than the entry, or a recovery has dropped it
		}
		x := s.Base.Stands(r, now)
		switch {
		case r.Denied != nil:
			m.requests.decision.Observe(r.Denied.At.Sub(r.At).Seconds())
		case len(x.Counted) > 0 && len(x.Counted) >= x.Needed:
			m.requests.decision.Observe(x.Counted[x.Needed-1].At.Sub(r.At).Seconds())
		case x.Stage == policy.Undecided:
			continue // it needs more approvals, or the snapshot is older than the entry
		}
		delete(m.requests.pending, id)
	}
}

func (c *states) requests(s *view.Snapshot, now time.Time, gauge toGauge) {
	stages, reviews := map[policy.Stage]int{}, 0
	unratified, overdue, undecided := map[string]int{}, map[string]int{}, map[string]time.Time{}
	for _, v := range s.Plan.Policy.Vendors {
		if v.OnRequest != nil {
			unratified[v.Name] = 0
		}
	}
	for _, x := range s.Standings(now) {
		stages[x.Now.Stage]++
		if first, ok := undecided[x.Vendor]; x.Now.Stage == policy.Undecided && (!ok || x.Now.From.Before(first)) {
			undecided[x.Vendor] = x.Now.From
		}
		if x.Unratified() {
			unratified[x.Vendor]++
		}
		if x.Now.Overdue {
			overdue[x.Vendor]++
		}
		if x.ToReview() {
			reviews++
		}
	}
	for _, stage := range policy.Stages() {
		gauge(descRequests, float64(stages[stage]), string(stage))
	}
	for vendor, n := range unratified {
		gauge(descUnratified, float64(n), vendor)
		gauge(descOverdue, float64(overdue[vendor]), vendor)
	}
	for vendor, at := range undecided {
		gauge(descUndecided, unixSeconds(at), vendor)
	}
	gauge(descReviews, float64(reviews))
}
