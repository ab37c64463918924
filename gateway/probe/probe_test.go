package probe

import (
	"fmt"
	"testing"
	"time"

	"kidoban/config"
	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

func TestMain(m *testing.M) { lab.Main(m) }

var settings = Config{Interface: "kido0", ListenPort: 51820, MTU: 1340}

// read makes a policy of its text; %s are public keys.
func read(t *testing.T, text string, keys int) *policy.Policy {
	t.Helper()
	var public []any
	for range keys {
		_, key := lab.NewKey()
		public = append(public, policy.Key(key).String())
	}
	p, err := config.ReadPast(fmt.Sprintf(text, public...))
	if err != nil {
		t.Fatal(err)
	}
	p.Digest = "d1"
	return p
}

const twoVendors = `version: 1
site: Kido Municipal Hospital
timezone: Asia/Tokyo
tunnel: {addresses: [10.99.0.1/24, "fd00:99::1/64"], endpoint: "192.0.2.2:51820"}
targets:
  ehr: {address: 10.1.0.5, ports: [tcp/22, udp/53, icmp]}
  ehr6: {address: "fd01::5", ports: [tcp/22, icmp]}
  pacs: {address: 10.1.2.0/28, ports: [tcp/104], masquerade: true}
vendors:
  medisys:
    sources: [203.0.113.0/28, "2001:db8:1::/64"]
    engineers:
      sato: {public_key: %q, addresses: [10.99.0.2, "fd00:99::2"]}
    windows:
      support: {days: [mon, tue, wed, thu, fri], from: "09:00", to: "17:30", targets: [ehr, ehr6], valid: {from: 2026-01-01, until: 2036-01-01}, approved_by: Head of IT, ticket: CHG-1}
  scanco:
    sources: [198.51.100.10]
    engineers:
      tanaka: {public_key: %q, addresses: [10.99.0.4]}
    windows:
      night: {days: [sun], from: "01:00", to: "03:00", targets: [pacs], valid: {from: 2026-01-01, until: 2036-01-01}, approved_by: Head of IT, ticket: CHG-2}
`

func TestEverythingIsKept(t *testing.T) {
	lab.Require(t)
	began := time.Now()
	r, err := Run(t.Context(), read(t, twoVendors, 2), settings)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Checks {
		t.Logf("%+v", c)
	}
	t.Log(time.Since(began))
	if f := r.Failed(); len(f) > 0 {
		t.Errorf("%d failed: %+v", len(f), f)
	}
}
