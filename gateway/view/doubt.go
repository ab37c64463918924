package view

// Subjects of doubts. The metric kidoban_doubt has a series for each of
// DoubtSubjects, and "loop" for Loop and Starting.
const (
	Journal  = "journal"
	Clock    = "clock"
	Policy   = "policy"
	Tunnel   = "tunnel"
	Ruleset  = "ruleset"
	Stopping = "stopping"
	Loop     = "loop"     // it does not turn
	Starting = "starting" // it has not turned yet
)

// Doubt is a reason why the gateway admits nobody.
type Doubt struct {
	About string
	Message
}

// Hint is what operators should know about the host.
type Hint struct {
	Message Message
	Targets []string // the targets that get none of their packets, or only a part
}
