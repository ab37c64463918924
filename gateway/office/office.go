package office

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"kidoban/gateway/admin"
	"kidoban/gateway/durable"
	"kidoban/gateway/notify"
	"kidoban/gateway/view"
)

// Config has the office's settings.
type Config struct {
	Socket   string // of the gateway, for the office
	StateDir string // the cursors are there; made if it is missing
	Logger   *slog.Logger
	// Confine is called once, before the first notice goes out, with the files of the sinks.
	// It returns the folders beneath which the office can read from then on. It may be nil.
	Confine func(files []string) (readable []string)

	// For tests; zero: the defaults.
	guard                 func(network, address string, c syscall.RawConn) error
	now                   func() time.Time
	every                 time.Duration // between reports
	againFirst, againMost time.Duration // between attempts
	silence               time.Duration // of a stream
}

func (c *Config) complete() {
	if c.now == nil {
		c.now = time.Now
	}
	for _, d := range []struct {
		value *time.Duration
		or    time.Duration
	}{{&c.every, 10 * time.Second}, {&c.againFirst, time.Second}, {&c.againMost, time.Hour}, {&c.silence, admin.Silence}} {
		if *d.value == 0 {
			*d.value = d.or
		}
	}
}

// running is a sink that delivers.
type running struct {
	settings view.Sink
	cancel   context.CancelFunc
	ended    chan struct{}
}

func (r running) stop() {
	r.cancel()
	<-r.ended
}

// office keeps the sinks running that the policy in force has.
type office struct {
	Config
	gate     gate
	kick     chan struct{} // a report is due, or other sinks may be
	settings view.Notify   // without the size
	sinks    map[string]running
	progress map[string]*progress
	deaf     bool // the gateway did not answer last time
	readable []string
}

// Run delivers notices until the context ends. It waits for a gateway that is not there. An
// error says why it cannot begin.
func Run(ctx context.Context, c Config) error {
	c.complete()
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return err
	}
	if err := (durable.Guard{}).Folder(c.StateDir); err != nil {
		return fmt.Errorf("KIDOBAN_OFFICE_STATE_DIR: %s %w", c.StateDir, err)
	}
	locked, err := lock(c.StateDir)
	if err != nil {
		return fmt.Errorf("KIDOBAN_OFFICE_STATE_DIR: %w", err)
	}
	defer locked.Close()
	o := &office{Config: c, gate: gate{c.Socket, c.silence}, kick: make(chan struct{}, 1), sinks: map[string]running{}, progress: map[string]*progress{}}
	defer o.stop()
	tick := time.NewTicker(c.every)
	defer tick.Stop()
	for {
		if err := o.refresh(ctx); err != nil {
			return err
		}
		o.report()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-o.kick:
			pause(ctx, c.every/10) // several changes are one report
		}
	}
}

func (o *office) stop() {
	for _, r := range o.sinks {
		r.cancel()
	}
	for _, r := range o.sinks {
		r.stop()
	}
}

func (o *office) changed() {
	select {
	case o.kick <- struct{}{}:
	default:
	}
}

// refresh asks which sinks there are, and starts and stops them. If the gateway does not
// answer, the sinks stay as they are. The error names a file that the office can read only after
// a restart.
func (o *office) refresh(ctx context.Context) error {
	settings, err := o.gate.settings()
	if err != nil {
		if !o.deaf {
			o.Logger.Warn("the gateway does not say where notices go; it is asked again", "err", err)
		}
		o.deaf = true
		return nil
	}
	if o.deaf {
		o.Logger.Info("the gateway says again where notices go")
	}
	o.deaf = false
	if err := o.confine(settings.Sinks); err != nil {
		return err
	}
	settings.Size = 0
	zone, err := time.LoadLocation(settings.Timezone)
	if err != nil {
		zone = time.UTC
	}
	others := settings.Site != o.settings.Site || settings.Timezone != o.settings.Timezone
	o.settings = settings
	wanted := map[string]view.Sink{}
	for _, s := range settings.Sinks {
		wanted[s.Name] = s
	}
	for name, r := range o.sinks {
		s, stays := wanted[name]
		// Since is for a sink that has no cursor yet.
		if s.Since = r.settings.Since; stays && !others && reflect.DeepEqual(s, r.settings) {
			continue
		}
		r.stop()
		delete(o.sinks, name)
	}
	o.forget(wanted)
	for name, s := range wanted {
		if _, there := o.sinks[name]; !there {
			o.start(ctx, s, zone)
		}
	}
	return nil
}

// confine confines the office to the files of its first sinks, and finds those of later sinks that lie elsewhere.
func (o *office) confine(sinks []view.Sink) error {
	if o.Confine == nil {
		return nil
	}
	var files []string
	for _, s := range sinks {
		for _, file := range []string{s.SecretFile, s.CAFile} {
			if file != "" {
				files = append(files, file)
			}
		}
	}
	if o.readable == nil {
		o.readable = o.Confine(files)
	}
	for _, file := range files {
		if real := durable.Real(file); !slices.ContainsFunc(o.readable, func(folder string) bool { return durable.Beneath(real, folder) }) {
			return fmt.Errorf("a sink has the file %s now, which this process cannot read, since it could read only beneath %s from its start on: start the office anew, as systemd does by itself",
				file, strings.Join(o.readable, ", "))
		}
	}
	return nil
}

// forget drops what is kept of sinks that the policy has not any more. One that comes back
// begins anew.
func (o *office) forget(but map[string]view.Sink) {
	for name := range o.progress {
		if _, stays := but[name]; !stays {
			delete(o.progress, name)
		}
	}
	files, _ := filepath.Glob(cursorFile(o.StateDir, "*")) // the pattern is ours
	for _, file := range files {
		if slices.ContainsFunc(slices.Collect(maps.Keys(but)), func(name string) bool { return cursorFile(o.StateDir, name) == file }) {
			continue
		}
		if err := os.Remove(file); err != nil {
			o.Logger.Error("the cursor of a sink that is not in the policy cannot be removed", "err", err)
		}
	}
}

func (o *office) start(ctx context.Context, settings view.Sink, zone *time.Location) {
	p := o.progress[settings.Name]
	if p == nil {
		p = &progress{changed: o.changed}
		o.progress[settings.Name] = p
	}
	ctx, cancel := context.WithCancel(ctx)
	r := running{settings, cancel, make(chan struct{})}
	o.sinks[settings.Name] = r
	s := &sink{Config: o.Config, Sender: notify.Sender{Sink: settings, Site: o.settings.Site, Guard: o.guard}, zone: zone, progress: p,
		loaded: o.changed, log: o.Logger.With("sink", settings.Name)}
	go func() {
		defer close(r.ended)
		s.run(ctx)
	}()
}

// report tells the gateway how far the sinks are. A report that fails is made up by the next.
func (o *office) report() {
	if o.deaf {
		return
	}
	n := view.Notified{Sinks: map[string]view.SinkReport{}}
	for name := range o.sinks {
		n.Sinks[name] = o.progress[name].now()
	}
	if err := o.gate.report(n); err != nil {
		o.Logger.Warn("the gateway does not take the report about notices", "err", err)
	}
}
