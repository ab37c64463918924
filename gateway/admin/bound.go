package admin

import (
	"net"
	"net/http"
	"slices"
	"sync"
)

// connectionsMost is how many connections a server has at a time.
const connectionsMost = 64

// Bound keeps the connections of a server few, so that whoever may connect
// cannot take all file descriptors of the process: the journal needs some,
// and is dead once it got none. It is to be called before Serve.
//
// Where there are too many the oldest is closed. Were the newest refused,
// whoever holds many open would keep everybody else out.
func Bound(s *http.Server) {
	var mu sync.Mutex
	var open []net.Conn // oldest first
	s.ConnState = func(c net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		switch state {
		case http.StateNew: // from Serve itself, before it accepts the next
			if len(open) == connectionsMost {
				open[0].Close()
				open = slices.Delete(open, 0, 1)
			}
			open = append(open, c)
		case http.StateClosed:
			if i := slices.Index(open, c); i >= 0 {
				open = slices.Delete(open, i, i+1)
			}
		}
	}
}
