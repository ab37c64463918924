package firewall

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/lab"
)

// TestFault93OwnConnections: the kernel chooses the ports of the host's own
// connections out of a range that has WireGuard's in it. No connection gets that,
// and so all of them work; what others have reserved stays reserved.
func TestFault93OwnConnections(t *testing.T) {
	l := lab.New(t)
	gateway, server := l.Host("gateway"), l.Host("server")
	l.Link(gateway, "wan", lab.Prefixes("192.0.2.1/24", "2001:db8::1/64"), server, "eth0", lab.Prefixes("192.0.2.2/24", "2001:db8::2/64"))
	gateway.Sysctl("net.ipv4.ip_local_port_range", "51816 51823")
	gateway.Sysctl("net.ipv4.ip_local_reserved_ports", "8080,51817")
	newFirewall(t, gateway, testOptions)
	want := []int{51816, 51818, 51819, 51821, 51822, 51823}
	for _, at := range []string{"192.0.2.2:80", "[2001:db8::2]:80"} {
		for _, network := range []string{"tcp", "udp"} {
			listen(t, server, network, at)
			var got []int
			var open []net.Conn
			for range want { // while they are open, no two of them have one port
				c, err := gateway.Dial(limited(t, 10*time.Second), network, at)
				if err != nil {
					t.Fatalf("after ports %v to %s/%s: %v", got, network, at, err)
				}
				open = append(open, c)
				got = append(got, int(netip.MustParseAddrPort(c.LocalAddr().String()).Port()))
			}
			for _, c := range open {
				c.Close()
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("ports of connections to %s/%s: %v, want %v", network, at, got, want)
			}
		}
	}
}

// listen has a server take connections, and keep them.
func listen(t *testing.T, h *lab.Host, network, at string) {
	t.Helper()
	if network == "udp" {
		return // connecting takes nobody at the other end
	}
	l, err := h.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

// TestFault93ReservedPorts: the port is reserved while the gateway runs, whatever
// else is, and again if somebody writes the list anew; at the stop it is as it was,
// also that of a process that was killed.
func TestFault93ReservedPorts(t *testing.T) {
	odd := make([]string, 5000)
	for i := range odd {
		odd[i] = fmt.Sprint(2001 + 2*i)
	}
	for _, was := range []string{"", "8080", "51820", "51821", "51819", "51819,51821-51823", "50000-52000", strings.Join(odd, ",")} {
		t.Run(fmt.Sprintf("%.20q", was), func(t *testing.T) {
			h := lab.New(t).Host("gateway")
			read := func() string {
				var text string
				err := h.Do(func() error {
					f, err := os.Open(sysctls + reservedPorts)
					if err != nil {
						return err
					}
					defer f.Close()
					have, err := readReserved(f)
					text = have.String()
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				return text
			}
			set := func(text string) {
				t.Helper()
				err := h.Do(func() error {
					f, err := os.OpenFile(sysctls+reservedPorts, os.O_RDWR, 0)
					if err != nil {
						return err
					}
					defer f.Close()
					_, err = f.WriteAt([]byte(text+"\n"), 0)
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			set(was)
			if got := read(); got != was {
				t.Fatalf("the kernel has %.100s, want %.100s", got, was)
			}
			o := testOptions
			o.ForwardingFile = filepath.Join(t.TempDir(), "forwarding.json")
			reserved := func(what string, port uint16) {
				t.Helper()
				have, err := parsePorts(read())
				if err != nil || !have.has(port) {
					t.Errorf("%s: port %d is not reserved, but %.100q, %v", what, port, have, err)
				}
				if before, err := parsePorts(was); err != nil || !before.has(port) && have.without(port).String() != before.String() {
					t.Errorf("%s: others are %.100q, %v, want those of %.100q", what, have.without(port), err, before)
				}
			}
			start := func() *ruleset {
				t.Helper()
				var f *ruleset
				if err := h.Do(func() (err error) { f, err = newRuleset(o); return err }); err != nil {
					t.Fatal(err)
				}
				return f
			}
			f := start()
			reserved("at the start", o.ListenPort)
			set(was)
			if err := h.Do(func() error {
				if hints := f.reserve(); len(hints) > 0 {
					t.Errorf("hints %v", hints)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			reserved("somebody wrote the list anew", o.ListenPort)
			killed(f)
			f = start()
			reserved("after a kill", o.ListenPort)
			killed(f)
			o.ListenPort = 51900
			f = start()
			reserved("with another port", o.ListenPort)
			if err := f.close(); err != nil {
				t.Error(err)
			}
			if got := read(); got != was {
				t.Errorf("after the stop: %.100q, want %.100q", got, was)
			}
			if _, err := os.Stat(o.ForwardingFile); err == nil {
				t.Error("the record is still there")
			}
		})
	}
}

// TestPortUnreserved: where the port cannot be reserved, as in a container, operators
// hear of it, unless it need not be.
func TestPortUnreserved(t *testing.T) {
	h := lab.New(t).Host("gateway")
	f := newFirewall(t, h, testOptions)
	const reserved, chosen = "net.ipv4.ip_local_reserved_ports", "net.ipv4.ip_local_port_range"
	hints := func() (n int) {
		t.Helper()
		f.forwarding.reserved.Close()
		f.forwarding.reserved = nil
		if err := readOnly(h, func() error { n = len(f.reserve()); return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	h.Sysctl(reserved, "8080")
	if got := hints(); got != 1 {
		t.Errorf("%d hints that the port is not reserved, want 1", got)
	}
	h.Sysctl(chosen, "52000 60999")
	if got := hints(); got != 0 {
		t.Errorf("%d hints about a port that the kernel never chooses, want none", got)
	}
	h.Sysctl(chosen, "32768 60999")
	h.Sysctl(reserved, "8080,51820")
	if got := hints(); got != 0 {
		t.Errorf("%d hints about a port that the host's administrator reserved, want none", got)
	}
}

// killed leaves all as the kernel does when the process is killed.
func killed(f *ruleset) {
	f.link.close()
	f.copies.close()
	f.forwarding.release()
}
