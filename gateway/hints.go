package gateway

import "time"

// Sizes of WireGuard's messages in bytes, as Traffic counts them (whitepaper,
// section 5.4), and how often an end sends a keepalive at most (section 6.5).
const (
	initiationSize = 148
	responseSize   = 92
	keepaliveSize  = 32
	keepaliveEvery = 10 * time.Second
)

// A session whose packets nobody answers is told of when this much was asked
// for this long: three attempts at a TCP connection.
const (
	unansweredBytes = 250
	unansweredFor   = 5 * time.Second
)

// carries takes note of what of the bytes since the last reading is more than
// handshakes and keepalives. Sums say nothing: of an upload little comes back,
// and a tunnel at rest sends more than it gets.
func (s *session) carries(received, transmitted uint64, boot time.Duration) {
	passed := boot - s.counted
	s.counted = boot
	if n := payload(received, initiationSize, passed); n > 0 {
		if s.asked == 0 {
			s.askedAt = boot
		}
		s.asked += n
	}
	s.answered += payload(transmitted, responseSize, passed)
}

// payload gives the bytes that are neither handshakes of a size nor
// keepalives. Data takes multiples of 16 bytes, so the rest says how many of
// up to three handshakes are among them. Full packets need not be padded and
// are taken for handshakes in part; they are long.
func payload(n, handshake uint64, passed time.Duration) uint64 {
	keepalives := uint64(2 + passed/keepaliveEvery)
	for range 4 {
		if n%16 == 0 {
			break
		}
		if n < handshake {
			return n
		}
		n -= handshake
		keepalives++ // it is confirmed with one
	}
	if n <= keepalives*keepaliveSize {
		return 0
	}
	return n
}

// unanswered gives the bytes that the engineer sent if nothing comes back.
func (s *session) unanswered(boot time.Duration) uint64 {
	if s.answered == 0 && s.asked >= unansweredBytes && boot-s.askedAt >= unansweredFor {
		return s.asked
	}
	return 0
}
