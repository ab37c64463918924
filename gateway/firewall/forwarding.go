package firewall

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"kidoban/gateway/durable"

	"golang.org/x/sys/unix"
)

// forwarding remembers the values that the host's switches had before they were
// turned, also for the next process: a killed process cannot restore them.
type forwarding struct {
	path   string // of the record; empty: nothing outlives this process
	here   record // without switches
	logger *slog.Logger
	turned []turned
}

// turned is a switch. Its file stays open, so that it can be turned back from
// any thread, and is that of the interface that was meant.
type turned struct {
	name  string // below sysctls
	file  *os.File
	was   string
	index int // its index; 0: the switch is the host's
}

// record lists the switches that were turned. It is valid in this boot and this
// network namespace only, so it need not outlive a crash of the machine.
type record struct {
	Boot      string           `json:"boot"`
	Namespace uint64           `json:"namespace"`
	Switches  []recordedSwitch `json:"switches"`
}

type recordedSwitch struct {
	Name      string `json:"name"`
	Was       string `json:"was"`
	Interface int    `json:"interface,omitempty"`
}

// errRouterAdvertisements means that IPv6 forwarding stays off, because the
// host would stop to learn its own routes.
var errRouterAdvertisements = errors.New("the host takes IPv6 router advertisements, which end where it forwards; " +
	"give it static IPv6 routes (accept_ra=0) or let it take them all the same (accept_ra=2)")

// setForwarding lets the kernel forward packets that these interfaces receive.
// It is turned on for these interfaces alone where the kernel can do that:
// always for IPv4, from 6.17 on for IPv6; else for the host. The forward chain
// drops all that no plan opens. Switches that an earlier call or process turned,
// and this call does not name, are restored. A missing interface is passed over.
// A switch that another program turned back is turned again, so call it often.
//
// While anything is forwarded, no interface takes ICMP redirects, where this
// process may turn that off.
//
// close restores the switches, which are those of the calling thread's network
// namespace.
//
// With errRouterAdvertisements (errors.Is) IPv4 is on, and IPv6 is unchanged.
func (f *ruleset) setForwarding(ipv4, ipv6 []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.held == nil {
		return errors.New("firewall: forwarding stays off: there is no ruleset in force")
	}
	var wanted4, wanted6 []string
	for _, i := range ipv4 {
		wanted4 = append(wanted4, "ipv4/conf/"+i+"/forwarding")
	}
	for _, i := range ipv6 {
		wanted6 = append(wanted6, "ipv6/conf/"+i+"/force_forwarding")
	}
	switch {
	case len(wanted6) == 0:
	case setting("ipv6/conf/default/force_forwarding") == "": // the kernel forwards IPv6 for all interfaces or none
		wanted6 = []string{allIPv6}
	case setting(allIPv6) == "1": // no interface has a say (ip6_forward)
		wanted6 = slices.DeleteFunc(wanted6, func(name string) bool { return f.forwarding.find(name) < 0 })
	}
	var redirects []string
	if len(wanted4)+len(wanted6) > 0 {
		redirects = redirectSwitches()
	}
	wanted := slices.Concat(wanted4, wanted6, redirects)
	if err := f.forwarding.restore(func(name string) bool { return slices.Contains(wanted, name) }); err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	for _, name := range wanted {
		// The ruleset drops redirects by itself.
		if err := f.forwarding.turn(name); err != nil && meant(name) == "1" {
			return fmt.Errorf("firewall: turning %s to %s: %w", sysctl(name), meant(name), err)
		}
	}
	return nil
}

// acceptRedirects is the end of the names of the switches that let the host
// believe ICMP redirects.
const acceptRedirects = "/accept_redirects"

// redirectSwitches are those of every interface; of IPv4 that of all at once
// counts as well (IN_DEV_RX_REDIRECTS).
func redirectSwitches() []string {
	var names []string
	for _, family := range []string{"ipv4", "ipv6"} {
		// Where the kernel has no IPv6 there is no such folder.
		interfaces, _ := os.ReadDir(sysctls + family + "/conf")
		for _, i := range interfaces {
			if i.Name() != "default" && i.Name() != "lo" && (family == "ipv4" || i.Name() != "all") {
				names = append(names, family+"/conf/"+i.Name()+acceptRedirects)
			}
		}
	}
	return names
}

// meant is the value that a switch is turned to.
func meant(name string) string {
	if strings.HasSuffix(name, acceptRedirects) {
		return "0"
	}
	return "1"
}

// allIPv6 is the switch of all interfaces at once.
const allIPv6 = "ipv6/conf/all/forwarding"

// advertised names an interface that would stop to take router advertisements
// if all interfaces forwarded.
func advertised() error {
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
			return fmt.Errorf("interface %q: %w", i.Name(), errRouterAdvertisements)
		}
	}
	return nil
}

const sysctls = "/proc/sys/net/"

