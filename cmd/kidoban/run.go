package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"kidoban/config"
	"kidoban/gateway"
	"kidoban/gateway/admin"
	"kidoban/gateway/firewall"
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/tunnel"
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
	clock, err := gateway.SystemClock(ctx)
	if err != nil {
		return err
	}
	// What may fail because the machine is not set up for it fails here,
	// before anything is changed.
	metricsListener, err := net.Listen("tcp", s.MetricsAddress)
	if err != nil {
		return fmt.Errorf("KIDOBAN_METRICS_ADDRESS: %w", err)
	}
	defer metricsListener.Close()
	adminListener, err := admin.Listen(s.AdminSocket)
	if err != nil {
		return fmt.Errorf("KIDOBAN_ADMIN_SOCKET: %w", err)
	}
	defer adminListener.Close()
	// From here on nothing passes that is not in a plan.
	wall, err := firewall.New(firewall.Options{
		Interface: s.Interface, ListenPort: s.ListenPort, Masquerade: s.Masquerade, ForwardOthers: s.ForwardOthers, LogGroup: logGroup,
		ForwardingFile: filepath.Join(s.StateDir, "forwarding.json"), Logger: logger,
	})
	if err != nil {
		return err
	}
	gate := newLiveTunnel(tunnel.Config{Interface: s.Interface, ListenPort: s.ListenPort, MTU: admin.MTU, PrivateKey: private, Logger: logger, UAPI: true})
	kernel := newLiveFirewall(wall, gate, s.Interface, logger)
	file := &policyFile{path: s.PolicyFile, key: public, tunnel: s.Interface}
	dir, keyFile := journalPlace(s.StateDir)
	marker := gateway.FileMarker{Lasting: filepath.Join(s.StateDir, "shut.json"), Passing: filepath.Join(filepath.Dir(s.AdminSocket), "shut.json")}
	if err := marker.Reserve(); err != nil {
		logger.Error("no room for what is closed while the journal is dead: it may last until the next boot only", "err", err)
	}
	metrics := gateway.NewMetrics(versionText())
	metrics.LogDropped = log.Dropped
	metrics.MostEngineers = s.MetricsEngineers
	if elsewhere != nil {
		metrics.SyslogDropped = elsewhere.Dropped
	}
	g := gateway.New(wired(gateway.Config{
		Tunnel: gate, Firewall: kernel, Clock: clock, LoadPolicy: file.load, CheckFile: file.check,
		OpenJournal: func() (gateway.Journal, error) {
			j, err := journal.Open(dir, keyFile)
			if err != nil {
				return nil, err
			}
			if r := j.Recovered(); r != (journal.Recovered{}) {
				logger.Warn("the journal ended in what nobody had been told was written: whole entries are signed now, the rest is cut",
					"entries", r.Adopted, "bytes_cut", r.Cut)
			}
			return liveJournal{j}, nil
		},
		ReadDamaged:    func() iter.Seq2[journal.Entry, error] { return readDamaged(dir) },
		ArchiveJournal: func() (string, string, error) { return journal.Archive(dir, keyFile) },
		Dropped:        kernel.dropped,
		Hints:          kernel.hints,
		Marker:         marker,
		Notify:         notify(logger), Metrics: metrics, Logger: logger, Version: versionText(),
	}))

	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics.Collectors(g, s.Interface, public)...)
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	// The servers outlive the gateway's stop, so that they can tell of it. The
	// gateway does not outlive them: nobody could close it any more, or see it.
	running, end := context.WithCancel(ctx)
	defer end()
	stopServing := serve(end, logger, map[string]func(context.Context) error{
		"metrics": func(ctx context.Context) error { return serveMetrics(ctx, metricsListener, registry, g, logger) },
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

// notify speaks to systemd (sd_notify(3)), if it listens. It does not wait for
// it: of a service manager that hangs, nobody but itself is the victim.
func notify(logger *slog.Logger) func(string) {
	states := make(chan string, 16)
	tell := tellSystemd(logger)
	go func() {
		for state := range states {
			tell(state)
		}
	}()
	return func(state string) {
		select {
		case states <- state:
		default:
		}
	}
}

func tellSystemd(logger *slog.Logger) func(string) {
	return func(state string) {
		message := map[string]string{"ready": daemon.SdNotifyReady, "stopping": daemon.SdNotifyStopping, "watchdog": daemon.SdNotifyWatchdog}[state]
		if text, ok := strings.CutPrefix(state, "status "); ok {
			message = "STATUS=ready"
			if text != "" {
				message = "STATUS=not ready: " + strings.ReplaceAll(text, "\n", "; ")
			}
		}
		if _, err := daemon.SdNotify(false, message); err != nil {
			logger.Warn("the service manager could not be told", "err", err)
		}
	}
}

func reloadOnHangup(ctx context.Context, hangup <-chan os.Signal, g *gateway.Gateway, logger *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			if _, err := g.Reload(ctx, "SIGHUP"); err != nil {
				logger.Error("reload on SIGHUP failed", "err", err)
			}
		}
	}
}

// serveMetrics serves /metrics, /livez and /readyz until the context ends.
func serveMetrics(ctx context.Context, l net.Listener, registry *prometheus.Registry, g *gateway.Gateway, logger *slog.Logger) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelError), EnableOpenMetrics: true, MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		if !g.Live() {
			http.Error(w, "the loop does not turn", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "live")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch s := g.Snapshot(); {
		case !g.Live():
			http.Error(w, "the loop does not turn", http.StatusServiceUnavailable)
		case !s.Status.Ready:
			http.Error(w, s.Status.NotReadyReason, http.StatusServiceUnavailable)
		default:
			fmt.Fprintln(w, "ready")
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug)}
	admin.Bound(server)
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// policyFile is the policy's file on disk.
type policyFile struct {
	path, tunnel string
	key          policy.Key

	mu     sync.Mutex
	seen   fs.FileInfo // when it was last looked at
	digest string
	err    error
}

func (f *policyFile) load() (*policy.Policy, []string, error) {
	loaded, warnings, err := readPolicy(f.path, &f.key, f.tunnel)
	if err != nil {
		return nil, nil, err
	}
	var texts []string
	for _, w := range warnings {
		texts = append(texts, f.path+":"+w.String())
	}
	return loaded, texts, nil
}

// check reads the file anew only if it looks changed. A preshared-key file
// that changed is seen at the next reload.
func (f *policyFile) check() (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err != nil {
		f.seen = nil
		return "", err
	}
	if f.seen != nil && os.SameFile(f.seen, info) && f.seen.ModTime().Equal(info.ModTime()) && f.seen.Size() == info.Size() && f.seen.Mode() == info.Mode() {
		return f.digest, f.err
	}
	loaded, _, err := f.load()
	f.seen, f.digest, f.err = info, "", err
	if err == nil {
		f.digest = loaded.Digest
	}
	return f.digest, f.err
}

// readDamaged gives what can be read of a journal that does not verify, up to
// the first entry that cannot.
func readDamaged(dir string) iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		for line, err := range journal.List(dir, 0) {
			var e journal.Entry
			if err != nil || json.Unmarshal(line, &e) != nil || !yield(e, nil) {
				return
			}
		}
	}
}

// liveJournal is a gateway.Journal over a journal on disk.
type liveJournal struct{ *journal.Journal }

// CheckpointTime implements gateway.Journal.
func (j liveJournal) CheckpointTime() time.Time {
	_, signed := j.Checkpoint()
	return signed
}
