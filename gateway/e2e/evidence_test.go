package e2e

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/evidence"
	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
)

// month is the present month of the site.
func month() string {
	zone, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		panic(err) // the program embeds the zones
	}
	return time.Now().In(zone).Format("2006-01")
}

// report makes the month's report into a new folder, and reads its JSON.
func (g *ground) report(args ...string) (r evidence.Report, folder string) {
	g.t.Helper()
	folder = filepath.Join(g.t.TempDir(), "report")
	g.must(append([]string{"report", "--month", month(), "--out", folder}, args...)...)
	text, err := os.ReadFile(filepath.Join(folder, "report.json"))
	g.check(err)
	g.check(json.Unmarshal(text, &r))
	return r, folder
}

// TestTheMonthTellsWhatHappened: a session and its bytes, a session whose gateway was killed, and what
// an auditor finds in a copy of the journal.
func TestTheMonthTellsWhatHappened(t *testing.T) {
	lab.Require(t)
	t.Parallel()
	g := newGround(t)
	g.serve()
	g.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "pacs")})
	client := g.client(g.medisys, sato, 4)
	g.mustEnter(client)
	c, err := g.medisys.Dial(g.within(eventually), "tcp", netip.AddrPortFrom(ehr4, 22).String())
	g.check(err)
	sent := bytes.Repeat([]byte{'x'}, 300_000)
	go c.Write(sent) //nolint:errcheck // the reading below fails then
	back, got := make([]byte, 1<<16), 0
	for got < len(sent) {
		n, err := c.Read(back)
		g.check(err)
		got += n
	}
	c.Close()
	client.Close() // what it has left to say would open another session
	g.must("close", "medisys", "--reason", "done")
	lab.WaitFor(t, eventually, "the use of the session is recorded", func() bool { return len(g.entries(journal.Used)) > 0 })
	g.must("reopen", "medisys", "--reason", "again")

	r, folder := g.report()
	if len(r.Sessions) != 1 || len(r.Sessions[0].Used) != 1 {
		t.Fatalf("sessions: %+v", r.Sessions)
	}
	s := r.Sessions[0]
	use := s.Used[0]
	if use.Target != "ehr" || use.Service != "tcp/22" || use.Connections != 1 || !s.Complete || !s.Counted {
		t.Errorf("used: %+v, complete %t", use, s.Complete)
	}
	if most := int64(len(sent) * 3 / 2); use.ReceivedBytes < int64(len(sent)) || use.ReceivedBytes > most || use.TransmittedBytes < int64(len(sent)) || use.TransmittedBytes > most {
		t.Errorf("%d bytes to the target and %d back, want %d, and headers and what TCP sends again", use.ReceivedBytes, use.TransmittedBytes, len(sent))
	}
	if s.Ended != "vendor_shut" || s.ApprovedBy == "" || s.SourcePort == 0 {
		t.Errorf("the session: %+v", s)
	}
	for _, name := range []string{"report.html", "report.csv", "report.xlsx"} {
		if text, err := os.ReadFile(filepath.Join(folder, name)); err != nil || len(text) == 0 {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
	}

	g.mustEnter(g.client(g.medisys, sato, 4))
	g.onRecord(sato)
	g.kill()
	g.startReady()
	r, _ = g.report()
	if len(r.Sessions) != 2 {
		t.Fatalf("sessions: %+v", r.Sessions)
	}
	crashed := r.Sessions[1]
	if crashed.Ended != "crashed" || crashed.ReceivedBytes != nil || crashed.TransmittedBytes != nil || crashed.Complete {
		t.Errorf("the session of the killed gateway: %+v", crashed)
	}
	if !slices.ContainsFunc(r.Mismatches, func(m evidence.Mismatch) bool { return m.Kind == "m12" && m.Session == crashed.ID && m.State == "open" }) {
		t.Errorf("no m12 among %+v", r.Mismatches)
	}

	// Root checks; the gateway counts the mismatch as explained then.
	if _, complaint, exit := g.operator("review", crashed.ID, "--as", "checked", "--yes"); exit == exitYes || !strings.Contains(complaint, "m12") {
		t.Errorf("checked over an open mismatch: exit %d: %s", exit, complaint)
	}
	g.must("review", crashed.ID, "--as", "checked", "--note", "killed in a drill", "--yes")
	if _, complaint, exit := g.operator("review", crashed.ID, "--as", "confirmed", "--note", "so", "--yes"); exit == exitYes {
		t.Errorf("root confirmed: %s", complaint)
	}
	lab.WaitFor(t, eventually, "it is explained", func() bool {
		r, _ := g.report()
		return !slices.ContainsFunc(r.Mismatches, func(m evidence.Mismatch) bool { return m.Kind == "m12" && m.State == "open" })
	})

	// The auditor has a copy, the key and nothing else.
	key := strings.TrimSpace(g.must("journal", "key"))
	dest := filepath.Join(t.TempDir(), "copy")
	g.must("journal", "copy", dest)
	online, _ := g.report()
	offline, first := g.report("--journal", dest, "--key", key)
	if offline.Digest != online.Digest || !offline.Verified || offline.Checkpoint == "" {
		t.Errorf("the copy gives the digest %s, verified %t; the gateway %s", offline.Digest, offline.Verified, online.Digest)
	}
	_, second := g.report("--journal", dest, "--key", key)
	for _, name := range []string{"report.html", "report.csv", "report.xlsx", "report.json"} {
		a, err := os.ReadFile(filepath.Join(first, name))
		g.check(err)
		b, err := os.ReadFile(filepath.Join(second, name))
		g.check(err)
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs the second time", name)
		}
	}
	bundles, err := filepath.Glob(filepath.Join(dest, "tile", "entries", "000.p", "*"))
	if err != nil || len(bundles) == 0 {
		t.Fatalf("the copy has no entries: %v", err)
	}
	text, err := os.ReadFile(bundles[0])
	g.check(err)
	text = bytes.Replace(text, []byte("203.0.113."), []byte("203.0.114."), 1)
	g.check(os.WriteFile(bundles[0], text, 0o600))
	if _, complaint, exit := g.operator("report", "--month", month(), "--out", t.TempDir(), "--journal", dest, "--key", key); exit != exitNo {
		t.Errorf("a changed copy: exit %d: %s", exit, complaint)
	}
}

