package firewall

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway/lab"
)

// switches is a gateway of three interfaces, of which lan forwards already.
type switches struct {
	*lab.Host
	peer *lab.Host
	lab  *lab.Lab
}

func newSwitches(t *testing.T) switches {
	l := lab.New(t)
	s := switches{l.Host("gateway"), l.Host("peer"), l}
	l.Link(s.Host, "kido0", lab.Prefixes("10.99.0.1/24"), s.peer, "eth0", lab.Prefixes("10.99.0.2/24"))
	l.Link(s.Host, "lan", lab.Prefixes("10.1.0.1/24"), s.peer, "eth1", lab.Prefixes("10.1.0.5/24"))
	l.Link(s.Host, "wan", lab.Prefixes("192.0.2.1/24"), s.peer, "eth2", lab.Prefixes("192.0.2.2/24"))
	s.Sysctl("net.ipv4.conf.lan.forwarding", "1")
	return s
}

// on lists the interfaces that forward, IPv6 ones with a 6.
func (s switches) on() string {
	var on []string
	for _, i := range []string{"all", "kido0", "lan", "wan", "wan-of-another-"} {
		six := "force_forwarding"
		if i == "all" {
			six = "forwarding"
		}
		if s.setting("ipv4/conf/"+i+"/forwarding") == "1" {
			on = append(on, i)
		}
		if s.setting("ipv6/conf/"+i+"/"+six) == "1" {
			on = append(on, i+"6")
		}
	}
	return strings.Join(on, " ")
}

// setting reads a switch of the host; it is empty if the kernel has no such.
func (s switches) setting(name string) (value string) {
	_ = s.Do(func() error { value = setting(name); return nil })
	return value
}

func (s switches) firewall(t *testing.T, o Options) *ruleset {
	t.Helper()
	var f *ruleset
	if err := s.Do(func() (err error) { f, err = newRuleset(o); return err }); err != nil {
		t.Fatal(err)
	}
	return f
}

func (s switches) set(t *testing.T, f *ruleset, ipv6 bool, interfaces ...string) {
	t.Helper()
	var interfaces6 []string
	if ipv6 {
		interfaces6 = interfaces
	}
	if err := s.Do(func() error { return f.setForwarding(interfaces, interfaces6) }); err != nil {
		t.Errorf("forwarding from %v: %v", interfaces, err)
	}
}

// TestFault61ForwardingIsRestored is turned on where it is needed and no longer than that.
func TestFault61ForwardingIsRestored(t *testing.T) {
	s := newSwitches(t)
	if s.setting("ipv6/conf/default/force_forwarding") == "" {
		t.Skip("this kernel forwards IPv6 for all interfaces or none: want 6.17 or later")
	}
	var log bytes.Buffer
	o := testOptions
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	f := s.firewall(t, o)
	check := func(what, want string) {
		t.Helper()
		if got := s.on(); got != want {
			t.Errorf("%s: %s forward, want %s", what, got, want)
		}
	}
	check("at first", "lan")
	s.set(t, f, true, "kido0", "wan", "missing")
	check("a target is behind wan", "kido0 kido06 lan wan wan6")
	s.set(t, f, true, "kido0", "lan", "missing")
	check("then behind lan", "kido0 kido06 lan lan6")
	s.lab.Link(s.Host, "missing", lab.Prefixes("10.2.0.1/24"), s.peer, "eth3", lab.Prefixes("10.2.0.5/24"))
	s.set(t, f, false, "kido0", "lan", "missing")
	check("nor is there an IPv6 target", "kido0 lan")
	if got := s.ReadSysctl("net.ipv4.conf.missing.forwarding"); got != "1" {
		t.Errorf("forwarding of an interface that came later is %s, want 1", got)
	}

	log.Reset()
	s.set(t, f, false, "kido0", "lan", "missing")
	if log.Len() > 0 {
		t.Errorf("nothing changed, and the log says:\n%s", &log)
	}
	s.Sysctl("net.ipv4.conf.kido0.forwarding", "0")
	s.Sysctl("net.ipv4.conf.lan.forwarding", "0")
	s.set(t, f, false, "kido0", "lan", "missing")
	check("somebody turned both off", "kido0 lan")
	for _, want := range []string{"level=WARN msg=\"somebody turned off forwarding that targets need; it is turned on again\" switch=net.ipv4.conf.kido0.forwarding",
		"level=INFO msg=\"forwarding is turned on\" switch=net.ipv4.conf.lan.forwarding was=0"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, &log)
		}
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
	check("closed, lan as somebody left it", "")
	if err := s.Do(func() error { return f.setForwarding([]string{"kido0"}, nil) }); err == nil {
		t.Error("forwarding is turned on without a ruleset")
	}
}

