package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/device"

	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// TestPromise7OneReason: every decision, also on packets that the kernel
// drops, carries one reason, and explain, refusals, journal and metrics show
// the same one.
//
// What the gate sees needs nobody else; what the kernel drops is seen through
// its copies.
func TestPromise7OneReason(t *testing.T) {
	t.Parallel()
	hold(t, oneReason,
		trial{without: []string{copiesLayer}, breaks: []string{"kernel"}},
		trial{without: []string{reasonLayer}, breaks: []string{"gate", "kernel", "other"}},
	)
}

// refusal is what is to be said of a packet, everywhere.
type refusal struct {
	by       string // who sees it first: gate or kernel
	reason   policy.Reason
	engineer string // empty: nobody is proven
	source   netip.Addr
	target   string // of a flow; without a source
	explain  bool   // explain can be asked the same
}

func oneReason(g *ground) {
	g.serve()
	g.write(g.offsetFile(), "0s")
	now := time.Now().Truncate(time.Second)
	work := []string{hour("work", "ehr, ehr6", "sato"), window("evening", now.Add(10*time.Minute), now.Add(time.Hour), "ehr", "suzuki")}
	g.open(work, []string{window("later", now.Add(10*time.Minute), now.Add(time.Hour), "pacs")})
	granted := func() bool { return len(g.status().Grants) == 1 }
	lab.WaitFor(g.t, eventually, "sato's grant is open", granted)
	client := g.client(g.medisys, sato, 4)
	g.mustEnter(client)
	g.check(g.works())

	// Flows that the kernel drops.
	satos := netip.AddrPortFrom(g.people[sato].v4, 47000)
	for _, p := range [][]byte{
		synchronize(satos, netip.AddrPortFrom(ehr4, 8080)),
		lab.UDPPacket(satos, netip.AddrPortFrom(pacs4, 53), []byte("good evening")),
	} {
		g.check(g.medisys.Send(p))
	}
	var said []refusal
	asked := 0
	expect := func(r refusal) { said = append(said, r) }
	settle := func() { // before what is decided changes
		for _, r := range said[asked:] {
			g.says(r)
		}
		asked = len(said)
	}
	expect(refusal{"kernel", policy.UnlistedTarget, sato, medisys4, "10.1.0.5:tcp/8080", true})
	expect(refusal{"kernel", policy.UnlistedTarget, sato, medisys4, "10.1.0.6:udp/53", true})
	settle()                              // both have come out of the tunnel
	if err := client.Down(); err != nil { // it has nothing to say in what follows
		g.t.Fatal(err)
	}
	shoot := g.shooter(42000)
	stranger, _ := lab.NewKey()
	garbage := make([]byte, device.MessageInitiationSize)
	binary.LittleEndian.PutUint32(garbage, device.MessageInitiationType)

	// What the gate sees: the address is listed.
	shoot(medisys4, garbage)
	expect(refusal{"gate", policy.Malformed, "", medisys4, "", false})
	shoot(medisys4, initiation(g.t, stranger, g.publicKey, time.Now(), nil))
	expect(refusal{"gate", policy.UnknownKey, "", medisys4, "", false})
	shoot(medisys4, g.initiation(sato, time.Now().Add(48*time.Hour)))
	expect(refusal{"gate", policy.FutureTimestamp, sato, medisys4, "", false})
	once := g.initiation(sato, time.Now())
	shoot(medisys4, once)
	shoot(medisys4, once)
	expect(refusal{"gate", policy.Replayed, sato, medisys4, "", false})
	shoot(medisys4, g.initiation(tanaka, time.Now()))
	expect(refusal{"gate", policy.WrongSource, tanaka, medisys4, "", true})
	shoot(medisysB4, g.initiation(suzuki, time.Now())) // sato's window lists the address
	expect(refusal{"gate", policy.OutsideWindow, suzuki, medisysB4, "", true})

	// What the kernel drops.
	shoot(outsider4, garbage)
	expect(refusal{"kernel", policy.UnlistedSource, "", outsider4, "", false})
	shoot(outsider4, initiation(g.t, stranger, g.publicKey, time.Now(), nil))
	expect(refusal{"kernel", policy.UnknownKey, "", outsider4, "", false})
	shoot(outsider4, g.initiation(sato, time.Now()))
	expect(refusal{"kernel", policy.WrongSource, sato, outsider4, "", true})
	shoot(outsider6, g.initiation(sato, time.Now()))
	expect(refusal{"kernel", policy.WrongSource, sato, outsider6, "", true})
	shoot(scanco4, g.initiation(tanaka, time.Now())) // ten minutes early
	expect(refusal{"kernel", policy.OutsideWindow, tanaka, scanco4, "", true})
	settle()

	for _, x := range []struct {
		who    string
		reason policy.Reason
	}{{sato, policy.EngineerShut}, {"medisys", policy.VendorShut}, {"--all", policy.GatewayShut}} {
		g.must("close", x.who, "--reason", "phone call")
		shoot(medisys4, g.initiation(sato, time.Now()))
		expect(refusal{"kernel", x.reason, sato, medisys4, "", true})
		// Of two reasons the one that goes before: also from a wrong source.
		shoot(outsider4, g.initiation(sato, time.Now()))
		expect(refusal{"kernel", x.reason, sato, outsider4, "", true})
		settle()
		g.must("reopen", x.who, "--reason", "phone call")
	}
	lab.WaitFor(g.t, eventually, "sato's grant is open again", granted)

	g.write(g.policyFile(), strings.NewReplacer("vendors:\n", "lines:\n  kyushoku: {interface: line0, kind: leased}\nvendors:\n", "  scanco:\n", "  scanco:\n    line: kyushoku\n").
		Replace(g.policyText(work, []string{hour("later", "pacs")})))
	g.must("reload")
	shoot(scanco4, g.initiation(tanaka, time.Now()))
	expect(refusal{"kernel", policy.WrongLine, tanaka, scanco4, "", false})
	settle()
	g.write(g.policyFile(), strings.Replace(g.policyText(work, []string{hour("later", "pacs")}), "  scanco:\n", "  scanco:\n    contract: {until: 2025-03-31}\n", 1))
	g.must("reload")
	shoot(scanco4, g.initiation(tanaka, time.Now()))
	expect(refusal{"kernel", policy.ContractEnded, tanaka, scanco4, "", true})

	// More than an engineer's share at once.
	for range 14 {
		shoot(medisys4, g.initiation(sato, time.Now()))
	}
	expect(refusal{"gate", policy.RateLimited, sato, medisys4, "", false})
	settle()

	g.write(g.offsetFile(), "-20s")
	g.check(g.shutInDoubt("the clock went back"))
	shoot(medisys4, g.initiation(sato, time.Now()))
	expect(refusal{"kernel", policy.NotReady, sato, medisys4, "", true})
	settle()

	// Every reason has been given.
	for _, r := range policy.Reasons() {
		if r != policy.Admitted && !slices.ContainsFunc(said, func(s refusal) bool { return s.reason == r }) {
			g.t.Fatalf("%v was not provoked", r)
		}
	}
	g.admission()
	// And nothing else was said of any of these packets.
	for _, r := range g.refusals() {
		if !slices.ContainsFunc(said, func(s refusal) bool {
			vendor, engineer, _ := strings.Cut(s.engineer, "/")
			return r.Reason == s.reason.String() && r.Vendor == vendor && r.Engineer == engineer && r.Target == s.target && r.Source == s.source
		}) {
			g.breaks("other: nobody has done this: %+v", r)
		}
	}
}

