package tunnel

import (
	"crypto/ecdh"
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"
	"golang.zx2c4.com/wireguard/device"

	"kidoban/gateway/policy"
)

// Where things lie in a handshake initiation (WireGuard whitepaper, section
// 5.4.2): type 4, sender 4, ephemeral 32, static 32+16, timestamp 12+16,
// mac1 16, mac2 16.
const (
	senderAt    = 4
	ephemeralAt = 8
	staticAt    = 40
	timestampAt = 88
	mac1At      = 116
)

// packetInitiation is a whole initiation, macs included.
type packetInitiation = [device.MessageInitiationSize]byte

// opener reads initiations that are meant for one private key.
type opener struct {
	private *ecdh.PrivateKey
	public  [32]byte
	hash    [blake2s.Size]byte // after the responder's public key
	standIn bool               // there is no private key yet
}

func newOpener(private [32]byte) (*opener, error) {
	key, err := ecdh.X25519().NewPrivateKey(private[:])
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	o := &opener{private: key, public: [32]byte(key.PublicKey().Bytes())}
	o.hash = mixHash(device.InitialHash, o.public[:])
	return o, nil
}

// shared is the static-static secret with an engineer. A low-order key has none.
func (o *opener) shared(key policy.Key) ([32]byte, error) {
	public, err := ecdh.X25519().NewPublicKey(key[:])
	if err != nil {
		return [32]byte{}, err
	}
	secret, err := o.private.ECDH(public)
	if err != nil {
		return [32]byte{}, err
	}
	return [32]byte(secret), nil
}

// claim is an initiation with its static key. Anyone who knows two public keys
// can make one; only timestamp proves the sender.
type claim struct {
	key         policy.Key
	chain, hash [blake2s.Size]byte
}

// open reads the static key that an initiation carries. It fails if the
// packet was not sealed to this gateway's public key.
func (o *opener) open(packet *packetInitiation) (claim, bool) {
	var c claim
	ephemeral := packet[ephemeralAt:staticAt]
	c.hash = mixHash(o.hash, ephemeral)
	device.KDF1(&c.chain, device.InitialChainKey[:], ephemeral)
	secret, err := o.shared([32]byte(ephemeral))
	if err != nil || !c.unseal(c.key[:0], secret, packet[staticAt:timestampAt]) {
		return claim{}, false
	}
	return c, true
}

// timestamp opens the TAI64N timestamp with the static-static secret that the
// gateway shares with the owner of the key. It succeeds only if that owner
// made the initiation.
func (c claim) timestamp(packet *packetInitiation, secret [32]byte) (stamp [12]byte, proven bool) {
	return stamp, c.unseal(stamp[:0], secret, packet[timestampAt:mac1At])
}

// unseal mixes a secret into the chain and opens a sealed field.
func (c *claim) unseal(to []byte, secret [32]byte, sealed []byte) bool {
	var key [chacha20poly1305.KeySize]byte
	device.KDF2(&c.chain, &key, c.chain[:], secret[:])
	aead, err := chacha20poly1305.New(key[:])
	if err != nil {
		return false
	}
	_, err = aead.Open(to, device.ZeroNonce[:], sealed, c.hash[:])
	c.hash = mixHash(c.hash, sealed)
	return err == nil
}

func mixHash(hash [blake2s.Size]byte, data []byte) [blake2s.Size]byte {
	sum, _ := blake2s.New256(nil) // fails only with a key that is too long
	sum.Write(hash[:])
	sum.Write(data)
	sum.Sum(hash[:0])
	return hash
}

// tai64nBase is the label of the Unix epoch in TAI64 as WireGuard counts it:
// 2^62, and the 10 s that TAI was ahead in 1970.
const tai64nBase = 1<<62 + 10

// stampTime is the instant that a TAI64N timestamp names. Labels that are too
// great for an int64 of seconds give the far future.
func stampTime(stamp [12]byte) time.Time {
	seconds := binary.BigEndian.Uint64(stamp[:8])
	if seconds < tai64nBase {
		return time.Time{}
	}
	return time.Unix(int64(min(seconds-tai64nBase, 1<<40)), int64(binary.BigEndian.Uint32(stamp[8:])))
}
