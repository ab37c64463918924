package policy

import "time"

// Recipient is an office to which the site reports incidents.
type Recipient struct {
	Name string `json:"name"`
	// For are the kinds of sites and incidents that it is about: municipality, hospital,
	// government-cloud, personal-data. Empty: all.
	For     []string      `json:"for"`
	Kind    string        `json:"kind"`             // report, or copy: somebody else reports, and it gets a copy
	Within  time.Duration `json:"within,omitempty"` // 0: the policy names no time
	Contact string        `json:"contact,omitempty"`
	Consent bool          `json:"consent"` // it gets nothing without the consent of the site
}

// ReportsFor lists what a recipient of reports may be for.
func ReportsFor() []string {
	return []string{"municipality", "hospital", "government-cloud", "personal-data"}
}
