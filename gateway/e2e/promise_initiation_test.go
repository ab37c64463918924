package e2e

import (
	"testing"
	"time"

	"kidoban/gateway/lab"
)

// initiation is a handshake initiation; lab.Initiate says of what.
func initiation(t *testing.T, private, to lab.Key, at time.Time, claimed *lab.Key) []byte {
	t.Helper()
	h, err := lab.Initiate(private, to, at, claimed)
	if err != nil {
		t.Fatal(err)
	}
	return h.Initiation
}

// initiation is an engineer's own, with the timestamp of an instant.
func (g *ground) initiation(name string, at time.Time) []byte {
	g.t.Helper()
	return initiation(g.t, g.people[name].private, g.publicKey, at, nil)
}
