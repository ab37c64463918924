package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kidoban/gateway/lab"
)

// stay keeps everything up until the demo is interrupted, with a daily window open, the engineer at
// work and the outsider trying, so that there is something to see.
func stay(s *stage, out *terminal, outside net.Listener) {
	s.writePolicy(support(time.Now()), daily(time.Now()))
	if _, _, err := s.operator("reload"); err != nil {
		s.Fatalf("%v", err)
	}
	if outside != nil {
		relay := &http.Server{Handler: metricsRelay(s.gateway), ReadHeaderTimeout: 10 * time.Second}
		go func() { _ = relay.Serve(outside) }() // it ends when it is closed
		s.Cleanup(func() { relay.Close() })
	}
	file := filepath.Join(s.folder, "environment")
	var text strings.Builder
	for _, setting := range s.settings() {
		name, value, _ := strings.Cut(setting, "=")
		fmt.Fprintf(&text, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		s.Fatalf("%v", err)
	}
	enter := "nsenter --target " + fmt.Sprint(os.Getpid())
	if ownUserNamespace() {
		enter += " --user --preserve-credentials"
	}
	kidoban := s.executable
	lines := []string{
		". " + file,
		kidoban + " status",
		kidoban + " refusals",
		kidoban + " explain medisys/sato --from " + outsiderAddress.String(),
		kidoban + " close medisys/sato --reason 'trying it'",
		kidoban + " reopen medisys/sato --reason 'tried it'",
		kidoban + " journal list",
		"",
		"# from the engineer's computer, through the tunnel (what you type comes back):",
		enter + " --net=" + s.engineer.Namespace() + " curl -sN telnet://" + listedService.String(),
		"# the gateway's ruleset:",
		enter + " --net=" + s.gateway.Namespace() + " nft list ruleset",
	}
	if outside != nil {
		lines = append([]string{"curl http://" + outside.Addr().String() + "/metrics", ""}, lines...)
	}
	out.lines("Everything stays up until Ctrl-C. To try, in another terminal", lines)

	if err := s.thief.Up(); err != nil {
		s.Fatalf("the outsider's WireGuard: %v", err)
	}
	// Otherwise WireGuard would go on with the dead session for 15 s.
	_ = s.sato.Initiate()
	for tick := 0; s.ctx.Err() == nil; tick++ {
		ctx, cancel := context.WithTimeout(s.ctx, time.Second)
		// Operators may close the engineer, so errors are ignored.
		_, _ = s.engineer.Exchange(ctx, "tcp", listedService.String(), strings.Repeat("work ", 200))
		cancel()
		if tick%15 == 0 {
			_ = s.thief.Initiate()
		}
		select {
		case <-s.ended:
			s.Fatalf("the gateway ended: %v", s.endedWith)
		case <-time.After(2 * time.Second):
		case <-s.ctx.Done():
		}
	}
	out.note("")
}

// metricsRelay relays the gateway's metrics.
func metricsRelay(gateway *lab.Host) http.Handler {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: metricsAddress})
	proxy.Transport = &http.Transport{DialContext: gateway.Dial}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
		http.Error(w, "the gateway does not answer: "+err.Error(), http.StatusBadGateway)
	}
	return proxy
}

// ownUserNamespace reports whether the demo runs in a user namespace of its own: the machine's maps
// every id onto itself.
func ownUserNamespace() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(text)), " ") != "0 0 4294967295"
}