// TestFault61WhatStaysForwardedStaysDenied: a switch cannot be turned back when
// the process stops. The table stays for it, without anything open, until the
// next process has turned it back, or somebody as the error says.
func TestFault61WhatStaysForwardedStaysDenied(t *testing.T) {
	for _, by := range []string{"the next process", "somebody"} {
		t.Run(by, func(t *testing.T) {
			o := testOptions
			o.ForwardingFile = filepath.Join(t.TempDir(), "forwarding.json")
			n := newPlace(t, o)
			n.gateway.Sysctl("net.ipv4.ip_forward", "0")
			if err := n.gateway.Do(func() error { return n.firewall.setForwarding([]string{"kido0", "lan", "far"}, nil) }); err != nil {
				t.Fatal(err)
			}
			n.target.Echo("tcp", "10.1.0.5:22")
			n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
			passes(t, "before the stop", n.engineer, "tcp", "10.1.0.5:22")
			far := &n.firewall.forwarding.turned[n.firewall.forwarding.find("ipv4/conf/far/forwarding")]
			far.file.Close()
			// What cannot be written.
			if err := n.gateway.Do(func() (err error) { far.file, err = os.Open(sysctls + far.Name); return err }); err != nil {
				t.Fatal(err)
			}
			err := n.firewall.close()
			for _, want := range []string{"restoring net.ipv4.conf.far.forwarding to 0: ", "table inet kidoban stays", "`nft delete table inet kidoban`"} {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("closing: error %v, want %s", err, want)
				}
			}
			switches := func() string {
				return n.gateway.ReadSysctl("net.ipv4.conf.kido0.forwarding") + n.gateway.ReadSysctl("net.ipv4.conf.lan.forwarding") + n.gateway.ReadSysctl("net.ipv4.conf.far.forwarding")
			}
			if got := switches(); got != "001" {
				t.Fatalf("tunnel, lan and far forward: %s, want 001", got)
			}
			if all := elementsByNft(t, n.gateway); len(all) > 0 {
				t.Errorf("the table that stays has %v", all)
			}
			capture := n.target.Capture("eth0")
			if err := n.outsider.Send(synPacket(outsider4, 4000, target4, 22)); err != nil {
				t.Fatal(err)
			}
			lab.WaitFor(t, 5*time.Second, "what comes from far is dropped", func() bool {
				out, err := nft(t, n.gateway, "list", "counter", "inet", "kidoban", refusedForward)
				return err == nil && !strings.Contains(out, "packets 0 ")
			})
			if got := capture.Packets(lab.Incoming, lab.From(outsider4)); len(got) > 0 {
				t.Errorf("the target got:\n%s", lab.Lines(got))
			}
			if by == "somebody" {
				n.gateway.Sysctl("net.ipv4.conf.far.forwarding", "0")
				if out, err := nft(t, n.gateway, "delete", "table", "inet", "kidoban"); err != nil {
					t.Error(err, out)
				}
			} else if err := newFirewall(t, n.gateway, o).close(); err != nil {
				t.Error(err)
			}
			if got := switches(); got != "000" {
				t.Errorf("at last tunnel, lan and far forward: %s, want 000", got)
			}
			if out, err := nft(t, n.gateway, "list", "tables"); err != nil || out != "" {
				t.Errorf("at last there are tables (%v):\n%s", err, out)
			}
		})
	}
}

