package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"kidoban/gateway/lab"
)

// TestWatch: `kidoban watch` prints every entry of the journal once while the gateway is killed
// and started again, says so, and ends with success by Ctrl-C.
func TestWatch(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	if out, complaint, exit := g.operator("watch"); exit != exitFailed || out != "" || !strings.Contains(complaint, "no gateway runs") {
		t.Errorf("without a gateway: exit %d: %s%s", exit, out, complaint)
	}
	g.open([]string{hour("work", "ehr")}, []string{hour("work", "pacs")})
	if _, complaint, exit := g.operator("watch", "--kinds", "shut,nosuch"); exit != exitUsage || !strings.Contains(complaint, `no kind "nosuch": allowed is start, stop, `) {
		t.Errorf("an unknown kind: exit %d: %s", exit, complaint)
	}
	every, people := g.watch("--json"), g.watch("--kinds", "shut,reopened", "--lang", "ja")
	drill := func(reason string) {
		g.must("close", "medisys", "--reason", reason)
		g.must("reopen", "medisys", "--reason", reason)
	}
	lab.WaitFor(t, eventually, "both watch", func() bool {
		drill("before")
		return every.text() != "" && people.text() != ""
	})
	for i := range 3 {
		reason := fmt.Sprint("drill ", i)
		drill(reason)
		// Else two restarts may fall into one pause between attempts.
		lab.WaitFor(t, eventually, "both have followed until here", func() bool {
			return strings.Contains(every.text(), reason) && strings.Contains(people.text(), reason)
		})
		g.kill()
		g.startReady()
	}
	drill("last drill")
	for _, w := range []*watching{every, people} {
		lab.WaitFor(t, eventually, "the last entry is there", func() bool { return strings.Count(w.text(), "last drill") >= 2 })
		if status := w.end(); status != exitYes {
			t.Errorf("%v: exit %d: %s", w.command.Args, status, w.complaints.String())
		}
		if n := strings.Count(w.complaints.String(), "\n"); n != 6 {
			t.Errorf("%v said %d lines, want two for each of 3 restarts:\n%s", w.command.Args, n, w.complaints.String())
		}
	}
	_, text, _ := strings.Cut(people.text(), "drill 0") // it may have begun in the middle of the drill before
	text = " shut " + text
	if strings.Count(text, " shut ") != strings.Count(text, " reopened ") || !strings.Contains(text, " JST  shut ") || strings.Contains(text, " UTC ") || !strings.Contains(people.complaints.String(), "受信を再開しました") {
		t.Errorf("for people:\n%s%s", text, people.complaints.String())
	}
	list := strings.Split(strings.TrimSpace(g.must("journal", "list", "--json")), "\n")
	next := -1
	for line := range strings.Lines(every.text()) {
		var e struct{ Index int }
		g.check(json.Unmarshal([]byte(line), &e))
		if next < 0 {
			next = e.Index
		}
		if e.Index != next || line != fmt.Sprintf(`{"index":%d,%s`, next, list[next][1:])+"\n" {
			t.Fatalf("entry %d is printed as %s, in the place of %s", e.Index, line, list[next])
		}
		next++
	}
}

// watching is a `kidoban watch` that runs.
type watching struct {
	command    *exec.Cmd
	file       string
	complaints bytes.Buffer
}

func (g *ground) watch(args ...string) *watching {
	g.t.Helper()
	w := &watching{file: filepath.Join(g.t.TempDir(), "out")}
	out, err := os.Create(w.file)
	g.check(err)
	defer out.Close()
	w.command = exec.CommandContext(context.WithoutCancel(g.t.Context()), program, append([]string{"watch"}, args...)...)
	w.command.Env = append(g.environment(), "TZ=UTC")
	w.command.Stdout, w.command.Stderr = out, &w.complaints
	g.check(w.command.Start())
	g.t.Cleanup(func() { _ = w.command.Process.Kill() }) // an error means that it has ended
	return w
}

func (w *watching) text() string {
	text, _ := os.ReadFile(w.file)
	return string(text)
}

// end ends it as Ctrl-C does.
func (w *watching) end() (exit int) {
	_ = w.command.Process.Signal(syscall.SIGINT)
	_ = w.command.Wait()
	return w.command.ProcessState.ExitCode()
}
