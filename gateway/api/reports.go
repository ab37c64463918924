package api

import (
	"slices"
	"strings"
	"sync"
	"time"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

const (
	// freshWithin is how old a report may be whose lag still counts.
	freshWithin = time.Minute
	// failingFor is for how long a sink may fail without a hint, silentFor for how long
	// nobody may report.
	failingFor = 5 * time.Minute
	silentFor  = 2 * time.Minute
)

// Reports keeps the newest report about notices, for hints and metrics. It shows the sinks
// of the policy in force alone. Its methods may be called concurrently.
type Reports struct {
	Snapshot func() *view.Snapshot

	mu       sync.Mutex
	sinks    map[string]*reported // of the policy in force
	at       time.Time            // of the newest report, or of the first sinks
	newest   map[string]view.SinkReport
	size     int64 // entries of the journal at the newest report
	received bool  // there was one
}

// reported is a sink that the policy has.
type reported struct {
	since int64 // entries of the journal when it came
}

// look brings the sinks up to date. The lock is held.
func (r *Reports) look() *view.Snapshot {
	s := r.Snapshot()
	p := s.Plan.Policy
	if p == nil || s.Journal.Size == 0 {
		return s
	}
	old := r.sinks
	r.sinks = map[string]*reported{}
	for _, sink := range p.Sinks {
		if r.sinks[sink.Name] = old[sink.Name]; r.sinks[sink.Name] == nil {
			r.sinks[sink.Name] = &reported{since: s.Journal.Size}
		}
	}
	if len(old) == 0 && len(r.sinks) > 0 {
		r.at = time.Now()
	}
	return s
}

// take keeps a report.
func (r *Reports) take(n view.Notified) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.size = r.look().Journal.Size
	r.newest, r.at, r.received = n.Sinks, time.Now(), true
}

// settings says where the notices of a policy go.
func (r *Reports) settings(p *policy.Policy) view.Notify {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := view.Notify{Site: p.Site, Timezone: p.Zone.String(), Size: r.look().Journal.Size, Sinks: view.SinksOf(p)}
	for i, s := range n.Sinks {
		if known := r.sinks[s.Name]; known != nil {
			n.Sinks[i].Since = known.since
		} else {
			n.Sinks[i].Since = n.Size // the policy is newer than the question
		}
	}
	return n
}

// Sinks gives the state of each sink of the policy in force, by name. The lag grows while nobody
// reports.
func (r *Reports) Sinks() []view.SinkStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	size, all := r.look().Journal.Size, []view.SinkStatus{}
	if r.received && time.Since(r.at) < freshWithin {
		size = r.size
	}
	for name, known := range r.sinks {
		report, ok := r.newest[name]
		if !ok {
			report.Cursor = known.since
		}
		all = append(all, view.SinkStatus{Name: name, SinkReport: report, Lag: max(size-report.Cursor, 0)})
	}
	slices.SortFunc(all, func(a, b view.SinkStatus) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Hints are about sinks that fail, and about an office that does not report.
func (r *Reports) Hints() (all []view.Hint) {
	var silent []string
	for _, s := range r.Sinks() {
		silent = append(silent, s.Name)
		if s.LastError != "" && time.Since(s.Since) > failingFor {
			at := r.Snapshot().Local(s.Since).Format(view.Moment)
			all = append(all, view.Hint{Message: view.Say("notices_failing", view.Args{"sink": s.Name, "at": at, "cause": s.LastError})})
		}
	}
	r.mu.Lock()
	age := time.Since(r.at)
	r.mu.Unlock()
	if len(silent) > 0 && age > silentFor {
		return []view.Hint{{Message: view.Say("notices_silent", view.Args{"sinks": silent, "age": age.Truncate(time.Minute)})}}
	}
	return all
}
