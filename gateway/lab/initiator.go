package lab

import (
	"context"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/curve25519"
	"golang.zx2c4.com/wireguard/device"
)

// Handshake is the initiator's side of WireGuard's handshake (WireGuard whitepaper, section 5.4).
type Handshake struct {
	Initiation []byte // the packet to send

	private, once [32]byte
	hash, chain   [32]byte
	err           error // of the first step that failed
}

// Initiate begins a handshake between two keys, with the timestamp of an instant. With claimed set, the
// initiation gives that key as the sender's. Anyone can do so who knows two public keys. Only the
// timestamp then shows that the sender does not own the key.
func Initiate(private, to Key, at time.Time, claimed *Key) (*Handshake, error) {
	h := &Handshake{Initiation: make([]byte, device.MessageInitiationSize), private: private}
	var public Key
	h.once, public = NewKey()
	static := Key(h.multiply(private, Key{9}))
	if claimed != nil {
		static = *claimed
	}
	binary.LittleEndian.PutUint32(h.Initiation, device.MessageInitiationType)
	copy(h.Initiation[4:], public[:4]) // the sender's index
	copy(h.Initiation[8:], public[:])
	h.hash = device.InitialHash
	h.mix(to[:])
	h.mix(public[:])
	device.KDF1(&h.chain, device.InitialChainKey[:], public[:])
	stamp := binary.BigEndian.AppendUint64(nil, 1<<62+10+uint64(at.Unix())) // TAI64N
	stamp = binary.BigEndian.AppendUint32(stamp, uint32(at.Nanosecond()))
	h.seal(h.Initiation[40:], h.multiply(h.once, to), static[:])
	h.seal(h.Initiation[88:], h.multiply(private, to), stamp)
	var macs device.CookieGenerator
	macs.Init(to)
	macs.AddMacs(h.Initiation)
	return h, h.err
}

func (h *Handshake) mix(data []byte) { h.hash = blake2s.Sum256(append(h.hash[:], data...)) }

func (h *Handshake) multiply(private, public Key) []byte {
	secret, err := curve25519.X25519(private[:], public[:])
	if err != nil {
		h.err = errors.Join(h.err, err)
		return make([]byte, 32)
	}
	return secret
}

// seal encrypts a field of the initiation under a secret.
func (h *Handshake) seal(field, secret, plain []byte) {
	var key [32]byte
	device.KDF2(&h.chain, &key, h.chain[:], secret)
	sealed := aead(key).Seal(nil, device.ZeroNonce[:], plain, h.hash[:])
	copy(field, sealed)
	h.mix(sealed)
}

func aead(key [32]byte) cipher.AEAD {
	a, err := chacha20poly1305.New(key[:])
	if err != nil {
		panic(err) // the key has its length
	}
	return a
}

// finish takes the response. It gives the key for data that the initiator sends, and the other end's index.
// It fails for every other packet.
func (h *Handshake) finish(response []byte) (sending cipher.AEAD, index [4]byte, err error) {
	if len(response) != device.MessageResponseSize || binary.LittleEndian.Uint32(response) != device.MessageResponseType ||
		!slices.Equal(response[8:12], h.Initiation[4:8]) {
		return nil, index, errors.New("lab: no response to this initiation")
	}
	public := Key(response[12:44])
	h.mix(public[:])
	device.KDF1(&h.chain, h.chain[:], public[:])
	device.KDF1(&h.chain, h.chain[:], h.multiply(h.once, public))
	device.KDF1(&h.chain, h.chain[:], h.multiply(h.private, public))
	var tau, key, receiving [32]byte
	device.KDF3(&h.chain, &tau, &key, h.chain[:], make([]byte, 32)) // no preshared key
	h.mix(tau[:])
	if _, err := aead(key).Open(nil, device.ZeroNonce[:], response[44:60], h.hash[:]); err != nil {
		return nil, index, fmt.Errorf("lab: the response is not the other end's: %w", err)
	}
	device.KDF2(&key, &receiving, h.chain[:], nil)
	return aead(key), [4]byte(response[4:8]), h.err
}

// Session is the sending side of one WireGuard session: a UDP socket and a key, without an interface and
// without timers. A host can have thousands. It lasts as long as the other end accepts its
// keys, 180 s; nothing is received. One goroutine uses it at a time.
type Session struct {
	socket  net.Conn
	sending cipher.AEAD
	packet  []byte // the last one; its first 8 bytes, type and index, are those of the next
	counter uint64
}

// Enter does one handshake between two keys, and confirms it by a keepalive. It sends from an address of
// the host (port 0: the kernel chooses). Without a response the error is that of ctx.
func (h *Host) Enter(ctx context.Context, private, peer Key, from, to netip.AddrPort) (*Session, error) {
	handshake, err := Initiate(private, peer, time.Now(), nil)
	if err != nil {
		return nil, err
	}
	socket, err := h.DialFrom(ctx, "udp", from, to.String())
	if err != nil {
		return nil, err
	}
	s := &Session{socket: socket, packet: binary.LittleEndian.AppendUint32(nil, device.MessageTransportType)}
	if err := s.begin(ctx, handshake); err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	return s, nil
}

func (s *Session) begin(ctx context.Context, handshake *Handshake) error {
	stop := context.AfterFunc(ctx, func() { s.socket.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := s.socket.Write(handshake.Initiation); err != nil {
		return err
	}
	response := make([]byte, 256)
	n, err := s.socket.Read(response)
	if err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	sending, index, err := handshake.finish(response[:n])
	if err != nil {
		return err
	}
	s.sending, s.packet = sending, append(s.packet, index[:]...)
	return s.Send(nil)
}

// Send sends an IP packet through the tunnel; an empty one is a keepalive.
func (s *Session) Send(packet []byte) error {
	const header = device.MessageTransportHeaderSize
	plain := append(slices.Clone(packet), make([]byte, -len(packet)&15)...) // padded to 16 bytes
	var nonce [chacha20poly1305.NonceSize]byte
	binary.LittleEndian.PutUint64(nonce[4:], s.counter)
	s.packet = append(s.packet[:8], nonce[4:]...)
	s.packet = s.sending.Seal(s.packet[:header], nonce[:], plain, nil)
	s.counter++
	_, err := s.socket.Write(s.packet)
	return err
}

// Close closes the socket. The other end learns nothing of it.
func (s *Session) Close() error { return s.socket.Close() }
