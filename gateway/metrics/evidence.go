package metrics

import "github.com/prometheus/client_golang/prometheus"

var (
	descUnreviewed    = desc("kidoban_sessions_unreviewed", "Sessions that are over, and that nobody has checked, by vendor.", "vendor")
	descReviewOverdue = desc("kidoban_review_overdue", "Sessions that were not checked, or not confirmed, in the time that the policy's review gives, by vendor; 0 without review in the policy.", "vendor")
	descMismatches    = desc("kidoban_mismatches_open", "Differences between plan, sessions, use and work reports of this month and the one before that nobody has explained, by kind.", "kind")
)

// Waiting is what waits for people, as the record of the journal has it.
type Waiting struct {
	Unreviewed, Overdue map[string]int // by vendor
	Mismatches          map[string]int // by kind
}

// evidence shows what waits for people. It shows nothing while the journal is being read.
func (m *Metrics) evidence(ch chan<- prometheus.Metric) {
	if m.Waiting == nil {
		return
	}
	w, ok := m.Waiting()
	if !ok {
		return
	}
	show := func(d *prometheus.Desc, values map[string]int) {
		for label, n := range values {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), label)
		}
	}
	show(descUnreviewed, w.Unreviewed)
	show(descReviewOverdue, w.Overdue)
	show(descMismatches, w.Mismatches)
}
