package config

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// TestPolicyOfVersion1: every later version reads a policy of version 1, and it means the same. The file
// is that of docs/REFERENCE.md when the version was fixed; it never changes.
func TestPolicyOfVersion1(t *testing.T) {
	text, err := os.ReadFile("testdata/v1/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 12, 1, 20, 30, 0, 0, time.FixedZone("", 9*3600))
	p, _, err := ParsePolicy("policy.yaml", text, "/etc/kidoban", Host{}, now)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.Digest, "298e3b0383d6c0f1591e02289f0648b4d1c819e844a26aa6da1cf3f1645f242b"; got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
	var got []string
	for _, v := range p.Vendors {
		for _, w := range v.Windows {
			got = append(got, fmt.Sprint(v.Name, " ", w.Name, " ", w.ApprovedBy, " ", w.Ticket, " ", w.Grace))
		}
		got = append(got, fmt.Sprint(v.Name, " ", v.Sources, " ", v.ContractUntil, " ", len(v.Engineers), " ", v.OnRequest.MaxDuration, " ", v.OnRequest.MaxTotal))
	}
	for _, o := range p.Operators {
		got = append(got, fmt.Sprint(o.Name, " ", o.User, " ", o.Rights))
	}
	for _, s := range p.Sinks {
		got = append(got, fmt.Sprint(s.Name, " ", s.SecretFile, " ", s.Kinds, " ", s.TLS))
	}
	got = append(got, fmt.Sprint(p.Site, " ", p.Zone, " ", p.Retention, " ", p.Review, " ", len(p.Targets)))
	want := []string{
		"medisys cutover 院長  0s", "medisys patch 情報システム課長 CHG-2026-0142 15m0s", "medisys support 情報システム課長 CHG-2026-0143 0s",
		"medisys [203.0.113.10/32 198.51.100.0/28] 2027-03-31 2 4h0m0s 8h0m0s",
		"jimucho jimu [ratify review]", "tanaka tanaka [record approve ratify review]", "ueda ueda [record approve]",
		"mail  [requested] required", "siem /etc/kidoban/siem.secret [emergency shut drift] ",
		"木戸市民病院 Asia/Tokyo 5y &{72h0m0s 744h0m0s true} 2",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("it means\n%q\nwant\n%q", got, want)
	}
}
