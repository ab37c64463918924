package metrics

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/session"
	"kidoban/gateway/view"
)

// TestFault82NameOfTheMetrics: a site that names its gateway in
// KIDOBAN_METRICS_ADDRESS is scraped by that name.
func TestFault82NameOfTheMetrics(t *testing.T) {
	served := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "served") })
	for address, hosts := range map[string]map[string]bool{
		"gate.hospital.example:9586": {"gate.hospital.example:9586": true, "Gate.Hospital.example": true, "gate.hospital.example.:9586": true, "gate:9586": false, "10.1.0.1:9586": true},
		"0.0.0.0:9586":               {"gate.hospital.example:9586": false, "10.1.0.1:9586": true, "[fd00::1]:9586": true, "localhost:9586": true},
	} {
		for host, allowed := range hosts {
			r, err := http.NewRequest(http.MethodGet, "http://127.0.0.1/metrics", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = host
			w := httptest.NewRecorder()
			noStrangers(address, served).ServeHTTP(w, r)
			if got := w.Body.String() == "served"; got != allowed {
				t.Errorf("%s, asked as %s: served %v, want %v: %d %s", address, host, got, allowed, w.Code, w.Body)
			}
		}
	}
}

// page gives /metrics as it is for an Accept header.
func page(t *testing.T, m *Metrics, accept string) string {
	t.Helper()
	r := httptest.NewRequest("GET", "http://127.0.0.1/metrics", nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	m.Pages(steady(t), "kido0", "127.0.0.1:9586", slog.New(slog.DiscardHandler)).ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// live is a source whose loop turns.
type live struct{ still }

func (live) Live() bool { return true }

// steady is a source with a policy, in which everything has happened once.
func steady(t *testing.T) live {
	t.Helper()
	v := &policy.Vendor{Name: "acme", ContractUntil: policy.Date{Year: 2027, Month: 3, Day: 31}}
	e := &policy.Engineer{Vendor: v, Name: "brown", Key: policy.Key{2}}
	v.Engineers = []*policy.Engineer{e}
	v.Windows = []*policy.Window{{Vendor: v, Name: "night", Engineers: v.Engineers, Schedule: &policy.Days{Weekdays: [7]bool{true, true, true, true, true, true, true}, To: 3600}}}
	now := time.Date(2026, 12, 1, 0, 30, 0, 0, time.UTC)
	s, err := view.Offline(&policy.Policy{Zone: time.UTC, Digest: "d", Vendors: []*policy.Vendor{v}}, now)
	if err != nil {
		t.Fatal(err)
	}
	s.Sessions = []view.SessionStatus{{ID: "S", Vendor: "acme", Engineer: "brown", OpenedAt: now, Until: now}}
	s.Traffic = map[policy.Key]view.Traffic{e.Key: {Received: 1, LastHandshake: now}}
	return live{still{s, now}}
}

// suffixes are those of the samples of a family, by type (OpenMetrics 1.0).
var suffixes = map[string][]string{
	"counter": {"_total", "_created"}, "gauge": {""}, "info": {"_info"}, "unknown": {""}, "stateset": {""},
	"summary": {"", "_count", "_sum", "_created"}, "histogram": {"_bucket", "_count", "_sum", "_created"}, "gaugehistogram": {"_bucket", "_gcount", "_gsum"},
}

// TestFault102OpenMetrics: a strict parser takes the whole page. Each family is
// there once and in one piece, has samples of its own names alone, and no name is
// one of another family's.
func TestFault102OpenMetrics(t *testing.T) {
	m, now := New("test"), time.Now()
	s := steady(t)
	e := s.snapshot.Plan.Policy.Vendors[0].Engineers[0]
	m.Reloaded(s.snapshot.Plan.Policy, now)
	m.Admitted(e, now)
	m.Refused(policy.Fact{Engineer: e, Decision: policy.Decision{Reason: policy.WrongSource, Engineer: e}, At: now})
	m.Dropped(map[string]uint64{"source": 1})
	m.SessionEnded("acme", "ABCDEFGHIJKLMNOP", session.Idle, time.Minute)
	m.Recorded([]journal.Entry{{Kind: journal.Requested, Vendor: "acme", Request: "~a"}})
	text := page(t, m, "application/openmetrics-text; version=1.0.0")
	if !strings.HasSuffix(text, "\n# EOF\n") {
		t.Errorf("the page does not end as OpenMetrics does: %q", text[max(0, len(text)-80):])
	}
	owner := map[string]string{} // of a name: the family
	family, samples := "", []string{}
	families := 0
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if words[0] == "#" && words[1] == "TYPE" {
			family, samples = words[2], nil
			families++
			if owner[family] == family {
				t.Errorf("the family %s is there twice", family)
			}
			for _, suffix := range append([]string{""}, suffixes[words[3]]...) {
				name := family + suffix
				if other, taken := owner[name]; taken && other != family {
					t.Errorf("the name %s is of %s and of %s", name, other, family)
				}
				owner[name] = family
			}
			for _, suffix := range suffixes[words[3]] {
				samples = append(samples, family+suffix)
			}
			if len(samples) == 0 {
				t.Errorf("%s: OpenMetrics has no type %s", family, words[3])
			}
			continue
		}
		if words[0] == "#" {
			continue
		}
		if name, _, _ := strings.Cut(words[0], "{"); !slices.Contains(samples, name) {
			t.Errorf("in the family %s is a sample of %s", family, name)
		}
	}
	if families < 60 {
		t.Errorf("the page has %d families only", families)
	}
}
