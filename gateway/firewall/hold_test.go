package firewall

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// TestFault16OtherManagersChangeNothing: nobody else changes the table while its owner lives, and nobody
// else becomes its owner.
func TestFault16OtherManagersChangeNothing(t *testing.T) {
	h := lab.New(t).Host("gateway")
	f := newFirewall(t, h, testOptions)
	if err := f.set(openPlan(testPolicy(), time.Now().Add(time.Hour)), nil); err != nil {
		t.Fatal(err)
	}
	before, err := nft(t, h, "--stateless", "list", "ruleset")
	if err != nil {
		t.Fatal(before, err)
	}
	if out, err := nft(t, h, "flush", "ruleset"); err != nil {
		t.Logf("flush ruleset: %v: %s", err, out)
	}
	for _, command := range []string{
		"delete table inet kidoban", "flush table inet kidoban", "flush set inet kidoban flows4",
		"add element inet kidoban sources4_32 { 192.0.2.66 }", "insert rule inet kidoban forward accept",
		"add table inet kidoban { flags dormant; }", "add chain inet kidoban forward { policy accept; }",
	} {
		if out, err := nft(t, h, strings.Fields(command)...); err == nil {
			t.Errorf("%s succeeded: %s", command, out)
		}
	}
	if after, _ := nft(t, h, "--stateless", "list", "ruleset"); after != before {
		t.Errorf("the ruleset changed:\n%s\nbefore:\n%s", after, before)
	}
	err = h.Do(func() error { _, err := newRuleset(testOptions); return err })
	if err == nil || !strings.Contains(err.Error(), "another process owns table inet kidoban") {
		t.Errorf("a second firewall: error %v, want that there is an owner", err)
	}
	if err := f.check(); err != nil {
		t.Error(err)
	}
	select {
	case fact := <-f.outbox.facts:
		t.Errorf("unexpected fact: %v", fact.Err)
	default:
	}
}

// TestFault17OrphanIsAdopted kills a process that holds a firewall. The table stays and ends
// on time; the next process takes over, and starts closed.
func TestFault17OrphanIsAdopted(t *testing.T) {
	h := lab.New(t).Host("gateway")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := h.Command(t.Context(), exe)
	c.Env = append(os.Environ(), childVariable+"=1")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "up\n" {
		t.Fatalf("the child said %q, %v", line, err)
	}
	c.Process.Signal(syscall.SIGKILL)
	c.Wait()
	list, err := nft(t, h, "list", "ruleset")
	if err != nil || !strings.Contains(list, "10.99.0.2 . 10.1.0.5 . tcp . 22 timeout") || !strings.Contains(list, "policy drop") {
		t.Fatalf("after kill -9 the table is not as it was (%v):\n%s", err, list)
	}
	f := newFirewall(t, h, testOptions)
	list, _ = nft(t, h, "list", "ruleset")
	if strings.Contains(list, "elements") || !strings.Contains(list, "policy drop") || !strings.Contains(list, "owner") {
		t.Errorf("the new owner does not start closed:\n%s", list)
	}
	if err := f.set(openPlan(testPolicy(), time.Now().Add(time.Hour)), nil); err != nil {
		t.Error(err)
	}
}

// TestFault20StrangersTableIsReplaced: a table of our name that no owner ever had.
func TestFault20StrangersTableIsReplaced(t *testing.T) {
	h := lab.New(t).Host("gateway")
	if out, err := nft(t, h, "add table inet kidoban; add chain inet kidoban forward { type filter hook forward priority 0; policy accept; }; add rule inet kidoban forward accept"); err != nil {
		t.Fatal(out, err)
	}
	newFirewall(t, h, testOptions)
	list, _ := nft(t, h, "list", "ruleset")
	rules, _ := Ruleset(Options{Interface: "kido0", ListenPort: 51820, LogGroup: defaultLogGroup}, nil, nil, nil, nil, time.Time{})
	if got, want := strings.Join(withoutTime(list), "\n"), rules.String(); got != want {
		t.Errorf("ruleset:\n%s\nwant:\n%s", got, want)
	}
}

