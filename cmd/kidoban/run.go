package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"kidoban/config"
	"kidoban/gateway"
	"kidoban/gateway/admin"
	"kidoban/gateway/clock"
	"kidoban/gateway/firewall"
	"kidoban/gateway/metrics"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
	"kidoban/gateway/tunnel"
	"kidoban/gateway/view"
)

// logGroup is the NFLOG group on which the kernel copies what it refused.
const logGroup = 9586

// wired gives what the gateway is made of, as it is. The promises' tests put
// another function in its place, which leaves a layer out, to see that the
// promise fails without it.
var wired = func(c gateway.Config) gateway.Config { return c }

type runCommand struct{}

// Run wires everything and serves until SIGTERM or SIGINT; SIGHUP reloads.
func (runCommand) Run(p *program) error {
	// First of all the signals: without a handler SIGHUP ends the process, and
	// so does a log whose reader has gone (SIGPIPE).
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	signal.Ignore(syscall.SIGPIPE)
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	s := p.settings
	logger, log := newLogger(p)
	defer log.Close()
	logger, elsewhere, err := alsoElsewhere(logger, s)
	if err != nil {
		return err
	}
	if elsewhere != nil {
		defer elsewhere.Close()
	}

	if err := os.MkdirAll(s.StateDir, 0o700); err != nil {
		return err
	}
	private, err := config.LoadPrivateKey(s.PrivateKeyFile, true)
	if err != nil {
		return err
	}
	public := config.PublicKey(private)
	source, err := clock.System(ctx)
	if err != nil {
		return err
	}
	// What may fail because the machine is not set up for it fails here,
	// before anything is changed.
	metricsListener, err := listenMetrics(ctx, s.MetricsAddress)
	if err != nil {
		return fmt.Errorf("KIDOBAN_METRICS_ADDRESS: %w", err)
	}
	defer metricsListener.Close()
	adminListener, err := admin.Listen(s.AdminSocket)
	if err != nil {
		return fmt.Errorf("KIDOBAN_ADMIN_SOCKET: %w", err)
	}
	defer adminListener.Close()
	passing := besideSocket(s.AdminSocket, logger)
	// From here on nothing passes that is not in a plan.
	wall, err := firewall.New(firewall.Options{
		Interface: s.Interface, ListenPort: s.ListenPort, Masquerade: s.Masquerade, ForwardOthers: s.ForwardOthers, LogGroup: logGroup,
		ForwardingFile: passing("forwarding.json"), Logger: logger,
	})
	if err != nil {
		return err
	}
	gate := newLiveTunnel(tunnel.Config{Interface: s.Interface, ListenPort: s.ListenPort, MTU: admin.MTU, PrivateKey: private, Logger: logger, UAPI: true})
	kernel := newLiveFirewall(wall, gate, s.Interface, s.InsideInterfaces, logger)
	file := &policyFile{path: s.PolicyFile, key: public, tunnel: s.Interface}
	dir, keyFile := journalPlace(s.StateDir)
	latch := store.ShutFile{Lasting: filepath.Join(s.StateDir, "shut.json"), Passing: passing("shut.json")}
	counts := metrics.New(versionText())
	counts.LogDropped = log.Dropped
	counts.MostEngineers = s.MetricsEngineers
	if elsewhere != nil {
		counts.SyslogDropped = elsewhere.Dropped
	}
	g := gateway.New(wired(gateway.Config{
		Tunnel: gate, Firewall: kernel, Clock: source, PolicyFile: file, Journals: journals{dir, keyFile, latch, logger}, Latch: latch,
		Dropped: kernel.dropped, Hints: func() []view.Hint { return slices.Concat(kernel.hints(), gate.hints()) },
		Notify: notify(logger), Metrics: counts, Logger: logger, Version: versionText(),
	}))

	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(counts.Collectors(g, s.Interface, public)...)
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	// The servers outlive the gateway's stop, so that they can tell of it. The
	// gateway does not outlive them: nobody could close it any more, or see it.
	running, end := context.WithCancel(ctx)
	defer end()
	stopServing := serve(end, logger, map[string]func(context.Context) error{
		"metrics": func(ctx context.Context) error {
			return serveMetrics(ctx, metricsListener, s.MetricsAddress, registry, g, logger)
		},
		"the admin socket": func(ctx context.Context) error {
			return (&admin.Server{Gateway: g, Key: public, Logger: logger}).Serve(ctx, adminListener)
		},
		"SIGHUP": func(ctx context.Context) error { reloadOnHangup(ctx, hangup, g, logger); return nil },
		"memory": func(ctx context.Context) error { keepSmall(ctx, g); return nil },
	})
	logger.Info("kidoban starts", "version", versionText(), "interface", s.Interface, "port", s.ListenPort, "public_key", public.String(),
		"metrics", metricsListener.Addr().String(), "admin", s.AdminSocket)

	err = g.Run(running)
	return errors.Join(err, stopServing())
}

