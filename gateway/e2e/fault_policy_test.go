package e2e

import (
	"strings"
	"testing"

	"kidoban/gateway/lab"
)

// hostileValues is nearly as many values as a policy file may have.
var hostileValues = 299_000

// TestFault78HostilePolicy: the policy file of a gateway at work is replaced by
// one that is made to cost. The session goes on, the file is refused in words,
// and memory stays far below the 1 GB of the unit; and a start with such a file
// starts, lets nobody in, and says why.
func TestFault78HostilePolicy(t *testing.T) {
	held(t, func(g *ground) {
		const most = 640 << 20 // of the unit's MemoryMax, 1 GB; a policy of 10,000 engineers in force has room beside it
		g.open([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
		g.inside()
		lab.WaitFor(g.t, eventually, "the session is told", func() bool { return len(g.status().Sessions) == 1 })
		good := g.policyText([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
		hostile := []struct{ what, text, complaint string }{
			{"2 MB of commas", "a: [" + strings.Repeat(",", 2<<20), "lines, values and signs of YAML up to here: allowed are 300000"},
			{"values, as many as allowed", "a: [" + strings.Repeat("1,", hostileValues) + "1]\n", "a: unknown field"},
			{"tokens, and then a mistake", "a: [" + strings.Repeat("1,", hostileValues) + ",", "is not YAML"},
		}
		complains := func(complaint string) bool {
			s := g.status()
			return !s.Policy.FileOK && strings.Contains(s.Policy.Error, complaint)
		}
		for _, h := range hostile {
			g.write(g.policyFile(), h.text)
			lab.WaitFor(g.t, 4*eventually, h.what+" in place of the policy: it is told", func() bool { return complains(h.complaint) })
			if out, told, exit := g.operator("reload"); exit != exitFailed || !strings.Contains(out+told, h.complaint) {
				g.breaks("reload: of %s: exit %d, want %d and %q: %.500s%.500s", h.what, exit, exitFailed, h.complaint, out, told)
			}
			if out, told, exit := g.operator("check"); exit != exitFailed || !strings.Contains(out+told, h.complaint) {
				g.breaks("check: of %s: exit %d, want %d and %q: %.500s%.500s", h.what, exit, exitFailed, h.complaint, out, told)
			}
			if s := g.status(); !s.Ready || len(s.Sessions) != 1 {
				g.breaks("session: with %s: ready %v, %d sessions, want true and 1", h.what, s.Ready, len(s.Sessions))
			}
			g.holds(g.works(), "session: with %s", h.what)
		}
		if peak := 1024 * memory(g.t, g.process.Process.Pid, "VmHWM"); peak > most {
			g.breaks("memory: %d MB, allowed are %d", peak>>20, most>>20)
		} else {
			g.t.Logf("the gateway took up to %d MB", peak>>20)
		}
		for _, h := range hostile {
			g.kill()
			g.write(g.policyFile(), h.text)
			g.start()
			if s := g.status(); s.Ready || !strings.Contains(s.NotReadyReason, "there is no policy in force") || !strings.Contains(s.NotReadyReason, h.complaint) {
				g.breaks("start: with %s: ready %v, %.300q, want not ready because of %q", h.what, s.Ready, s.NotReadyReason, h.complaint)
			}
			if peak := 1024 * memory(g.t, g.process.Process.Pid, "VmHWM"); peak > most {
				g.breaks("memory: %d MB at a start with %s, allowed are %d", peak>>20, h.what, most>>20)
			}
		}
		g.write(g.policyFile(), good)
		g.must("reload")
		g.ready()
	})
}
