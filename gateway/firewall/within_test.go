package firewall

import (
	"net/netip"
	"testing"
	"time"

	"kidoban/gateway/policy"
)

// TestFlowsWithinTheSource: a window lists the vendor's sources, and a request another one. Whoever is
// inside from one of them reaches the targets of that grant alone, also on a stream that is held.
// The whole plan, without that, opens all.
func TestFlowsWithinTheSource(t *testing.T) {
	n := newPlace(t, testOptions)
	n.target.Echo("tcp", "10.1.0.5:5901")
	n.target.Echo("tcp", "[fd00:1::5]:22")
	p := testPolicy()
	plan := openPlan(p, time.Now().Add(time.Hour)).Replace(func(to, grants []*policy.Grant) []*policy.Grant {
		window, request := *grants[0], *grants[0]
		w, r, e := *window.Window, *window.Window, *window.Engineer
		w.Targets, r.Targets, r.Name = p.Targets[:1], p.Targets[1:], "~7k2m9x"
		e.Sources = []netip.Prefix{netip.MustParsePrefix("192.0.2.66/32")}
		window.Window, request.Window, request.Engineer = &w, &r, &e
		return append(to, &window, &request)
	})
	vendor, oneTime := netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("192.0.2.66")
	from := func(source netip.Addr) *policy.Plan {
		return plan.Within(func(*policy.Engineer) netip.Addr { return source })
	}
	n.set(t, from(netip.Addr{}))
	stays(t, "without a session", n.engineer, "tcp", "10.1.0.5:5901")
	stays(t, "without a session", n.engineer, "tcp", "[fd00:1::5]:22")
	n.set(t, from(vendor))
	passes(t, "from the vendor", n.engineer, "tcp", "10.1.0.5:5901")
	stays(t, "from the vendor", n.engineer, "tcp", "[fd00:1::5]:22")
	held, target := n.stream(t)
	n.set(t, from(oneTime))
	stays(t, "from the one-time source", n.engineer, "tcp", "10.1.0.5:5901")
	passes(t, "from the one-time source", n.engineer, "tcp", "[fd00:1::5]:22")
	if _, err := held.Write([]byte("x")); err == nil {
		if err := target.SetReadDeadline(time.Now().Add(attempt)); err != nil {
			t.Fatal(err)
		}
		if got, err := target.Read(make([]byte, 1)); err == nil {
			t.Errorf("%d bytes pass on a held stream to the window's target", got)
		}
	}
	n.set(t, plan)
	passes(t, "guard off", n.engineer, "tcp", "10.1.0.5:5901")
	passes(t, "guard off", n.engineer, "tcp", "[fd00:1::5]:22")
}
