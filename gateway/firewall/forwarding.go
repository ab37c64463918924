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

// forwarding remembers how the host's switches were before they were turned, also
// for the next process: a killed process cannot restore them.
type forwarding struct {
	path   string // of the record; empty: nothing outlives this process
	here   record // without switches; its port is reserved
	logger *slog.Logger
	turned []turned

	reserved *os.File // the switch of reserved ports, open for the reason that those in turned are; may be nil
}

// turned is a switch. Its file stays open: any thread can turn it back, and it
// stays the switch of the same interface.
type turned struct {
	Name      string `json:"name"` // below sysctls
	Was       string `json:"was"`
	Interface int    `json:"interface,omitempty"` // its index; 0: the switch is the host's
	file      *os.File
}

// record lists the switches that were turned, and the port. It is valid in this boot and this
// network namespace only, so it need not outlive a crash of the machine.
type record struct {
	Version   int      `json:"version"` // of this format; 0 is 1
	Boot      string   `json:"boot"`
	Namespace uint64   `json:"namespace"`
	Port      uint16   `json:"port,omitempty"` // that was reserved; 0: none was
	Switches  []turned `json:"switches"`
}

const recordVersion = 1

// errRouterAdvertisements means that IPv6 forwarding stays off, because the
// host would stop to learn its own routes.
var errRouterAdvertisements = errors.New("the host takes IPv6 router advertisements, which end where it forwards; " +
	"give it static IPv6 routes (accept_ra=0) or let it take them all the same (accept_ra=2)")

// setForwarding lets the kernel forward packets that these interfaces receive:
// for these alone where the kernel can do that (IPv4; IPv6 from 6.17 on), else for
// the host. Switches that are no longer needed are restored, and those that another
// program turned back are turned again. While anything is forwarded, no interface
// takes ICMP redirects, where this process may turn that off. The switches are
// those of the calling thread's network namespace. With errRouterAdvertisements
// IPv4 is on, and IPv6 is unchanged.
func (f *ruleset) setForwarding(ipv4, ipv6 []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.held == nil {
		return errors.New("forwarding stays off: there is no ruleset in force")
	}
	named := func(before string, interfaces []string, after string) (names []string) {
		for _, i := range interfaces {
			names = append(names, before+i+after)
		}
		return names
	}
	wanted4, wanted6 := named("ipv4/conf/", ipv4, "/forwarding"), named("ipv6/conf/", ipv6, "/force_forwarding")
	switch {
	case len(wanted6) == 0:
	case setting("ipv6/conf/default/force_forwarding") == "": // the kernel forwards IPv6 for all interfaces or none
		wanted6 = []string{allIPv6}
	case setting(allIPv6) == "1": // no interface has a say (ip6_forward)
		wanted6 = slices.DeleteFunc(wanted6, func(name string) bool { return f.forwarding.find(name) < 0 })
	}
	wanted := slices.Concat(wanted4, wanted6)
	if len(wanted) > 0 {
		// Of IPv4 the switch of all interfaces counts as well (IN_DEV_RX_REDIRECTS).
		wanted = slices.Concat(wanted, named("ipv4/conf/", append(interfacesOf("ipv4"), "all"), acceptRedirects),
			named("ipv6/conf/", interfacesOf("ipv6"), acceptRedirects))
	}
	f.count()
	keep := slices.Concat(wanted, counting)
	if err := f.forwarding.restore(func(name string) bool { return slices.Contains(keep, name) }); err != nil {
		return err
	}
	for _, name := range wanted {
		// The ruleset drops redirects by itself.
		if err := f.forwarding.turn(name); err != nil && meant(name) == "1" {
			return fmt.Errorf("turning %s to %s: %w", sysctl(name), meant(name), err)
		}
	}
	return nil
}

// counting are the switches that let conntrack count what flows carry, and note when they began.
// They are the network namespace's, and count for flows that begin later.
var counting = []string{"netfilter/nf_conntrack_acct", "netfilter/nf_conntrack_timestamp"}

// count lets conntrack count. If it cannot, flows are not counted, and nothing else is amiss.
func (f *ruleset) count() {
	err := f.forwarding.turn(counting[0])
	if err == nil && setting(counting[0]) != "1" {
		err = fmt.Errorf("this kernel has no switch %s", sysctl(counting[0]))
	}
	if err == nil {
		_ = f.forwarding.turn(counting[1]) // without it a flow began when it was seen first
		f.accounts.off.Store(nil)
	} else {
		f.accounts.off.Store(&err)
	}
}

// acceptRedirects is the end of the names of the switches that let the host
// believe ICMP redirects.
const acceptRedirects = "/accept_redirects"