// TestDrift changes the kernel's ruleset through the owner's own connection,
// as a fault of ours or the kernel's would, and has Check find and mend it.
func TestDrift(t *testing.T) {
	flow := string(append(append(engineer4.AsSlice(), netip.MustParseAddr("10.1.0.99").AsSlice()...), 6, 0, 0, 0, 0, 22, 0, 0))
	listedFlow := string(append(append(engineer4.AsSlice(), target4.AsSlice()...), 6, 0, 0, 0, 0, 22, 0, 0))
	add := func(key string, left time.Duration) netlink.Message {
		return elements(unix.NFT_MSG_NEWSETELEM, netlink.Create, "flows4", appendElement(nil, key, left))
	}
	destroy := elements(msgDestroyElement, 0, "flows4", appendElement(nil, listedFlow, 0))
	tests := []struct {
		name string
		do   func() []netlink.Message
		want string
	}{
		{"an element that nobody wrote", func() []netlink.Message {
			return []netlink.Message{add(flow, time.Hour)}
		}, "set flows4: 10.99.0.2 . 10.1.0.99 . tcp . 22 was not written"},
		{"an element without an end", func() []netlink.Message {
			return []netlink.Message{destroy, add(listedFlow, 0)}
		}, "set flows4: 10.99.0.2 . 10.1.0.5 . tcp . 22 has no end"},
		{"an end that is later", func() []netlink.Message {
			return []netlink.Message{destroy, add(listedFlow, 2*time.Hour)}
		}, "set flows4: 10.99.0.2 . 10.1.0.5 . tcp . 22 ends 1h"},
		{"an element that is missing", func() []netlink.Message {
			return []netlink.Message{destroy}
		}, "set flows4: 10.99.0.2 . 10.1.0.5 . tcp . 22 is missing"},
		{"a rule that nobody wrote", func() []netlink.Message {
			return []netlink.Message{newRule("forward", rule{accept()})}
		}, "rule 6 of chain forward was not written"},
		{"a rule that differs in one attribute", func() []netlink.Message {
			rules, _ := Ruleset(testOptions, nil, nil, nil, nil, time.Time{})
			forward := rules.find("forward")
			for _, r := range forward.rules {
				for _, e := range r.expressions() {
					if rt, ok := e.(*expr.Rt); ok {
						rt.Key = expr.RtClassid
					}
				}
			}
			return rewrite(forward)
		}, "rule 1 of chain forward (tcp flags syn / syn,rst tcp option maxseg size set rt mtu): attribute 2 is 00000000, not 00000003"},
		{"rules that are gone", func() []netlink.Message {
			return []netlink.Message{clearChain("tunnel")}
		}, "rule 1 of chain tunnel is gone"},
		{"rules that rewrite are gone", func() []netlink.Message {
			return []netlink.Message{clearChain("postrouting")}
		}, "rule 1 of chain postrouting is gone"},
		{"another policy", func() []netlink.Message {
			return []netlink.Message{newChain(&chain{name: "forward", kind: "filter", hook: unix.NF_INET_FORWARD})}
		}, "chain forward: attribute 5 is 00000001, not 00000000"},
		{"another chain", func() []netlink.Message {
			return []netlink.Message{newChain(&chain{name: "backdoor", kind: "filter", hook: unix.NF_INET_FORWARD, priority: -1})}
		}, "chain backdoor was not written"},
		{"a set that forgets ends", func() []netlink.Message {
			return []netlink.Message{ours(unix.NFT_MSG_NEWSET, netlink.Create, text(unix.NFTA_SET_NAME, "x"), be32(unix.NFTA_SET_ID, 1),
				be32(unix.NFTA_SET_FLAGS, 0), be32(unix.NFTA_SET_KEY_TYPE, nftables.TypeIPAddr.GetNFTMagic()), be32(unix.NFTA_SET_KEY_LEN, 4))}
		}, "set x was not written"},
		{"a set without its limit", func() []netlink.Message {
			o := testOptions
			o.LogGroup = defaultLogGroup
			rules, _ := Ruleset(o, openPlan(testPolicy(), time.Now().Add(time.Hour)), nil, nil, nil, time.Now())
			live := *rules.set("live4")
			live.each = term{}
			tunnel, answers := rules.find("tunnel"), rules.find("answers")
			batch := []netlink.Message{clearChain(tunnel.name), clearChain(answers.name), deleteSet(live.name), newSet(&live, 1)}
			return slices.Concat(batch, rewrite(tunnel), rewrite(answers))
		}, "set live4: attribute 17 is missing"},
		{"the table is gone", func() []netlink.Message {
			return []netlink.Message{ours(msgDestroyTable, 0)}
		}, "table inet kidoban is gone"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := lab.New(t).Host("gateway")
			o := testOptions
			o.Masquerade = true // of all rules there are
			f := newFirewall(t, h, o)
			if err := f.set(openPlan(testPolicy(), time.Now().Add(time.Hour)), nil); err != nil {
				t.Fatal(err)
			}
			want, err := nft(t, h, "--stateless", "list", "ruleset")
			if err != nil {
				t.Fatal(want, err)
			}
			f.mu.Lock()
			err = f.link.commit(tt.do()...)
			f.mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := nft(t, h, "list", "ruleset"); got == "" && tt.name != "the table is gone" {
				t.Fatal("nothing is left to be found")
			}
			if err := f.check(); err != nil {
				t.Errorf("Check: %v", err)
			}
			select {
			case fact := <-f.outbox.facts:
				if fact.Kind != policy.Drift || !strings.Contains(fact.Err.Error(), tt.want) {
					t.Errorf("fact %d: %v, want drift: %s", fact.Kind, fact.Err, tt.want)
				}
			default:
				t.Error("no fact")
			}
			got, _ := nft(t, h, "--stateless", "list", "ruleset")
			if strings.Join(withoutTime(got), "\n") != strings.Join(withoutTime(want), "\n") {
				t.Errorf("Check did not mend it:\n%s\nwant:\n%s", got, want)
			}
			if out, _ := nft(t, h, "list", "set", "inet", "kidoban", "flows4"); strings.Count(out, "expires 5") != 5 {
				t.Errorf("not every flow has an end in less than an hour:\n%s", out)
			}
			// Nothing is found a second time.
			if err := f.check(); err != nil {
				t.Errorf("Check again: %v", err)
			}
			select {
			case fact := <-f.outbox.facts:
				t.Errorf("once more: %v", fact.Err)
			default:
			}
		})
	}
}

