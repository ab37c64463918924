package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kidoban/cmd/kidoban/terminal"
)

// TestShare: export and import write whole files or none, and say why not.
func TestShare(t *testing.T) {
	folder := t.TempDir()
	in := func(name string) string { return filepath.Join(folder, name) }
	example, err := os.ReadFile("../../config/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"policy.yaml": string(example), "story.yaml": "purpose: 月次の保守\nclause: \"12\"\n", "leak.yaml": "went_wrong: medisys came at night\n",
		"strange.yaml": "purpose: x\nreason: y\n", "report.json": `{"vendors": [{"vendor": "medisys", "sessions": 5, "used_seconds": 7200}]}`, "broken.json": "[",
	} {
		if err := os.WriteFile(in(name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	share := func(args ...string) (string, int) {
		var out bytes.Buffer
		environ := []string{"KIDOBAN_POLICY_FILE=" + in("policy.yaml"), "KIDOBAN_STATE_DIR=" + folder}
		exit := run(append([]string{"share"}, args...), environ, &out, &out)
		return out.String(), exit
	}
	if out, exit := share("export", "--story", in("story.yaml"), "--report", in("report.json"), "--map", in("map.json"), "--out", in("shared.yaml")); exit != terminal.Yes {
		t.Fatalf("%d: %s", exit, out)
	}
	shared, err := os.ReadFile(in("shared.yaml"))
	if err != nil || !strings.Contains(string(shared), "sessions: \"4-10\"\n    hours: \"1-3\"") || strings.Contains(string(shared), "medisys") {
		t.Errorf("%v\n%s", err, shared)
	}
	if info, err := os.Stat(in("map.json")); err != nil || info.Mode() != 0o600 {
		t.Errorf("the map: %v %v", info.Mode(), err)
	}
	if out, exit := share("import", in("shared.yaml"), "--out", in("template.yaml")); exit != terminal.Yes {
		t.Fatalf("%d: %s", exit, out)
	}
	for _, c := range []struct {
		args []string
		exit int
		want string
	}{
		{[]string{"export", "--story", in("leak.yaml"), "--out", in("none.yaml")}, terminal.No, "story.went_wrong has medisys"},
		{[]string{"export", "--story", in("strange.yaml"), "--out", in("none.yaml")}, terminal.Failed, "strange.yaml:2:1: reason: unknown field"},
		{[]string{"export", "--report", in("broken.json"), "--out", in("none.yaml")}, terminal.Failed, "broken.json is no report"},
		{[]string{"export", "--out", in("policy.yaml")}, terminal.Usage, "policy.yaml is a file that is read"},
		{[]string{"export", "--map", in("none.yaml"), "--out", in("none.yaml")}, terminal.Usage, "named twice"},
		{[]string{"export", in("shared.yaml"), "--out", in("none.yaml")}, terminal.Failed, "shared.yaml:2:1: kidoban_share: unknown field"},
		{[]string{"import", in("policy.yaml"), "--out", in("none.yaml")}, terminal.Failed, "kidoban_share: is not 1"},
		{[]string{"import", in("shared.yaml"), "--out", in("policy.yaml")}, terminal.Usage, "policy.yaml is a file that is read"},
	} {
		out, exit := share(c.args...)
		if _, err := os.Stat(in("none.yaml")); exit != c.exit || !strings.Contains(out, c.want) || err == nil {
			t.Errorf("%q: exit %d, %s; a file is written: %t", c.args, exit, out, err == nil)
		}
	}
	if now, err := os.ReadFile(in("policy.yaml")); err != nil || !bytes.Equal(now, example) {
		t.Errorf("the policy was written over: %v", err)
	}
}