// interfacesOf lists the interfaces that have switches of a family, but lo. Where
// the kernel has no IPv6 there is no such folder.
func interfacesOf(family string) (names []string) {
	entries, _ := os.ReadDir(sysctls + family + "/conf")
	for _, e := range entries {
		if !slices.Contains([]string{"all", "default", "lo"}, e.Name()) {
			names = append(names, e.Name())
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
	for _, i := range interfacesOf("ipv6") {
		// 1: advertisements are taken unless the interface forwards (ip-sysctl).
		if setting("ipv6/conf/"+i+"/accept_ra") == "1" && setting("ipv6/conf/"+i+"/forwarding") == "0" {
			return fmt.Errorf("interface %q: %w", i, errRouterAdvertisements)
		}
	}
	return nil
}

const sysctls = "/proc/sys/net/"

func setting(name string) string {
	b, _ := os.ReadFile(sysctls + name)
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
	if len(parts) < 3 {
		return 0
	}
	i, err := net.InterfaceByName(parts[2]) // no interface is named "all"
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
	parts := strings.Split(t.Name, "/")
	i, err := net.InterfaceByIndex(t.Interface) // 0 is an error
	if err != nil || i.Name == parts[2] {
		return ""
	}
	parts[2] = i.Name
	return strings.Join(parts, "/")
}

// drop takes a switch off the list, as it is.
func (f *forwarding) drop(i int) {
	f.turned[i].file.Close()
	f.turned = slices.Delete(f.turned, i, i+1)
}

func (f *forwarding) find(name string) int {
	return slices.IndexFunc(f.turned, func(t turned) bool { return t.Name == name })
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
			switch {
			case want == "0":
				what = "somebody let this host believe ICMP redirects; that is turned off again"
			case slices.Contains(counting, name):
				what = "somebody turned off conntrack's counters, by which flows are counted; they are turned on again"
			}
			f.logger.Warn(what, "switch", sysctl(name))
			return t.write(want)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		// The interface is gone or renamed. Another one may have its name.
		if err := t.write(t.Was); err != nil {
			return err
		}
		f.drop(i)
	}
	if setting(name) == want {
		return nil
	}
	if name == allIPv6 {
		if err := advertised(); err != nil {
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
	t := turned{Name: name, Interface: indexOf(name), file: file}
	if t.Was, err = t.read(); err != nil {
		file.Close()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the interface has gone since
		}
		return err
	}
	f.turned = append(f.turned, t)
	if err := f.keep(); err != nil {
		f.drop(len(f.turned) - 1)
		return fmt.Errorf("it stays as it is: how it was found cannot be kept: %w", err)
	}
	switch {
	case slices.Contains(counting, name):
		f.logger.Info("conntrack's counters are turned on", "switch", sysctl(name), "was", t.Was)
	case want == "1":
		f.logger.Info("forwarding is turned on", "switch", sysctl(name), "was", t.Was)
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
		if wanted(t.Name) {
			continue
		}
		if err := t.write(t.Was); err != nil {
			failures = append(failures, fmt.Errorf("restoring %s to %s: %w", sysctl(t.Name), t.Was, err))
			continue
		}
		if meant(t.Name) == "1" && !slices.Contains(counting, t.Name) {
			f.logger.Info("forwarding is as it was found", "switch", sysctl(t.Name), "value", t.Was)
		}
		f.drop(i)
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
	for len(f.turned) > 0 {
		f.drop(0)
	}
	f.reserved.Close() // nil: an error
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
	if len(f.turned) == 0 && f.here.Port == 0 {
		if err := os.Remove(f.path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	r := f.here
	r.Version, r.Switches = recordVersion, f.turned
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return durable.Replace(f.path, append(text, '\n'), 0o600)
}

// isSwitch is the name of a switch of those that are turned.
var isSwitch = regexp.MustCompile(`^(ipv[46]/conf/[^/]+/(forwarding|accept_redirects)|ipv6/conf/[^/]+/force_forwarding|netfilter/nf_conntrack_(acct|timestamp))$`)

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
	var r record
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err == nil && r.Version > recordVersion {
		err = fmt.Errorf("a newer kidoban wrote it: it has version %d, this one knows versions up to %d. Start and stop that kidoban, or boot", r.Version, recordVersion)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	if r.Boot != f.here.Boot || r.Namespace != f.here.Namespace {
		return nil
	}
	f.here.Port = r.Port
	var failures []error
	for _, t := range r.Switches {
		if !isSwitch.MatchString(t.Name) {
			continue // we wrote no such thing, and are about to write there
		}
		if name := t.renamed(); name != "" {
			t.Name = name
		} else if indexOf(t.Name) != t.Interface {
			continue
		}
		if t.file, err = os.OpenFile(sysctls+t.Name, os.O_RDWR, 0); err != nil {
			failures = append(failures, err)
			continue
		}
		f.turned = append(f.turned, t)
	}
	return errors.Join(failures...)
}
