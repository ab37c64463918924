package gateway

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// TestTheGreatestRequestsFit: the entry of a request with as many and as long names as are allowed
// fits into the journal, and so does all that is said about it.
func TestTheGreatestRequestsFit(t *testing.T) {
	long := func(i int) string { return fmt.Sprintf("%03d-%s", i, strings.Repeat("x", 59)) }
	for name, character := range map[string]string{"quotes": `"`, "backslashes": `\\`, "angles": "<", "four bytes": "𠮷", "plain": "a"} {
		t.Run(name, func(t *testing.T) {
			text := func(bytes int) string { return strings.Repeat(character, bytes/len(character)) }
			p := onRequest()
			p.Site = strings.Repeat(character, 200)
			acme := p.Vendor("acme")
			acme.Name, acme.DisplayName = long(0), text(800)
			for i := range 60 {
				e := &policy.Engineer{Vendor: acme, Name: long(i), Key: policy.Key{9, byte(i)}, Sources: acme.Sources, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 99, 1, byte(i)})}}
				acme.Engineers = append(acme.Engineers, e)
			}
			p.Targets = nil
			for i := range 510 {
				p.Targets = append(p.Targets, &policy.Target{Name: long(i), Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}), 32),
					Services: []policy.Service{{Protocol: policy.TCP, First: 22, Last: 22}, {Protocol: policy.TCP, First: 5900, Last: 5910}}})
			}
			acme.OnRequest.Targets, acme.OnRequest.Engineers = p.Targets, acme.Engineers
			simulate(t, p, func(t *testing.T, w *world) {
				w.at("12:00:00")
				w.start()
				ask := func(engineers, targets int) policy.Ask {
					a := policy.Ask{Vendor: acme.Name, For: time.Hour, From: w.wall(), Purpose: text(policy.PurposeMost), Ticket: text(policy.TicketMost)}
					for _, e := range acme.Engineers[1 : 1+engineers] {
						a.Engineers = append(a.Engineers, e.Name)
					}
					for _, x := range p.Targets[:targets] {
						a.Targets = append(a.Targets, x.Name)
					}
					return a
				}
				for _, much := range []policy.Ask{ask(51, 1), ask(1, 501), ask(50, 500)} {
					if _, err := p.Resolve(much, "~7k2m9x", w.wall()); err == nil {
						t.Errorf("%d engineers and %d targets are allowed", len(much.Engineers), len(much.Targets))
					}
				}
				n := 500
				terms, err := p.Resolve(ask(50, n), "~7k2m9x", w.wall())
				for ; err != nil && n > 0; n-- {
					terms, err = p.Resolve(ask(50, n), "~7k2m9x", w.wall())
				}
				if n < 200 {
					t.Fatalf("only %d targets with 50 engineers: %v", n, err)
				}
				hash := strings.Repeat("f", 64)
				w.gives("tanaka", policy.Requested{Terms: terms, Idempotency: hash, Body: hash})
				r := w.gateway.Snapshot().Base.Request(terms.ID)
				w.gives("suzuki", approve(r))
				until := r.Until.Add(time.Hour)
				w.gives("tanaka", policy.Verdict{Verb: policy.AskExtension, ID: r.ID, Until: until, Reason: text(ReasonMax)})
				w.gives("suzuki", policy.Verdict{Verb: policy.Report, ID: r.ID, Reason: text(4000), Files: text(4000), Result: text(4000)})
				w.gives("", policy.Shut{Scope: r.Scope(), Reason: text(ReasonMax)})
				w.do(func() { same(t, "entries that the journal refused", w.tooLong, nil) })
				longest := map[journal.Kind]int{}
				for _, e := range w.durable() {
					longest[e.Kind] = max(longest[e.Kind], lengthOf(e))
				}
				t.Logf("%d targets; the longest of each kind: %v", n, longest)
				if longest[journal.Requested] < 40<<10 || longest[journal.Reported] < 12000 || longest[journal.WindowOpened] == 0 {
					t.Error("these are not the greatest")
				}
			})
		})
	}
}
