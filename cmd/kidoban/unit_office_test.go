package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kidoban/config"
	"kidoban/gateway/view"
)

// TestOfficeUnit holds the unit of the office against what the process needs, and must not have.
func TestOfficeUnit(t *testing.T) {
	text, err := os.ReadFile("../../docs/kidoban-office.service")
	if err != nil {
		t.Fatal(err)
	}
	settings, err := config.FromEnvironment(nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for line, because := range map[string]string{
		"ExecStart=/usr/bin/kidoban office":                        "that is where the installation puts it",
		"User=" + view.OfficeUser:                                  "the gateway asks the kernel for it",
		"Group=" + view.OfficeUser:                                 "the socket's group",
		"StateDirectory=" + filepath.Base(settings.OfficeStateDir): "the cursors are there",
		"StateDirectoryMode=0700":                                  "they are nobody else's",
		"CapabilityBoundingSet=":                                   "it needs none",
		"AmbientCapabilities=":                                     "it needs none",
		"NoNewPrivileges=yes":                                      "it starts nothing",
		"InaccessiblePaths=" + settings.StateDir:                   "the gateway's key and journal are there",
		"SystemCallFilter=" + confiningCalls:                       "it confines itself",
		"ProtectSystem=strict":                                     "it writes nowhere else",
		"RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX":         "receivers, and the gateway's socket",
		"MemoryMax=128M":                                           "a receiver must not take the host's memory",
		"CPUQuota=50%":                                             "nor its time",
		"Restart=always":                                           "notices wait for it",
		"EnvironmentFile=-/etc/kidoban/environment":                "the gateway and the office have one setting",
	} {
		if !slices.Contains(lines, line) {
			t.Errorf("%s is missing: %s", line, because)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skipf("systemd's own opinion is not asked: %v (apt-get install systemd)", err)
	}
	here := filepath.Join(t.TempDir(), "kidoban-office.service")
	if err := os.WriteFile(here, bytes.ReplaceAll(text, []byte("/usr/bin/kidoban"), []byte("/bin/true")), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", "--man=no", here).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	if out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold=20", here).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
