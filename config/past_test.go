package config

import (
	"os"
	"strings"
	"testing"
)

// TestReadPast: a past policy is read where none of its files is, at any date, and without a warning. A
// text with a mistake is none.
func TestReadPast(t *testing.T) {
	raw, err := os.ReadFile("testdata/bad/site-words.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(raw), "version: 1")
	text = strings.Replace("version: 1"+text, "size: tiny, sensitivity: personel, tier: 4", "size: small", 1)
	text = strings.Replace(text, "addresses: [10.99.0.2]", "addresses: [10.99.0.2], preshared_key_file: /nowhere/sato.psk", 1)
	text = strings.Replace(text, "notify:", `  kizuna:
    sources: [198.18.11.1]
    under: medisys
    consent: {by: Mayor, date: 2026-04-01, until: 2027-03-31}
    contract: {until: 2027-03-31}
    engineers:
      abe: {public_key: "CF6FOPvDgrk6GdVPhk0Pv1tf/5ZpVkz0ZpxQaXr7WQE=", addresses: [10.99.0.9]}
notify:`, 1)
	p, err := ReadPast(text)
	if err != nil {
		t.Fatal(err)
	}
	if p.Text != text || p.Digest != "" || p.Vendor("medisys").Engineers[0].PresharedKey == [32]byte{} || len(p.Sinks) != 3 || p.Vendor("kizuna").Consent == nil {
		t.Errorf("read as %+v", p.Vendors)
	}
	if p, err := ReadPast(strings.Replace(text, "targets: [pacs]", "targets: [pax]", 1)); err == nil || p != nil || !strings.HasPrefix(err.Error(), "a past policy:") {
		t.Errorf("a mistake gives %v, %v", p, err)
	}
}
