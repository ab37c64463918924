// Package evidence has the commands about what happened: the month's report, reviews, the
// self-inspection, incidents.
package evidence

// Commands are the commands of this package.
type Commands struct {
	Review     reviewCommand `cmd:"" help:"Sign sessions, or a vendor's month: checked against the plan, or confirmed by the officer in charge."`
	WorkReport workCommand   `cmd:"" help:"Record what a vendor says of its work."`
}
