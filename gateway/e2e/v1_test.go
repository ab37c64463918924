package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
)

// v1 is the state of a gateway, with its policy, as the first version of each format has it.
const v1 = "../store/testdata/v1"

// TestStateOfVersion1 starts the gateway with it: what was shut stays shut, the key is the same, and the
// journal goes on. It was made by -update, which makes it only where it is not there: every later version
// reads these bytes.
func TestStateOfVersion1(t *testing.T) {
	lab.Require(t)
	t.Parallel()
	g := newGround(t)
	if _, err := os.Stat(v1); *update && os.IsNotExist(err) {
		g.makeV1()
		return
	}
	g.check(os.CopyFS(g.stateDir(), os.DirFS(v1)))
	for _, file := range []string{"private.key", "journal.key", "shut.json"} { // git keeps no modes
		g.check(os.Chmod(filepath.Join(g.stateDir(), file), 0o600))
	}
	policy, err := os.ReadFile(filepath.Join(v1, "policy.yaml"))
	g.check(err)
	g.write(g.policyFile(), string(policy))
	before := g.entries("")
	g.startAsItIs()
	g.ready()
	s := g.status()
	if len(s.Shut.Vendors) != 1 || s.Shut.Vendors[0] != "scanco" || s.Shut.All {
		t.Errorf("shut: %+v", s.Shut)
	}
	named := ""
	for _, e := range before {
		if e.Kind == journal.Identity {
			named = e.Key
		}
	}
	if s.PublicKey == nil || s.PublicKey.String() != named {
		t.Errorf("the key is %v, the journal names %q", s.PublicKey, named)
	}
	g.must("journal", "verify")
	if after := g.entries(""); len(after) <= len(before) {
		t.Errorf("%d entries, after %d", len(after), len(before))
	}
}

// makeV1 runs the program itself, without the tests' layers, through what leaves something behind, and copies its state.
func (g *ground) makeV1() {
	g.program = filepath.Join(g.t.TempDir(), "kidoban")
	if out, err := exec.Command("go", "build", "-o", g.program, "kidoban/cmd/kidoban").CombinedOutput(); err != nil {
		g.t.Fatalf("%v: %s", err, out)
	}
	g.employ()
	g.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "pacs")})
	g.inside()
	g.must("close", "scanco", "--reason", "key stolen")
	g.must("close", "medisys/suzuki", "--reason", "laptop lost")
	g.must("reopen", "medisys/suzuki", "--reason", "laptop found")
	open := g.request("tanaka", "--for", "1h")
	g.mustAs("ito", "approve", open, "--yes")
	g.request("tanaka", "--for", "2h") // undecided
	over := g.request("tanaka", "--for", "30m")
	g.mustAs("ito", "approve", over, "--yes")
	g.mustAs("", "revoke", over, "--reason", "not needed")
	g.must("recover", "--reason", "a drill")
	g.ready()
	g.stop()
	g.check(os.MkdirAll(filepath.Dir(v1), 0o755))
	for _, args := range [][]string{{"cp", "-r", g.stateDir(), v1}, {"cp", g.policyFile(), v1 + "/policy.yaml"}, {"rm", "-f", v1 + "/journal.lock"}, {"sed", "-i", "s/ *$//", v1 + "/shut.json"}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			g.t.Fatalf("%v: %s", err, out)
		}
	}
}
