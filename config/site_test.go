package config

import (
	"strings"
	"testing"

	"kidoban/gateway/policy"
)

func TestSiteChoosesTheTier(t *testing.T) {
	for site, want := range map[string]struct {
		policy.Inspection
		tier policy.Tier
	}{
		"Town":         {policy.Inspection{Size: policy.Medium, Sensitivity: policy.Sensitive}, policy.Tier2},
		"{name: Town}": {policy.Inspection{Size: policy.Medium, Sensitivity: policy.Sensitive}, policy.Tier2},
		"{name: Town, size: small, sensitivity: personal}":      {policy.Inspection{Size: policy.Small, Sensitivity: policy.Personal}, policy.Tier1},
		"{name: Town, size: small, tier: 1, reason: one bed}":   {policy.Inspection{Size: policy.Small, Sensitivity: policy.Sensitive, Chosen: 1, Reason: "one bed"}, policy.Tier1},
		"{name: Town, size: small, sensitivity: none, tier: 3}": {policy.Inspection{Size: policy.Small, Sensitivity: policy.NoData, Chosen: 3}, policy.Tier3},
		"{name: Town, sensitivity: mynumber}":                   {policy.Inspection{Size: policy.Medium, Sensitivity: policy.MyNumber}, policy.Tier3},
		"{name: Town, size: large, sensitivity: none}":          {policy.Inspection{Size: policy.Large, Sensitivity: policy.NoData}, policy.Tier3},
	} {
		p, _, err := parseTest(t, "p", []byte(strings.Replace(string(exampleYAML), "site: 木戸市民病院", "site: "+site, 1)))
		if err != nil {
			t.Errorf("%s: %v", site, err)
			continue
		}
		if tier, _ := p.InspectionTier(); p.Inspection != want.Inspection || tier != want.tier || p.Site != "Town" {
			t.Errorf("%s: tier %d of %+v at %q, want tier %d of %+v at Town", site, tier, p.Inspection, p.Site, want.tier, want.Inspection)
		}
	}
}
