package policy

// Actor is the giver of an event.
type Actor struct {
	// ID names the person's login, for rules that need two persons; the number of a user
	// without a name. Empty: root, or the gateway itself.
	ID string
	// Via is the way by which the event came: "socket", "signal" or "gateway".
	Via string
	// Text is the actor as the journal shows it.
	Text string
}

// Gateway is the actor of the gateway's own events.
var Gateway = Actor{Via: "gateway", Text: "gateway"}
