package oscal

import "time"

// The types are the part of OSCAL's assessment-results model that an inspection needs. Lists are
// left out when they are empty: the schema wants at least one item.

type document struct {
	Results assessmentResults `json:"assessment-results"`
}

type assessmentResults struct {
	UUID       string     `json:"uuid"`
	Metadata   metadata   `json:"metadata"`
	ImportAP   link       `json:"import-ap"`
	Results    []result   `json:"results"`
	BackMatter backMatter `json:"back-matter"`
}

type metadata struct {
	Title        string    `json:"title"`
	LastModified time.Time `json:"last-modified"`
	Version      string    `json:"version"`
	OSCALVersion string    `json:"oscal-version"`
	Roles        []role    `json:"roles,omitempty"`
	Parties      []party   `json:"parties,omitempty"`
}

type role struct {
	ID    string `json:"id"`
	Title string `json:"title"`
}

type party struct {
	UUID string `json:"uuid"`
	Type string `json:"type"` // person or organization
	Name string `json:"name"`
}

type link struct {
	Href    string `json:"href"`
	Remarks string `json:"remarks,omitempty"`
}

type result struct {
	UUID             string           `json:"uuid"`
	Title            string           `json:"title"`
	Description      string           `json:"description"`
	Start            time.Time        `json:"start"`
	End              time.Time        `json:"end"`
	Props            []property       `json:"props,omitempty"`
	ReviewedControls reviewedControls `json:"reviewed-controls"`
	Attestations     []attestation    `json:"attestations,omitempty"`
	Observations     []observation    `json:"observations,omitempty"`
	Findings         []finding        `json:"findings,omitempty"`
}

type property struct {
	Name    string `json:"name"`
	NS      string `json:"ns"`
	Value   string `json:"value"`
	Class   string `json:"class,omitempty"`
	Remarks string `json:"remarks,omitempty"`
}

type reviewedControls struct {
	Selections []selection `json:"control-selections"`
}

type selection struct {
	All     *struct{}   `json:"include-all,omitempty"` // where nothing else would be included
	Include []controlID `json:"include-controls,omitempty"`
	Exclude []controlID `json:"exclude-controls,omitempty"`
}

type controlID struct {
	ID string `json:"control-id"`
}

type attestation struct {
	Responsible []responsible `json:"responsible-parties"`
	Parts       []part        `json:"parts"`
}

type responsible struct {
	Role    string   `json:"role-id"`
	Parties []string `json:"party-uuids"`
}

type part struct {
	UUID  string `json:"uuid"`
	Name  string `json:"name"`
	Title string `json:"title"`
	Prose string `json:"prose"`
}

type observation struct {
	UUID        string     `json:"uuid"`
	Title       string     `json:"title"`
	Description string     `json:"description"`
	Props       []property `json:"props"`
	Methods     []string   `json:"methods"` // TEST: by machine; INTERVIEW: of a person
	Evidence    []proof    `json:"relevant-evidence,omitempty"`
	Collected   time.Time  `json:"collected"`
	Expires     *time.Time `json:"expires,omitempty"`
	Remarks     string     `json:"remarks,omitempty"`
}

type proof struct {
	Description string     `json:"description"`
	Props       []property `json:"props,omitempty"`
}

type finding struct {
	UUID        string     `json:"uuid"`
	Title       string     `json:"title"`
	Description string     `json:"description"`
	Props       []property `json:"props,omitempty"`
	Target      target     `json:"target"`
	Related     []related  `json:"related-observations"`
	Remarks     string     `json:"remarks,omitempty"`
}

type target struct {
	Type   string `json:"type"`
	ID     string `json:"target-id"`
	Status status `json:"status"`
}

type status struct {
	State  string `json:"state"`
	Reason string `json:"reason"`
}

type related struct {
	UUID string `json:"observation-uuid"`
}

type backMatter struct {
	Resources []resource `json:"resources"`
}

type resource struct {
	UUID        string  `json:"uuid"`
	Title       string  `json:"title"`
	Description string  `json:"description"`
	Base64      content `json:"base64"`
}

type content struct {
	Filename  string `json:"filename"`
	MediaType string `json:"media-type"`
	Value     string `json:"value"`
}
