package firewall

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kidoban/gateway/lab"
)

// TestForwardingReadOnly: a container engine mounts /proc/sys read-only. What
// the host has turned on is taken as it is, what it has not is named together
// with the command that turns it.
func TestForwardingReadOnly(t *testing.T) {
	l := lab.New(t)
	h, peer := l.Host("gateway"), l.Host("peer")
	l.Link(h, "kido0", lab.Prefixes("10.99.0.1/24"), peer, "eth0", lab.Prefixes("10.99.0.2/24"))
	l.Link(h, "lan.7", lab.Prefixes("10.1.0.1/24"), peer, "eth1", lab.Prefixes("10.1.0.5/24"))
	var f *Firewall
	if err := h.Do(func() (err error) { f, err = New(testOptions); return err }); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	enable := func() error {
		return readOnly(h, func() error { return f.EnableForwarding([]string{"kido0", "lan.7"}, true) })
	}

	h.Sysctl("net.ipv4.conf.kido0.forwarding", "1")
	err := enable()
	if err == nil || !strings.HasSuffix(err.Error(), "the host has to: sysctl -w net.ipv4.conf.lan/7.forwarding=1") {
		t.Errorf("forwarding is off and cannot be turned: error %v, want the command that turns it on the host", err)
	}
	h.Sysctl("net.ipv4.ip_forward", "1")
	if err := enable(); err == nil || !strings.Contains(err.Error(), "ipv6/conf/") {
		t.Errorf("forwarding of IPv6 is off and cannot be turned: error %v, want one that names it", err)
	}
	h.Sysctl("net.ipv6.conf.all.forwarding", "1")
	if err := enable(); err != nil {
		t.Errorf("the host forwards already: error %v, want none", err)
	}
}

// readOnly calls f in the host, where /proc/sys is mounted read-only.
func readOnly(h *lab.Host, f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and its mounts
		// with the thread.
		runtime.LockOSThread()
		done <- func() error {
			namespace, err := os.Open(h.Namespace())
			if err != nil {
				return err
			}
			defer namespace.Close()
			if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				return err
			}
			for _, m := range []struct {
				source, target string
				flags          uintptr
			}{
				{"", "/", unix.MS_REC | unix.MS_PRIVATE},
				{"/proc/sys", "/proc/sys", unix.MS_BIND | unix.MS_REC},
				{"", "/proc/sys", unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
			} {
				if err := unix.Mount(m.source, m.target, "", m.flags, ""); err != nil {
					return err
				}
			}
			return f()
		}()
	}()
	return <-done
}
