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
)

// TestProbeUnit holds the unit of the self-test and its timer against what the process needs, and must not have.
func TestProbeUnit(t *testing.T) {
	folder := t.TempDir()
	var lines []string
	for _, name := range []string{"kidoban-probe.service", "kidoban-probe.timer"} {
		text, err := os.ReadFile("../../docs/" + name)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Split(string(text), "\n")...)
		if err := os.WriteFile(filepath.Join(folder, name), bytes.ReplaceAll(text, []byte("/usr/bin/kidoban"), []byte("/bin/true")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	settings, err := config.FromEnvironment(nil)
	if err != nil {
		t.Fatal(err)
	}
	for line, because := range map[string]string{
		"ExecStart=/usr/bin/kidoban probe":          "that is where the installation puts it",
		"Type=oneshot":                              "it ends",
		"User=kidoban":                              "it needs no root",
		"Group=kidoban":                             "the admin socket is this group's",
		"PrivateNetwork=yes":                        "it has nothing to do with the machine's network",
		"RestrictNamespaces=net":                    "it makes no others",
		"NoNewPrivileges=yes":                       "it starts itself alone",
		"ProtectSystem=strict":                      "it writes nothing",
		"DeviceAllow=/dev/net/tun rw":               "tunnels",
		"EnvironmentFile=-/etc/kidoban/environment": "the second gate has the settings of the first one",
		"CapabilityBoundingSet=CAP_SYS_ADMIN CAP_NET_ADMIN CAP_NET_RAW":         "namespaces, what is in them, and captures there",
		"InaccessiblePaths=" + settings.StateDir + " /etc/kidoban":              "it gets the policy from the gateway",
		"RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_UNIX": "as the gateway, and captures",
		"OnCalendar=*-*-* 03:30": "every night",
		"WantedBy=timers.target": "the timer is what is enabled",
	} {
		if !slices.Contains(lines, line) {
			t.Errorf("%s is missing: %s", line, because)
		}
	}
	for _, line := range lines {
		if name, _, _ := strings.Cut(line, "="); slices.Contains([]string{"ProtectKernelTunables", "ProcSubset", "PrivateDevices", "PrivateUsers", "RemoveIPC"}, name) {
			t.Errorf("%s: hosts in namespaces forward by /proc/sys/net, tunnels need /dev/net/tun, and the gateway has the same user", line)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skipf("systemd's own opinion is not asked: %v (apt-get install systemd)", err)
	}
	if out, err := exec.Command(analyze, "verify", "--man=no", filepath.Join(folder, "kidoban-probe.timer")).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	if out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold=40", filepath.Join(folder, "kidoban-probe.service")).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
