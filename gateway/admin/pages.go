package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway"
)

// ListenPages listens also on an address that the host does not have yet:
// the gateway starts before the network is up, so that everything is denied
// before packets can come (ip(7), IP_FREEBIND).
func ListenPages(ctx context.Context, address string) (net.Listener, error) {
	free := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) (err error) {
		level, option := unix.IPPROTO_IP, unix.IP_FREEBIND
		if network == "tcp6" {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
		}
		refused := c.Control(func(fd uintptr) {
			err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), level, option, 1))
		})
		return errors.Join(refused, err)
	}}
	return free.Listen(ctx, "tcp", address)
}

// noStrangers refuses pages of other sites that a browser on this network was
// led to: those that ask from another origin, and those whose name, which only
// the browser believes in, was made to stand for this address (DNS rebinding).
// No name but localhost and the one of KIDOBAN_METRICS_ADDRESS is taken, and any
// address, for which nobody can answer in place of another.
func noStrangers(address string, next http.Handler) http.Handler {
	own, _, _ := net.SplitHostPort(address)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse := func(format string, a ...any) { http.Error(w, fmt.Sprintf(format, a...), http.StatusForbidden) }
		if len(r.Header.Values("Origin")) > 0 {
			refuse("a page of a browser asks (Origin), which nobody needs here")
			return
		}
		for _, from := range r.Header.Values("Sec-Fetch-Site") {
			if from != "none" && from != "same-origin" {
				refuse("a page of another site asks (Sec-Fetch-Site), which nobody needs here")
				return
			}
		}
		name := r.Host
		if host, _, err := net.SplitHostPort(name); err == nil {
			name = host
		}
		name = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSuffix(name, "."), "["), "]")
		_, err := netip.ParseAddr(name)
		// HTTP/1.0 may name none; browsers always do.
		if err != nil && name != "" && !strings.EqualFold(name, "localhost") && !strings.EqualFold(name, own) {
			refuse("the Host is %q: allowed is an IP address, localhost, or the name in KIDOBAN_METRICS_ADDRESS, which is %q", r.Host, address)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Pages are what monitoring reads: /metrics, /livez and /readyz.
type Pages struct {
	Gateway *gateway.Gateway
	Address string // KIDOBAN_METRICS_ADDRESS
	Metrics http.Handler
	Logger  *slog.Logger
}

// Serve serves until the context ends.
func (p *Pages) Serve(ctx context.Context, l net.Listener) error {
	g := p.Gateway
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", p.Metrics)
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
		case !s.Ready():
			http.Error(w, s.Plan.Doubt, http.StatusServiceUnavailable)
		default:
			fmt.Fprintln(w, "ready")
		}
	})
	server := &http.Server{Handler: noStrangers(p.Address, mux), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(p.Logger.Handler(), slog.LevelDebug)}
	Bound(server)
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
