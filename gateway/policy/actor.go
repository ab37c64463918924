package policy

// Actor is who gives an event.
type Actor struct {
	// ID names the person for rules that need two persons. "root (login sato)"
	// and "sato" are one: sato. Empty: the gateway itself, or nobody who can be
	// named.
	ID string
	// Via is the way by which the event came: "socket", "signal" or "gateway".
	Via string
	// Text is the actor as the journal shows it.
	Text string
}

// Gateway is the actor of what the gateway does by itself.
var Gateway = Actor{Via: "gateway", Text: "gateway"}
