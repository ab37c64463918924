package firewall

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"kidoban/gateway/clock"
)

// answerTimeout bounds every wait for the kernel. It answers before the
// system call that sent the request returns, so only trouble ever waits.
const answerTimeout = 10 * time.Second

// link is the one lasting netlink connection. The table belongs to it: when
// it closes, the table has no owner. It is not safe for concurrent use.
type link struct {
	conn    *netlink.Conn
	limit   int           // bytes that fit into one batch
	commits uint32        // transactions that took effect: each adds one to the generation
	asked   time.Duration // boot time at which the last dump was asked for
}

func dial() (*link, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("netfilter's netlink socket: %w", err)
	}
	l := &link{conn: c}
	if err := l.prepare(); err != nil {
		c.Close()
		return nil, fmt.Errorf("netfilter's netlink socket: %w", err)
	}
	return l, nil
}

// prepare sets the socket up.
func (l *link) prepare() error {
	// Large buffers take CAP_NET_ADMIN over the whole machine. Without it the
	// batches are smaller, and that is all.
	_ = l.conn.SetWriteBuffer(4 << 20)
	_ = l.conn.SetReadBuffer(4 << 20)
	// The kernel's own words about an error.
	_ = l.conn.SetOption(netlink.ExtendedAcknowledge, true)
	size, err := l.conn.WriteBuffer()
	if err != nil {
		return fmt.Errorf("size of its buffer: %w", err)
	}
	// A message must fit into the buffer (EMSGSIZE otherwise), and the buffer
	// counts overhead. More than 1 MB at once only makes other users wait.
	l.limit = min(max(size/4, 16<<10), 1<<20)
	return l.widen()
}

// widen makes the kernel send dumps in datagrams of 32 kB. It fills them up to
// the largest buffer that the socket was ever read with, and package netlink
// uses small ones; for each datagram it walks a set from its beginning.
func (l *link) widen() error {
	socket, err := l.conn.SyscallConn()
	if err != nil {
		return err
	}
	if _, err := l.conn.Send(message(unix.NFT_MSG_GETGEN, 0)); err != nil {
		return err
	}
	buffer := make([]byte, 32<<10)
	var failure error
	// The answer is there, be it that we may not ask.
	err = socket.Control(func(fd uintptr) { _, _, failure = unix.Recvfrom(int(fd), buffer, unix.MSG_DONTWAIT) })
	return errors.Join(err, failure)
}

func (l *link) close() error { return l.conn.Close() }

// errLost means that the kernel's answer was lost: the change may be in force or
// not.
var errLost = errors.New("the kernel's answer was lost; what was sent may be in force")

// commit sends messages as one transaction: all of it takes effect, or none.
func (l *link) commit(messages ...netlink.Message) error {
	if len(messages) == 0 {
		return nil
	}
	resource := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}
	batch := make([]netlink.Message, 0, len(messages)+2)
	batch = append(batch, netlink.Message{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_BEGIN, Flags: netlink.Request}, Data: resource})
	batch = append(batch, messages...)
	// Errors are always answered; a success only where one asks for it.
	batch[len(batch)-1].Header.Flags |= netlink.Acknowledge
	batch = append(batch, netlink.Message{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_END, Flags: netlink.Request}, Data: resource})

	if err := l.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	defer l.conn.SetDeadline(time.Time{})
	sent, err := l.conn.SendMessages(batch)
	if err != nil {
		return fmt.Errorf("sending a batch of %d messages: %w", len(messages), err)
	}
	first, last := sent[0].Header.Sequence, sent[len(sent)-2].Header.Sequence
	var failure error
	for {
		replies, err := l.conn.Receive()
		var op *netlink.OpError
		switch refused := errors.As(err, &op); {
		case errors.Is(err, unix.ENOBUFS):
			return errors.Join(failure, errLost)
		case refused && op.Timeout():
			return cmp.Or(failure, errLost)
		case refused && op.Sequence-first > last+1-first: // of an earlier batch
		case refused:
			if failure == nil {
				failure = fmt.Errorf("message %d of %d: %w", op.Sequence-first, len(messages), err)
				// Further answers are already there.
				if err := l.conn.SetDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
					return failure
				}
			}
			if op.Sequence == last {
				return failure
			}
		case err != nil:
			return err
		case slices.ContainsFunc(replies, func(m netlink.Message) bool { return m.Header.Type == netlink.Error && m.Header.Sequence == last }):
			if failure == nil {
				l.commits++
			}
			return failure
		}
	}
}

// readAttempts bounds how often something is read anew because the ruleset
// changed underneath.
const readAttempts = 10

// dump asks for all objects of a kind, as the kernel writes them, and repeats
// that if the ruleset changed meanwhile.
func (l *link) dump(m netlink.Message) ([]netlink.Message, error) {
	m.Header.Flags |= netlink.Dump
	for range readAttempts {
		before, err := l.generation()
		if err != nil {
			return nil, err
		}
		l.asked = clock.Boot()
		replies, failure := l.ask(m)
		after, err := l.generation()
		if err != nil {
			return nil, errors.Join(failure, err)
		}
		if before == after {
			return replies, failure
		}
	}
	return nil, fmt.Errorf("the ruleset changed during each of %d readings", readAttempts)
}

// read dumps the table's objects of a kind, as attributes. More attributes say
// which of them.
func (l *link) read(kind uint16, which ...netlink.Attribute) ([][]byte, error) {
	replies, err := l.dump(ours(kind, 0, which...))
	var list [][]byte
	for _, m := range replies {
		if b := body(m); len(b) > 0 && m.Data[0] == unix.NFPROTO_INET && stringOf(find(b, inTable)) == tableName {
			list = append(list, b)
		}
	}
	return list, err
}

// ask sends one request and gives the answer to it.
func (l *link) ask(m netlink.Message) ([]netlink.Message, error) {
	if err := l.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return nil, err
	}
	defer l.conn.SetDeadline(time.Time{})
	sent, err := l.conn.Send(m)
	if err != nil {
		return nil, err
	}
	for {
		replies, err := l.conn.Receive()
		var op *netlink.OpError
		switch {
		case errors.As(err, &op) && op.Sequence != 0 && op.Sequence != sent.Header.Sequence:
		case err == nil && len(replies) > 0 && replies[0].Header.Sequence != sent.Header.Sequence:
		default:
			return replies, err
		}
	}
}

// generation is the number of the ruleset of this network namespace: every
// transaction, of anyone, adds one. Elements that expire do not.
func (l *link) generation() (uint32, error) {
	replies, err := l.ask(message(unix.NFT_MSG_GETGEN, 0))
	if err != nil || len(replies) == 0 {
		return 0, fmt.Errorf("the ruleset's generation cannot be read: %w", cmp.Or(err, errLost))
	}
	return uint32(number(find(body(replies[0]), unix.NFTA_GEN_ID))), nil
}
