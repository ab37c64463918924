package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"kidoban/gateway/admin"
	"kidoban/gateway/api"
	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
	"kidoban/gateway/view"
)

// The promises of the README are held here, each by a test of its name, on a
// real kernel: hosts in network namespaces, WireGuard clients, and the gateway
// as a process of its own that is driven by its policy file, its settings,
// its commands, its metrics and signals alone.
//
// A promise is a scenario that gives what it found broken. The test runs it
// with every layer and wants nothing, and with layers left out (see
// layers_test.go of cmd/kidoban) and wants what holds without them to hold, and what
// does not to be found. So none of these tests can pass for want of trying.

// ground is where a promise is tried:
//
//	medisys  203.0.113.10, .11  2001:db8:1::10 --------+
//	scanco  198.51.100.10       2001:db8:2::10 --------+-- internet -- gateway -- hospital
//	outsider  198.18.0.66       2001:db8:3::66 --------+
//
// The gateway is 192.0.2.2 and 2001:db8:f::2 outside (wan0), 10.1.0.1 and
// fd01::1 inside (lan0); the hospital is 10.1.0.5, 10.1.0.6, fd01::5, fd01::6.
type ground struct {
	t      *testing.T
	lab    *lab.Lab
	folder string
	device string // the tunnel's interface: `wg` knows all of this machine by name

	internet, medisys, scanco, outsider, gateway, hospital *lab.Host
	wan, lan                                               *lab.Capture // the gateway's side of both

	people     map[string]*person // by vendor/engineer
	privateKey lab.Key            // the gateway's
	publicKey  lab.Key

	program  string // its file
	process  *lab.Cmd
	ended    chan struct{}
	stderr   *os.File          // of the gateway; nil: its log is in the folder
	settings []string          // NAME=value, besides those that every ground has
	names    *strings.Replacer // puts names for people into the policy
	without  []string          // layers that are left out
	// YAML of the policy: of its top level, and of medisys. Empty: nothing can be requested.
	operators, onRequest string

	held atomic.Bool // flows of the test send nothing for now

	mu    sync.Mutex
	found []string
}

// person is an engineer with the private key.
type person struct {
	name            string // vendor/engineer
	private, public lab.Key
	v4, v6          netip.Addr // inside the tunnel
	sources         string     // YAML; empty: the vendor's
}

// Addresses of the ground.
var (
	outside4, outside6   = netip.MustParseAddrPort("192.0.2.2:51820"), netip.MustParseAddrPort("[2001:db8:f::2]:51820")
	inside4, inside6     = netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("fd00:99::1")
	lan4, lan6           = netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd01::1")
	medisys4, medisys6   = netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("2001:db8:1::10")
	medisysB4            = netip.MustParseAddr("203.0.113.11")
	scanco4, scanco6     = netip.MustParseAddr("198.51.100.10"), netip.MustParseAddr("2001:db8:2::10")
	outsider4, outsider6 = netip.MustParseAddr("198.18.0.66"), netip.MustParseAddr("2001:db8:3::66")
	ehr4, ehr6           = netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("fd01::5")
	pacs4, pacs6         = netip.MustParseAddr("10.1.0.6"), netip.MustParseAddr("fd01::6")
	everywhere           = lab.Prefixes("0.0.0.0/0", "::/0")
)

const (
	sato   = "medisys/sato"
	suzuki = "medisys/suzuki"
	tanaka = "scanco/tanaka"
)

// patience is how long something that must not happen is given to happen.
const patience = 400 * time.Millisecond

// eventually is how long something that must happen is waited for, at the
// most: on a machine that takes its processors away now and then, everything
// is late at times. How soon it has to happen is said where that is promised.
const eventually = 30 * time.Second

// eventually is that of a scenario: with a layer left out much of what is
// waited for never comes, and each time takes as long as it may.
func (g *ground) eventually() time.Duration {
	if len(g.without) > 0 {
		return eventually / 6
	}
	return eventually
}

var grounds atomic.Int32

