package config

import "testing"

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
