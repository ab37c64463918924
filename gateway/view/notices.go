package view

import (
	"time"

	"kidoban/gateway/policy"
)

// OfficeUser is the user of the process that delivers notices, and the group of its socket.
const OfficeUser = "kidoban-office"

// Sink is a sink of the policy in force, for the process that delivers notices. It has
// the paths of secrets, never a secret.
type Sink struct {
	Name       string   `json:"name"`
	Webhook    string   `json:"webhook,omitempty"` // URL; empty: mail
	Format     string   `json:"format,omitempty"`  // of a webhook: empty (Standard Webhooks), slack, teams or ntfy
	SecretFile string   `json:"secret_file,omitempty"`
	CAFile     string   `json:"ca_file,omitempty"`
	SMTP       string   `json:"smtp,omitempty"` // host:port
	TLS        string   `json:"tls,omitempty"`  // of mail: required, implicit or none
	From       string   `json:"from,omitempty"`
	To         []string `json:"to,omitempty"`
	User       string   `json:"user,omitempty"`
	Kinds      []string `json:"kinds,omitempty"` // empty: all
	Language   Language `json:"language"`
	// Since is how many entries the journal had when the gateway first saw the sink in
	// a policy, since its start. A sink that nothing was ever sent to begins there.
	Since int64 `json:"since"`
}

// Notify is the answer of GET /v1/office/notify: where notices go.
type Notify struct {
	Site     string `json:"site"`
	Timezone string `json:"timezone"`
	Size     int64  `json:"size"` // of the journal, in entries
	Sinks    []Sink `json:"sinks"`
}

// SinksOf lists the sinks of a policy. Since is not set.
func SinksOf(p *policy.Policy) []Sink {
	all := []Sink{}
	for _, s := range p.Sinks {
		all = append(all, Sink{Name: s.Name, Webhook: s.Webhook, Format: s.Format, SecretFile: s.SecretFile, CAFile: s.CAFile, SMTP: s.SMTP,
			TLS: s.TLS, From: s.From, To: s.To, User: s.User, Kinds: s.Kinds, Language: Language(s.Language)})
	}
	return all
}

// SinkReport says how far the notices of a sink are. The counts begin with the process
// that delivers them.
type SinkReport struct {
	Cursor    int64     `json:"cursor"`               // entries of the journal that need nothing more
	Delivered int64     `json:"delivered"`            // notices
	Failed    int64     `json:"failed"`               // attempts
	Skipped   int64     `json:"skipped"`              // notices that were too old, and are in a summary
	LastError string    `json:"last_error,omitempty"` // of the last attempt; empty: it succeeded
	Since     time.Time `json:"since,omitzero"`       // of the first failure in a row
}

// Notified is the body of POST /v1/office/notified.
type Notified struct {
	Sinks map[string]SinkReport `json:"sinks"`
}

// SinkStatus is a sink of the policy in force, with the newest report about it.
type SinkStatus struct {
	Name string
	SinkReport
	Lag int64 // entries of the journal that are not yet looked at
}
