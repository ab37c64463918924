package lab

import (
	"cmp"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

// Key is a Curve25519 key, private or public, or a preshared key.
type Key = [32]byte

// NewKey makes a private key and the public key that goes with it.
func NewKey() (private, public Key) {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return Key(k.Bytes()), Key(k.PublicKey().Bytes())
}

// ClientConfig describes one end of a WireGuard tunnel with one peer.
type ClientConfig struct {
	PrivateKey   Key
	PeerKey      Key            // the other end's public key
	PresharedKey Key            // zero: none
	Endpoint     netip.AddrPort // the zero AddrPort waits for the other end to begin
	ListenPort   uint16         // 0: the kernel chooses, anew at each Up
	Interface    string         // at most 15 bytes; empty: "wg0"
	Addresses    []netip.Prefix // of the TUN interface
	AllowedIPs   []netip.Prefix // routed into the tunnel; must not cover Endpoint
	MTU          int            // bytes; 0: 1420, as wg-quick has it
}

// Client is unmodified wireguard-go between a kernel TUN interface and a UDP socket inside a host:
// an engineer's side, or with ListenPort and no Endpoint the other side.
type Client struct {
	host   *Host
	config ClientConfig
	bind   *hostBind
	device *device.Device

	initiating sync.Mutex
	before     time.Time // the last handshake before Initiate was last called
}

// NewClient makes a client that is up until the lab ends. It is silent until there is something to
// send.
func (h *Host) NewClient(config ClientConfig) *Client {
	h.lab.t.Helper()
	config.Interface, config.MTU = cmp.Or(config.Interface, "wg0"), cmp.Or(config.MTU, device.DefaultMTU)
	c := &Client{host: h, config: config, bind: &hostBind{Bind: conn.NewStdNetBind(), host: h}}
	var native tun.Device
	h.must(h.Do(func() (err error) { native, err = newTUN(config.Interface); return err }), "make interface %s", config.Interface)
	c.device = device.NewDevice(hostTUN{native, config.MTU}, c.bind, device.NewLogger(device.LogLevelSilent, ""))
	h.cleanup(c.device.Close)
	h.must(c.device.IpcSet(config.uapi()), "configure WireGuard on %s", config.Interface)
	link, err := h.netlink.LinkByName(config.Interface)
	h.must(err, "find %s", config.Interface)
	h.must(h.netlink.LinkSetMTU(link, config.MTU), "set the MTU %d of %s", config.MTU, config.Interface)
	h.must(h.raise(config.Interface, config.Addresses), "set %s up", config.Interface)
	h.must(h.carries(config.Interface), "wait for %s", config.Interface)
	for _, p := range config.AllowedIPs {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(p.Masked()), Scope: netlink.SCOPE_LINK}
		h.must(h.netlink.RouteReplace(route), "route %v to %s", p, config.Interface)
	}
	h.must(c.Up(), "WireGuard on %s", config.Interface)
	return c
}

// newTUN makes a TUN interface in the network namespace of the calling thread. tun.CreateTUN would
// listen to all interfaces of the host, report events, and fail where a host has dozens of clients.
func newTUN(name string) (tun.Device, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	device, _, err := tun.CreateUnmonitoredTUNFromFD(fd) // closes fd with the device
	return device, err
}

// uapi writes the configuration (https://www.wireguard.com/xplatform/).
func (config *ClientConfig) uapi() string {
	text := fmt.Sprintf("private_key=%x\nlisten_port=%d\npublic_key=%x\npreshared_key=%x\n",
		config.PrivateKey, config.ListenPort, config.PeerKey, config.PresharedKey)
	if config.Endpoint.IsValid() {
		text += fmt.Sprintf("endpoint=%v\n", config.Endpoint)
	}
	for _, p := range config.AllowedIPs {
		text += fmt.Sprintf("allowed_ip=%v\n", p.Masked())
	}
	return text
}

// Up opens the client's UDP socket and starts it.
func (c *Client) Up() error { return c.device.Up() }

// Down closes the UDP socket and forgets the session keys. Without a ListenPort, Up then uses
// another port.
func (c *Client) Down() error {
	if err := c.device.Down(); err != nil {
		return err
	}
	// wireguard-go would come back with the port it got from the kernel.
	return c.device.IpcSet(fmt.Sprintf("listen_port=%d\n", c.config.ListenPort))
}

// Close ends the client and removes its TUN interface. The lab's end does so too.
func (c *Client) Close() { c.device.Close() }

// apart is the distance between initiations: as responder wireguard-go ignores one within 20 ms of
// the last, and mixes up two that come together.
const apart = 25 * time.Millisecond

// Initiate sends one handshake initiation. It forgets the keys and any answer to an earlier one.
// Without an answer the client repeats it every 5 s for 90 s.
func (c *Client) Initiate() error {
	_, err := c.initiate()
	return err
}

