package firewall

import (
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// TestFault94NoIPv6Settings: with ipv6.disable=1 the kernel has no IPv6 settings. That
// is no error, IPv4 is forwarded, and IPv6 targets are not reached.
func TestFault94NoIPv6Settings(t *testing.T) {
	s := newSwitches(t)
	f := s.firewall(t, testOptions)
	p := &policy.Policy{Tunnel: policy.Tunnel{Addresses: lab.Prefixes("10.99.0.1/24", "fd00:99::1/64")}, Targets: []*policy.Target{
		{Name: "ehr", Prefix: netip.MustParsePrefix("10.1.0.5/32")}, {Name: "ehr6", Prefix: netip.MustParsePrefix("fd00:1::5/128")},
	}}
	var w paths
	err := withoutIPv6(s.Host, func() error {
		r, err := readRouting(p, "kido0", []string{"lan"})
		if err != nil {
			return err
		}
		w = pathsTo(p, "kido0", r)
		if hints := f.reserve(); len(hints) > 0 {
			t.Errorf("the port is not reserved: %v", hints)
		}
		if err := forgetPaths(); err != nil {
			t.Errorf("forgetting paths: %v", err)
		}
		return f.setForwarding(w.ipv4, []string{"kido0", "lan"})
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.on(); got != "kido0 lan" {
		t.Errorf("%s forward, want kido0 and lan over IPv4", got)
	}
	if by := w.to[netip.MustParsePrefix("fd00:1::5/128")]; len(by) > 0 || len(w.ipv6) > 0 {
		t.Errorf("ehr6 is reached by %v, and IPv6 forwarded on %v", by, w.ipv6)
	}
	if len(w.hints) != 1 || w.hints[0].Message.Code != "no_ipv6" || len(w.hints[0].Targets) != 1 || w.hints[0].Targets[0] != "ehr6" {
		t.Errorf("hints %v, want one that says that ehr6 cannot be reached", w.hints)
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
}

// withoutIPv6 calls f in the host, where /proc/sys/net has nothing but IPv4.
func withoutIPv6(h *lab.Host, f func() error) error {
	return withMounts(h, func() error {
		ipv4, err := unix.Open("/proc/sys/net/ipv4", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(ipv4)
		if err := unix.Mount("none", "/proc/sys/net", "tmpfs", 0, ""); err != nil {
			return err
		}
		if err := unix.Fchdir(ipv4); err != nil { // the thread's own, since its mounts are
			return err
		}
		return os.Symlink("/proc/thread-self/cwd", "/proc/sys/net/ipv4")
	}, f)
}