// newGround joins the hosts. The gateway does not run yet.
func newGround(t *testing.T, without ...string) *ground {
	t.Helper()
	if err := readSources(); err != nil {
		t.Fatal(err)
	}
	l := lab.New(t)
	g := &ground{t: t, lab: l, folder: t.TempDir(), device: fmt.Sprintf("kido%d", grounds.Add(1)), people: map[string]*person{}, program: program, names: strings.NewReplacer(), without: without}
	g.internet, g.medisys, g.scanco, g.outsider = l.Host("internet"), l.Host("medisys"), l.Host("scanco"), l.Host("outsider")
	g.gateway, g.hospital = l.Host("gateway"), l.Host("hospital")
	l.Link(g.medisys, "eth0", lab.Prefixes("203.0.113.10/24", "203.0.113.11/24", "2001:db8:1::10/64"),
		g.internet, "eth0", lab.Prefixes("203.0.113.1/24", "2001:db8:1::1/64"))
	l.Link(g.scanco, "eth0", lab.Prefixes("198.51.100.10/24", "2001:db8:2::10/64"), g.internet, "eth1", lab.Prefixes("198.51.100.1/24", "2001:db8:2::1/64"))
	l.Link(g.outsider, "eth0", lab.Prefixes("198.18.0.66/24", "2001:db8:3::66/64"), g.internet, "eth2", lab.Prefixes("198.18.0.1/24", "2001:db8:3::1/64"))
	l.Link(g.gateway, "wan0", lab.Prefixes("192.0.2.2/24", "2001:db8:f::2/64"), g.internet, "eth3", lab.Prefixes("192.0.2.1/24", "2001:db8:f::1/64"))
	l.Link(g.gateway, "lan0", lab.Prefixes("10.1.0.1/24", "fd01::1/64"), g.hospital, "eth0", lab.Prefixes("10.1.0.5/24", "10.1.0.6/24", "fd01::5/64", "fd01::6/64"))
	g.internet.Forward()
	for _, r := range []struct {
		host   *lab.Host
		v4, v6 string
	}{
		{g.medisys, "203.0.113.1", "2001:db8:1::1"}, {g.scanco, "198.51.100.1", "2001:db8:2::1"}, {g.outsider, "198.18.0.1", "2001:db8:3::1"},
		{g.gateway, "192.0.2.1", "2001:db8:f::1"}, {g.hospital, "10.1.0.1", "fd01::1"},
	} {
		r.host.Route(everywhere[0], netip.MustParseAddr(r.v4))
		r.host.Route(everywhere[1], netip.MustParseAddr(r.v6))
	}
	// Whoever wants to reach the site by routing asks the gateway.
	g.internet.Route(netip.MustParsePrefix("10.0.0.0/8"), outside4.Addr())
	g.internet.Route(netip.MustParsePrefix("fd00::/8"), outside6.Addr())
	// What a host says of a datagram it could not put together comes after a
	// second, not after half a minute.
	g.gateway.Sysctl("net.ipv4.ipfrag_time", "1")
	g.gateway.Sysctl("net.ipv6.ip6frag_time", "1")
	// A network that has just come up loses IPv6 packets for a while.
	for _, h := range []*lab.Host{g.medisys, g.scanco, g.outsider, g.hospital} {
		for _, a := range []netip.Addr{outside4.Addr(), outside6.Addr()} {
			lab.WaitFor(t, 15*time.Second, fmt.Sprintf("%s reaches %v", h.Name, a), func() bool {
				_, err := h.Ping(g.within(200*time.Millisecond), a)
				return err == nil
			})
		}
	}
	g.wan, g.lan = g.gateway.Capture("wan0"), g.gateway.Capture("lan0")
	g.privateKey, g.publicKey = lab.NewKey()
	g.person(sato, 2, "")
	g.person(suzuki, 3, "[203.0.113.11]")
	g.person(tanaka, 4, "")
	return g
}

// person adds an engineer, whose tunnel addresses end with a number.
func (g *ground) person(name string, last byte, sources string) *person {
	p := &person{name: name, sources: sources, v4: netip.AddrFrom4([4]byte{10, 99, 0, last}),
		v6: netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x99, 15: last})}
	p.private, p.public = lab.NewKey()
	g.people[name] = p
	return p
}

