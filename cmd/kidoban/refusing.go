package main

import (
	"strings"
	"time"

	"kidoban/gateway/view"
)

// refusing is what is known of engineers' flows that the ruleset refuses, and
// counts, because of something else on the host.
type refusing struct {
	lasting bool      // a few refused packets are no news
	packets uint64    // so many were refused up to now
	at      time.Time // when that had last grown and was looked into
	hint    string
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
func (r *refusing) counted(packets uint64, hint func() string) {
	more := packets > r.packets
	if more && time.Since(r.at) < refusingAgain {
		if r.lasting {
			r.packets = packets // all that is no news
		}
		return // it is no less when that is over
	}
	r.packets = packets
	if !more {
		return
	}
	before := r.at
	r.at = time.Now()
	switch {
	case !r.lasting || r.at.Sub(before) < refusingLasts:
		r.hint = hint()
	case r.at.Sub(before) >= refusingRecent:
		r.hint = "" // of long ago
	}
}

// forget ends the news: the reason may have gone.
func (r *refusing) forget() { r.at, r.hint = time.Time{}, "" }

// hints gives the hint as long as it is news.
func (r *refusing) hints() []view.Hint {
	if r.hint == "" || time.Since(r.at) >= refusingRecent {
		return nil
	}
	return []view.Hint{{Message: plain(r.hint)}}
}

// rewritten tells of another program that gives engineers' flows another
// destination, and of the chains that may do so.
func rewritten(rewriters func() ([]string, error)) string {
	where := ""
	switch chains, err := rewriters(); {
	case err != nil || len(chains) == 0: // such as iptables-legacy's, which nobody sees here
	case len(chains) == 1:
		where = ", it may be in " + chains[0]
	default:
		const most = 4
		where = ", it may be in one of: " + strings.Join(chains[:min(len(chains), most)], ", ")
		if len(chains) > most {
			where += ", ..."
		}
	}
	return "another program on this host rewrites where engineers' connections go (DNAT), so they are refused: " +
		"look for the rule with `nft list ruleset | grep dnat` or `iptables-save -t nat`" + where
}

// sidetracked tells of flows by an interface that is no path to their target,
// though there is another that is.
func sidetracked() string {
	return "the host sends packets of engineers' connections, or gets their answers, by an interface that does not count as a way to the target, " +
		"so they are refused: `ip route get TARGET` and `ip route show` say by which it sends; somebody on a wire may have advertised such a route: " +
		"delete it, or, if that interface leads inside as well, name all that do in KIDOBAN_INSIDE_INTERFACES"
}

func plain(text string) view.Message { return view.Say(view.Plain, view.Args{"text": text}) }
