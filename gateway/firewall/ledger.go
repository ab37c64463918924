package firewall

import (
	"net/netip"
	"time"

	"kidoban/gateway/policy"
)

// mostRows bounds the rows of one tunnel address. What goes beyond is in a row without a destination.
const mostRows = 512

// ledger adds up what conntrack tells of flows. Each flow counts once, however often it is seen: of
// a flow that is known, only what it has more than before is added.
type ledger struct {
	live map[string]*liveFlow // by ctCount.id: flows that conntrack still holds
	rows map[netip.Addr]map[policy.Flow]*row
	walk uint64    // the number of full readings
	lost time.Time // when something may last have been lost; zero: nothing was
}

// row is the sum of the flows of one kind.
type row struct {
	policy.Use
	live int // how many of its flows are in ledger.live
}

type liveFlow struct {
	has  ctCount // as it was seen last
	row  *row    // nil: an earlier process let it in
	walk uint64  // the last full reading that had it
}

// ctCount has conntrack's counters of one flow.
type ctCount struct {
	id                    string // of this flow alone, among all that there were
	flow                  policy.Flow
	received, transmitted packetCount
	uncounted             bool      // it began while conntrack did not count
	began                 time.Time // zero: conntrack does not say
}

type packetCount struct{ packets, bytes uint64 }

func newLedger() ledger {
	return ledger{live: map[string]*liveFlow{}, rows: map[netip.Addr]map[policy.Flow]*row{}}
}

// sees takes a flow as it is now.
func (l *ledger) sees(c ctCount, now time.Time) *liveFlow {
	f := l.live[c.id]
	if f == nil {
		f = &liveFlow{row: l.row(c.flow)}
		f.row.live++
		f.row.Connections++
		if c.began.IsZero() {
			c.began = now
		}
		if f.row.First.IsZero() || c.began.Before(f.row.First) {
			f.row.First = c.began
		}
		f.row.Last = later(f.row.Last, c.began)
		l.live[c.id] = f
	}
	f.walk = l.walk
	if f.row != nil {
		l.add(f.row, f.has, c, now)
	}
	f.has = c
	return f
}

// add adds to a row what a flow carried since it was seen last.
func (l *ledger) add(r *row, had, has ctCount, now time.Time) {
	received, lost1 := has.received.since(had.received)
	transmitted, lost2 := has.transmitted.since(had.transmitted)
	if has.uncounted || lost1 || lost2 {
		l.lost = now
	}
	if received.packets+transmitted.packets > 0 {
		r.Last = later(r.Last, now)
	}
	r.ReceivedPackets += received.packets
	r.ReceivedBytes += received.bytes
	r.TransmittedPackets += transmitted.packets
	r.TransmittedBytes += transmitted.bytes
}

// since gives what came since an earlier count. Another program may have set the counters to zero
// in between (conntrack -L -z): then something is lost.
func (c packetCount) since(had packetCount) (more packetCount, lost bool) {
	if c.packets < had.packets || c.bytes < had.bytes {
		return c, true
	}
	return packetCount{c.packets - had.packets, c.bytes - had.bytes}, false
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// ended takes a flow that conntrack lets go.
func (l *ledger) ended(c ctCount, now time.Time) {
	l.sees(c, now)
	l.drop(c.id)
}

func (l *ledger) drop(id string) {
	if r := l.live[id].row; r != nil {
		r.live--
	}
	delete(l.live, id)
}

// walked takes a full reading. A flow that two readings lack ended unheard. After one its end
// may still be on the way.
func (l *ledger) walked(all []ctCount, now time.Time) {
	l.walk++
	for _, c := range all {
		l.sees(c, now)
	}
	for id, f := range l.live {
		if f.walk+1 < l.walk {
			if f.row != nil {
				l.lost = now
			}
			l.drop(id)
		}
	}
}

// row gives the row of a flow.
func (l *ledger) row(f policy.Flow) *row {
	rows := l.rows[f.From]
	if rows == nil {
		rows = map[policy.Flow]*row{}
		l.rows[f.From] = rows
	}
	if rows[f] == nil && len(rows) >= mostRows {
		f = policy.Flow{From: f.From}
	}
	if rows[f] == nil {
		rows[f] = &row{}
	}
	return rows[f]
}

// forget drops the rows of an address. Those of live flows count from now on.
func (l *ledger) forget(a netip.Addr) {
	for flow, r := range l.rows[a] {
		r.Use = policy.Use{First: r.First, Last: r.Last}
		if r.live == 0 {
			delete(l.rows[a], flow)
		}
	}
	if len(l.rows[a]) == 0 {
		delete(l.rows, a)
	}
}
