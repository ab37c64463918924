package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"kidoban/gateway/lab"
)

// TestFault129TakenOver: whoever takes the gateway over, as by a hole in it, cannot read other
// files, nor start a program. It does all of its work confined so: sessions, a reload, a close, a
// recovery that makes the tunnel anew.
func TestFault129TakenOver(t *testing.T) {
	t.Parallel()
	needConfinement(t)
	g := newGround(t)
	file := filepath.Join(g.folder, "intruder")
	g.settings = append(g.settings, "PROMISE_INTRUDER="+file)
	g.serve()
	g.open([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
	c := g.inside()

	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", g.process.Process.Pid))
	g.check(err)
	confined := regexp.MustCompile(`(?s)\nNoNewPrivs:\t1\nSeccomp:\t2\n`)
	for _, task := range tasks {
		if text, err := os.ReadFile(task); err == nil && !confined.Match(text) { // else the thread has ended
			t.Errorf("%s has not NoNewPrivs: 1 and Seccomp: 2:\n%s", task, text)
		}
	}
	if len(tasks) < 3 {
		t.Errorf("found %d threads", len(tasks))
	}

	other := filepath.Join(t.TempDir(), "other")
	g.write(other, "of another program")
	g.write(file+".new", other)
	g.check(os.Rename(file+".new", file))
	var told string
	lab.WaitFor(t, eventually, "the intruder has tried all", func() bool {
		text, err := os.ReadFile(file + ".told")
		told = string(text)
		return err == nil && strings.Contains(told, "unshare: ")
	})
	if n := strings.Count(told, "\n"); n != 8 {
		t.Errorf("%d attempts, want 8", n)
	}
	for line := range strings.Lines(told) {
		if !strings.Contains(line, "permission denied") && !strings.Contains(line, "operation not permitted") {
			t.Errorf("the intruder may %s", line)
		}
	}
	if hints := g.must("status"); strings.Contains(hints, "landlock") || strings.Contains(hints, "seccomp") {
		t.Errorf("status has a hint about a layer that is there:\n%s", hints)
	}

	g.approve([]string{hour("work", "ehr, ehr6"), hour("more", "pacs")}, []string{nextYear("later", "pacs")})
	g.must("reload")
	g.must("close", "medisys/suzuki", "--reason", "a drill")
	g.check(g.works())
	g.must("recover", "--reason", "the tunnel is made anew")
	g.mustEnter(c)
	g.check(g.works())
}

// needConfinement skips where the kernel has no landlock.
func needConfinement(t *testing.T) {
	t.Helper()
	if lsm, err := os.ReadFile("/sys/kernel/security/lsm"); os.Getenv("CI") == "" && err == nil && !strings.Contains(string(lsm), "landlock") {
		t.Skipf("this kernel has no landlock: it has %s", lsm)
	}
}
