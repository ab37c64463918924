package firewall

import (
	"net/netip"
	"testing"
	"time"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"

	"golang.org/x/sys/unix"
)

// TestFault69DriftBehindAScan: while nobody reads, an engineer asks for more
// than there is room for, and the kernel's ruleset drifts again and again.
// Each drift is told, and each refusal counted as its engineer's.
func TestFault69DriftBehindAScan(t *testing.T) {
	h := lab.New(t).Host("gateway")
	f := newFirewall(t, h, testOptions)
	p := bothEngineers()
	if err := f.set(openPlan(p, time.Now().Add(time.Hour)), nil); err != nil {
		t.Fatal(err)
	}
	const asked, rare, drifts = 2 * factsWaiting, 3, factsWaiting/2 + 2
	scan := func() {
		for i := range asked {
			f.refused(engineer4, netip.AddrPortFrom(target4, uint16(10_000+i)), policy.TCP, policy.Admitted, "")
		}
	}
	scan()
	for range drifts {
		meddle(t, f, ours(unix.NFT_MSG_DELSETELEM, 0, text(unix.NFTA_SET_ELEM_LIST_SET, "flows4")))
		f.mu.Lock()
		err := f.sweep()
		f.mu.Unlock()
		if err == nil {
			err = f.check() // mends it
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range rare {
		f.refused(colleague4, netip.AddrPortFrom(target4, uint16(10_000+i)), policy.UDP, policy.Admitted, "")
	}

	told, refused := 0, map[string]int{}
	heard := func() {
		for {
			select {
			case fact := <-f.outbox.facts:
				switch fact.Kind {
				case policy.Drift:
					told++
				case policy.Refusal:
					refused[fact.Engineer.Name] += fact.Count
				}
			default:
				return
			}
		}
	}
	heard()
	if told >= drifts {
		t.Fatalf("there was room for all of %d drifts: that proves little", drifts)
	}
	f.refused(engineer4, netip.AddrPortFrom(target4, 1), policy.TCP, policy.Admitted, "")
	heard()
	if refused["sato"] != asked+1 {
		t.Errorf("%d refusals of sato when the next one is told, want %d", refused["sato"], asked+1)
	}
	// What has no next one is told all the same.
	scan()
	heard()
	if err := f.check(); err != nil {
		t.Error(err)
	}
	heard()
	if told != drifts || refused["sato"] != 2*asked+1 || refused["suzuki"] != rare {
		t.Errorf("told were %d drifts, %d refusals of sato and %d of suzuki; want %d, %d and %d", told, refused["sato"], refused["suzuki"], drifts, 2*asked+1, rare)
	}
}
