package api

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"kidoban/gateway"
	"kidoban/gateway/clock"
	"kidoban/gateway/evidence/catalogue"
	"kidoban/gateway/evidence/desk"
	"kidoban/gateway/metrics"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
	"kidoban/gateway/view"
)

// quietTunnel is a gateway.Tunnel that reports what a test sends.
type quietTunnel struct{ facts chan policy.Fact }

func (quietTunnel) Set(*policy.Plan) error                { return nil }
func (t quietTunnel) Facts() <-chan policy.Fact           { return t.facts }
func (quietTunnel) Cut(*policy.Engineer)                  {}
func (quietTunnel) Recorded(uint64) bool                  { return true }
func (quietTunnel) SetKey([32]byte) error                 { return nil }
func (quietTunnel) SetTimestamps(map[policy.Key][12]byte) {}
func (quietTunnel) Restart() error                        { return nil }
func (quietTunnel) Close() error                          { return nil }
func (quietTunnel) Traffic() iter.Seq2[policy.Key, view.Traffic] {
	return func(func(policy.Key, view.Traffic) bool) {}
}

// quietFirewall is a gateway.Firewall to which nothing happens.
type quietFirewall struct{}

func (quietFirewall) Set(*policy.Plan, []netip.AddrPort) error { return nil }
func (quietFirewall) Check() error                             { return nil }
func (quietFirewall) Facts() <-chan policy.Fact                { return nil }
func (quietFirewall) Close() error                             { return nil }
func (quietFirewall) Counted() (until, lost time.Time)         { return time.Now(), time.Time{} }
func (quietFirewall) Counting() bool                           { return true }
func (quietFirewall) Forget(netip.Addr)                        {}
func (quietFirewall) Recount()                                 {}
func (quietFirewall) Used(func(netip.Addr) bool) iter.Seq2[policy.Flow, policy.Use] {
	return func(func(policy.Flow, policy.Use) bool) {}
}

// served is a gateway that runs, with a server.
type served struct {
	t       *testing.T
	server  *httptest.Server
	handler *Handler
	tunnel  quietTunnel
	policy  *policy.Policy
	dir     string
	stop    func()

	stranger error // of a request without a name; nil: everybody has one

	mu   sync.Mutex
	file error // of the policy file; nil: it is good
}

var site = time.FixedZone("Asia/Tokyo", 9*60*60)

// hospital is a policy with one window that never closes, and one that opened
// once, years ago.
func hospital() *policy.Policy {
	everyDay := &policy.Days{To: 24 * 60 * 60}
	for i := range everyDay.Weekdays {
		everyDay.Weekdays[i] = true
	}
	old := &policy.Once{From: policy.LocalTime{Date: policy.Date{Year: 2020, Month: 1, Day: 1}}, Until: policy.LocalTime{Date: policy.Date{Year: 2020, Month: 1, Day: 2}}}
	source := []netip.Prefix{netip.MustParsePrefix("203.0.113.10/32")}
	target := &policy.Target{Name: "ehr-db", Prefix: netip.MustParsePrefix("10.1.0.5/32"), Services: []policy.Service{{Protocol: policy.TCP, First: 22, Last: 22}}}
	v := &policy.Vendor{Name: "medisys", Sources: source}
	sato := &policy.Engineer{Vendor: v, Name: "sato", Key: policy.Key{1}, Addresses: []netip.Addr{netip.MustParseAddr("10.99.0.2")}, Sources: source}
	mori := &policy.Engineer{Vendor: v, Name: "mori", Key: policy.Key{2}, Addresses: []netip.Addr{netip.MustParseAddr("10.99.0.3")}, Sources: source}
	v.Engineers = []*policy.Engineer{mori, sato}
	v.Windows = []*policy.Window{
		{Vendor: v, Name: "always", Schedule: everyDay, Targets: []*policy.Target{target}, Engineers: []*policy.Engineer{sato}, ApprovedBy: "Head of IT", Ticket: "CHG-1"},
		{Vendor: v, Name: "past", Schedule: old, Targets: []*policy.Target{target}, Engineers: []*policy.Engineer{mori}, ApprovedBy: "Head of IT"},
	}
	return &policy.Policy{Site: "Kido Hospital", Zone: site, Digest: "d1", Text: "version: 1\n",
		Tunnel:  policy.Tunnel{Addresses: []netip.Prefix{netip.MustParsePrefix("10.99.0.1/24")}, Endpoint: "vpn.example.jp:51820"},
		Targets: []*policy.Target{target}, Vendors: []*policy.Vendor{v}}
}

// fileErrors is what config gives for a bad policy file.
type fileErrors []error

func (e fileErrors) Error() string   { return errors.Join(e...).Error() }
func (e fileErrors) Unwrap() []error { return e }

// servedKey is the gateway's key.
type servedKey struct{}

func (servedKey) Load() ([32]byte, policy.Key, error) { return [32]byte{1}, policy.Key{9}, nil }
func (servedKey) Make() error                         { return nil }

