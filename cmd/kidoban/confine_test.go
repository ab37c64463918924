package main

import (
	"path/filepath"
	"slices"
	"testing"

	"kidoban/config"
	"kidoban/gateway/confine"
	"kidoban/gateway/durable"
)

// TestGatewayRules: the places that the process keeps follow the settings.
func TestGatewayRules(t *testing.T) {
	for _, c := range []struct {
		what        string
		settings    []string
		notify      string   // NOTIFY_SOCKET
		read, write []string // besides what every gateway has
		names       bool     // it looks names up
		abstract    bool
	}{
		{what: "as installed", read: []string{"/etc/kidoban", "/var/lib/kidoban"}, write: []string{"/var/lib/kidoban", "/var/lib/kidoban", "/run/kidoban"}},
		{what: "everything elsewhere", settings: []string{"KIDOBAN_POLICY_FILE=/nowhere/p/policy", "KIDOBAN_STATE_DIR=/nowhere/s", "KIDOBAN_ADMIN_SOCKET=/nowhere/r/a",
			"KIDOBAN_PRIVATE_KEY_FILE=/nowhere/k/key", "KIDOBAN_OFFICE_SOCKET=/nowhere/o/o"}, notify: "/run/systemd/notify",
			read: []string{"/nowhere/p", "/nowhere/s"}, write: []string{"/nowhere/s", "/nowhere/k", "/nowhere/r", "/nowhere/o"}},
		{what: "with a collector", settings: []string{"KIDOBAN_SYSLOG_ADDRESS=log.example:6514"}, notify: "@abstract", abstract: true, names: true,
			read: []string{"/etc/kidoban", "/var/lib/kidoban"}, write: []string{"/var/lib/kidoban", "/var/lib/kidoban", "/run/kidoban"}},
	} {
		s, err := config.FromEnvironment(c.settings)
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("NOTIFY_SOCKET", c.notify)
		want := confine.Rules{Abstract: c.abstract, Change: []string{"/dev/net/tun", "/proc/sys/net"}}
		for _, path := range append(c.read, "/etc") {
			want.Read = append(want.Read, durable.Real(path))
		}
		slices.Sort(want.Read)
		want.Read = append([]string{"/etc", "/usr/share/zoneinfo", "/proc"}, want.Read...)
		if c.names {
			want.Read = append(want.Read, confine.Network()...)
		}
		want.Write = append(c.write, "/var/run/wireguard")
		got := gatewayRules(s)
		for _, x := range [][2][]string{{got.Read, want.Read}, {got.Change, want.Change}, {sorted(got.Write), sorted(want.Write)}} {
			if !slices.Equal(x[0], x[1]) {
				t.Errorf("%s: got %q, want %q", c.what, x[0], x[1])
			}
		}
		if got.Abstract != want.Abstract {
			t.Errorf("%s: abstract sockets: %v", c.what, got.Abstract)
		}
		for _, path := range got.Write {
			if path == "/" || path == "/etc" || !filepath.IsAbs(path) {
				t.Errorf("%s: it may write in %q", c.what, path)
			}
		}
	}
}

func sorted(all []string) []string { return slices.Sorted(slices.Values(all)) }
