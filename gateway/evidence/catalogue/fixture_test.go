package catalogue

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"kidoban/config"
	"kidoban/gateway/evidence"
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// sitePolicy is the policy of the fixture, with a site.
const sitePolicy = `version: 1
site: %s
timezone: Asia/Tokyo
tunnel: {addresses: [10.99.0.1/24], endpoint: "vpn.example.jp:51820"}
targets:
  ehr-db: {address: 10.1.0.5, ports: [tcp/22, icmp]}
  pacs: {address: 10.1.2.0/28, ports: [tcp/104]}
vendors:
  medisys:
    name: 株式会社メディシス
    contract: {until: 2027-03-31}
    sources: [203.0.113.10, 203.0.113.11]
    engineers:
      sato: {name: 佐藤, public_key: "2wwiNhY3WZPk0uE7XO1A/ZgbKPSlgHhNALW7A44oVAc=", addresses: [10.99.0.2]}
      suzuki: {name: 鈴木, public_key: "QXhczrLgmMRTqSJGY+dOn0gxco9yePgqMB5L1b55iGI=", addresses: [10.99.0.3]}
    windows:
      night: {days: [mon], from: "22:00", to: "24:00", valid: {until: 2027-03-31}, targets: [ehr-db, pacs], approved_by: 田中}
`

// fixture is a journal that is written by hand, and what is asked with it.
type fixture struct {
	site    string // of the policy; empty: the journal has no policy
	mend    func(*policy.Policy)
	entries []journal.Entry
	first   int64 // index; what came before it was pruned
	live    *Live
	options Options
}

func at(text string) time.Time {
	t, err := time.ParseInLocation("2006-01-02 15:04", text, time.FixedZone("JST", 9*3600))
	if err != nil {
		panic(err)
	}
	return t
}

// add adds entries at their times.
func (f *fixture) add(entries ...journal.Entry) { f.entries = append(f.entries, entries...) }

// drop removes entries.
func (f *fixture) drop(which func(journal.Entry) bool) {
	f.entries = slices.DeleteFunc(f.entries, which)
}

// change changes entries of a kind.
func (f *fixture) change(kind journal.Kind, change func(*journal.Entry)) {
	for n := range f.entries {
		if f.entries[n].Kind == kind {
			change(&f.entries[n])
		}
	}
}

func event(kind journal.Kind, when string, event any) journal.Entry {
	text, err := json.Marshal(event)
	if err != nil {
		panic(err)
	}
	return journal.Entry{Kind: kind, Time: at(when), Actor: "tanaka", Event: text}
}

func (f *fixture) answer(when string, a evidence.Answer) { f.add(event(journal.Answer, when, a)) }

// visit adds a window of an engineer with one session in it, on a day.
func (f *fixture) visit(day, engineer, source string) {
	yes := true
	grant, session := "medisys/"+engineer+"/night@"+day, "S-"+day+"-"+engineer
	who := func(kind journal.Kind, clock string) journal.Entry {
		return journal.Entry{Kind: kind, Time: at(day + " " + clock), Vendor: "medisys", VendorName: "株式会社メディシス", Engineer: engineer}
	}
	opened := who(journal.WindowOpened, "22:00")
	opened.Grant, opened.Window, opened.From, opened.Until, opened.ApprovedBy, opened.Targets = grant, "night", at(day+" 22:00"), at(day+" 23:59"), "田中", []string{"ehr-db"}
	admitted := who(journal.Admission, "22:10")
	admitted.Source, admitted.Timestamp = source, "T"+day+engineer
	begun := who(journal.SessionOpened, "22:10")
	begun.Session, begun.Source, begun.Timestamp, begun.Grants = session, source, admitted.Timestamp, []string{grant}
	used := who(journal.Used, "22:50")
	used.Session, used.Complete, used.Used = session, &yes, []journal.Use{{Target: "ehr-db", Address: "10.1.0.5", Service: "tcp/22", Connections: 1}}
	ended := who(journal.SessionClosed, "23:00")
	ended.Session, ended.Grants, ended.Reason, ended.ReceivedBytes, ended.TransmittedBytes = session, []string{grant}, "idle", 1000, 2000
	closed := who(journal.WindowClosed, "23:59")
	closed.Grant, closed.Window, closed.Reason = grant, "night", "end"
	f.add(opened, admitted, begun, used, ended, closed)
}

// good is the journal of more than a year in which nothing is amiss.
func good() *fixture {
	f := &fixture{site: "{name: 木戸診療所, size: small, sensitivity: personal}", live: &Live{At: at("2026-11-30 09:00"), Version: "1.2.3", Synchronized: true,
		RulesetKnown: true, RulesetEqual: true, ListenersKnown: true}, options: Options{Origin: "kidoban.example/journal", Checkpoint: "kidoban.example/journal\n40\n", Verified: true}}
	f.add(journal.Entry{Kind: journal.Start, Time: at("2025-08-01 09:00")})
	f.add(journal.Entry{Kind: journal.Shut, Time: at("2026-01-15 13:00"), Actor: "tanaka", Scope: "all", Reason: "drill"},
		journal.Entry{Kind: journal.Reopened, Time: at("2026-01-15 13:05"), Actor: "tanaka", Scope: "all"})
	f.add(event(journal.Incident, "2026-02-01 10:00", map[string]any{"verb": "opened", "id": "i-20260201-1", "kind": "other", "reason": "drill", "exercise": true}),
		event(journal.Incident, "2026-02-01 10:30", map[string]any{"verb": "bundled", "id": "i-20260201-1", "digest": "00", "size": 5}))
	f.visit("2026-11-28", "sato", "203.0.113.10")
	f.visit("2026-11-28", "suzuki", "203.0.113.11")
	f.add(event(journal.Mirrored, "2026-11-29 03:00", evidence.Mirrored{To: "/mnt/copy", Size: 20}))
	return f
}

// record reads the journal: in the order of the times, with the policy behind the first entry.
func (f *fixture) record(t *testing.T) *evidence.Record {
	t.Helper()
	r := evidence.NewRecord(func(text string) (*policy.Policy, error) {
		p, err := config.ReadPast(text)
		if err != nil {
			t.Fatal(err)
		}
		if f.mend != nil {
			f.mend(p)
		}
		return p, nil
	})
	all := slices.Clone(f.entries)
	slices.SortStableFunc(all, func(a, b journal.Entry) int { return a.Time.Compare(b.Time) })
	if f.site != "" {
		all = slices.Insert(all, 1, journal.Entry{Kind: journal.PolicyText, Time: all[0].Time, Digest: "d1", Text: fmt.Sprintf(sitePolicy, f.site)},
			journal.Entry{Kind: journal.PolicyLoaded, Time: all[0].Time, Digest: "d1"})
	}
	all = append(all, journal.Entry{Kind: journal.Warned, Time: at("2026-11-30 09:00")})
	for n, e := range all {
		e.Index = f.first + int64(n)
		r.Add(e)
	}
	return r
}

func (f *fixture) inspect(t *testing.T) Inspection {
	t.Helper()
	i, err := Inspect(f.record(t), f.live, f.options)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// control finds the result of a control.
func control(t *testing.T, i Inspection, id string) Result {
	t.Helper()
	for _, x := range i.Controls {
		if x.ID == id {
			return x
		}
	}
	t.Fatalf("the inspection lacks %s", id)
	return Result{}
}
