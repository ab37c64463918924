package policy

import "strconv"

// Tier is how much of the catalogue of controls a site inspects: 1 the least, 3 all.
type Tier int

// The tiers.
const (
	Tier1 Tier = 1 + iota
	Tier2
	Tier3
)

// Size is how large the site is.
type Size string

// The sizes.
const (
	Small  Size = "small"  // one person runs IT
	Medium Size = "medium" // more than one
	Large  Size = "large"  // as a prefecture
)

// Sensitivity is the most sensitive data that vendors can reach at the site.
type Sensitivity string

// The sensitivities.
const (
	NoData    Sensitivity = "none"      // nothing personal, nothing secret
	Personal  Sensitivity = "personal"  // personal data that needs no special care
	Sensitive Sensitivity = "sensitive" // data that needs special care, as of patients, or a municipality's class 3A or 3B
	MyNumber  Sensitivity = "mynumber"  // individual numbers
)

// Numbers of vendors up to which a site needs no higher tier.
const (
	fewVendors  = 5
	manyVendors = 20
)

// Inspection chooses the tier of the self-inspection.
type Inspection struct {
	Size        Size        // absent in the file: Medium
	Sensitivity Sensitivity // absent in the file: Sensitive
	Chosen      Tier        // 0: Needed counts
	Reason      string      // of a Chosen below what is needed
}

// Needed is the tier that the size, the data and the number of vendors ask for.
func (i Inspection) Needed(vendors int) Tier {
	switch {
	case i.Size == Large || i.Sensitivity == MyNumber || vendors > manyVendors:
		return Tier3
	case i.Size == Small && vendors <= fewVendors && (i.Sensitivity == NoData || i.Sensitivity == Personal):
		return Tier1
	}
	return Tier2
}

// InspectionTier is the tier of the policy, and the one that its own facts ask for.
func (p *Policy) InspectionTier() (tier, needed Tier) {
	needed = p.Inspection.Needed(len(p.Vendors))
	if tier = p.Inspection.Chosen; tier == 0 {
		tier = needed
	}
	return tier, needed
}

// values are the fields, for the comparison of policies.
func (i Inspection) values() []value {
	tier := ""
	if i.Chosen > 0 {
		tier = strconv.Itoa(int(i.Chosen))
	}
	return []value{text("size", string(i.Size)), text("sensitivity", string(i.Sensitivity)), text("tier", tier), text("reason", i.Reason)}
}
