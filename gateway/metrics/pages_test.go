package metrics

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestFault82NameOfTheMetrics: a site that names its gateway in
// KIDOBAN_METRICS_ADDRESS is scraped by that name.
func TestFault82NameOfTheMetrics(t *testing.T) {
	served := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "served") })
	for address, hosts := range map[string]map[string]bool{
		"gate.hospital.example:9586": {"gate.hospital.example:9586": true, "Gate.Hospital.example": true, "gate.hospital.example.:9586": true, "gate:9586": false, "10.1.0.1:9586": true},
		"0.0.0.0:9586":               {"gate.hospital.example:9586": false, "10.1.0.1:9586": true, "[fd00::1]:9586": true, "localhost:9586": true},
	} {
		for host, allowed := range hosts {
			r, err := http.NewRequest(http.MethodGet, "http://127.0.0.1/metrics", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = host
			w := httptest.NewRecorder()
			noStrangers(address, served).ServeHTTP(w, r)
			if got := w.Body.String() == "served"; got != allowed {
				t.Errorf("%s, asked as %s: served %v, want %v: %d %s", address, host, got, allowed, w.Code, w.Body)
			}
		}
	}
}
