package session

import (
	"testing"
	"time"
)

func TestPayload(t *testing.T) {
	for _, c := range []struct {
		name         string
		n, handshake uint64
		passed       time.Duration
		want         uint64
	}{
		{"nothing", 0, responseSize, time.Second, 0},
		{"a handshake's answer", 92, responseSize, time.Second, 0},
		{"two, and a keepalive", 2*92 + 32, responseSize, time.Second, 0},
		{"an initiation, its confirmation, two keepalives", 148 + 3*32, initiationSize, time.Second, 0},
		{"two keepalives", 64, initiationSize, time.Second, 0},
		{"keepalives of a minute that nobody counted", 8 * 32, responseSize, time.Minute, 0},
		{"a TCP SYN", 96, initiationSize, time.Second, 96},
		{"a TCP SYN and an initiation", 96 + 32 + 148, initiationSize, time.Second, 128},
		{"the answer RST", 80, responseSize, time.Second, 80},
		{"acknowledgements of an upload", 4000 * 96, responseSize, time.Second, 4000 * 96},
		{"a full packet without padding", 1340 + 32, responseSize, time.Second, 1340 + 32 - 92*1},
		{"less than a handshake, and no keepalive", 60, responseSize, time.Second, 60},
	} {
		if got := payloadOf(c.n, c.handshake, c.passed); got != c.want {
			t.Errorf("%s: payload(%d) = %d, want %d", c.name, c.n, got, c.want)
		}
	}
}
