package metrics

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Pages are for monitoring: /metrics, /livez and /readyz. address is
// KIDOBAN_METRICS_ADDRESS.
func (m *Metrics) Pages(source interface {
	Source
	Live() bool
}, device, address string, logger *slog.Logger) http.Handler {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(m.Collectors(source, device)...)
	// Of memory statistics OpenMetrics has two families with one name:
	// go_memstats_alloc_bytes and go_memstats_alloc_bytes_total.
	registry.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorMemStatsMetricsDisabled()), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	all := promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelError), EnableOpenMetrics: true, MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		m.decisions(source.Snapshot(), source.Now())
		all.ServeHTTP(w, r)
	})
	health := func(path, good string, doubt func() string) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			if !source.Live() {
				http.Error(w, "the loop does not turn", http.StatusServiceUnavailable)
			} else if text := doubt(); text != "" {
				http.Error(w, text, http.StatusServiceUnavailable)
			} else {
				fmt.Fprintln(w, good)
			}
		})
	}
	health("/livez", "live", func() string { return "" })
	health("/readyz", "ready", func() string { return source.Snapshot().Plan.Doubt })
	return noStrangers(address, mux)
}

// noStrangers refuses requests that a browser makes for a page of another site: those
// with another origin, and those with a name that DNS rebinding has led here. The
// allowed names are localhost and that of KIDOBAN_METRICS_ADDRESS. Any IP address is
// allowed, since DNS cannot redirect one.
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
		// HTTP/1.0 may have no Host; browsers always send one.
		if err != nil && name != "" && !strings.EqualFold(name, "localhost") && !strings.EqualFold(name, own) {
			refuse("the Host is %q: allowed is an IP address, localhost, or the name in KIDOBAN_METRICS_ADDRESS, which is %q", r.Host, address)
			return
		}
		next.ServeHTTP(w, r)
	})
}
