package gateway

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// oneTime is onRequest in which the window of acme/brown opens ehr, and a request may have a source
// of its own.
func oneTime() *policy.Policy {
	p := onRequest()
	p.Vendor("acme").OnRequest.OneTimeSource = prefixes("198.51.100.0/24")
	return p
}

// fromOneTimeSource asks for pacs from 198.51.100.7 alone.
func fromOneTimeSource(a *policy.Ask) {
	a.Source, a.Targets = "198.51.100.7", []string{"pacs"}
}

// flows lists the targets that the kernel opens to engineers now.
func (w *world) flows() []string {
	p, all := w.ruleset(), []string{}
	for _, g := range p.Grants {
		for _, t := range g.Window.Targets {
			if g.Contains(w.wall()) {
				all = append(all, g.Engineer.String()+" "+t.Name)
			}
		}
	}
	slices.Sort(all)
	return all
}

// TestFlowsFollowTheSource: the kernel knows an engineer by the tunnel address, and grants may
// differ in their sources. It opens only the targets of those that list the session's source.
func TestFlowsFollowTheSource(t *testing.T) {
	simulate(t, oneTime(), func(t *testing.T, w *world) {
		w.at("01:00:00")
		w.start()
		r := w.request("tanaka", "~7k2m9x", fromOneTimeSource)
		w.gives("suzuki", approve(r))
		same(t, "open", len(w.open()), 2)
		same(t, "without a session", strings.Join(w.flows(), ", "), "")
		same(t, "sources", len(w.ruleset().Grants), 2) // so that handshakes reach the gate
		w.enter("acme/brown", address)
		same(t, "from the vendor", strings.Join(w.flows(), ", "), "acme/brown ehr")
		w.enter("acme/brown", "198.51.100.7:1000")
		same(t, "from the one-time source", strings.Join(w.flows(), ", "), "acme/brown pacs")
		same(t, "sessions", strings.Join(w.sessions(), ", "), "acme/brown from 198.51.100.7")
		w.enter("acme/brown", address)
		same(t, "back again", strings.Join(w.flows(), ", "), "acme/brown ehr")
		w.gives("", policy.Shut{Scope: r.Scope(), Reason: "a test"})
		same(t, "revoked", strings.Join(w.flows(), ", "), "acme/brown ehr")
		same(t, "guard off: the whole plan", len(w.plan().Within(func(*policy.Engineer) netip.Addr { return netip.Addr{} }).Grants), 1)
		for _, from := range []string{"198.51.100.7:1000", "198.51.100.8:1000"} {
			same(t, "revoked, from "+from, w.knock("acme/brown", from), 0)
		}
	})
}

// TestTheKernelIsSlowWhenASessionMoves: an engineer who comes from the one-time source is out until
// the kernel has taken the window's targets away.
func TestTheKernelIsSlowWhenASessionMoves(t *testing.T) {
	simulate(t, oneTime(), func(t *testing.T, w *world) {
		w.at("01:00:00")
		w.start()
		w.gives("suzuki", approve(w.request("tanaka", "~7k2m9x", fromOneTimeSource)))
		w.enter("acme/brown", address)
		hang := make(chan struct{})
		w.do(func() { w.firewall.set = fault{hang: hang} })
		w.enter("acme/brown", "198.51.100.7:1000")
		time.Sleep(time.Second)
		same(t, "the kernel still has", strings.Join(w.flows(), ", "), "acme/brown ehr")
		same(t, "open meanwhile", len(w.open()), 0)
		same(t, "inside meanwhile", len(w.sessions()), 0)
		w.do(func() { w.firewall.set = fault{} })
		close(hang)
		time.Sleep(time.Second)
		same(t, "open then", len(w.open()), 2)
		w.enter("acme/brown", "198.51.100.7:1000")
		same(t, "then", strings.Join(w.flows(), ", "), "acme/brown pacs")
	})
}

// TestARequestOfAnotherSourceCutsNobody: while the opening of a request goes to the disk, the
// engineer's session by a window goes on.
func TestARequestOfAnotherSourceCutsNobody(t *testing.T) {
	simulate(t, oneTime(), func(t *testing.T, w *world) {
		w.at("01:00:00")
		w.start()
		w.enter("acme/brown", address)
		r := w.request("tanaka", "~7k2m9x", fromOneTimeSource)
		w.do(func() { w.append = fault{slow: 3 * time.Second} })
		w.gives("suzuki", approve(r))
		time.Sleep(5 * time.Second)
		same(t, "inside meanwhile", len(w.sessions()), 1)
		time.Sleep(time.Minute)
		same(t, "open", len(w.open()), 2)
		same(t, "ends of sessions", len(w.told(journal.SessionClosed)), 0)
	})
}
