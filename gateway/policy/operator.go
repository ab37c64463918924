package policy

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Right is what an operator may do with requests.
type Right string

// The rights. Closing needs none.
const (
	MayRecord  Right = "record"  // record what a vendor asks for, and declare an emergency
	MayApprove Right = "approve" // approve, deny, extend
	MayRatify  Right = "ratify"  // sign an emergency afterwards
	MayReview  Right = "review"  // sign the work afterwards
)

// Rights lists all rights.
func Rights() []Right { return []Right{MayRecord, MayApprove, MayRatify, MayReview} }

// NoticeKinds lists the kinds of notices, which a Sink may name.
func NoticeKinds() []string {
	return []string{"emergency", "requested", "approved", "denied", "withdrawn", "extension_asked", "extended", "shortened",
		"revoked", "ratified", "warned", "wrong_source", "drift", "doubt", "shut", "reopened", "switch_shut", "switch_opened",
		"recovery", "policy_loaded", "probe_broken"}
}

// Operator is a person of the site who decides about requests.
type Operator struct {
	Name        string // a-z, 0-9, hyphen; up to 63. Decisions are counted by it
	DisplayName string // for people; may be empty
	User        string // the person's login on the gateway; empty: none
	Rights      []Right
	Passkeys    []string // public keys, as the policy file has them; for decisions without a login on the gateway
}

// May reports whether the operator has a right. It is false for nil.
func (o *Operator) May(r Right) bool { return o != nil && slices.Contains(o.Rights, r) }

// OnRequest is what may be opened to a vendor on request.
type OnRequest struct {
	Targets               []*Target   // sorted by name
	Engineers             []*Engineer // sorted by name
	Section               string      // of the site, which owns what is maintained; may be empty
	ValidFrom, ValidUntil Date        // inclusive local dates; zero: no bound
	Approvals             int         // how many operators must approve, 1 or more
	Approvers             []*Operator // sorted by name
	SelfApproval          bool        // the recorder's approval counts too
	MaxDuration           time.Duration
	MaxTotal              time.Duration  // with extensions; MaxDuration or more
	Ahead                 time.Duration  // how far ahead a request may begin
	Undecided             time.Duration  // how long after its beginning a request may be approved
	Grace                 time.Duration  // as Window.Grace
	OneTimeSource         []netip.Prefix // where a one-time source may lie; empty: none is allowed
	Emergency             *Emergency     // nil: none can be declared
}

// Emergency is what one operator may open at once.
type Emergency struct {
	MaxDuration  time.Duration
	RatifyWithin time.Duration // counted from its beginning
	Ratifiers    []*Operator   // sorted by name
}

// Sink is where notices go: a webhook or a mail server.
type Sink struct {
	Name       string
	Webhook    string // URL; empty: mail
	Format     string // of a webhook: "" (Standard Webhooks), slack, teams, ntfy
	SecretFile string // absolute path; empty: unsigned
	CAFile     string // absolute path; empty: the system's
	SMTP       string // host:port
	TLS        string // of mail: required, implicit or none
	From       string
	To         []string
	User       string   // of mail; with SecretFile as the password's
	Kinds      []string // which notices; empty: all
	Language   string   // en or ja
}

// Operator finds an operator by its name, or returns nil.
func (p *Policy) Operator(name string) *Operator {
	i, ok := slices.BinarySearchFunc(p.Operators, name, func(o *Operator, name string) int { return strings.Compare(o.Name, name) })
	if !ok {
		return nil
	}
	return p.Operators[i]
}

// OperatorOf finds the operator who a user is, or returns nil. Root is no operator: its
// Actor has no ID.
func (p *Policy) OperatorOf(a Actor) *Operator {
	for _, o := range p.Operators {
		if a.ID != "" && o.User == a.ID {
			return o
		}
	}
	return nil
}
