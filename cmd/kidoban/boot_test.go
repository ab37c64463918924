package main

import (
	"io"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"kidoban/gateway/lab"
)

// TestMetricsAddressComesLater: the gateway starts before the network does, so
// that the address of its metrics may not be there yet, or never come up.
func TestMetricsAddressComesLater(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"10.1.0.7/24", "fd01::7/64"} {
		prefix := netip.MustParsePrefix(address)
		t.Run(prefix.Addr().String(), func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
			metrics := netip.AddrPortFrom(prefix.Addr(), 9586).String()
			g.settings = []string{"KIDOBAN_METRICS_ADDRESS=" + metrics}
			g.open([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
			g.inside()
			g.mustRun(g.gateway, "ip", "addr", "add", address, "dev", "lan0")
			client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: g.hospital.Dial, DisableKeepAlives: true}}
			lab.WaitFor(t, eventually, "the metrics answer at their address", func() bool {
				answer, err := client.Get("http://" + metrics + "/readyz")
				if err != nil {
					return false
				}
				defer answer.Body.Close()
				text, err := io.ReadAll(answer.Body)
				return err == nil && string(text) == "ready\n"
			})
		})
	}
}
