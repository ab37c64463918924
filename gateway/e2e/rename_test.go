package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
)

// TestFault104ARenameCutsNobody: a window gets another name, and then becomes two, under
// a session with held streams, while the disk does not answer for a while. The session
// and every stream go on. check says before that nothing closes, and the journal names the
// new windows before it closes the old one.
func TestFault104ARenameCutsNobody(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.serve()
	begin := time.Now().Truncate(time.Second)
	named := func(name, targets string) string {
		return window(name, begin.Add(-time.Minute), begin.Add(time.Hour), targets)
	}
	later := []string{nextYear("later", "pacs")}
	g.open([]string{named("night", "ehr, pacs")}, later)
	g.mustEnter(g.client(g.medisys, sato, 4))
	held := []*echoes{
		g.echo(g.medisys, "tcp", netip.AddrPortFrom(ehr4, 22)),
		g.echo(g.medisys, "udp", netip.AddrPortFrom(ehr4, 53)),
		g.echo(g.medisys, "tcp", netip.AddrPortFrom(pacs4, 104)),
	}
	g.onRecord(sato)
	session := g.status().Sessions[0].ID
	grants := func() (ids []string) {
		for _, x := range g.status().Grants {
			if x.Engineer == "sato" {
				ids = append(ids, x.Window)
			}
		}
		return ids
	}
	for _, step := range []struct {
		what    string
		windows []string
		before  []string // windows of sato's grants while the disk does not answer
		after   []string
	}{
		{"another name", []string{named("evening", "ehr, pacs")}, []string{"night"}, []string{"evening"}},
		{"two windows", []string{named("db", "ehr"), named("images", "pacs")}, []string{"evening"}, []string{"db", "images"}},
		{"one window again", []string{named("night", "ehr, pacs")}, []string{"db", "images"}, []string{"night"}},
	} {
		g.approve(step.windows, later)
		if out := g.must("check"); !strings.Contains(out, "nothing would close or open now") || !strings.Contains(out, "removed window medisys/"+step.before[0]) {
			t.Errorf("%s: check says: %s", step.what, out)
		}
		g.write(g.hangFile(), "")
		answered := make(chan string, 1)
		go func() {
			out, failures, _ := g.operator("reload") // it complains that the disk does not answer
			answered <- out + failures
		}()
		lab.WaitFor(t, eventually, step.what+": the new policy is in force", func() bool {
			return g.status().Policy.FileOK && !strings.Contains(strings.Join(g.status().Hints, "\n"), "is not the policy in force")
		})
		if got := grants(); !slices.Equal(got, step.before) {
			t.Errorf("%s: while the disk does not answer, the grants are of %v, want %v", step.what, got, step.before)
		}
		for _, e := range held {
			e.check(g, "kept")
		}
		g.check(os.Remove(g.hangFile()))
		if out := <-answered; strings.Contains(out, "closed now") || !strings.Contains(out, "added window medisys/"+step.after[0]) {
			t.Errorf("%s: reload says: %s", step.what, out)
		}
		lab.WaitFor(t, eventually, fmt.Sprintf("%s: the grants are of %v", step.what, step.after), func() bool { return slices.Equal(grants(), step.after) })
		for _, e := range held {
			e.check(g, "kept")
		}
	}
	if s := g.status().Sessions; len(s) != 1 || s[0].ID != session {
		t.Errorf("the sessions are %+v, want %s alone", s, session)
	}
	want := []string{"opened night", "opened evening", "closed night", "opened db", "opened images", "closed evening", "opened night", "closed db", "closed images"}
	var told []string
	lab.WaitFor(t, eventually, "the last closings are in the journal", func() bool {
		told = nil
		for line := range strings.Lines(g.must("journal", "list", "--json")) {
			var e journal.Entry
			g.check(json.Unmarshal([]byte(line), &e))
			if kind, ok := strings.CutPrefix(string(e.Kind), "window_"); ok && e.Engineer == "sato" {
				told = append(told, kind+" "+e.Window)
			}
		}
		return len(told) >= len(want)
	})
	if !slices.Equal(told, want) {
		t.Errorf("the journal has %q, want %q", told, want)
	}
}
