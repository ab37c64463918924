package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sync/errgroup"

	"kidoban/cmd/kidoban/audit"
	"kidoban/cmd/kidoban/terminal"
	"kidoban/config"
	"kidoban/gateway"
	"kidoban/gateway/admin"
	"kidoban/gateway/api"
	"kidoban/gateway/backup"
	"kidoban/gateway/clock"
	"kidoban/gateway/confine"
	"kidoban/gateway/durable"
	"kidoban/gateway/evidence/catalogue"
	"kidoban/gateway/evidence/desk"
	"kidoban/gateway/firewall"
	"kidoban/gateway/journal"
	"kidoban/gateway/log"
	"kidoban/gateway/metrics"
	"kidoban/gateway/store"
	"kidoban/gateway/syslog"
	"kidoban/gateway/tunnel"
	"kidoban/gateway/view"
	"kidoban/gateway/witness"
)

// logGroup is the NFLOG group for the kernel's copies of refused packets.
const logGroup = 9586

// wired returns the gateway's parts unchanged. Tests of the promises replace it
// with a function that leaves a layer out, to see that the promise fails then.
var wired = func(c gateway.Config) gateway.Config { return c }

type runCommand struct{}

// Run wires everything and serves until SIGTERM or SIGINT; SIGHUP reloads.
func (runCommand) Run(p *terminal.Program) error {
	// Signals come first: without a handler, SIGHUP ends the process, and SIGPIPE
	// does when the log's reader has gone.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	signal.Ignore(syscall.SIGPIPE)
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	s := p.Settings
	key := config.KeyFile{Path: s.PrivateKeyFile}
	file := &config.File{Path: s.PolicyFile, Key: key, Guard: durable.Guard{Within: s.Readable()}, Interface: s.Interface, ForwardOthers: s.ForwardOthers, Addresses: func() ([]netip.Addr, error) { return firewall.HostAddresses(s.Interface) }}
	logger, queue := log.New(p.Err, p.Settings.LogLevel, p.Settings.LogFormat, file.Zone)
	defer queue.Close()
	logger, elsewhere, err := syslog.Also(logger, s.SyslogAddress, s.SyslogCAFile, s.LogLevel, file.Zone)
	if err != nil {
		return err
	}
	if elsewhere != nil {
		defer elsewhere.Close()
	}

	if err := os.MkdirAll(s.StateDir, 0o700); err != nil {
		return err
	}
	dir, keyFile := audit.Place(s.StateDir)
	for _, folder := range []string{s.StateDir, dir} {
		if err := (durable.Guard{}).Folder(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("KIDOBAN_STATE_DIR: %s %w", folder, err)
		}
	}
	if err := backup.Unfinished(s.StateDir); err != nil {
		return err
	}
	source, err := clock.System(ctx)
	if err != nil {
		return err
	}
	// A machine that is not set up fails here, before the program changes it.
	metricsListener, err := admin.ListenPages(ctx, s.MetricsAddress)
	if err != nil {
		return fmt.Errorf("KIDOBAN_METRICS_ADDRESS: %w", err)
	}
	defer metricsListener.Close()
	adminListener, err := admin.Listen(s.AdminSocket)
	if err != nil {
		return fmt.Errorf("KIDOBAN_ADMIN_SOCKET: %w", err)
	}
	defer adminListener.Close()
	officeListener, err := admin.ListenOffice(s.OfficeSocket)
	if err != nil {
		return fmt.Errorf("KIDOBAN_OFFICE_SOCKET: %w", err)
	}
	defer officeListener.Close()
	passing := admin.Beside(s.AdminSocket, logger)
	latch := store.ShutFile{Lasting: filepath.Join(s.StateDir, "shut.json"), Passing: passing("shut.json")}
	feed := &store.Feed{}
	disk := store.OnDisk{Folder: dir, KeyFile: keyFile, Latch: latch, Feed: feed, Logger: logger}
	if disk.None() && !latch.Exists() { // the first start
		if err := key.Make(); err != nil {
			return err
		}
	}
	_ = os.MkdirAll(tunnel.UAPIDirectory, 0o755) // for its rule; the tunnel tells what is in the way
	unconfined := confine.Apply(confined(gatewayRules(s)))
	gate, err := tunnel.New(tunnel.Config{Interface: s.Interface, ListenPort: s.ListenPort, MTU: api.MTU, Logger: logger, UAPI: true})
	if err != nil {
		return err
	}
	// From here on only traffic in a plan passes.
	kernel, err := firewall.New(firewall.Options{
		Interface: s.Interface, ListenPort: s.ListenPort, Masquerade: s.Masquerade, ForwardOthers: s.ForwardOthers, LogGroup: logGroup,
		ForwardingFile: passing("forwarding.json"), Inside: s.InsideInterfaces, Inspect: gate.Inspect, Logger: logger,
	})
	if err != nil {
		return err
	}
	counts := metrics.New(versionText())
	room := &store.Room{}
	counts.LogDropped, counts.Room, disk.Appended = queue.Dropped, room.Entries, counts.Recorded
	counts.MostEngineers = s.MetricsEngineers
	reports := &api.Reports{}
	counts.Sinks = reports.Sinks
	if elsewhere != nil {
		counts.SyslogDropped = elsewhere.Dropped
	}
	var settings []view.Hint
	for _, w := range append(s.Warnings(), unconfined...) {
		logger.Warn(w.String())
		settings = append(settings, view.Hint{Message: w})
	}
	var g *gateway.Gateway // the witness begins after it
	seen, err := witness.New(witness.Config{Setting: s.Witness, Folder: dir, KeyFile: keyFile, Logger: logger,
		Follow: func() (witness.Stream, error) { return feed.Now() },
		Doubt:  func(ctx context.Context, m view.Message) { _ = g.DoubtJournal(ctx, m) }, // it comes again
		Note:   func(ctx context.Context, e journal.Entry) error { return g.Note(ctx, e) },
	})
	if err != nil {
		return fmt.Errorf("KIDOBAN_WITNESS: %w", err)
	}
	counts.Witness = seen.Status
	shutFile := store.NewSwitch(s.ShutFile, store.LookAt)
	g = gateway.New(wired(gateway.Config{
		Tunnel: gate, Firewall: kernel, Clock: source, PolicyFile: file, KeyFile: key, Journals: disk, Latch: latch, Switch: shutFile,
		Dropped: kernel.Dropped, Hints: func() []view.Hint {
			return slices.Concat(settings, shutFile.Hints(), room.Hints(), kernel.Hints(), gate.Hints(), reports.Hints(), seen.Hints())
		},
		Notify: notify(logger), Metrics: counts, Logger: logger, Version: versionText(),
	}))
	reports.Snapshot = g.Snapshot
	records := &desk.Desk{Feed: feed, Logger: logger, Past: config.ReadPast, Checkpoint: func() string {
		text, _ := os.ReadFile(filepath.Join(dir, "checkpoint")) // empty: it is not known
		return string(text)
	}}
	counts.Copied, counts.Probed = records.Copied, records.Probed
	live := func() catalogue.Live {
		at := g.Snapshot()
		_, witnessed, _ := seen.Status()
		here, err := netip.ParseAddrPort(metricsListener.Addr().String())
		return catalogue.Live{At: g.Now(), Version: versionText(), Synchronized: at.Synchronized, RulesetKnown: at.Ruleset == 0, RulesetEqual: !at.InDoubt(view.Ruleset),
			Listeners: []netip.AddrPort{here}, ListenersKnown: err == nil, Witnessed: witnessed, Copied: records.Copied()}
	}
	counts.Waiting = func() (metrics.Waiting, bool) {
		unreviewed, overdue, mismatches, ok := records.Waiting(g.Now())
		return metrics.Waiting{Unreviewed: unreviewed, Overdue: overdue, Mismatches: mismatches}, ok
	}

	// The servers outlive the gateway's stop, so that they can report it. The
	// gateway does not outlive them: operators could neither close it nor see it.
	running, end := context.WithCancel(ctx)
	defer end()
	stopServing := serve(end, logger, map[string]func(context.Context) error{
		"metrics": func(ctx context.Context) error {
			return admin.Serve(ctx, metricsListener, counts.Pages(g, s.Interface, s.MetricsAddress, logger), logger)
		},
		"the admin socket": func(ctx context.Context) error {
			return admin.Serve(ctx, adminListener, &api.Handler{Gateway: g, Who: admin.Who, Entries: feed, Evidence: records, Live: live, Reports: reports}, logger)
		},
		"the office's socket": func(ctx context.Context) error {
			return admin.Serve(ctx, officeListener, api.Office(g, feed, reports, admin.WhoOffice), logger)
		},
		"SIGHUP":      func(ctx context.Context) error { reloadOnHangup(ctx, hangup, g, logger); return nil },
		"records":     func(ctx context.Context) error { records.Run(ctx); return nil },
		"the witness": func(ctx context.Context) error { seen.Run(ctx); return nil },
		"room":        func(ctx context.Context) error { room.Watch(ctx, s.StateDir); return nil },
		"memory":      func(ctx context.Context) error { keepSmall(ctx, g.Snapshot); return nil },
		"processors":  func(ctx context.Context) error { shareProcessor(ctx); return nil },
	})
	logger.Info("kidoban starts", "version", versionText(), "interface", s.Interface, "port", s.ListenPort,
		"metrics", metricsListener.Addr().String(), "admin", s.AdminSocket)

	err = g.Run(running)
	return errors.Join(err, stopServing())
}

// serve runs all servers until stop is called, which returns their errors. The
// first error ends the gateway: the service manager starts it anew.
func serve(end func(), logger *slog.Logger, all map[string]func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	var group errgroup.Group
	for name, run := range all {
		group.Go(func() error {
			err := run(ctx)
			if err != nil {
				err = fmt.Errorf("%s: not served any more: %w", name, err)
				logger.Error("the gateway stops, because a part of it failed", "err", err)
				end()
			}
			return err
		})
	}
	return func() error {
		cancel()
		return group.Wait()
	}
}
