package e2e

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
	"kidoban/gateway/view"
)

// TestFloodHidesNoTheft: a stolen key is used in the midst of a flood that
// comes from a new address with every packet, slow enough to be seen whole.
// It is listed and recorded by name all the same.
func TestFloodHidesNoTheft(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.open([]string{hour("work", "ehr")}, []string{hour("work", "pacs")})
	junk := make([]byte, 148)
	junk[0] = 1
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(time.Second / 40)
		defer tick.Stop()
		source := [4]byte{198, 18, 1, 0}
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			binary.BigEndian.PutUint16(source[2:], binary.BigEndian.Uint16(source[2:])+1)
			_ = g.outsider.Send(lab.UDPPacket(netip.AddrPortFrom(netip.AddrFrom4(source), 1234), outside4, junk)) // one that is lost is not missed
		}
	}()
	defer func() { close(stop); <-stopped }()
	refused := func() (strangers, stolen int) {
		for _, e := range g.entries(journal.Refused) {
			switch e.Reason {
			case "wrong_source":
				stolen++
			case "summed":
			default:
				strangers++
			}
		}
		return strangers, stolen
	}
	// Twice as many as find a place in the journal in one minute.
	lab.WaitFor(t, 20*time.Second, "the flood is seen", func() bool { return len(g.refusals()) >= 128 })
	if strangers, _ := refused(); strangers == 0 || strangers > 64 {
		t.Fatalf("%d entries about strangers", strangers)
	}
	thief := g.client(g.outsider, sato, 4)
	lab.WaitFor(t, 20*time.Second, "the stolen key is listed by name", func() bool {
		_ = thief.Initiate() // of the copies that the kernel makes one may be lost
		return slices.ContainsFunc(g.refusals(), func(r view.Refusal) bool {
			return r.Reason == "wrong_source" && r.Vendor+"/"+r.Engineer == sato && r.Source == outsider4
		})
	})
	lab.WaitFor(t, eventually, "and recorded, within the same minute", func() bool {
		_, stolen := refused()
		return stolen == 1
	})
}