// says waits until refusals, journal and metrics tell of a refusal, and asks
// explain for the same.
func (g *ground) says(r refusal) {
	g.t.Helper()
	vendor, engineer, _ := strings.Cut(r.engineer, "/")
	source := ""
	if r.source.IsValid() {
		source = r.source.String()
	}
	wait := eventually
	if slices.Contains(g.without, reasonLayer) || slices.Contains(g.without, copiesLayer) && r.by == "kernel" {
		wait = time.Second // most of it never comes
	}
	err := lab.Wait(g.within(wait), func() error {
		var missing []error
		all := g.refusals()
		found := false
		for _, x := range all {
			found = found || x.Reason == r.reason.String() && x.Vendor == vendor && x.Engineer == engineer && x.Target == r.target && x.Source == r.source
		}
		if !found {
			missing = append(missing, fmt.Errorf("refusals has %+v", all))
		}
		entries := g.entries(journal.Refused)
		if !slices.ContainsFunc(entries, func(e journal.Entry) bool {
			return e.Reason == r.reason.String() && e.Vendor == vendor && e.Engineer == engineer && e.Target == r.target && e.Source == source && e.Count > 0
		}) {
			missing = append(missing, fmt.Errorf("the journal has %d entries of refusals, none of this", len(entries)))
		}
		if n, err := g.counted(vendor, r.reason); err != nil || n < 1 {
			missing = append(missing, fmt.Errorf("the metrics count %v: %v", n, err))
		}
		return errors.Join(missing...)
	})
	if err != nil {
		g.breaks("%s: %v of %q from %v to %q: %v", r.by, r.reason, r.engineer, r.source, r.target, err)
	}
	if !r.explain {
		return
	}
	question := []string{"explain", r.engineer}
	if r.source.IsValid() {
		question = append(question, "--from", source)
	}
	if r.target != "" {
		question = append(question, "--to", r.target)
	}
	x, err := g.explain(question[1:]...)
	g.check(err)
	if x.Reason != r.reason.String() || x.Decision != "refuse" {
		g.breaks("explain: kidoban %s: %s, %s, want refuse, %v", strings.Join(question, " "), x.Decision, x.Reason, r.reason)
	}
	if _, _, exit := g.operator(question...); exit != exitNo {
		g.breaks("explain: kidoban %s: exit %d, want %d", strings.Join(question, " "), exit, exitNo)
	}
}