// TestFault61StartThatFails: a process was killed, and left forwarding on behind
// its table. The start of the next one fails after it has replaced the table;
// it does not leave the host without one while it forwards.
func TestFault61StartThatFails(t *testing.T) {
	s := newSwitches(t)
	o := testOptions
	o.ForwardingFile = filepath.Join(t.TempDir(), "forwarding.json")
	f := s.firewall(t, o)
	s.set(t, f, false, "lan", "wan")
	f.link.close()
	f.copies.close()
	f.forwarding.release()
	var other logSocket
	err := s.Do(func() error {
		namespace, err := os.Open("/proc/thread-self/ns/net")
		if err == nil {
			defer namespace.Close()
			other, err = openLog(defaultLogGroup, namespace)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := s.Do(func() error { _, err := newRuleset(o); return err }); err == nil || !strings.Contains(err.Error(), "another program may hold it") {
		t.Errorf("a start without its NFLOG group: %v", err)
	}
	if got, want := s.on(), "lan"; got != want {
		t.Errorf("%s forward, want %s as before both", got, want)
	}
	if out, err := nft(t, s.Host, "list", "tables"); err != nil || out != "" {
		t.Errorf("there are tables (%v):\n%s", err, out)
	}
}

// TestForwardingOutlivesAProcess: one that is killed turns nothing back, so
// the next one does, if it is still the same that was turned.
func TestForwardingOutlivesAProcess(t *testing.T) {
	for _, tt := range []struct {
		name  string
		then  func(t *testing.T, s switches, file string) // between one process and the next
		again bool                                        // the next one wants wan to forward as well
		want  string                                      // when the next one was stopped
	}{
		{"nothing happens", func(*testing.T, switches, string) {}, true, "lan"},
		{"the next process needs it no longer", func(*testing.T, switches, string) {}, false, "lan"},
		{"the machine boots", func(t *testing.T, _ switches, file string) { replaceIn(t, file, `"boot":"`, `"boot":"x`) }, true, "lan wan"},
		{"it was another machine in a container", func(t *testing.T, _ switches, file string) { replaceIn(t, file, `"namespace":`, `"namespace":1`) }, true, "lan wan"},
		{"the record is not one", func(t *testing.T, _ switches, file string) { replaceIn(t, file, `{`, `[`) }, true, "lan wan"},
		{"the record is of a newer version", func(t *testing.T, _ switches, file string) { replaceIn(t, file, `"version":1`, `"version":2`) }, true, "lan wan"},
		{"another interface takes the name", func(t *testing.T, s switches, _ string) {
			out, err := s.Command(t.Context(), "sh", "-c", "ip link del wan; ip link add wan type veth; sysctl -qw net.ipv4.conf.wan.forwarding=1").CombinedOutput()
			if err != nil {
				t.Fatal(err, string(out))
			}
		}, true, "lan wan"},
		{"its interface gets another name", func(t *testing.T, s switches, _ string) { s.rename(t, "wan", "wan-of-another-") }, true, "lan"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSwitches(t)
			o := testOptions
			o.ForwardingFile = filepath.Join(t.TempDir(), "forwarding.json")
			f := s.firewall(t, o)
			s.set(t, f, false, "lan", "wan")
			// As the kernel leaves it when the process is killed.
			f.link.close()
			f.copies.close()
			f.forwarding.release()
			if got, want := s.on(), "lan wan"; got != want {
				t.Fatalf("killed: %s forward, want %s", got, want)
			}
			tt.then(t, s, o.ForwardingFile)
			f = s.firewall(t, o)
			if tt.again {
				s.set(t, f, false, "lan", "wan")
			} else {
				s.set(t, f, false, "lan")
				if got, want := s.on(), "lan"; got != want {
					t.Errorf("once the new process knows what it needs: %s forward, want %s", got, want)
				}
			}
			if err := f.close(); err != nil {
				t.Error(err)
			}
			if got := s.on(); got != tt.want {
				t.Errorf("after the stop of the next process: %s forward, want %s", got, tt.want)
			}
			// A record that is not believed stays, since nothing was turned anew.
			believed := tt.want == "lan" || tt.name == "another interface takes the name"
			if _, err := os.Stat(o.ForwardingFile); (err == nil) != !believed {
				t.Errorf("the record after the stop: %v", err)
			}
		})
	}
}

func (s switches) rename(t *testing.T, from, to string) {
	t.Helper()
	for _, args := range [][]string{{from, "down"}, {from, "name", to}, {to, "up"}} {
		if out, err := s.Command(t.Context(), "ip", append([]string{"link", "set"}, args...)...).CombinedOutput(); err != nil {
			t.Fatal(err, string(out))
		}
	}
}

// TestForwardingOfRenamedInterface: an interface keeps its switch when it gets
// another name. It is turned back all the same.
func TestForwardingOfRenamedInterface(t *testing.T) {
	const renamed = "wan-of-another-"
	for _, tt := range []struct {
		name string
		then func(t *testing.T, s switches, f *ruleset)
		on   string // before the stop
	}{
		{"nobody has noticed", func(*testing.T, switches, *ruleset) {}, "kido0 lan " + renamed},
		{"it is wanted by its new name", func(t *testing.T, s switches, f *ruleset) { s.set(t, f, false, "kido0", renamed) }, "kido0 lan " + renamed},
		{"it is not wanted", func(t *testing.T, s switches, f *ruleset) { s.set(t, f, false, "kido0") }, "kido0 lan"},
		{"another one has its name", func(t *testing.T, s switches, f *ruleset) {
			s.lab.Link(s.Host, "wan", lab.Prefixes("10.2.0.1/24"), s.peer, "eth3", lab.Prefixes("10.2.0.5/24"))
			s.set(t, f, false, "kido0", "wan")
		}, "kido0 lan wan"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSwitches(t)
			f := s.firewall(t, testOptions)
			s.set(t, f, false, "kido0", "wan")
			s.rename(t, "wan", renamed)
			tt.then(t, s, f)
			if got := s.on(); got != tt.on {
				t.Errorf("%s forward, want %s", got, tt.on)
			}
			if err := s.Do(f.close); err != nil {
				t.Error(err)
			}
			if got, want := s.on(), "lan"; got != want {
				t.Errorf("after the stop %s forward, want %s", got, want)
			}
		})
	}
}

func replaceIn(t *testing.T, file, from, to string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(b), from) {
		t.Fatalf("no %s in the record %s (%v)", from, b, err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(b), from, to, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestForwardingWithoutRecord: what could not be turned back stays as it is.
func TestForwardingWithoutRecord(t *testing.T) {
	s := newSwitches(t)
	o := testOptions
	o.ForwardingFile = filepath.Join(t.TempDir(), "missing", "forwarding.json")
	f := s.firewall(t, o)
	defer f.close()
	err := s.Do(func() error { return f.setForwarding([]string{"wan"}, nil) })
	if err == nil || !strings.Contains(err.Error(), "it stays as it is: how it was found cannot be kept") {
		t.Errorf("no folder for the record: error %v, want that the switch stays off", err)
	}
	if got, want := s.on(), "lan"; got != want {
		t.Errorf("%s forward, want %s", got, want)
	}
}

// TestForwardingReadOnly: a container engine mounts /proc/sys read-only. What
// the host has turned on is taken as it is, what it has not is named together
// with the command that turns it.
func TestForwardingReadOnly(t *testing.T) {
	l := lab.New(t)
	h, peer := l.Host("gateway"), l.Host("peer")
	l.Link(h, "kido0", lab.Prefixes("10.99.0.1/24"), peer, "eth0", lab.Prefixes("10.99.0.2/24"))
	l.Link(h, "lan.7", lab.Prefixes("10.1.0.1/24"), peer, "eth1", lab.Prefixes("10.1.0.5/24"))
	var f *ruleset
	if err := h.Do(func() (err error) { f, err = newRuleset(testOptions); return err }); err != nil {
		t.Fatal(err)
	}
	defer f.close()
	enable := func() error {
		return readOnly(h, func() error { return f.setForwarding([]string{"kido0", "lan.7"}, []string{"kido0", "lan.7"}) })
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
	return withMounts(h, func() error {
		if err := unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return err
		}
		return unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	}, f)
}

// withMounts calls f in the host, after mount has made mounts that f alone sees.
func withMounts(h *lab.Host, mount, f func() error) error {
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
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return err
			}
			if err := mount(); err != nil {
				return err
			}
			return f()
		}()
	}()
	return <-done
}

// A record that somebody else wrote must not have anything else written.
func TestIsSwitch(t *testing.T) {
	for name, want := range map[string]bool{
		"ipv4/conf/lan/forwarding":         true,
		"ipv6/conf/all/forwarding":         true,
		"ipv6/conf/lan.7/force_forwarding": true,
		"../kernel/./core_pattern":         false,
		"ipv4/conf/lan/../forwarding":      false,
		"ipv4/conf/lan/rp_filter":          false,
		"ipv4/conf//forwarding":            false,
		"x/ipv4/conf/lan/forwarding":       false,
	} {
		if got := isSwitch.MatchString(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