// breaks notes that the promise is broken. The first word says which part.
func (g *ground) breaks(format string, a ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.found = append(g.found, fmt.Sprintf(format, a...))
}

// Zone of the site: without daylight saving time.
var promiseZone = time.FixedZone("Asia/Tokyo", 9*3600)

// window is a line of a vendor's windows, open for whole seconds.
func window(name string, from, until time.Time, targets string, engineers ...string) string {
	const local = "2006-01-02T15:04:05"
	who := ""
	if len(engineers) > 0 {
		who = fmt.Sprintf("engineers: [%s], ", strings.Join(engineers, ", "))
	}
	return fmt.Sprintf("      %s: {once: {from: %s, until: %s}, %stargets: [%s], approved_by: Head of IT, ticket: CHG-1}\n",
		name, from.In(promiseZone).Format(local), until.In(promiseZone).Format(local), who, targets)
}

// hour is a window that has been open for a minute and stays so for an hour.
func hour(name, targets string, engineers ...string) string {
	now := time.Now().Truncate(time.Second)
	return window(name, now.Add(-time.Minute), now.Add(time.Hour), targets, engineers...)
}

// nextYear is a window that does not open in our time.
func nextYear(name, targets string) string {
	from := time.Now().AddDate(1, 0, 0)
	return window(name, from, from.Add(time.Hour), targets)
}

// policyText is a policy with these windows of medisys and scanco.
func (g *ground) policyText(medisys, scanco []string) string {
	people := func(vendor string) string {
		var b strings.Builder
		for _, name := range slices.Sorted(maps.Keys(g.people)) {
			p, short, ok := g.people[name], "", false
			if short, ok = strings.CutPrefix(name, vendor+"/"); !ok {
				continue
			}
			sources := ""
			if p.sources != "" {
				sources = ", sources: " + p.sources
			}
			fmt.Fprintf(&b, "      %s: {public_key: %q, addresses: [%v, %q]%s}\n", short, base64.StdEncoding.EncodeToString(p.public[:]), p.v4, p.v6, sources)
		}
		return b.String()
	}
	return g.names.Replace(fmt.Sprintf(`version: 1
site: Kido Municipal Hospital
timezone: Asia/Tokyo
tunnel:
  addresses: [10.99.0.1/24, "fd00:99::1/64"]
  endpoint: %v
%stargets:
  ehr: {address: %v, ports: [tcp/22, udp/53, icmp]}
  ehr6: {address: "%v", ports: [tcp/22, udp/53, icmp]}
  pacs: {address: %v, ports: [tcp/104], masquerade: true}
vendors:
  medisys:
    sources: [203.0.113.0/28, "2001:db8:1::/64"]
    engineers:
%s%s    windows:
%s  scanco:
    sources: [198.51.100.10, "2001:db8:2::10"]
    engineers:
%s    windows:
%s`, outside4, g.operators, ehr4, ehr6, pacs4, people("medisys"), g.onRequest, strings.Join(medisys, ""), people("scanco"), strings.Join(scanco, "")))
}

func (g *ground) policyFile() string { return filepath.Join(g.folder, "policy.yaml") }
func (g *ground) stateDir() string   { return filepath.Join(g.folder, "state") }
func (g *ground) offsetFile() string { return filepath.Join(g.folder, "offset") }
func (g *ground) hangFile() string   { return filepath.Join(g.folder, "hang") }
func (g *ground) stuckFile() string  { return filepath.Join(g.folder, "stuck") }

// approve writes the policy file.
func (g *ground) approve(medisys, scanco []string) {
	g.t.Helper()
	g.write(g.policyFile(), g.policyText(medisys, scanco))
}

func (g *ground) write(path, text string) {
	g.t.Helper()
	g.check(os.WriteFile(path, []byte(text), 0o640))
}

// environment is the gateway's and its operators'.
func (g *ground) environment() []string {
	e := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "KIDOBAN_") })
	return append(append(e, g.settings...),
		"KIDOBAN_POLICY_FILE="+g.policyFile(),
		"KIDOBAN_STATE_DIR="+g.stateDir(),
		"KIDOBAN_ADMIN_SOCKET="+g.socket().Socket,
		"KIDOBAN_INTERFACE="+g.device,
		layersVariable+"="+strings.Join(g.without, ","),
		offsetVariable+"="+g.offsetFile(),
		hangVariable+"="+g.hangFile(),
		stuckVariable+"="+g.stuckFile(),
	)
}

