package firewall

import (
	"time"

	"kidoban/gateway/view"
)

// refusing watches one counter of refused flows, and keeps the hint on their
// cause.
type refusing struct {
	lasting bool      // a few refused packets are no news
	packets uint64    // so many were refused up to now
	at      time.Time // when that had last grown and was looked into
	hint    view.Message
}

// How long operators hear of refused flows, how often it is looked up at most
// why they are, and how soon more has to be refused for it to last.
const (
	refusingRecent = 10 * time.Minute
	refusingAgain  = 10 * time.Second
	refusingLasts  = time.Minute
)

// counted takes how many packets were refused since the table was made. Only if
// these are more is it looked up why.
func (r *refusing) counted(packets uint64, hint func() view.Message) {
	if packets <= r.packets {
		r.packets = packets
		return
	}
	ago := time.Since(r.at)
	if ago < refusingAgain {
		if r.lasting {
			r.packets = packets // all that is no news
		}
		return // it is no less when that is over
	}
	r.packets, r.at = packets, time.Now()
	switch {
	case !r.lasting || ago < refusingLasts:
		r.hint = hint()
	case ago >= refusingRecent:
		r.hint = view.Message{} // of long ago
	}
}

// forget ends the news: the reason may have gone.
func (r *refusing) forget() { r.at, r.hint = time.Time{}, view.Message{} }

// hints gives the hint as long as it is news.
func (r *refusing) hints() []view.Hint {
	if r.hint.Empty() || time.Since(r.at) >= refusingRecent {
		return nil
	}
	return []view.Hint{{Message: r.hint}}
}

// rewritten tells of another program that gives engineers' flows another
// destination, and of the chains that may do so.
func rewritten(rewriters func() ([]string, error)) view.Message {
	chains, err := rewriters()
	if err != nil || len(chains) == 0 { // iptables-legacy's rules are not listed
		return view.Say("rewritten", nil)
	}
	return view.Say("rewritten_by", view.Args{"chains": view.Few(chains, 4)})
}
