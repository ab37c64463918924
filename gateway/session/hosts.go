package session

import (
	"cmp"
	"crypto/rand"
	"net/netip"
	"slices"
	"time"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// host is a host behind a plain line. It has no handshake: its session begins when the kernel has
// counted a flow that a grant lets through.
type host struct {
	engineer *policy.Engineer
	since    time.Time // since when it may begin a session; zero: it may not
	until    time.Time // as in Session
	grants   []string

	// The kernel may tell of flows only after the grants ended. They are a session too.
	ended   Ended // why they ended; empty: they did not, or all is told
	endedAt time.Time
	toldBy  time.Duration // boot time at which all counts as told

	now map[policy.Flow]policy.Use // the last reading
	had map[policy.Flow]policy.Use // traffic that belongs to no later session; nil: there was no reading
}

// hostOf gives the state of a host; nil: this is an engineer, or there is none.
func (t *Table) hostOf(e *policy.Engineer) *host {
	if !e.Plain() {
		return nil
	}
	return t.hosts[e.Addresses[0]]
}

// HasHosts reports whether a policy has, or had until lately, hosts behind plain lines.
func (t *Table) HasHosts() bool { return len(t.hosts) > 0 }

// admitHosts takes note of the hosts that a plan admits, and of those that it no longer does.
func (t *Table) admitHosts(plan *policy.Plan, stopping bool) {
	listed := map[netip.Addr]*policy.Engineer{}
	if plan.Policy != nil && plan.Policy.PlainLines() {
		for _, v := range plan.Policy.Vendors {
			for _, e := range v.Engineers {
				if e.Plain() {
					listed[e.Addresses[0]] = e
				}
			}
		}
	}
	for a := range listed {
		if t.hosts[a] == nil {
			t.hosts[a] = &host{}
		}
	}
	for a, h := range t.hosts {
		var until time.Time
		if e := listed[a]; e != nil {
			if until = t.admits(plan, e, a, e.Line.Interface); !until.IsZero() {
				if h.since.IsZero() || h.ended != "" {
					h.since, h.ended = t.clock.Now, ""
				}
				h.engineer, h.until, h.grants = e, until, t.grants(plan, e, a)
			}
		}
		if until.IsZero() && !h.since.IsZero() && h.ended == "" {
			h.ended = Why(plan, h.engineer, h.grants, h.until, t.clock.Now, stopping)
			h.endedAt, h.toldBy = t.clock.Now, t.clock.Boot+countedWithin
		}
		leaves := slices.ContainsFunc(t.leaving, func(s *Session) bool { return slices.Contains(s.Engineer.Addresses, a) })
		if listed[a] == nil && h.since.IsZero() && !leaves {
			delete(t.hosts, a)
		}
	}
}

// readHosts takes the kernel's counts of the hosts' flows. Traffic while a host may begin no session
// belongs to no later session.
func (t *Table) readHosts() {
	for _, h := range t.hosts {
		h.now = map[policy.Flow]policy.Use{}
	}
	for f, u := range t.counts.Flows {
		if h := t.hosts[f.From]; h != nil {
			h.now[f] = u
		}
	}
	for _, h := range t.hosts {
		if h.since.IsZero() || h.had == nil {
			h.had = h.now
		}
	}
}

// Hosts opens a session for each host that has used what it may use since the last one. Some are over
// already.
func (t *Table) Hosts() (opened []*Session, over []Ending) {
	for _, h := range t.hosts {
		if h.since.IsZero() {
			continue
		}
		s := t.Of(h.engineer)
		if s == nil {
			if s = t.openHost(h); s != nil {
				opened = append(opened, s)
			}
		}
		switch {
		case h.ended == "":
		case s != nil:
			t.over(s)
			over = append(over, Ending{s, h.ended})
			h.stops()
		case !t.counts.Until.Before(h.endedAt) || !t.counts.Counting || t.clock.Boot >= h.toldBy:
			h.stops()
		}
	}
	slices.SortFunc(opened, func(a, b *Session) int {
		return cmp.Or(a.OpenedAt.Compare(b.OpenedAt), a.Source.Addr().Compare(b.Source.Addr()))
	})
	sortEndings(over)
	return opened, over
}

// openHost opens the session of a host; nil: it has used nothing yet.
func (t *Table) openHost(h *host) *Session {
	first, used := h.used()
	if !used {
		return nil
	}
	latest := t.clock.Now
	if h.ended != "" {
		latest = h.endedAt
	}
	if first.IsZero() || first.After(latest) {
		first = latest
	}
	s := &Session{ID: rand.Text()[:16], Engineer: h.engineer, Source: netip.AddrPortFrom(h.engineer.Addresses[0], 0), Ingress: h.engineer.Line.Interface,
		OpenedAt: later(first, h.since), Until: h.until, Grants: h.grants, Last: sumOf(h.had), heard: t.clock.Boot}
	t.begins(s)
	t.open[s.Engineer.String()] = s
	return s
}

// stops takes note that the host may begin no session any more.
func (h *host) stops() { h.since, h.ended = time.Time{}, "" }

// used reports whether the kernel has counted packets that belong to no session yet, and when the first
// new flow began; zero: no flow is new.
func (h *host) used() (first time.Time, used bool) {
	for f, u := range h.now {
		had, known := h.had[f]
		if u.Connections > had.Connections || u.ReceivedPackets > had.ReceivedPackets || u.TransmittedPackets > had.TransmittedPackets {
			used = true
			if !known && (first.IsZero() || u.First.Before(first)) {
				first = u.First
			}
		}
	}
	return first, used
}

// sumOf gives the bytes of flows.
func sumOf(flows map[policy.Flow]policy.Use) (all view.Traffic) {
	for _, u := range flows {
		all.Received += u.ReceivedBytes
		all.Transmitted += u.TransmittedBytes
	}
	return all
}
