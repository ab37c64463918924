package session

import "time"

// Sizes of WireGuard's messages in bytes, as Traffic counts them (whitepaper,
// section 5.4), and how often an end sends a keepalive at most (section 6.5).
const (
	initiationSize = 148
	responseSize   = 92
	keepaliveSize  = 32
	keepaliveEvery = 10 * time.Second
)

// A session is unanswered when it has sent this much for this long: three
// attempts at a TCP connection.
const (
	unansweredBytes = 250
	unansweredFor   = 5 * time.Second
)

// payload counts the bytes of a session that are neither handshakes nor
// keepalives. Plain sums would not do: little comes back of an upload, and a
// tunnel at rest sends more than it gets.
type payload struct {
	asked, answered uint64        // bytes from and to the engineer
	askedAt         time.Duration // boot time of the first byte from the engineer
	counted         time.Duration // boot time of the last count
}

func (p *payload) add(received, transmitted uint64, boot time.Duration) {
	passed := boot - p.counted
	p.counted = boot
	if n := payloadOf(received, initiationSize, passed); n > 0 {
		if p.asked == 0 {
			p.askedAt = boot
		}
		p.asked += n
	}
	p.answered += payloadOf(transmitted, responseSize, passed)
}

// payloadOf returns n bytes without the handshakes, which have a size; 0: the rest
// may be keepalives. Data messages take multiples of 16 bytes, and handshakes do
// not, so n modulo 16 shows up to three handshakes. A full data message need not
// be a multiple; a little of it then counts as handshakes.
func payloadOf(n, handshake uint64, passed time.Duration) uint64 {
	keepalives := uint64(2 + passed/keepaliveEvery)
	for range 4 {
		if n%16 == 0 {
			break
		}
		if n < handshake {
			return n
		}
		n -= handshake
		keepalives++ // the handshake is confirmed with one
	}
	if n <= keepalives*keepaliveSize {
		return 0
	}
	return n
}

// Unanswered returns how many bytes the engineer sent if nothing comes back; 0:
// something does, it is too early to tell, or this is a host, which has no tunnel to
// which a target may lack a route.
func (t *Table) Unanswered(s *Session) uint64 {
	if p := s.payload; p.answered == 0 && p.asked >= unansweredBytes && t.clock.Boot-p.askedAt >= unansweredFor {
		return p.asked
	}
	return 0
}
