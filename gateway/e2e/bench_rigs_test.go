package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"kidoban/gateway/lab"
)

// plainName is the name under which this binary is plain wireguard-go.
const plainName = "wireguard-go"

func init() {
	if filepath.Base(os.Args[0]) == plainName {
		if err := plainWireGuard(os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// plainWireGuard is wireguard-go as its own main runs it, on an interface with
// an address, configured from standard input, until it is killed.
func plainWireGuard(name, address string) error {
	native, err := tun.CreateTUN(name, device.DefaultMTU)
	if err != nil {
		return err
	}
	d := device.NewDevice(native, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, ""))
	if err := errors.Join(d.IpcSetOperation(os.Stdin), d.Up()); err != nil {
		return err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	if err := errors.Join(netlink.AddrAdd(link, a), netlink.LinkSetUp(link)); err != nil {
		return err
	}
	<-d.Wait()
	return errors.New("wireguard-go has ended")
}

// rig is a way from an engineer to the hospital, on a ground of its own that
// is built like every other: over vendor, internet, gateway and hospital.
type rig struct {
	name    string
	g       *ground
	from    *lab.Host
	process int    // the gateway's, 0: there is none
	profile string // a file that the gateway writes its processor profile to; empty: none

	received atomic.Int64 // bytes of streams at the hospital
	arrived  atomic.Int64 // datagrams at the hospital
	hospital *net.UDPConn
	asked    atomic.Pointer[netip.AddrPort] // who was the last to ask the hospital for datagrams
}

// newKidobanRig is the whole gateway: gate, ruleset, journal, and a plan of as
// many engineers as a university hospital has accounts, one of them inside.
func newKidobanRig(t *testing.T, name string, without ...string) *rig {
	return newGround(t, without...).kidobanRig(name)
}

func (g *ground) kidobanRig(name string) *rig {
	g.staff()
	g.open([]string{hour("work", "ehr, ehr6, pacs")}, []string{hour("work", "ehr, ehr6")})
	r := &rig{name: name, g: g, from: g.medisys, process: g.process.Process.Pid}
	r.begin(g.client(g.medisys, sato, 4))
	return r
}

// newProfiledRig is a Kidoban that writes processor profiles.
func newProfiledRig(t *testing.T, name string) *rig {
	g := newGround(t)
	file := filepath.Join(g.folder, "profile")
	g.settings = append(g.settings, profileVariable+"="+file)
	r := g.kidobanRig(name)
	r.profile = file
	return r
}

// newOtherRig is another program of Kidoban, with the same policy and environment.
func newOtherRig(t *testing.T, file string) *rig {
	g := newGround(t)
	path, err := filepath.Abs(file)
	g.check(err)
	_, err = os.Stat(path)
	g.check(err)
	g.program = filepath.Join(g.folder, "kidoban") // a test binary of cmd/kidoban is the program under this name alone
	g.check(os.Symlink(path, g.program))
	return g.kidobanRig(file)
}

// staff adds engineers until there are as many as accounts.
func (g *ground) staff() {
	for i := len(g.people); i < accounts; i++ {
		g.person(fmt.Sprintf("medisys/engineer%02d", i), byte(100+i), "")
	}
}

// newPlainRig is wireguard-go of the same version in a process of its own on a
// gateway that forwards, without a ruleset. It knows the same engineers.
func newPlainRig(t *testing.T, name string) *rig {
	g := newGround(t)
	g.gateway.Forward()
	self, err := os.Executable()
	g.check(err)
	path := filepath.Join(g.folder, plainName)
	g.check(os.Symlink(self, path))
	var configuration strings.Builder
	fmt.Fprintf(&configuration, "private_key=%x\nlisten_port=%d\n", g.privateKey, outside4.Port())
	g.staff()
	for _, engineer := range g.people {
		fmt.Fprintf(&configuration, "public_key=%x\nallowed_ip=%v/32\nallowed_ip=%v/128\n", engineer.public, engineer.v4, engineer.v6)
	}
	process := g.gateway.Command(context.WithoutCancel(t.Context()), path, g.device, inside4.String()+"/24")
	process.Stdin, process.Stderr = strings.NewReader(configuration.String()), os.Stderr
	r := &rig{name: name, g: g, from: g.medisys, process: g.keep(process)}
	r.begin(g.client(g.medisys, sato, 4))
	return r
}

// keep starts a command that runs until the test ends, and returns its process.
func (g *ground) keep(c *lab.Cmd) int {
	g.t.Helper()
	g.check(c.Start())
	ended := make(chan struct{})
	go func() { _ = c.Wait(); close(ended) }()
	g.t.Cleanup(func() {
		_ = c.Process.Kill() // an error means that it has ended
		<-ended
	})
	return c.Process.Pid
}

// bare is the way without a tunnel, over the hosts and cables of a plain rig.
func (r *rig) bare(name string) *rig {
	b := &rig{name: name, g: r.g, from: r.g.outsider}
	b.serve(pacs4)
	return b
}

// begin has the engineer come in.
func (r *rig) begin(client *lab.Client) {
	r.g.t.Helper()
	// They keep a copy of each packet, and cost more than the gateway does.
	r.g.lan.Stop()
	r.g.wan.Stop()
	r.g.mustEnter(client)
	r.serve(ehr4)
}

// target is where the rig's servers are.
func (r *rig) target() netip.Addr {
	if r.process == 0 {
		return pacs4
	}
	return ehr4
}

// openVPNOptions are both ends' (openvpn(8)): in the process and not in the kernel, the buffers as
// large as the machine allows, no look at the socket before each datagram, and the MTU of the other rigs'
// clients.
var openVPNOptions = strings.Fields(`--proto udp4 --dev tun0 --disable-dco --data-ciphers AES-256-GCM
	--tun-mtu 1340 --sndbuf 4194304 --rcvbuf 4194304 --txqueuelen 1000 --fast-io --keepalive 10 120 --verb 0`)

// newOpenVPNRig is OpenVPN on a gateway that forwards, without a ruleset, and with one engineer: one
// server for one client, which does less for each packet than a server for many.
// Without openvpn there is no rig.
func newOpenVPNRig(t *testing.T) (*rig, error) {
	if _, err := exec.LookPath("openvpn"); err != nil {
		return nil, err
	}
	version, _ := exec.CommandContext(t.Context(), "openvpn", "--version").Output() // OpenVPN 2.4 exits with 1
	name := regexp.MustCompile(`^OpenVPN \S+`).FindString(string(version)) + ", AES-256-GCM"
	g := newGround(t)
	g.gateway.Forward()
	server, client := g.certificate("server"), g.certificate("client")
	person := g.people[sato].v4.String()
	run := func(h *lab.Host, who, peer string, options ...string) int {
		c := h.Command(context.WithoutCancel(t.Context()), "openvpn", append(append(options, openVPNOptions...),
			"--cert", filepath.Join(g.folder, who+".crt"), "--key", filepath.Join(g.folder, who+".key"), "--peer-fingerprint", peer)...)
		c.Stdout, c.Stderr = os.Stderr, os.Stderr // why it ends
		return g.keep(c)
	}
	port := fmt.Sprint(outside4.Port())
	r := &rig{name: name, g: g, from: g.medisys}
	r.process = run(g.gateway, "server", client, "--tls-server", "--dh", "none", "--port", port, "--ifconfig", inside4.String(), person)
	run(g.medisys, "client", server, "--tls-client", "--nobind", "--remote", outside4.Addr().String(), port,
		"--ifconfig", person, inside4.String(), "--route", ehr4.String(), "255.255.255.255")
	lab.WaitFor(t, 2*eventually, "the engineer reaches the hospital through OpenVPN", func() bool {
		var by string
		err := g.medisys.Do(func() (err error) { by, err = routeTo(ehr4); return err })
		if err != nil || by != "tun0" {
			return false // the internet routes to the gateway as well
		}
		_, err = g.medisys.Ping(g.within(300*time.Millisecond), ehr4)
		return err == nil
	})
	g.lan.Stop()
	g.wan.Stop()
	r.serve(ehr4)
	return r, nil
}

// certificate writes a key and its own certificate into the ground's folder, as NAME.key and NAME.crt, and
// returns the certificate's fingerprint.
func (g *ground) certificate(name string) (fingerprint string) {
	g.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	g.check(err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	g.check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	g.check(err)
	for _, f := range []struct {
		ending, kind string
		bytes        []byte
	}{{".key", "PRIVATE KEY", secret}, {".crt", "CERTIFICATE", certificate}} {
		text := pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.bytes})
		g.check(os.WriteFile(filepath.Join(g.folder, name+f.ending), text, 0o600))
	}
	return strings.ReplaceAll(fmt.Sprintf("% X", sha256.Sum256(certificate)), " ", ":")
}