// serve starts a gateway and waits until it is ready.
func serve(t *testing.T) *served {
	t.Helper()
	s := begin(t, nil)
	s.eventually("the gateway is ready, with its one grant open", func() bool {
		status := get[view.Status](s, "/v1/status", nil)
		return status.Ready && len(status.Grants) == 1
	})
	return s
}

// begin starts a gateway whose policy file has a mistake, or has none.
func begin(t *testing.T, mistake error) *served { return beginWith(t, hospital(), mistake) }

func beginWith(t *testing.T, p *policy.Policy, mistake error) *served {
	t.Helper()
	s := &served{t: t, tunnel: quietTunnel{make(chan policy.Fact)}, policy: p, file: mistake, dir: t.TempDir()}
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

// journal is the place of the journal.
func (s *served) journal() store.OnDisk {
	return store.OnDisk{Folder: filepath.Join(s.dir, "journal"), KeyFile: filepath.Join(s.dir, "journal.key"), Latch: s.latch(), Feed: &store.Feed{}, Logger: slog.New(slog.DiscardHandler)}
}

func (s *served) latch() store.ShutFile {
	return store.ShutFile{Lasting: filepath.Join(s.dir, "shut.json")}
}

// enter lets an engineer in, as the tunnel tells it.
func (s *served) enter(name string) {
	s.t.Helper()
	plan := s.handler.Gateway.Snapshot().Plan
	e := plan.Policy.Engineer(name)
	from := netip.AddrPortFrom(e.Sources[0].Addr(), 1000)
	d := plan.Decide(policy.Query{Key: e.Key, Proven: true, Fault: policy.Admitted, Source: from.Addr()}, time.Now())
	if d.Reason != policy.Admitted {
		s.t.Fatalf("%s is refused: %s", name, d.Reason)
	}
	s.tunnel.facts <- policy.Fact{Kind: policy.Admission, At: time.Now(), Engineer: e, Source: from, Decision: d, Admission: 1, Timestamp: [12]byte{1}, Count: 1}
	s.tunnel.facts <- policy.Fact{Kind: policy.Confirmation, Engineer: e, Source: from, Admission: 1}
}

// desk follows the journal until the test ends.
func (s *served) desk(place store.OnDisk) *desk.Desk {
	d := &desk.Desk{Feed: place.Feed, Logger: slog.New(slog.DiscardHandler), Past: func(text string) (*policy.Policy, error) { return s.policy, nil },
		Checkpoint: func() string { text, _ := os.ReadFile(filepath.Join(place.Folder, "checkpoint")); return string(text) }}
	go d.Run(s.t.Context())
	return d
}

// start starts the gateway and its server, which stop ends.
func (s *served) start() {
	place := s.journal()
	g := gateway.New(gateway.Config{
		Tunnel: s.tunnel, Firewall: quietFirewall{},
		Clock:      clock.Source{Wall: time.Now, Boot: clock.Boot, Synchronized: func() bool { return true }},
		PolicyFile: servedFile{s}, KeyFile: servedKey{}, Journals: place, Latch: s.latch(),
		Metrics: metrics.New("test"), Version: "test",
	})
	who := func(r *http.Request) (policy.Actor, error) {
		name := cmp.Or(r.Header.Get("Test-Actor"), "tanaka")
		return policy.Actor{ID: name, Via: "test", Text: name}, s.stranger
	}
	s.handler = &Handler{Gateway: g, Who: who, Entries: place.Feed, Evidence: s.desk(place), Live: func() catalogue.Live { return catalogue.Live{At: time.Now()} }, Reports: &Reports{Snapshot: g.Snapshot}}
	s.server = httptest.NewUnstartedServer(s.handler)
	s.server.Config.DisableGeneralOptionsHandler = true
	ctx, cancel := context.WithCancel(context.Background())
	serving, end := context.WithCancel(context.Background())
	s.server.Config.BaseContext = func(net.Listener) context.Context { return serving }
	s.server.Start()
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("at the end: %v", err)
		}
		end()
		s.server.Close()
	})
}

// eventually waits until something holds.
func (s *served) eventually(what string, holds func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("10 s passed before: %s", what)
		}
	}
}

// breakFile makes the policy file bad, or good again.
func (s *served) breakFile(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file = err
}

// fact sends what the tunnel saw.
func (s *served) fact(f policy.Fact) {
	s.t.Helper()
	select {
	case s.tunnel.facts <- f:
	case <-time.After(10 * time.Second):
		s.t.Fatal("nobody hears the tunnel")
	}
}

// servedFile is the policy file.
type servedFile struct{ *served }

func (f servedFile) Load() (*policy.Policy, []view.Message, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.policy, nil, f.file
}

func (f servedFile) Check() (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.policy.Digest, f.file
}

func (servedFile) Warnings(*policy.Policy, time.Time) []view.Message { return nil }
