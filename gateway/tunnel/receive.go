package tunnel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"unsafe"

	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

// batchReader is an *ipv4.PacketConn or an *ipv6.PacketConn; both have one type of messages.
type batchReader interface {
	ReadBatch([]ipv6.Message, int) (int, error)
}

// joinedMost is how many datagrams of one sender the kernel joins (UDP_GRO, UDP_GRO_CNT_MAX).
const joinedMost = 64

// controlSize has room for the packet information and the size of joined datagrams.
var controlSize = unix.CmsgSpace(unix.SizeofInet6Pktinfo) + unix.CmsgSpace(4)

// receiver reads a socket for StdNetBind, whose own function forgets by which interface and to which
// address datagrams came, if the kernel may join them. One goroutine uses it.
type receiver struct {
	socket   batchReader
	joins    bool // the kernel may join datagrams
	messages []ipv6.Message
	last     *conn.StdNetEndpoint
	info     []byte // of last
}

func newReceiver(socket batchReader, joins bool) *receiver {
	r := &receiver{socket: socket, joins: joins, messages: make([]ipv6.Message, conn.IdealBatchSize)}
	for i := range r.messages {
		r.messages[i].Buffers, r.messages[i].OOB = make([][]byte, 1), make([]byte, controlSize)
	}
	return r
}

// receive is a conn.ReceiveFunc.
func (r *receiver) receive(packets [][]byte, sizes []int, from []conn.Endpoint) (n int, err error) {
	first := 0
	if r.joins {
		first = len(packets) - max(len(packets)/joinedMost, 1) // the last buffers: their parts go to the first ones
	}
	messages := r.messages[first:len(packets)]
	for i := range messages {
		messages[i].Buffers[0] = packets[first+i]
	}
	read, err := r.socket.ReadBatch(messages, 0)
	if err != nil {
		return 0, err
	}
	for i := range messages[:read] {
		m := &messages[i]
		endpoint, size := r.look(m)
		for rest := m.Buffers[0][:m.N]; n <= first+i; n++ { // never over what is not read yet
			part := rest
			if size > 0 && size < len(rest) {
				part = rest[:size]
			}
			rest = rest[len(part):]
			sizes[n], from[n] = copy(packets[n], part), endpoint
			if len(rest) == 0 {
				n++
				break
			}
		}
	}
	return n, nil
}

// look gives the endpoint of a message, and the size of the datagrams in it; 0: it is one.
func (r *receiver) look(m *ipv6.Message) (*conn.StdNetEndpoint, int) {
	var info []byte
	size := 0
	for rest := m.OOB[:m.NN]; len(rest) > unix.SizeofCmsghdr; {
		header, data, after, err := unix.ParseOneSocketControlMessage(rest)
		if err != nil {
			break
		}
		switch {
		case header.Level == unix.IPPROTO_IP && header.Type == unix.IP_PKTINFO, header.Level == unix.IPPROTO_IPV6 && header.Type == unix.IPV6_PKTINFO:
			info = rest[:unix.CmsgSpace(len(data))]
		case header.Level == unix.SOL_UDP && header.Type == unix.UDP_GRO && len(data) >= 2:
			size = int(binary.NativeEndian.Uint16(data))
		}
		rest = after
	}
	var source netip.AddrPort
	if a, ok := m.Addr.(*net.UDPAddr); ok {
		source = a.AddrPort()
	}
	if r.last == nil || r.last.AddrPort != source || !bytes.Equal(info, r.info) {
		r.info = slices.Clone(info)
		r.last = &conn.StdNetEndpoint{AddrPort: source}
		*(*[]byte)(unsafe.Add(unsafe.Pointer(r.last), packetInfo.Offset)) = r.info
	}
	return r.last, size
}

// packetInfo is the private field of an endpoint that has the packet information, with its header.
var packetInfo, _ = reflect.TypeFor[conn.StdNetEndpoint]().FieldByName("src")

// receivers read the sockets in place of StdNetBind's own functions.
func (s *sockets) receivers() (all []conn.ReceiveFunc, err error) {
	if packetInfo.Type != reflect.TypeFor[[]byte]() {
		return nil, fmt.Errorf("this version of wireguard-go has no conn.StdNetEndpoint.src: the sockets must be looked at anew")
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		socket, err := field(s.StdNetBind, family+"PC")
		if err != nil {
			return nil, err
		}
		joins, err := field(s.StdNetBind, family+"RxOffload")
		if err != nil {
			return nil, err
		}
		if !socket.IsNil() {
			all = append(all, newReceiver(socket.Interface().(batchReader), joins.Bool()).receive)
		}
	}
	return all, nil
}