// TestFault21FlowtableClosesAll: offloading moves packets past every rule, so nothing opens
// on a host that does it.
func TestFault21FlowtableClosesAll(t *testing.T) {
	n := newPlace(t, testOptions)
	p := openPlan(testPolicy(), time.Now().Add(time.Hour))
	n.set(t, p)
	if out, err := nft(t, n.gateway, "add table ip fast; add flowtable ip fast f { hook ingress priority 0; devices = { lan }; }"); err != nil {
		t.Skipf("this kernel makes no flowtables (CONFIG_NF_FLOW_TABLE): %v: %s", err, out)
	}
	const want = "flowtable f of table fast moves packets past all forward rules"
	if err := n.firewall.check(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Check: %v, want %s", err, want)
	}
	if err := n.firewall.set(p, nil); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Set: %v, want %s", err, want)
	}
	if out, _ := nft(t, n.gateway, "list", "table", "inet", "kidoban"); strings.Contains(out, "elements") {
		t.Errorf("there are elements:\n%s", out)
	}
	if out, err := nft(t, n.gateway, "delete table ip fast"); err != nil {
		t.Fatal(out, err)
	}
	n.set(t, p)
	if err := n.firewall.check(); err != nil {
		t.Error(err)
	}
}

// TestFault21FlowtableIsNamed is what remains of TestFault21FlowtableClosesAll where the kernel
// makes none.
func TestFault21FlowtableIsNamed(t *testing.T) {
	err := obstacle([]netlink.Message{message(unix.NFT_MSG_NEWFLOWTABLE, 0, text(inTable, "fast"), text(flowtableName, "f"))})
	const want = "flowtable f of table fast moves packets past all forward rules; allowed are none in this network namespace"
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	if err := obstacle(nil); err != nil {
		t.Errorf("without a flowtable: %v", err)
	}
}