// start starts the gateway with its private key, and returns when it answers.
func (g *ground) start() {
	g.t.Helper()
	g.check(os.MkdirAll(g.stateDir(), 0o700))
	g.writeKey(g.privateKey)
	g.startAsItIs()
}

func (g *ground) keyFile() string { return filepath.Join(g.stateDir(), "private.key") }

func (g *ground) writeKey(key lab.Key) {
	g.t.Helper()
	g.check(os.WriteFile(g.keyFile(), []byte(base64.StdEncoding.EncodeToString(key[:])+"\n"), 0o600))
}

// startAsItIs starts the gateway with what is on disk.
func (g *ground) startAsItIs() {
	g.t.Helper()
	g.launch()
	process, ended := g.process, g.ended
	g.t.Cleanup(func() {
		_ = process.Process.Kill() // an error means that it has ended
		<-ended                    // before its folder goes
		if g.t.Failed() {
			g.t.Logf("the gateway's log:\n%s", g.log())
		}
	})
	lab.WaitFor(g.t, 20*time.Second, "the gateway answers", func() bool {
		select {
		case <-ended:
			g.t.Fatalf("the gateway ended at once:\n%s", g.log())
		default:
		}
		var s view.Status
		return g.ask(&s, "status") == nil && s.NotReadyReason != "starting"
	})
}

