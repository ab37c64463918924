package config

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// Tests of this package whose names begin with TestFault and a number provoke
// the faults of that number in docs/FAULTS.md. The files say what they do
// wrong, and the exact message that names it.

func badPolicies(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		saysWhatIsWrong(t, "testdata/bad/"+name+".yaml")
	}
}

// TestFault35AddressOfTwoEngineers: WireGuard would move an address silently
// from one peer to the other.
func TestFault35AddressOfTwoEngineers(t *testing.T) {
	badPolicies(t, "address-twice", "address-gateway", "address-outside")
}

// TestFault36KeysOfNobody: a key of two engineers tells nobody from anybody,
// the gateway's own is no engineer's, and one of low order is everybody's.
func TestFault36KeysOfNobody(t *testing.T) {
	badPolicies(t, "key-twice", "key-gateway", "key-low-order", "key-low-order-high-bit", "key-not-canonical", "key-zero")
}

// TestFault38MappedSource: an IPv4 address written as IPv6 would be listed
// where it never comes from.
func TestFault38MappedSource(t *testing.T) {
	badPolicies(t, "source-mapped")
}

// TestFault43NameForAnAddress: whoever answers for a name could decide who
// enters, and where to.
func TestFault43NameForAnAddress(t *testing.T) {
	badPolicies(t, "source-name", "target-name")
}

// TestFault51LoosePresharedKeyIsRefused: what others can read is no secret.
func TestFault51LoosePresharedKeyIsRefused(t *testing.T) {
	badPolicies(t, "psk-loose")
}

// TestFault105MasqueradedAndPlain: an address and port in a masqueraded and in a plain
// target is told, with both names; and what is not in both is not.
func TestFault105MasqueradedAndPlain(t *testing.T) {
	for _, c := range []struct {
		name, targets string
		want          string // service, address, the plain target and the masqueraded one
	}{
		{"the same", "a: {address: 10.1.0.5, ports: [tcp/22], masquerade: true}, b: {address: 10.1.0.5, ports: [tcp/22]}", "tcp/22 10.1.0.5 targets.b a"},
		{"ports in ports", "a: {address: 10.1.0.5, ports: [tcp/20-30]}, b: {address: 10.1.0.5, ports: [udp/22, tcp/30-40], masquerade: true}", "tcp/30 10.1.0.5 targets.a b"},
		{"ping", "a: {address: \"fd00::5\", ports: [icmp]}, b: {address: \"fd00::/120\", ports: [tcp/22, icmp], masquerade: true}", "icmp fd00::5 targets.a b"},
		{"a masqueraded host in a plain prefix", "a: {address: 10.1.0.5, ports: [tcp/22], masquerade: true}, b: {address: 10.1.0.0/24, ports: [tcp/22]}", "tcp/22 10.1.0.5 targets.b a"},
		{"others around it", "a: {address: 10.1.0.0/24, ports: [tcp/80], masquerade: true}, b: {address: 10.1.0.0/28, ports: [tcp/22]}, c: {address: 10.1.0.5, ports: [tcp/80]}", "tcp/80 10.1.0.5 targets.c a"},
		{"other ports", "a: {address: 10.1.0.5, ports: [tcp/22], masquerade: true}, b: {address: 10.1.0.5, ports: [tcp/23, udp/22, icmp]}", ""},
		{"other addresses", "a: {address: 10.1.0.5, ports: [tcp/22], masquerade: true}, b: {address: 10.1.0.6, ports: [tcp/22]}", ""},
		{"two masqueraded", "a: {address: 10.1.0.5, ports: [tcp/22], masquerade: true}, b: {address: 10.1.0.0/24, ports: [tcp/22], masquerade: true}", ""},
	} {
		text := "version: 1\nsite: s\ntimezone: UTC\ntunnel: {addresses: [10.99.0.1/24], endpoint: a.example:1}\ntargets: {" + c.targets + "}\nvendors: {}\n"
		_, warnings, _ := ParsePolicy("policy.yaml", []byte(text), "", Host{}, testNow)
		got := ""
		for _, w := range warnings {
			if w.Code == "policy_masquerade_mixed" {
				got += fmt.Sprint(w.Args["service"], " ", w.Args["address"], " ", w.Args["where"], " ", w.Args["other"])
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestFault106OnceIsToldForWeeks: a window that opened once is told of for four weeks
// after its end, and not for ever.
func TestFault106OnceIsToldForWeeks(t *testing.T) {
	text, err := os.ReadFile("testdata/warn/once-over.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := parseTest(t, "policy.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	var end time.Time
	for _, w := range p.Vendors[0].Windows {
		if once, ok := w.Schedule.(*policy.Once); ok {
			end = instant(once.Until, p.Zone)
		}
	}
	for after, want := range map[time.Duration]bool{-time.Second: false, time.Second: true, onceTold: true, onceTold + time.Second: false} {
		_, warnings, _ := ParsePolicy("policy.yaml", text, pskDir(t), testHost, end.Add(after))
		told := slices.ContainsFunc(warnings, func(w view.Message) bool { return w.Code == "policy_once_over" })
		if told != want {
			t.Errorf("%s after the end: told of %t, want %t", after, told, want)
		}
	}
}