// TestFault11HundredThousandElements elements are all there, and go again.
func TestFault11HundredThousandElements(t *testing.T) {
	h := lab.New(t).Host("gateway")
	f := newFirewall(t, h, testOptions)
	p := testPolicy()
	v := p.Vendors[0]
	target := &policy.Target{Name: "many", Prefix: netip.MustParsePrefix("10.1.0.0/24"), Services: []policy.Service{{Protocol: policy.TCP, First: 1, Last: 4}}}
	p.Targets = []*policy.Target{target}
	v.Engineers = nil
	for i := range 100 {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 10<<24|99<<16|uint32(i+2))
		v.Engineers = append(v.Engineers, &policy.Engineer{Vendor: v, Name: fmt.Sprintf("e%03d", i), Key: policy.Key{byte(i + 1)}, Addresses: []netip.Addr{netip.AddrFrom4(a)}, Sources: v.Sources})
	}
	v.Windows[0].Targets, v.Windows[0].Engineers = p.Targets, v.Engineers
	const all = 100 * 256 * 4
	begin := time.Now()
	if err := f.set(openPlan(p, begin.Add(time.Hour)), nil); err != nil {
		t.Fatal(err)
	}
	opened := time.Since(begin)
	// nft is another reader, through a socket of its own.
	count := func() int {
		out, err := nft(t, h, "list", "set", "inet", "kidoban", "flows4")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(out, "timeout ") != strings.Count(out, "expires ") {
			t.Error("an element has no end")
		}
		return strings.Count(out, "expires ")
	}
	if got := count(); got != all {
		t.Errorf("%d elements, want %d", got, all)
	}
	begin = time.Now()
	if err := f.set(openPlan(p, begin.Add(30*time.Minute)), nil); err != nil {
		t.Fatal(err)
	}
	moved := time.Since(begin)
	if got := count(); got != all {
		t.Errorf("%d elements after their ends moved, want %d", got, all)
	}
	begin = time.Now()
	f.readBack.generation++
	if err := f.check(); err != nil {
		t.Fatal(err)
	}
	checked := time.Since(begin)
	begin = time.Now()
	if err := f.set(nil, nil); err != nil {
		t.Fatal(err)
	}
	t.Logf("opened in %v, moved in %v, checked in %v, closed in %v", opened, moved, checked, time.Since(begin))
	if got := count(); got != 0 {
		t.Errorf("%d elements after all was closed", got)
	}
}

// TestClose leaves nothing behind.
func TestClose(t *testing.T) {
	h := lab.New(t).Host("gateway")
	f := newFirewall(t, h, testOptions)
	if err := f.set(openPlan(testPolicy(), time.Now().Add(time.Hour)), nil); err != nil {
		t.Fatal(err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	if out, err := nft(t, h, "list", "ruleset"); err != nil || out != "" {
		t.Errorf("after Close: %v\n%s", err, out)
	}
	if err := f.set(nil, nil); err == nil {
		t.Error("Set works after Close")
	}
	newFirewall(t, h, testOptions)
}

// TestManyFiles: New needs no low file numbers, as select would.
func TestManyFiles(t *testing.T) {
	h := lab.New(t).Host("gateway")
	for last := uintptr(0); last < unix.FD_SETSIZE; {
		file, err := os.Open(os.DevNull)
		if err != nil {
			t.Skipf("this process may not open %d files: %v", unix.FD_SETSIZE, err)
		}
		defer file.Close()
		last = file.Fd()
	}
	newFirewall(t, h, testOptions)
}

// TestFault13WithoutCapability fails at once and says what is missing.
func TestFault13WithoutCapability(t *testing.T) {
	h := lab.New(t).Host("gateway")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := h.Command(limited(t, 20*time.Second), "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--", exe)
	c.Env = append(os.Environ(), childVariable+"=1")
	out, err := c.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "CAP_NET_ADMIN is missing") {
		t.Errorf("without CAP_NET_ADMIN: %v, %s", err, out)
	}
}
