package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"kidoban/config"
)

// confiningCalls are those of gateway/confine that systemd before 257 has in no group of a service.
const confiningCalls = "landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp"

// TestUnit holds the systemd unit against what the program needs.
func TestUnit(t *testing.T) {
	const file = "../../docs/kidoban.service"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	unit := map[string][]string{} // directive -> its values, in order
	for number, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' || line[0] == '[' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || strings.TrimSpace(name) != name {
			t.Fatalf("%s:%d: %q is no directive", file, number+1, line)
		}
		unit[name] = append(unit[name], value)
	}
	settings, err := config.FromEnvironment(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, want, because string }{
		{"Type", "notify", "the program tells when it is ready"},
		{"ExecStart", "/usr/bin/kidoban run", "that is where the installation puts it"},
		{"ExecReload", "/usr/bin/kidoban reload", "a minimal system has no kill, and a signal has no answer"},
		{"Restart", "always", "a gateway that is down lets nobody in"},
		{"User", "kidoban", "it needs no root"},
		{"Group", "kidoban", "the admin socket is the operators'"},
		{"AmbientCapabilities", "CAP_NET_ADMIN", "it is needed, and no other"},
		{"CapabilityBoundingSet", "CAP_NET_ADMIN", "it is needed, and no other"},
		{"NoNewPrivileges", "yes", "it starts nothing"},
		{"StateDirectory", filepath.Base(settings.StateDir), "the journal and the key are there"},
		{"StateDirectoryMode", "0700", "they are nobody else's"},
		{"RuntimeDirectory", filepath.Base(filepath.Dir(settings.AdminSocket)) + " wireguard", "the admin socket, and the one that wg reads"},
		{"RuntimeDirectoryPreserve", "yes", "the marker of what is shut is there too"},
		{"ProtectSystem", "strict", "it writes nowhere else"},
		{"DevicePolicy", "closed", "it uses no other device"},
		{"DeviceAllow", "/dev/net/tun rw", "the tunnel"},
		{"RestrictAddressFamilies", "AF_INET AF_INET6 AF_NETLINK AF_UNIX", "tunnel and metrics, nftables and routes, sockets"},
		{"SystemCallErrorNumber", "EPERM", "an error tells more than a death"},
		{"Before", "network-pre.target shutdown.target", "everything is denied before there is a network"},
		{"DefaultDependencies", "no", "what prepares the system may itself wait for the network"},
	} {
		if got := unit[c.name]; !slices.Equal(got, []string{c.want}) {
			t.Errorf("%s=%q, want %q: %s", c.name, got, c.want, c.because)
		}
	}
	for _, c := range []struct{ name, because string }{
		{"ProtectKernelTunables", "forwarding is switched in /proc/sys/net"},
		{"PrivateDevices", "it hides /dev/net/tun"},
		{"PrivateNetwork", "the host's network is guarded"},
		{"PrivateUsers", "the capability must count for the host's network"},
		{"ProtectClock", "it forbids to read whether the clock is synchronized"},
		{"ProtectProc", "it hides who became root"},
		{"ProcSubset", "it hides /proc/sys"},
		{"DynamicUser", "operators belong to a lasting group"},
		{"IPAddressDeny", "vendors come from outside"},
	} {
		if got, ok := unit[c.name]; ok {
			t.Errorf("%s=%q, want none: %s", c.name, got, c.because)
		}
	}
	if filters := unit["SystemCallFilter"]; len(filters) == 0 || filters[0] != "@system-service adjtimex" {
		t.Errorf("SystemCallFilter=%q, want @system-service and adjtimex, which is not in it", filters)
	}
	if filters := unit["SystemCallFilter"]; !slices.Contains(filters, confiningCalls) {
		t.Errorf("SystemCallFilter=%q, want %s as well: the process confines itself", filters, confiningCalls)
	}
	for name, least := range map[string]int{"WatchdogSec": 10, "TimeoutStopSec": 10} {
		if n, err := strconv.Atoi(strings.Join(unit[name], "")); err != nil || n < least {
			t.Errorf("%s=%q, want a number of seconds, %d at least", name, unit[name], least)
		}
	}

	// A minimal system has no kill and no shell: the program does all.
	parser, err := kong.New(&commands{}, kong.Name("kidoban"))
	if err != nil {
		t.Fatal(err)
	}
	for name, lines := range unit {
		for _, line := range lines {
			if args := strings.Fields(line); strings.HasPrefix(name, "Exec") {
				if _, err := parser.Parse(args[1:]); err != nil || args[0] != "/usr/bin/kidoban" {
					t.Errorf("%s=%s: %v, want a command of the program", name, line, err)
				}
			}
		}
	}

	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skipf("systemd's own opinion is not asked: %v (apt-get install systemd)", err)
	}
	// It wants the program to be there.
	here := filepath.Join(t.TempDir(), "kidoban.service")
	if err := os.WriteFile(here, bytes.ReplaceAll(text, []byte("/usr/bin/kidoban"), []byte("/bin/true")), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", "--man=no", here).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// Exposure, of 100; 96 is a service without any of this.
	if out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold=30", here).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
