package main

import (
	"strings"
	"time"

	"kidoban/gateway"
)

// rewriting is what is known of another program that gives engineers' flows
// another destination. The ruleset refuses these flows, and counts them.
type rewriting struct {
	packets uint64    // so many were refused up to now
	at      time.Time // when that had last grown and was looked into
	hint    string
}

// How long operators hear of flows that were rewritten, and how often it is
// looked up at most who does it.
const (
	rewritingRecent = 10 * time.Minute
	rewritingAgain  = 10 * time.Second
)

// counted takes how many packets were refused since the table was made. Only if
// these are more is it looked up who rewrites.
func (r *rewriting) counted(packets uint64, rewriters func() ([]string, error)) {
	more := packets > r.packets
	if more && time.Since(r.at) < rewritingAgain {
		return // it is no less when that is over
	}
	r.packets = packets
	if !more {
		return
	}
	r.at = time.Now()
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
	r.hint = "another program on this host rewrites where engineers' connections go (DNAT), so they are refused: " +
		"look for the rule with `nft list ruleset | grep dnat` or `iptables-save -t nat`" + where
}

// hints gives the hint as long as it is news.
func (r *rewriting) hints() []gateway.Hint {
	if r.hint == "" || time.Since(r.at) >= rewritingRecent {
		return nil
	}
	return []gateway.Hint{{Text: r.hint}}
}
