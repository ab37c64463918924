// Package notices has the commands about notices: the process that delivers them, and a test
// by an operator.
package notices

import (
	"context"
	"encoding/json"
	"fmt"
	"os/signal"
	"os/user"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/confine"
	"kidoban/gateway/durable"
	"kidoban/gateway/log"
	"kidoban/gateway/notify"
	"kidoban/gateway/office"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// OfficeCommand is `kidoban office`.
type OfficeCommand struct{}

// Run delivers notices until SIGTERM or SIGINT.
func (OfficeCommand) Run(p *terminal.Program) error {
	s := p.Settings
	if s.OfficeSocket == "" {
		return terminal.Wrong("office_socket_unset", nil)
	}
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	logger, queue := log.New(p.Err, s.LogLevel, s.LogFormat, func() *time.Location { return time.Local })
	defer queue.Close()
	logger.Info("the office starts", "socket", s.OfficeSocket, "state", s.OfficeStateDir)
	return office.Run(ctx, office.Config{Socket: s.OfficeSocket, StateDir: s.OfficeStateDir, Logger: logger, Confine: func(files []string) []string {
		r := officeRules(s.OfficeStateDir, files)
		for _, m := range confine.Apply(Confined(r)) {
			logger.Warn(m.String())
		}
		return append(r.Read, r.Write...)
	}})
}

// Confined returns the rules unchanged. Tests replace it with a function that adds the places that only they use.
var Confined = func(r confine.Rules) confine.Rules { return r }

// officeRules are the places that the office opens once it knows the files of its sinks.
func officeRules(state string, files []string) confine.Rules {
	r := confine.Rules{Read: slices.Concat(confine.Host(), confine.Network()), Write: []string{durable.Real(state)}}
	for _, file := range files {
		r.Read = append(r.Read, filepath.Dir(durable.Real(file)))
	}
	return r
}

// TestCommand is `kidoban notify-test`.
type TestCommand struct {
	terminal.JSONFlag
	Sink terminal.Given `arg:"" help:"The name of a sink under notify in the policy in force."`
}

// tested is the answer of `kidoban notify-test`.
type tested struct {
	Sink      string `json:"sink"`
	To        string `json:"to"` // host and port; a URL's path may be a secret
	ID        string `json:"id"` // of the notice
	Delivered bool   `json:"delivered"`
	Error     string `json:"error,omitempty"`
	Took      int64  `json:"took_ms"`
}

// Run sends a notice from this very process, with its own rights and network.
func (c TestCommand) Run(p *terminal.Program) error {
	var n view.Notify
	text, zone, err := p.Client().Get("/v1/notify", nil)
	if err == nil {
		p.Zone = zone
		err = json.Unmarshal(text, &n)
	}
	if err != nil {
		return err
	}
	sink, err := sinkOf(n, string(c.Sink))
	if err != nil {
		return err
	}
	began, by := time.Now(), "?"
	if u, err := user.Current(); err == nil {
		by = u.Username
	}
	if zone == nil {
		zone = time.UTC
	}
	done := tested{Sink: sink.Name, To: notify.Host(sink), ID: fmt.Sprintf("test/%d/%s", began.UnixNano(), sink.Name)}
	err = notify.Sender{Sink: sink, Site: n.Site}.Send(context.Background(), notify.TestNotice(began, by, zone), done.ID)
	done.Delivered, done.Took = err == nil, time.Since(began).Milliseconds()
	if err != nil {
		done.Error = err.Error()
	}
	switch {
	case c.JSON:
		p.PrintJSON(done)
		return terminal.Unless(done.Delivered, terminal.Failed)
	case err != nil:
		return &view.Error{Message: view.Say("notify_failed", view.Args{"sink": done.Sink, "to": done.To, "cause": err})}
	}
	p.Tell("notify_delivered", view.Args{"sink": done.Sink, "to": done.To, "ms": done.Took})
	return nil
}

// sinkOf finds a sink by its name.
func sinkOf(n view.Notify, name string) (view.Sink, error) {
	var names []string
	for _, s := range n.Sinks {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	if names == nil {
		return view.Sink{}, &terminal.Exit{Message: view.Say("no_sinks", nil), Status: terminal.No}
	}
	near := view.Message{}
	if best := policy.Nearest(name, names); best != "" {
		near = view.Say("did_you_mean", view.Args{"name": best})
	}
	return view.Sink{}, &terminal.Exit{Message: view.Say("no_sink", view.Args{"sink": terminal.OneLine(name), "names": names, "near": near}), Status: terminal.No}
}