func setting(name string) string {
	b, err := os.ReadFile(sysctls + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// sysctl is the name of a switch as sysctl(8) takes it.
func sysctl(name string) string {
	return "net." + strings.NewReplacer("/", ".", ".", "/").Replace(name)
}

// indexOf gives the index of the interface whose switch it is; 0: it is not
// there, or the switch is the host's.
func indexOf(name string) int {
	parts := strings.Split(name, "/")
	if parts[2] == "all" {
		return 0
	}
	i, err := net.InterfaceByName(parts[2])
	if err != nil {
		return 0
	}
	return i.Index
}

func (t *turned) read() (string, error) {
	b := make([]byte, 16)
	n, err := t.file.ReadAt(b, 0)
	if n == 0 {
		return "", fmt.Errorf("reading %s: %w", t.file.Name(), err)
	}
	return strings.TrimSpace(string(b[:n])), nil
}

// write turns a switch. If its interface has another name now, it turns the
// switch of that name. If the interface is gone, so is the switch.
func (t *turned) write(value string) error {
	_, err := t.file.WriteAt([]byte(value), 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if name := t.renamed(); name != "" {
		return os.WriteFile(sysctls+name, []byte(value), 0)
	}
	return nil
}

// renamed is the switch under the name that its interface has now, if that is
// another one.
func (t *turned) renamed() string {
	parts := strings.Split(t.name, "/")
	i, err := net.InterfaceByIndex(t.index) // 0 is an error
	if err != nil || i.Name == parts[2] {
		return ""
	}
	parts[2] = i.Name
	return strings.Join(parts, "/")
}

func (f *forwarding) find(name string) int {
	return slices.IndexFunc(f.turned, func(t turned) bool { return t.name == name })
}

// turn turns a switch and remembers its value. A switch that already has the
// value is only read: in a container /proc/sys cannot be written, and the host's
// administrator has turned it.
func (f *forwarding) turn(name string) error {
	want := meant(name)
	if i := f.find(name); i >= 0 {
		t := &f.turned[i]
		is, err := t.read()
		switch {
		case err == nil && is == want:
			return nil
		case err == nil:
			what := "somebody turned off forwarding that targets need; it is turned on again"
			if want == "0" {
				what = "somebody let this host believe ICMP redirects; that is turned off again"
			}
			f.logger.Warn(what, "switch", sysctl(name))
			return t.write(want)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		// The interface is gone or renamed. Another one may have its name.
		if err := t.write(t.was); err != nil {
			return err
		}
		t.file.Close()
		f.turned = slices.Delete(f.turned, i, i+1)
	}
	if setting(name) == want {
		return nil
	}
	if name == allIPv6 {
		if err := advertised(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	file, err := os.OpenFile(sysctls+name, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // nor is the interface there
	case errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; where this process may not turn it, as in a container, the host has to: sysctl -w %s=%s", err, sysctl(name), want)
	case err != nil:
		return err
	}
	t := turned{name: name, file: file, index: indexOf(name)}
	if t.was, err = t.read(); err != nil {
		file.Close()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the interface has gone since
		}
		return err
	}
	f.turned = append(f.turned, t)
	if err := f.keep(); err != nil {
		file.Close()
		f.turned = f.turned[:len(f.turned)-1]
		return fmt.Errorf("it stays as it is: how it was found cannot be kept: %w", err)
	}
	if want == "1" {
		f.logger.Info("forwarding is turned on", "switch", sysctl(name), "was", t.was)
	}
	return t.write(want)
}

// restore turns back switches that are not wanted any more, the last first.
// Switches that cannot be turned back stay on record.
func (f *forwarding) restore(wanted func(name string) bool) error {
	var failures []error
	changed := false
	for i := len(f.turned) - 1; i >= 0; i-- {
		t := f.turned[i]
		if wanted(t.name) {
			continue
		}
		if err := t.write(t.was); err != nil {
			failures = append(failures, fmt.Errorf("restoring %s to %s: %w", sysctl(t.name), t.was, err))
			continue
		}
		if meant(t.name) == "1" {
			f.logger.Info("forwarding is as it was found", "switch", sysctl(t.name), "value", t.was)
		}
		t.file.Close()
		f.turned = slices.Delete(f.turned, i, i+1)
		changed = true
	}
	if changed {
		// A switch too many on record does no harm.
		if err := f.keep(); err != nil {
			f.logger.Warn("the record of forwarding cannot be written", "err", err)
		}
	}
	return errors.Join(failures...)
}

// release lets go of the switches as they are.
func (f *forwarding) release() {
	for _, t := range f.turned {
		t.file.Close()
	}
	f.turned = nil
}

// recordHere is an empty record of this boot and of the calling thread's
// network namespace.
func recordHere() (record, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return record{}, err
	}
	var namespace syscall.Stat_t
	if err := syscall.Stat("/proc/thread-self/ns/net", &namespace); err != nil {
		return record{}, fmt.Errorf("the network namespace: %w", err)
	}
	return record{Boot: strings.TrimSpace(string(boot)), Namespace: namespace.Ino}, nil
}

// keep writes the record for the next process, at once and whole.
func (f *forwarding) keep() error {
	if f.path == "" {
		return nil
	}
	if len(f.turned) == 0 {
		if err := os.Remove(f.path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	r := f.here
	for _, t := range f.turned {
		r.Switches = append(r.Switches, recordedSwitch{t.name, t.was, t.index})
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return durable.Replace(f.path, append(text, '\n'), 0o600)
}

// isSwitch is the name of a switch of those that are turned.
var isSwitch = regexp.MustCompile(`^(ipv[46]/conf/[^/]+/(forwarding|accept_redirects)|ipv6/conf/[^/]+/force_forwarding)$`)

// adopt takes over the switches that a process before us turned and did not turn
// back. Records of another boot or network namespace, and of interfaces that are
// gone, do not count.
func (f *forwarding) adopt() error {
	if f.path == "" {
		return nil
	}
	b, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	if r.Boot != f.here.Boot || r.Namespace != f.here.Namespace {
		return nil
	}
	var failures []error
	for _, s := range r.Switches {
		if !isSwitch.MatchString(s.Name) {
			continue // we wrote no such thing, and are about to write there
		}
		t := turned{name: s.Name, was: s.Was, index: s.Interface}
		if name := t.renamed(); name != "" {
			t.name = name
		} else if indexOf(t.name) != t.index {
			continue
		}
		if t.file, err = os.OpenFile(sysctls+t.name, os.O_RDWR, 0); err != nil {
			failures = append(failures, err)
			continue
		}
		f.turned = append(f.turned, t)
	}
	return errors.Join(failures...)
}
