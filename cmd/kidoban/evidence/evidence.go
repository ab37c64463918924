// Package evidence has the commands about what happened: the month's report, reviews, the
// self-inspection, incidents. source.go reads a copy of a journal for them.
package evidence

// Commands are the commands of this package.
type Commands struct {
	Review     reviewCommand `cmd:"" help:"Sign sessions, or a vendor's month: checked against the plan, or confirmed by the officer in charge."`
	WorkReport workCommand   `cmd:"" help:"Record what a vendor says of its work."`
	Report     reportCommand `cmd:"" help:"Write the month of maintenance, for people to check, sign and keep: HTML, CSV, XLSX, JSON."`
	Inspect    inspection    `cmd:"" help:"The self-inspection: controls that guidelines ask for, answered from the record and by persons."`
	Sample     sampleCommand `cmd:"" help:"Draw sessions of a month, for an auditor to look into: a draw that anybody can repeat."`
	Share      shareCommand  `cmd:"" help:"Share a policy without what is the site's own, or begin with a shared one."`

	Incident     incidentCommand `cmd:"" help:"Incidents: open, bundle what the journal proves, say what was sent, close."`
	VerifyBundle verifyBundle    `cmd:"" help:"Verify a bundle of an incident, without a gateway."`
}
