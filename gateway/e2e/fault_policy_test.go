package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// TestFault107PolicyInAFolderOfEverybody: the policy's folder, to which a link
// leads, can be written by everybody: at once, or when the gateway starts. And the
// state folder can.
func TestFault107PolicyInAFolderOfEverybody(t *testing.T) {
	held(t, func(g *ground) {
		share := filepath.Join(g.folder, "share")
		complaint := "lies in " + share + ", which has mode 0777"
		mode := func(folder string, m os.FileMode) { g.check(os.Chmod(folder, m)) }
		g.check(os.Mkdir(share, 0o755))
		g.write(filepath.Join(share, "policy.yaml"), g.policyText([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")}))
		g.check(os.Symlink(filepath.Join(share, "policy.yaml"), g.policyFile()))
		g.startReady()
		g.inside()
		mode(share, 0o777)
		lab.WaitFor(g.t, eventually, "status tells of the folder", func() bool {
			s := g.status()
			return s.Ready && !s.Policy.FileOK && strings.Contains(s.Policy.Error, complaint)
		})
		for _, command := range []string{"reload", "check"} {
			if out, told, exit := g.operator(command); exit != exitFailed || !strings.Contains(told, complaint) || !strings.Contains(told, "(chmod 0755 "+share+")") {
				g.breaks("%s: exit %d, want %d and %q: %s%s", command, exit, exitFailed, complaint, out, told)
			}
		}
		g.holds(g.works(), "session: after the reload")
		g.kill()
		g.start()
		if s := g.status(); s.Ready || !strings.Contains(s.NotReadyReason, "there is no policy in force") || !strings.Contains(s.NotReadyReason, complaint) {
			g.breaks("start: ready %v, %q, want not ready because of %q", s.Ready, s.NotReadyReason, complaint)
		}
		mode(share, 0o755)
		g.must("reload")
		g.ready()
		g.kill()
		mode(g.stateDir(), 0o777)
		g.launch()
		select {
		case <-g.ended:
		case <-time.After(eventually):
			g.breaks("state: a folder of everybody is taken")
			g.kill()
		}
		if want := "KIDOBAN_STATE_DIR: " + g.stateDir() + " has mode 0777"; g.process.ProcessState.ExitCode() != exitFailed || !strings.Contains(g.log(), want) {
			g.breaks("state: exit %d, want %d and %q:\n%s", g.process.ProcessState.ExitCode(), exitFailed, want, g.log())
		}
	})
}
