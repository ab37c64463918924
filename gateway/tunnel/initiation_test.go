package tunnel

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tai64n"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

func aeadSeal(t testing.TB, key [32]byte, plain, additional []byte) []byte {
	t.Helper()
	aead, err := chacha20poly1305.New(key[:])
	if err != nil {
		t.Fatal(err)
	}
	return aead.Seal(nil, device.ZeroNonce[:], plain, additional)
}

func stampAt(at time.Time) (stamp [12]byte) {
	binary.BigEndian.PutUint64(stamp[:], tai64nBase+uint64(at.Unix()))
	binary.BigEndian.PutUint32(stamp[8:], uint32(at.Nanosecond()))
	return stamp
}

func TestOpenReadsWhoAndWhen(t *testing.T) {
	gatewayPrivate, gatewayPublic := lab.NewKey()
	private, public := lab.NewKey()
	_, victim := lab.NewKey()
	o, err := newOpener(gatewayPrivate)
	if err != nil {
		t.Fatal(err)
	}
	if o.public != gatewayPublic {
		t.Fatalf("the opener's public key is %x, want %x", o.public, gatewayPublic)
	}
	want := stampAt(time.Unix(1764000000, 5))
	honest := initiate(t, private, gatewayPublic, want, nil)
	c, ok := o.open((*packetInitiation)(honest))
	if !ok || c.key != policy.Key(public) {
		t.Fatalf("open gives %v, %v, want key %v", c.key, ok, policy.Key(public))
	}
	secret, err := o.shared(public)
	if err != nil {
		t.Fatal(err)
	}
	if stamp, proven := c.timestamp((*packetInitiation)(honest), secret); !proven || stamp != want {
		t.Errorf("timestamp %x, proven %v, want %x, true", stamp, proven, want)
	}
	for at := ephemeralAt; at < mac1At; at++ {
		changed := packetInitiation(honest)
		changed[at] ^= 0x04 // not the highest bit of the ephemeral key, which X25519 ignores
		c, ok := o.open(&changed)
		if !ok {
			continue
		}
		if _, proven := c.timestamp(&changed, secret); proven {
			t.Errorf("with byte %d changed the initiation still proves its key", at)
		}
	}

	forged := initiate(t, private, gatewayPublic, want, &victim)
	c, ok = o.open((*packetInitiation)(forged))
	if !ok || c.key != policy.Key(victim) {
		t.Fatalf("a forged static key reads %v, %v, want %v", c.key, ok, policy.Key(victim))
	}
	if secret, err = o.shared(victim); err != nil {
		t.Fatal(err)
	}
	if _, proven := c.timestamp((*packetInitiation)(forged), secret); proven {
		t.Error("a forged static key is proven")
	}
}

func TestStampTimeAgreesWithWireGuard(t *testing.T) {
	before := time.Now()
	got := stampTime(tai64n.Now())
	// WireGuard blurs the lowest 24 bits of the nanoseconds.
	if got.Before(before.Add(-17*time.Millisecond)) || got.After(time.Now()) {
		t.Errorf("WireGuard's stamp of %v reads %v", before, got)
	}
	far := [12]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	if !stampTime(far).After(time.Now().AddDate(1000, 0, 0)) {
		t.Errorf("the greatest stamp reads %v, want the far future", stampTime(far))
	}
	if !stampTime([12]byte{}).Before(time.Unix(0, 0)) {
		t.Errorf("the smallest stamp reads %v, want the past", stampTime([12]byte{}))
	}
}

func FuzzOpen(f *testing.F) {
	gatewayPrivate, gatewayPublic := lab.NewKey()
	private, public := lab.NewKey()
	o, err := newOpener(gatewayPrivate)
	if err != nil {
		f.Fatal(err)
	}
	secret, err := o.shared(public)
	if err != nil {
		f.Fatal(err)
	}
	honest := initiate(f, private, gatewayPublic, stampAt(time.Now()), nil)
	f.Add(honest)
	f.Add(make([]byte, device.MessageInitiationSize))
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) != device.MessageInitiationSize {
			return
		}
		c, ok := o.open((*packetInitiation)(packet))
		if !ok {
			return
		}
		_, proven := c.timestamp((*packetInitiation)(packet), secret)
		if same := string(packet[ephemeralAt:mac1At]) == string(honest[ephemeralAt:mac1At]); proven && !same {
			// X25519 ignores the highest bit of a public key, but the hash does not.
			t.Errorf("an initiation that the owner of the key did not make is proven: %x", packet)
		}
	})
}