// TestAnIncidentIsBundledAndInspected: an operator opens an incident, bundles it, sends and closes it, and
// inspects the site, all of a running gateway. What it says is in the journal.
func TestAnIncidentIsBundledAndInspected(t *testing.T) {
	lab.Require(t)
	t.Parallel()
	g := newGround(t)
	g.open([]string{hour("work", "ehr")}, []string{hour("work", "pacs")})
	g.mustEnter(g.client(g.medisys, sato, 4))
	g.onRecord(sato)
	g.must("close", "medisys", "--reason", "something is wrong")

	var opened struct{ ID string }
	g.check(json.Unmarshal([]byte(g.must("incident", "open", "intrusion", "--reason", "a drill", "--exercise", "--json")), &opened))
	file := filepath.Join(t.TempDir(), "bundle.zip")
	from, until := time.Now().Add(-time.Hour).Format(time.RFC3339), time.Now().Add(time.Hour).Format(time.RFC3339)
	lab.WaitFor(t, eventually, "the incident is in the journal", func() bool { return len(g.entries(journal.Incident)) == 1 })
	g.must("incident", "bundle", opened.ID, "--from", from, "--until", until, "--out", file)
	key := strings.TrimSpace(g.must("journal", "key"))
	var verified struct {
		OK, Signed bool
		Entries    int
	}
	g.check(json.Unmarshal([]byte(g.must("verify-bundle", file, "--key", key, "--json")), &verified))
	if !verified.OK || !verified.Signed || verified.Entries == 0 {
		t.Errorf("the bundle: %+v", verified)
	}
	g.must("incident", "sent", "police", "--at", time.Now().Format(time.RFC3339), "--how", "by hand")
	g.must("incident", "close", "--reason", "a drill")
	for _, again := range [][]string{{"incident", "close", opened.ID, "--reason", "again"}, {"incident", "close", "--reason", "again"}} {
		if _, complaint, exit := g.operator(again...); exit == exitYes {
			t.Errorf("closed twice: %s", complaint)
		}
	}
	if n := len(g.entries(journal.Sent)); n != 1 {
		t.Errorf("%d entries of what was sent", n)
	}

	g.must("inspect", "answer", "10", "yes", "--text", "one entry, this one", "--for", "院長")
	var inspected struct {
		Live     bool
		Controls []struct {
			ID, Answer string
		}
	}
	lab.WaitFor(t, eventually, "the answer counts, and the ruleset is the planned one", func() bool {
		inspected.Controls = nil
		g.check(json.Unmarshal([]byte(g.must("inspect", "--tier", "1", "--json")), &inspected))
		answers := map[string]string{}
		for _, c := range inspected.Controls {
			answers[c.ID] = c.Answer
		}
		return inspected.Live && len(answers) == 20 && answers["10"] == "yes" && answers["02"] == "yes" && answers["19"] == "no"
	})
}
