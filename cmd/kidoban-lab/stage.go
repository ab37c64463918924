package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"kidoban/gateway/lab"
)

// The addresses of the scene.
var (
	engineerAddress = netip.MustParseAddr("198.18.10.10")
	outsiderAddress = netip.MustParseAddr("198.51.100.66")
	gatewayAddress  = netip.MustParseAddrPort("192.0.2.2:51820")
	engineerInside  = netip.MustParseAddr("10.99.0.2")
	listedService   = netip.MustParseAddrPort("10.1.0.5:22")
	otherService    = netip.MustParseAddrPort("10.1.0.5:8080")
	otherHost       = netip.MustParseAddrPort("10.1.0.6:22")
)

// stage has the hosts and the gateway's process. It is also the lab's T.
type stage struct {
	ctx        context.Context
	executable string
	cleanups   []func()

	folder                                string // policy, state, socket and log of the gateway
	engineer, outsider, gateway, hospital *lab.Host
	engineerWire, outsiderWire, lanWire   *lab.Capture
	tunnelWire                            *lab.Capture // the engineer's end of the tunnel

	privateKey, publicKey lab.Key     // the engineer's
	sato, thief           *lab.Client // the engineer's WireGuard, and the outsider's with the same key
	process               *lab.Cmd
	ended                 chan struct{} // closed when the process has ended
	endedWith             error
}

func (s *stage) Helper()                        {}
func (s *stage) Cleanup(f func())               { s.cleanups = append(s.cleanups, f) }
func (s *stage) Fatalf(format string, a ...any) { panic(abort(fmt.Sprintf(format, a...))) }
func (s *stage) Skipf(format string, a ...any)  { s.Fatalf(format, a...) }

// strike takes the scene down.
func (s *stage) strike() {
	for _, f := range slices.Backward(s.cleanups) {
		f()
	}
}

// build joins the hosts:
//
//	engineer 198.18.10.10 ---+
//	                         internet --- 192.0.2.2 gateway 10.1.0.1 --- 10.1.0.5 hospital
//	outsider 198.51.100.66 --+                                           10.1.0.6
//
// The hospital's other port and other address are served too, so that silence
// from them is the gateway's doing.
func (s *stage) build() {
	if s.folder == "" {
		folder, err := os.MkdirTemp("", "kidoban-lab-")
		if err != nil {
			s.Fatalf("a folder for the gateway: %v", err)
		}
		s.folder = folder
		s.Cleanup(func() { os.RemoveAll(folder) })
	}
	l := lab.New(s)
	internet := l.Host("internet")
	s.engineer, s.outsider, s.gateway, s.hospital = l.Host("engineer"), l.Host("outsider"), l.Host("gateway"), l.Host("hospital")
	l.Link(s.engineer, "eth0", lab.Prefixes("198.18.10.10/24"), internet, "eth0", lab.Prefixes("198.18.10.1/24"))
	l.Link(s.outsider, "eth0", lab.Prefixes("198.51.100.66/24"), internet, "eth1", lab.Prefixes("198.51.100.1/24"))
	l.Link(s.gateway, "wan0", lab.Prefixes("192.0.2.2/24"), internet, "eth2", lab.Prefixes("192.0.2.1/24"))
	l.Link(s.gateway, "lan0", lab.Prefixes("10.1.0.1/24"), s.hospital, "eth0", lab.Prefixes("10.1.0.5/24", "10.1.0.6/24"))
	internet.Forward()
	for host, router := range map[*lab.Host]string{s.engineer: "198.18.10.1", s.outsider: "198.51.100.1", s.gateway: "192.0.2.1", s.hospital: "10.1.0.1"} {
		host.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr(router))
	}
	for _, at := range []netip.AddrPort{listedService, otherService, otherHost} {
		s.hospital.Echo("tcp", at.String())
	}
	s.engineerWire, s.outsiderWire, s.lanWire = s.engineer.Capture("eth0"), s.outsider.Capture("eth0"), s.hospital.Capture("eth0")
	s.privateKey, s.publicKey = lab.NewKey()
}