// initiate also gives the time of the last handshake before.
func (c *Client) initiate() (before time.Time, err error) {
	c.initiating.Lock()
	defer c.initiating.Unlock()
	peer := c.device.LookupPeer(c.config.PeerKey)
	if peer == nil {
		return before, errors.New("lab: the client has been closed")
	}
	// wireguard-go must not initiate while it takes in a response: it would mix two handshakes and
	// believe in a session that the other end does not have.
	answered, last := c.bind.withhold()
	if answered {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = c.completed(ctx, c.before) // a response that does not complete it was refused
	}
	// The other end counts from when it took the last one in. That is before its answer, but
	// perhaps long after the sending.
	if completed := c.Status().LastHandshake; completed.After(last) {
		last = completed
	}
	time.Sleep(time.Until(last.Add(apart)))
	c.before = c.Status().LastHandshake
	peer.ExpireCurrentKeypairs() // also forgets when it last initiated
	return c.before, peer.SendHandshakeInitiation(false)
}

// Handshake initiates and waits for the end of the handshake. It also forces a rekey.
func (c *Client) Handshake(ctx context.Context) error {
	before, err := c.initiate()
	if err != nil {
		return err
	}
	return c.completed(ctx, before)
}

// completed waits for a handshake later than another.
func (c *Client) completed(ctx context.Context, before time.Time) error {
	return Wait(ctx, func() error {
		if c.Status().LastHandshake.After(before) {
			return nil
		}
		return fmt.Errorf("no handshake of %s with %v", c.host.Name, c.config.Endpoint)
	})
}

// Status is a client's knowledge of its peer.
type Status struct {
	LastHandshake time.Time      // zero: there was none
	Endpoint      netip.AddrPort // of the peer, where its last packet came from
	ListenPort    uint16         // the client's own
	Received      uint64         // bytes of authenticated and handshake packets
	Transmitted   uint64         // bytes
}

// Status asks the client; it is zero once the client is closed.
func (c *Client) Status() Status {
	var s Status
	text, err := c.device.IpcGet()
	if err != nil {
		return s
	}
	numbers := map[string]int64{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		numbers[name], _ = strconv.ParseInt(value, 10, 64) // 0 for those that are no numbers
		if name == "endpoint" {
			s.Endpoint, _ = netip.ParseAddrPort(value)
		}
	}
	s.ListenPort, s.Received, s.Transmitted = uint16(numbers["listen_port"]), uint64(numbers["rx_bytes"]), uint64(numbers["tx_bytes"])
	if at := time.Unix(numbers["last_handshake_time_sec"], numbers["last_handshake_time_nsec"]); at.UnixNano() != 0 {
		s.LastHandshake = at
	}
	return s
}

// hostBind opens its sockets inside a host. It drops responses to all initiations but the last.
type hostBind struct {
	conn.Bind
	host *Host

	mu       sync.Mutex
	withheld bool      // no response passes until the next initiation
	asked    uint32    // the sender index of the last initiation
	sent     time.Time // when that was sent
	answered bool      // a response to it has passed
}

func (b *hostBind) Open(port uint16) (receive []conn.ReceiveFunc, actual uint16, err error) {
	err = b.host.Do(func() (err error) { receive, actual, err = b.Bind.Open(port); return err })
	for i, inner := range receive {
		receive[i] = func(packets [][]byte, sizes []int, from []conn.Endpoint) (int, error) {
			n, err := inner(packets, sizes, from)
			for i := range n {
				if !b.lets(packets[i][:sizes[i]]) {
					sizes[i] = 0
				}
			}
			return n, err
		}
	}
	return receive, actual, err
}

// lets tells whether a packet that was received may pass.
func (b *hostBind) lets(packet []byte) bool {
	if len(packet) != device.MessageResponseSize || binary.LittleEndian.Uint32(packet) != device.MessageResponseType {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.withheld || binary.LittleEndian.Uint32(packet[8:]) != b.asked {
		return false
	}
	b.answered = true
	return true
}

func (b *hostBind) Send(packets [][]byte, to conn.Endpoint) error {
	b.sends(packets[0]) // a handshake is sent alone
	return b.Bind.Send(packets, to)
}

// sends takes note of an initiation.
func (b *hostBind) sends(packet []byte) {
	if len(packet) != device.MessageInitiationSize || binary.LittleEndian.Uint32(packet) != device.MessageInitiationType {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.withheld, b.asked, b.answered, b.sent = false, binary.LittleEndian.Uint32(packet[4:]), false, time.Now()
}

// withhold drops responses until the next initiation. It reports whether a response to the last
// initiation has passed, and when that initiation was sent.
func (b *hostBind) withhold() (answered bool, sent time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.withheld = true
	return b.answered, b.sent
}

// hostTUN is a TUN without events, so that wireguard-go goes up and down only by Client. It answers
// a question that NativeTun would ask of the calling thread's network namespace.
type hostTUN struct {
	tun.Device
	mtu int
}

func (t hostTUN) MTU() (int, error) { return t.mtu, nil }
