package firewall

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// forwarding remembers the switches of the host that were turned. They stay
// open, so that they can be turned back from any thread and name the
// interface that was meant.
type forwarding struct{ turned []turned }

type turned struct {
	file *os.File
	was  string
}

// ErrRouterAdvertisements means that IPv6 forwarding stays off, because the
// host would stop to learn its own routes.
var ErrRouterAdvertisements = errors.New("the host takes IPv6 router advertisements, which end where it forwards; " +
	"give it static IPv6 routes (accept_ra=0) or let it take them all the same (accept_ra=2)")

// EnableForwarding lets the kernel forward what the interfaces receive, IPv4
// and, where wanted, IPv6. It is turned on for these interfaces alone where
// the kernel can do that: always for IPv4, from 6.17 on for IPv6; else for
// the host. The forward chain already drops what no plan opens. Close
// restores what was found. It reads the switches of the network namespace of
// the calling thread.
//
// With ErrRouterAdvertisements (errors.Is) IPv4 is on, and IPv6 is as it was.
func (f *Firewall) EnableForwarding(interfaces []string, ipv6 bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.held == nil {
		return errors.New("firewall: forwarding stays off: there is no ruleset in force")
	}
	for _, i := range interfaces {
		if err := f.forwarding.on("ipv4/conf/" + i + "/forwarding"); err != nil {
			return fmt.Errorf("firewall: forwarding IPv4 from interface %q: %w", i, err)
		}
	}
	if !ipv6 {
		return nil
	}
	// Where it is on for the host, no interface has a say (ip6_forward).
	if setting("ipv6/conf/all/forwarding") == "1" {
		return nil
	}
	for _, i := range interfaces {
		err := f.forwarding.on("ipv6/conf/" + i + "/force_forwarding")
		if errors.Is(err, fs.ErrNotExist) {
			err = f.forwarding.allIPv6()
		}
		if err != nil {
			return fmt.Errorf("firewall: forwarding IPv6 from interface %q: %w", i, err)
		}
	}
	return nil
}

// allIPv6 is for kernels that forward IPv6 for all interfaces or none.
func (f *forwarding) allIPv6() error {
	interfaces, err := os.ReadDir(sysctls + "ipv6/conf")
	if err != nil {
		return err
	}
	for _, i := range interfaces {
		// 1: advertisements are taken unless the interface forwards (ip-sysctl).
		if i.Name() == "lo" || i.Name() == "all" || i.Name() == "default" {
			continue
		}
		if setting("ipv6/conf/"+i.Name()+"/accept_ra") == "1" && setting("ipv6/conf/"+i.Name()+"/forwarding") == "0" {
			return fmt.Errorf("interface %q: %w", i.Name(), ErrRouterAdvertisements)
		}
	}
	return f.on("ipv6/conf/all/forwarding")
}

const sysctls = "/proc/sys/net/"

func setting(name string) string {
	b, err := os.ReadFile(sysctls + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// on turns a switch on and remembers how it was found. One that is on already
// is only read: in a container /proc/sys cannot be written, and the host's
// administrator has turned it.
func (f *forwarding) on(name string) error {
	if setting(name) == "1" {
		return nil
	}
	file, err := os.OpenFile(sysctls+name, os.O_RDWR, 0)
	if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w; where this process may not turn it, as in a container, the host has to: sysctl -w net.%s=1",
			err, strings.NewReplacer("/", ".", ".", "/").Replace(name))
	}
	if err != nil {
		return err
	}
	b := make([]byte, 16)
	n, err := file.ReadAt(b, 0)
	was := strings.TrimSpace(string(b[:n]))
	if n == 0 {
		file.Close()
		return fmt.Errorf("reading %s: %w", file.Name(), err)
	}
	if _, err := file.WriteAt([]byte("1"), 0); err != nil {
		file.Close()
		return err
	}
	f.turned = append(f.turned, turned{file, was})
	return nil
}

// restore turns back what was turned, the last first. An interface that is
// gone took its switch along.
func (f *forwarding) restore() error {
	var failures []error
	for i := len(f.turned) - 1; i >= 0; i-- {
		t := f.turned[i]
		if _, err := t.file.WriteAt([]byte(t.was), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			if _, gone := os.Stat(t.file.Name()); gone == nil {
				failures = append(failures, fmt.Errorf("restoring %s to %s: %w", t.file.Name(), t.was, err))
			}
		}
		t.file.Close()
	}
	f.turned = nil
	return errors.Join(failures...)
}