// admission holds that who was admitted is told so everywhere as well.
func (g *ground) admission() {
	g.t.Helper()
	g.must("recover", "--reason", "the time server was wrong")
	// What recover may open again waits for the disk.
	g.expect("explain: sato's own work", eventually, func() error {
		if x, err := g.explain(sato, "--from", medisys4.String(), "--to", "10.1.0.5:tcp/22"); err != nil || x.Decision != "admit" || x.Reason != policy.Admitted.String() || x.Grant == "" {
			return fmt.Errorf("%+v, %v", x, err)
		}
		return nil
	})
	if n, err := g.counted("medisys", policy.Admitted); err != nil || n < 1 {
		g.breaks("admitted: the metrics count %v: %v", n, err)
	}
	if all := g.entries(journal.Admission); !slices.ContainsFunc(all, func(e journal.Entry) bool {
		return e.Reason == policy.Admitted.String() && e.Engineer == "sato" && e.Source == medisys4.String() && e.Grant != ""
	}) {
		g.breaks("admitted: the journal has no admission of sato: %+v", all)
	}
}

// counted reads kidoban_admissions_total.
func (g *ground) counted(vendor string, reason policy.Reason) (float64, error) {
	return g.metric(fmt.Sprintf("kidoban_admissions_total{reason=%q,vendor=%q}", reason.String(), vendor))
}

// metric reads a series.
func (g *ground) metric(name string) (float64, error) {
	_, text, err := g.get("/metrics")
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(text, "\n"+name+" ")
	if !ok {
		return 0, fmt.Errorf("the metrics have no %s", name)
	}
	number, _, _ := strings.Cut(rest, "\n")
	return strconv.ParseFloat(number, 64)
}
