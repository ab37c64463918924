package e2e

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/curve25519"
	"golang.zx2c4.com/wireguard/device"

	"kidoban/gateway/lab"
)

// initiation is a handshake initiation (WireGuard whitepaper, section 5.4.2)
// with the timestamp of an instant. With claimed set it names that key as its
// sender's, as anyone can who knows two public keys; only the timestamp then
// tells that the sender does not own it.
func initiation(t *testing.T, private, to lab.Key, at time.Time, claimed *lab.Key) []byte {
	t.Helper()
	multiply := func(private, public lab.Key) []byte {
		secret, err := curve25519.X25519(private[:], public[:])
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	mix := func(hash [32]byte, data []byte) [32]byte { return blake2s.Sum256(append(hash[:], data...)) }
	oncePrivate, oncePublic := lab.NewKey()
	static := lab.Key(multiply(private, lab.Key{9}))
	if claimed != nil {
		static = *claimed
	}
	packet := make([]byte, device.MessageInitiationSize)
	binary.LittleEndian.PutUint32(packet, device.MessageInitiationType)
	copy(packet[4:], oncePublic[:4]) // the sender's index
	copy(packet[8:], oncePublic[:])
	hash := mix(mix(device.InitialHash, to[:]), oncePublic[:])
	var chain, key [32]byte
	device.KDF1(&chain, device.InitialChainKey[:], oncePublic[:])
	seal := func(field, secret, plain []byte) {
		device.KDF2(&chain, &key, chain[:], secret)
		aead, err := chacha20poly1305.New(key[:])
		if err != nil {
			t.Fatal(err)
		}
		sealed := aead.Seal(nil, device.ZeroNonce[:], plain, hash[:])
		copy(field, sealed)
		hash = mix(hash, sealed)
	}
	stamp := binary.BigEndian.AppendUint64(nil, 1<<62+10+uint64(at.Unix())) // TAI64N
	stamp = binary.BigEndian.AppendUint32(stamp, uint32(at.Nanosecond()))
	seal(packet[40:], multiply(oncePrivate, to), static[:])
	seal(packet[88:], multiply(private, to), stamp)
	var macs device.CookieGenerator
	macs.Init(to)
	macs.AddMacs(packet)
	return packet
}

// initiation is an engineer's own, with the timestamp of an instant.
func (g *ground) initiation(name string, at time.Time) []byte {
	g.t.Helper()
	return initiation(g.t, g.people[name].private, g.publicKey, at, nil)
}
