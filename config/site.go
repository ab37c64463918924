package config

import (
	"cmp"

	"github.com/goccy/go-yaml/ast"

	"kidoban/gateway/policy"
)

// site reads the name of the site, alone or with what chooses the tier of its self-inspection. It
// gives the tier's place.
func (r *reader) site(v value) (tier value) {
	p := r.policy
	p.Inspection = policy.Inspection{Size: policy.Medium, Sensitivity: policy.Sensitive}
	switch v.node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		p.Site = r.display(v)
		return value{}
	}
	f := r.mapping(v, "name", "size?", "sensitivity?", "tier?", "reason?")
	p.Site = r.display(f["name"])
	i := &p.Inspection
	i.Size = policy.Size(cmp.Or(r.oneWord(f["size"], "small", "medium", "large"), string(i.Size)))
	i.Sensitivity = policy.Sensitivity(cmp.Or(r.oneWord(f["sensitivity"], "none", "personal", "sensitive", "mynumber"), string(i.Sensitivity)))
	if f["tier"].present() {
		i.Chosen = policy.Tier(r.number(f["tier"], int(policy.Tier3), "3"))
	}
	i.Reason = r.display(f["reason"])
	return f["tier"]
}

// checkTier refuses a tier below the one that the policy's own facts ask for, unless a reason says why.
func (r *reader) checkTier(v value) {
	tier, needed := r.policy.InspectionTier()
	if r.told() > 0 || tier >= needed || r.policy.Inspection.Reason != "" {
		return
	}
	r.errorf(v, "tier %d is lower than %d, which size, sensitivity and the number of vendors (%d) ask for: allowed is %d or higher, or a lower one with reason",
		tier, needed, len(r.policy.Vendors), needed)
}