// serve serves until stop is called, which gives the errors of those that
// could not go on. The first of these is told, and ends the gateway: the
// service manager starts it anew.
func serve(end func(), logger *slog.Logger, all map[string]func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	var group errgroup.Group
	for what, run := range all {
		group.Go(func() error {
			err := run(ctx)
			if err != nil {
				err = fmt.Errorf("%s: not served any more: %w", what, err)
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

// reloadOnHangup reloads at each signal until the context ends. A reading of the
// policy file that its disk never answers does not hold the end up.
func reloadOnHangup(ctx context.Context, hangup <-chan os.Signal, g *gateway.Gateway, logger *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
		}
		reloaded := make(chan struct{})
		go func() {
			defer close(reloaded)
			out, err := g.Reload(ctx, policy.Actor{Via: "signal", Text: "SIGHUP"})
			if err != nil {
				logger.Error("reload on SIGHUP failed", "err", err)
			}
			// Nobody waits for an answer to a signal: it is all in the log.
			if out.Problem != "" {
				logger.Error("reload on SIGHUP is not complete", "err", out.Problem)
			}
			for _, w := range out.Warnings {
				logger.Warn("reload on SIGHUP", "warning", w)
			}
		}()
		waits := time.NewTimer(hangupPatience)
		select {
		case <-ctx.Done():
			return
		case <-reloaded:
			continue
		case <-waits.C:
			logger.Error("reload on SIGHUP still reads the policy file, whose disk may not answer; further signals wait for it", "for", hangupPatience)
		}
		select {
		case <-ctx.Done():
			return
		case <-reloaded:
		}
	}
}

// hangupPatience is after how long a reload on SIGHUP is said to hang. One that
// waits for a reading that hangs says so itself, and sooner.
const hangupPatience = 15 * time.Second

// besideSocket names the files of what has to outlive a process, and not a boot,
// and must wait for no disk: they lie beside the admin socket, in /run. In a
// folder of somebody else, or in which anybody may write, there are none, since
// the next process would believe whatever lies there.
func besideSocket(socket string, logger *slog.Logger) func(name string) string {
	folder := filepath.Dir(socket)
	info, err := os.Stat(folder)
	if err == nil && info.Mode().Perm()&0o002 != 0 {
		err = fmt.Errorf("its mode is %04o: allowed is one in which only its owner and group write", info.Mode().Perm())
	}
	if err == nil {
		if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid != 0 && int(s.Uid) != os.Geteuid() {
			err = fmt.Errorf("it belongs to user %d: allowed is root or whom the gateway runs as", s.Uid)
		}
	}
	if err != nil {
		logger.Warn("nothing is kept in the folder of KIDOBAN_ADMIN_SOCKET, so a start does not turn forwarding back that a killed process turned on",
			"folder", folder, "err", err)
		return func(string) string { return "" }
	}
	return func(name string) string { return filepath.Join(folder, name) }
}
