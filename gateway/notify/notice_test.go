package notify

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

var tokyo = time.FixedZone("JST", 9*60*60)

var noon = time.Date(2026, 12, 1, 3, 0, 0, 0, time.UTC)

func line(t *testing.T, e journal.Entry, event any) []byte {
	t.Helper()
	e.Version, e.Time = 1, noon
	if event != nil {
		text, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		e.Event = text
	}
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func noticeOf(t *testing.T, e journal.Entry, event any) Notice {
	t.Helper()
	n, ok, err := Of(7, line(t, e, event), tokyo)
	if err != nil || !ok {
		t.Fatalf("%s makes no notice: %v", e.Kind, err)
	}
	return n
}

type object = map[string]any

func TestNotices(t *testing.T) {
	asked := object{"id": "~7k2m9x", "by": "tanaka", "purpose": "disk full", "ticket": "CHG-1", "until": noon.Add(time.Hour)}
	emergency := maps.Clone(asked)
	emergency["emergency"] = true
	for name, c := range map[string]struct {
		entry journal.Entry
		event object
		kind  string
		want  []string // of the English text
	}{
		"a request":                  {journal.Entry{Kind: "requested", Vendor: "medisys", VendorName: "株式会社メディシス", Targets: []string{"ehr-db", "pacs"}}, asked, "requested", []string{"request: 7k2m9x", "株式会社メディシス (medisys)", "ehr-db, pacs", "by: tanaka", "disk full", "CHG-1", "until: 2026-12-01 13:00:00 JST"}},
		"an emergency":               {journal.Entry{Kind: "requested"}, emergency, "emergency", []string{"An emergency was declared"}},
		"an approval":                {journal.Entry{Kind: "approved", Actor: "suzuki"}, object{"id": "~7k2m9x", "by": "yamada"}, "approved", []string{"by: yamada"}},
		"one of two for a reopening": {journal.Entry{Kind: "approved", Actor: "ito", Scope: "all"}, object{"scope": "all", "by": "ito"}, "approved", []string{"An operator approved reopening everything", "of: all", "by: ito"}},
		"a request, by its event":    {journal.Entry{Kind: "requested"}, object{"engineers": []object{{"name": "sato"}}, "targets": []object{{"name": "ehr-db"}}}, "requested", []string{"engineer: sato", "targets: ehr-db"}},
		"an end that is near":        {journal.Entry{Kind: journal.Warned, Count: 5}, nil, "warned", []string{"minutes left: 5\n"}},
		"a request for two hours":    {journal.Entry{Kind: "requested", Until: noon}, object{"for": 7200}, "requested", []string{"from its approval on for: 2h"}},
		"an event that is a list":    {journal.Entry{Kind: "denied", Actor: "suzuki", Event: json.RawMessage(`[1]`)}, nil, "denied", []string{"by: suzuki"}},
		"a close":                    {journal.Entry{Kind: journal.Shut, Scope: "medisys/sato", Actor: "tanaka", Reason: "laptop stolen"}, nil, "shut", []string{"of: medisys/sato", "reason: laptop stolen", "by: tanaka"}},
		"a revocation":               {journal.Entry{Kind: journal.Shut, Scope: "~7k2m9x", Actor: "tanaka", Reason: "done"}, nil, "revoked", []string{"request: 7k2m9x"}},
		"a theft":                    {journal.Entry{Kind: journal.Refused, Reason: "wrong_source", Vendor: "medisys", Engineer: "sato", Source: "192.0.2.1", Count: 12}, nil, "wrong_source", []string{"192.0.2.1", "times: 12"}},
		"drift":                      {journal.Entry{Kind: journal.Drift, Text: "an element is missing"}, nil, "drift", []string{"details: an element is missing"}},
		"a self-test":                {journal.Entry{Kind: journal.Probe, Reason: "broken", Count: 2, Actor: "root"}, nil, "probe_broken", []string{"A self-test found", "times: 2"}},
		"lines in a name":            {journal.Entry{Kind: journal.Shut, Reason: "a\r\nvendor: evil\u2028\u202e"}, nil, "shut", []string{"reason: a  vendor: evil\n"}},
	} {
		n := noticeOf(t, c.entry, map[string]any(c.event))
		if c.event == nil {
			n = noticeOf(t, c.entry, nil)
		}
		if n.Kind != c.kind {
			t.Errorf("%s: got a notice of %s, want %s", name, n.Kind, c.kind)
		}
		text := n.Text(view.English, "Kido Hospital")
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s", name, want, text)
			}
		}
		if !strings.HasPrefix(text, "Kido Hospital: ") || !strings.HasSuffix(text, "at: 2026-12-01 12:00:00 JST") {
			t.Errorf("%s: got\n%s", name, text)
		}
		if ja := n.Text(view.Japanese, "木戸市民病院"); strings.Count(ja, "\n") != strings.Count(text, "\n") {
			t.Errorf("%s: the languages have other lines:\n%s", name, ja)
		}
	}
	for name, e := range map[string]journal.Entry{
		"an admission":                  {Kind: journal.Admission},
		"another refusal":               {Kind: journal.Refused, Reason: "outside_window"},
		"the second part of a policy":   {Kind: journal.PolicyLoaded, Part: 2, Parts: 2},
		"a self-test, all as it should": {Kind: journal.Probe, Reason: "kept"},
		"a kind that this has not":      {Kind: "made_tomorrow"},
		"an entry named like our own":   {Kind: Summary},
		"an entry named like a test's":  {Kind: Test},
	} {
		if n, ok, err := Of(7, line(t, e, nil), tokyo); ok || err != nil {
			t.Errorf("%s: got %+v, %v", name, n, err)
		}
	}
	if _, _, err := Of(7, []byte("{"), tokyo); err == nil {
		t.Error("what is not JSON makes no error")
	}
}

// TestKinds: a policy can name each kind of notice, but for the office's own.
func TestKinds(t *testing.T) {
	want := append(policy.NoticeKinds(), Summary, Replaced, Test)
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(headlines)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestWanted: a sink gets the kinds that it names, all if it names none, and what the
// office itself has to say.
func TestWanted(t *testing.T) {
	for _, kind := range slices.Sorted(maps.Keys(headlines)) {
		own := kind == Summary || kind == Replaced || kind == Test
		for _, c := range []struct {
			kinds []string
			want  bool
		}{{nil, true}, {[]string{kind}, true}, {[]string{"another"}, own}} {
			if got := (Notice{Kind: kind}).Wanted(view.Sink{Kinds: c.kinds}); got != c.want {
				t.Errorf("%s for a sink of %q: got %v", kind, c.kinds, got)
			}
		}
	}
}