// client sets up WireGuard on a host with the engineer's key, for the engineer or the thief.
func (s *stage) client(h *lab.Host, gatewayKey lab.Key) *lab.Client {
	return h.NewClient(lab.ClientConfig{
		PrivateKey: s.privateKey, PeerKey: gatewayKey, Endpoint: gatewayAddress, MTU: 1340,
		Addresses: []netip.Prefix{netip.PrefixFrom(engineerInside, 32)}, AllowedIPs: lab.Prefixes("10.1.0.0/24"),
	})
}

// startGateway starts `kidoban run` on the gateway's host and waits until it is ready.
func (s *stage) startGateway() (took time.Duration) {
	begin := time.Now()
	log, err := os.Create(filepath.Join(s.folder, "gateway.log"))
	if err != nil {
		s.Fatalf("the gateway's log: %v", err)
	}
	s.process = s.gateway.Command(context.WithoutCancel(s.ctx), s.executable, "run")
	s.process.Env = s.environment()
	s.process.Stdout, s.process.Stderr = log, log
	// Ctrl-C goes to the terminal's process group. The gateway must be stopped by the demo only.
	s.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = s.process.Start()
	log.Close() // the process has its own
	if err != nil {
		s.Fatalf("start the gateway: %v", err)
	}
	s.ended = make(chan struct{})
	go func() {
		s.endedWith = s.process.Wait()
		close(s.ended)
	}()
	// The gateway may wait at its start for a synchronised clock.
	ctx, cancel := context.WithTimeoutCause(s.ctx, 60*time.Second, errors.New("the gateway was not ready within 60 s"))
	defer cancel()
	err = lab.Wait(ctx, func() error {
		select {
		case <-s.ended:
			s.Fatalf("the gateway ended at once: %v", s.endedWith)
		default:
		}
		var status struct {
			Ready          bool
			NotReadyReason string `json:"not_ready_reason"`
		}
		if err := s.ask(&status, "status"); err != nil || status.Ready {
			return err
		}
		return fmt.Errorf("not ready: %s", status.NotReadyReason)
	})
	if err != nil {
		s.Fatalf("%v", err)
	}
	return time.Since(begin)
}

// stopGateway ends the gateway as systemd does.
func (s *stage) stopGateway() {
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		s.Fatalf("stop the gateway: %v", err)
	}
	select {
	case <-s.ended:
	case <-time.After(15 * time.Second):
		s.Fatalf("the gateway did not stop within 15 s of SIGTERM")
	}
	if s.endedWith != nil {
		s.Fatalf("the gateway stopped with %v, want exit code 0", s.endedWith)
	}
}

// settings are the gateway's, as operators would write them into its unit.
func (s *stage) settings() []string {
	return []string{
		"KIDOBAN_POLICY_FILE=" + s.policyFile(),
		"KIDOBAN_STATE_DIR=" + filepath.Join(s.folder, "state"),
		"KIDOBAN_ADMIN_SOCKET=" + filepath.Join(s.folder, "admin.sock"),
		"KIDOBAN_METRICS_ADDRESS=" + metricsAddress,
	}
}

func (s *stage) policyFile() string { return filepath.Join(s.folder, "policy.yaml") }

// environment is the process's own with the demo's settings.
func (s *stage) environment() []string {
	others := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "KIDOBAN_") })
	return append(others, s.settings()...)
}

// operator runs a kidoban command as an operator. Exit code 3 (a well-formed "no") is no error.
func (s *stage) operator(args ...string) (output []byte, code int, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, 20*time.Second)
	defer cancel()
	cmd := s.gateway.Command(ctx, s.executable, args...)
	cmd.Env = s.environment()
	output, err = cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 3 {
		return output, 3, nil
	}
	if err != nil {
		err = fmt.Errorf("kidoban %s: %w", strings.Join(args, " "), err)
	}
	return output, 0, err
}

// ask runs a kidoban command with --json and reads its answer.
func (s *stage) ask(answer any, args ...string) error {
	output, _, err := s.operator(append(args, "--json")...)
	if err == nil {
		err = json.Unmarshal(output, answer)
	}
	return err
}

// lastWords are the last lines of the gateway's log.
func (s *stage) lastWords() []string {
	text, err := os.ReadFile(filepath.Join(s.folder, "gateway.log"))
	if err != nil {
		return nil // it never started
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[max(0, len(lines)-15):]
}
