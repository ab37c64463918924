package probe

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// within returns a context that ends after a time.
func within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

// tries is how often a trial is repeated while nothing is seen of it: a packet may be lost.
const tries = 3

// silent knocks with a private key from an address of a caller's host. It expects that no packet comes back, and that the
// gate refuses with the reason that the plan gives.
func (t *trials) silent(what Trial, x *caller, private, public lab.Key, from netip.Addr) {
	c := t.knocked(what, from, Silence)
	wanted := t.plan.Decide(policy.Query{Key: public, Proven: true, Source: from, Ingress: t.ingress(x)}, time.Now()).Reason
	for range tries {
		if c.Seen != Unheard {
			break
		}
		k, err := t.knock(x, private, from)
		if err != nil {
			c.Reason = err.Error()
			break
		}
		refusal, heard := t.gate.refused(func(f policy.Fact) bool { return f.Source == k.from })
		something, _ := k.answered(patience)
		k.close()
		if heard {
			c.Reason = refusal.Decision.Reason.String()
		}
		switch {
		case something:
			c.Seen = Answer
		case heard && refusal.Decision.Reason == wanted:
			c.Seen = Silence
		case heard:
			c.Seen = Mistaken
		}
	}
	t.add(x, c)
}

// knocked is a check of an initiation.
func (t *trials) knocked(what Trial, from netip.Addr, expected Sight) Check {
	return Check{Trial: what, From: from.String(), To: t.door(from).String(), Expected: expected, Seen: Unheard}
}

// door is the gateway's address of WireGuard in the family of a source.
func (t *trials) door(from netip.Addr) netip.AddrPort {
	return netip.AddrPortFrom(t.outside[family(from)], t.config.ListenPort)
}

// knock sends a new initiation from an address of a caller's host.
func (t *trials) knock(x *caller, private lab.Key, from netip.Addr) (*knocking, error) {
	h, err := lab.Initiate(private, t.gate.public, time.Now(), nil)
	if err != nil {
		return nil, err
	}
	return knock(x.host, from, t.door(from), h.Initiation)
}

// wrongHour knocks with the right key from the right address.
func (t *trials) wrongHour(x *caller) {
	for _, from := range x.sources {
		if from.IsValid() && !x.Plain() {
			t.silent(WrongHour, x, x.private, lab.Key(x.Key), from)
		}
	}
}

// wrongHourPlain is wrongHour for hosts behind plain lines, which do not knock: they try a service of a shut window.
func (t *trials) wrongHourPlain(all []*caller) {
	var flows []*attempt
	for _, x := range all {
		windows := slices.DeleteFunc(slices.Clone(x.Vendor.Windows), func(w *policy.Window) bool { return !slices.Contains(w.Engineers, x.Engineer) })
		for i, own := range x.sources {
			if s, ok := serviceIn(windows, i == 1); ok && own.IsValid() && x.Plain() {
				t.serve(s)
				flows = append(flows, t.outward(WrongHour, x, own, s))
			}
		}
	}
	t.attempt(flows)
}

// strangers knocks with the right key from an unlisted address, and with another key from the right address.
func (t *trials) strangers(x *caller) {
	if x.Plain() {
		return
	}
	private, public := t.foreign(x)
	for i, from := range x.sources {
		if !from.IsValid() {
			continue
		}
		t.silent(Outsider, x, x.private, lab.Key(x.Key), x.outsider[i])
		t.silent(ForeignKey, x, private, public, from)
	}
}

// foreign returns the key of another vendor's engineer whom the plan does not admit from the caller's addresses. If there
// is none, it returns a new key.
func (t *trials) foreign(x *caller) (private, public lab.Key) {
	for i := range t.callers {
		other := t.callers[(i+x.place+1)%len(t.callers)]
		if other.Vendor == x.Vendor || other.Plain() {
			continue
		}
		admits := false
		for _, from := range x.sources {
			q := policy.Query{Key: other.Key, Proven: true, Source: from, Ingress: t.ingress(x)}
			admits = admits || from.IsValid() && t.plan.Decide(q, time.Now()).Reason == policy.Admitted
		}
		if !admits {
			return other.private, lab.Key(other.Key)
		}
	}
	return lab.NewKey()
}

// apart is the time between two initiations with one key: the gate takes none within 20 ms of the one before.
const apart = 50 * time.Millisecond

// enter knocks as the policy allows it, from each source.
func (t *trials) enter(x *caller) {
	for _, from := range x.sources {
		if !from.IsValid() || x.Plain() {
			continue
		}
		c := t.knocked(Enters, from, Entry)
		for range tries {
			k, err := t.knock(x, x.private, from)
			if err != nil {
				c.Reason = err.Error()
				break
			}
			_, response := k.answered(eventually / tries)
			k.close()
			if response {
				c.Seen = Entry
				break
			}
			if refusal, heard := t.gate.refused(func(f policy.Fact) bool { return f.Source == k.from }); heard {
				c.Reason = refusal.Decision.Reason.String()
				break
			}
		}
		t.add(x, c)
		time.Sleep(apart)
	}
}