// launch starts the gateway, and returns at once.
func (g *ground) launch() {
	g.t.Helper()
	logFile, err := os.OpenFile(filepath.Join(g.folder, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	g.check(err)
	defer logFile.Close()
	g.process = g.gateway.Command(context.WithoutCancel(g.t.Context()), g.program, "run")
	g.process.Env = g.environment()
	g.process.Stdout, g.process.Stderr = logFile, logFile
	if g.stderr != nil {
		g.process.Stderr = g.stderr
	}
	g.check(g.process.Start())
	g.ended = make(chan struct{})
	process, ended := g.process, g.ended
	go func() { _ = process.Wait(); close(ended) }()
}

func (g *ground) log() string {
	text, err := os.ReadFile(filepath.Join(g.folder, "log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-6000):])
}

// open approves windows, starts the gateway, and waits until it is ready.
func (g *ground) open(medisys, scanco []string) {
	g.t.Helper()
	g.approve(medisys, scanco)
	g.startReady()
}

// startReady starts the gateway, and waits until it is ready.
func (g *ground) startReady() {
	g.t.Helper()
	g.start()
	g.ready()
}

// check ends the test where an error means that it can show nothing.
func (g *ground) check(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

// holds notes that the promise is broken where there is an error.
func (g *ground) holds(err error, format string, a ...any) {
	if err != nil {
		g.breaks(format+": %v", append(a, err)...)
	}
}

// expect waits until a condition holds, or notes that the promise is broken.
func (g *ground) expect(word string, within time.Duration, condition func() error) {
	g.t.Helper()
	g.holds(lab.Wait(g.within(within), condition), "%s", word)
}

func (g *ground) signal(s syscall.Signal) {
	g.t.Helper()
	g.check(g.process.Process.Signal(s))
}

// kill ends the process as the kernel does when memory runs out.
func (g *ground) kill() {
	g.t.Helper()
	g.signal(syscall.SIGKILL)
	<-g.ended
}

// operator runs a command as operators do.
func (g *ground) operator(args ...string) (out, complaint string, exit int) {
	var o, e bytes.Buffer
	command := exec.Command(g.program, args...)
	// Under the race detector each command would take a second longer.
	command.Env = append(g.environment(), "GORACE=atexit_sleep_ms=0")
	command.Stdout, command.Stderr = &o, &e
	if err := command.Run(); command.ProcessState == nil {
		g.t.Errorf("kidoban %v: %v", args, err)
	}
	return o.String(), e.String(), command.ProcessState.ExitCode()
}

// must runs a command that has to succeed.
func (g *ground) must(args ...string) string {
	g.t.Helper()
	out, complaint, exit := g.operator(args...)
	if exit == exitFailed && slowKernel.MatchString(complaint) {
		lab.WaitFor(g.t, eventually, "the kernel takes the ruleset of kidoban "+args[0], func() bool {
			waiting, err := g.metric("kidoban_ruleset_waiting_seconds")
			return err == nil && waiting == 0
		})
		return out
	}
	if exit != exitYes {
		g.t.Fatalf("kidoban %s: exit %d: %s%s", strings.Join(args, " "), exit, out, complaint)
	}
	return out
}

// slowKernel is the only complaint of a command whose ruleset the kernel of a busy
// machine takes later than the command waits.
var slowKernel = regexp.MustCompile(`^kidoban: the kernel's ruleset was not set within [0-9a-z.]+\n$`)

// ask reads the answer of status or refusals from the socket, as the command
// does. Tests ask so often that processes would slow down the gateway.
func (g *ground) ask(answer any, command string) error {
	text, _, err := g.socket().Get("/v1/"+command, nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, answer)
}

func (g *ground) socket() admin.Client {
	return admin.Client{Socket: filepath.Join(g.folder, "admin.sock")}
}

// explain reads the JSON answer of `kidoban explain`.
func (g *ground) explain(args ...string) (x api.Explanation, err error) {
	out, complaint, exit := g.operator(append([]string{"explain", "--json"}, args...)...)
	if exit != exitYes && exit != exitNo {
		return x, fmt.Errorf("kidoban explain %v: exit %d: %s", args, exit, complaint)
	}
	return x, json.Unmarshal([]byte(out), &x)
}

func (g *ground) status() view.Status {
	g.t.Helper()
	var s view.Status
	g.check(g.ask(&s, "status"))
	return s
}

func (g *ground) ready() {
	g.t.Helper()
	lab.WaitFor(g.t, 15*time.Second, "ready", func() bool { return g.status().Ready })
}

// entries lists the journal's entries of a kind, or all.
func (g *ground) entries(kind journal.Kind) []journal.Entry {
	g.t.Helper()
	out, complaint, exit := g.operator("journal", "list", "--json")
	if exit != exitYes {
		if slices.Contains(g.without, recordLayer) {
			return nil // there is none
		}
		g.t.Fatalf("kidoban journal list: exit %d: %s", exit, complaint)
	}
	var all []journal.Entry
	for line := range strings.Lines(out) {
		var e journal.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			g.t.Fatalf("%v: %s", err, line)
		}
		if kind == "" || e.Kind == kind {
			all = append(all, e)
		}
	}
	return all
}

// get asks the metrics server.
func (g *ground) get(path string) (status int, text string, err error) {
	return get(g.gateway, "http://127.0.0.1:9586"+path, 5*time.Second)
}

// get asks a server from a host.
func get(h *lab.Host, url string, within time.Duration) (status int, text string, err error) {
	client := http.Client{Timeout: within, Transport: &http.Transport{DialContext: h.Dial, DisableKeepAlives: true}}
	answer, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(body), err
}

// client makes an engineer's WireGuard on a host, towards the gateway's
// outside address of a family (4 or 6).
func (g *ground) client(h *lab.Host, name string, family int) *lab.Client {
	g.t.Helper()
	return h.NewClient(g.config(name, family))
}

// config is the configuration of an engineer's client.
func (g *ground) config(name string, family int) lab.ClientConfig {
	p, to := g.people[name], outside4
	if family == 6 {
		to = outside6
	}
	return lab.ClientConfig{
		PrivateKey: p.private, PeerKey: g.publicKey, Endpoint: to, MTU: 1340, Interface: "wg" + fmt.Sprint(grounds.Add(1)),
		Addresses:  []netip.Prefix{netip.PrefixFrom(p.v4, 32), netip.PrefixFrom(p.v6, 128)},
		AllowedIPs: lab.Prefixes("10.99.0.0/24", "10.1.0.0/24", "fd00:99::/64", "fd01::/64"),
	}
}

// within bounds a wait.
func (g *ground) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeoutCause(g.t.Context(), d, fmt.Errorf("not within %v", d))
	g.t.Cleanup(cancel)
	return ctx
}

// knock tries one handshake, for a while.
func (g *ground) knock(c *lab.Client, d time.Duration) error { return c.Handshake(g.within(d)) }

// enter has a client come in, with as many attempts as fit into the time.
func (g *ground) enter(c *lab.Client, d time.Duration) error {
	ctx := g.within(d)
	for {
		err := g.knock(c, 600*time.Millisecond)
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

// mustEnter is enter where the scenario makes no sense otherwise.
func (g *ground) mustEnter(c *lab.Client) {
	g.t.Helper()
	if err := g.enter(c, 8*time.Second); err != nil {
		g.t.Fatalf("the engineer cannot enter: %v", err)
	}
}

// onRecord waits until each engineer has a session that is older than RecordWithin. The gateway ends
// a session whose admission has no journal entry by then, so these need the disk no more.
func (g *ground) onRecord(engineers ...string) {
	g.t.Helper()
	lab.WaitFor(g.t, eventually, fmt.Sprintf("%v are inside and on record", engineers), func() bool {
		left := slices.Clone(engineers)
		for _, s := range g.status().Sessions {
			if time.Since(s.OpenedAt) > 2*view.RecordWithin {
				left = slices.DeleteFunc(left, func(e string) bool { return e == s.Vendor+"/"+s.Engineer })
			}
		}
		return len(left) == 0
	})
}

// reach exchanges a message with an echo server.
func (g *ground) reach(h *lab.Host, network string, to netip.AddrPort, d time.Duration) error {
	_, err := h.Exchange(g.within(d), network, to.String(), "good evening")
	return err
}

// serve has echo servers at the hospital.
func (g *ground) serve() {
	for _, a := range []netip.Addr{ehr4, ehr6, pacs4, pacs6} {
		for _, port := range []uint16{22, 53, 104, 8080} {
			g.hospital.Echo("tcp", netip.AddrPortFrom(a, port).String())
			g.hospital.Echo("udp", netip.AddrPortFrom(a, port).String())
		}
	}
}

// pause lets what must not happen happen.
func pause(d time.Duration) { time.Sleep(d) }

// until waits for an instant.
func until(at time.Time) { time.Sleep(time.Until(at)) }

// soon is a whole second, at least d ahead.
func soon(d time.Duration) time.Time {
	return time.Now().Add(d + time.Second - 1).Truncate(time.Second)
}

// trial is a scenario with layers left out: what then has to be found.
type trial struct {
	without []string
	// breaks are the first words of what must be found: each at least once,
	// and no other. None: the promise holds.
	breaks []string
	may    []string // first words of what may be found as well
}

// hold runs a scenario with all layers and with each trial's.
func hold(t *testing.T, scenario func(g *ground), trials ...trial) {
	for _, x := range append([]trial{{}}, trials...) {
		name := "with every layer"
		if len(x.without) > 0 {
			name = "without " + strings.Join(x.without, " and ")
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGround(t, x.without...)
			scenario(g)
			g.mu.Lock()
			defer g.mu.Unlock()
			missed := slices.Clone(x.breaks)
			for _, f := range g.found {
				word, _, _ := strings.Cut(f, " ")
				word = strings.TrimSuffix(word, ":")
				if !slices.Contains(x.breaks, word) && !slices.Contains(x.may, word) {
					t.Errorf("broken: %s", f)
				}
				missed = slices.DeleteFunc(missed, func(w string) bool { return w == word })
			}
			for _, w := range missed {
				t.Errorf("nothing was found broken of %q, though the layer that holds it is left out; found: %q", w, g.found)
			}
		})
	}
}

// routeTo names the interface by which the calling thread's network reaches
// an address.
func routeTo(a netip.Addr) (string, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return "", err
	}
	defer handle.Close()
	routes, err := handle.RouteGet(a.AsSlice())
	if err != nil {
		return "", err
	}
	link, err := handle.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return "", err
	}
	return link.Attrs().Name, nil
}
