package view

import (
	"encoding/json"
	"strings"
)

// Subjects of doubts. The metric kidoban_doubt has a series for each but
// Stopping and Starting.
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

// Doubt is a reason for the gateway to refuse every engineer.
type Doubt struct {
	About   string
	Message Message
}

// Joined gives the English texts of doubts as one.
func Joined(doubts []Doubt) string {
	var all []string
	for _, d := range doubts {
		all = append(all, d.Message.String())
	}
	return strings.Join(all, "; ")
}

// MarshalJSON writes the subject and the fields of the message.
func (d Doubt) MarshalJSON() ([]byte, error) {
	raw := d.Message.sent()
	raw.About = d.About
	return json.Marshal(raw)
}

// UnmarshalJSON reads the form of MarshalJSON.
func (d *Doubt) UnmarshalJSON(text []byte) error {
	var raw sent
	err := json.Unmarshal(text, &raw)
	*d = Doubt{raw.About, raw.message()}
	return err
}

// Hint is a message about the host.
type Hint struct {
	Message Message
	Targets []string // the targets that get none of their packets, or only a part
}
