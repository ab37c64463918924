package admin

import (
	"bytes"
	"fmt"
	"net/http"
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
			w := &page{header: http.Header{}}
			noStrangers(address, served).ServeHTTP(w, r)
			if got := w.text.String() == "served"; got != allowed {
				t.Errorf("%s, asked as %s: served %v, want %v: %d %s", address, host, got, allowed, w.status, &w.text)
			}
		}
	}
}

// page is an answer.
type page struct {
	header http.Header
	status int
	text   bytes.Buffer
}

func (p *page) Header() http.Header                  { return p.header }
func (p *page) WriteHeader(status int)               { p.status = status }
func (p *page) Write(text []byte) (n int, err error) { return p.text.Write(text) }
