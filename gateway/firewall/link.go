package firewall

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// answerTimeout bounds every wait for the kernel. It answers before the
// system call that sent the request returns, so only trouble ever waits.
const answerTimeout = 10 * time.Second

// link is the one lasting netlink connection. The table belongs to it: when
// it closes, the table has no owner. It is not safe for concurrent use.
//
// conn is the socket of nft, for the messages that nft lacks. Deadlines are set
// only for those: nft never waits, but would read a deadline that passed for
// ever.
type link struct {
	nft     *nftables.Conn
	conn    *netlink.Conn
	limit   int    // bytes that fit into one batch
	commits uint32 // transactions that took effect: each adds one to the generation
}

func dial() (*link, error) {
	l := &link{}
	var err error
	if l.nft, err = nftables.New(nftables.AsLasting(), nftables.WithSockOptions(l.prepare)); err != nil {
		if l.conn != nil {
			l.conn.Close()
		}
		return nil, fmt.Errorf("netfilter's netlink socket: %w", err)
	}
	return l, nil
}

// prepare sets the socket up.
func (l *link) prepare(c *netlink.Conn) error {
	l.conn = c
	// nft waits with select, which panics beyond.
	number := uintptr(0)
	socket, err := c.SyscallConn()
	if err == nil {
		err = socket.Control(func(fd uintptr) { number = fd })
	}
	if err != nil {
		return err
	}
	if number >= unix.FD_SETSIZE {
		return fmt.Errorf("it is file %d of this process: allowed are those below %d, so it must be opened before so many others", number, unix.FD_SETSIZE)
	}
	// Large buffers take CAP_NET_ADMIN over the whole machine. Without it the
	// batches are smaller, and that is all.
	_ = c.SetWriteBuffer(4 << 20)
	_ = c.SetReadBuffer(4 << 20)
	// The kernel's own words about an error.
	_ = c.SetOption(netlink.ExtendedAcknowledge, true)
	size, err := c.WriteBuffer()
	if err != nil {
		return fmt.Errorf("size of its buffer: %w", err)
	}
	// A message must fit into the buffer (EMSGSIZE otherwise), and the buffer
	// counts overhead. More than 1 MB at once only makes other users wait.
	l.limit = min(max(size/4, 16<<10), 1<<20)
	return widen(c, socket)
}

// widen makes the kernel send dumps in datagrams of 32 kB. It fills them up to
// the largest buffer that the socket was ever read with, and package netlink
// uses small ones; for each datagram it walks a set from its beginning.
func widen(c *netlink.Conn, socket syscall.RawConn) error {
	if _, err := c.Send(message(unix.NFT_MSG_GETGEN, 0)); err != nil {
		return err
	}
	buffer := make([]byte, 32<<10)
	var failure error
	// The answer is there, be it that we may not ask.
	err := socket.Control(func(fd uintptr) { _, _, failure = unix.Recvfrom(int(fd), buffer, unix.MSG_DONTWAIT) })
	return errors.Join(err, failure)
}

func (l *link) close() error { return l.nft.CloseLasting() }

// errLost means that the kernel's answer was lost: the change may be in force or
// not.
var errLost = errors.New("the kernel's answer was lost; what was sent may be in force")

// flush sends the queued messages as one transaction: all of it takes effect, or
// none. A success is not answered, so important changes have to be read back.
func (l *link) flush() error {
	err := l.nft.Flush()
	switch {
	case errors.Is(err, unix.ENOBUFS):
		return errors.Join(err, errLost)
	case err != nil:
		return err
	}
	l.commits++
	return nil
}

// commit sends messages of our own as one transaction.
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
		if errors.As(err, &op) {
			switch {
			case errors.Is(err, unix.ENOBUFS):
				return errors.Join(failure, errLost)
			case op.Timeout():
				if failure != nil {
					return failure
				}
				return errLost
			case op.Sequence-first > last+1-first: // of an earlier batch
				continue
			}
			if failure == nil {
				failure = fmt.Errorf("message %d of %d: %w", op.Sequence-first, len(messages), err)
				// Further answers are already there, and nft would take them for
				// the answer to its next request.
				if err := l.conn.SetDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
					return failure
				}
			}
			if op.Sequence == last {
				return failure
			}
			continue
		}
		if err != nil {
			return err
		}
		for _, m := range replies {
			if m.Header.Type == netlink.Error && m.Header.Sequence == last {
				if failure == nil {
					l.commits++
				}
				return failure
			}
		}
	}
}

// readAttempts bounds how often something is read anew because the ruleset
// changed underneath.
const readAttempts = 10

// undisturbed repeats a reading during which the ruleset changed. The kernel
// marks interrupted dumps (NLM_F_DUMP_INTR), but nft hides that; every change
// moves the generation.
func (l *link) undisturbed(read func() error) error {
	for range readAttempts {
		before, err := l.generation()
		if err != nil {
			return err
		}
		failure := read()
		after, err := l.generation()
		if err != nil {
			return errors.Join(failure, err)
		}
		if before == after {
			return failure
		}
	}
	return fmt.Errorf("the ruleset changed during each of %d readings", readAttempts)
}

// dump asks for all objects of a kind, as the kernel writes them.
func (l *link) dump(m netlink.Message) ([]netlink.Message, error) {
	m.Header.Flags |= netlink.Dump
	var replies []netlink.Message
	err := l.undisturbed(func() (err error) { replies, err = l.ask(m); return err })
	return replies, err
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
		if errors.As(err, &op) && op.Sequence != 0 && op.Sequence != sent.Header.Sequence {
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(replies) > 0 && replies[0].Header.Sequence != sent.Header.Sequence {
			continue
		}
		return replies, nil
	}
}

// generation is the number of the ruleset of this network namespace: every
// transaction, of anyone, adds one. Elements that expire do not.
func (l *link) generation() (uint32, error) {
	g, err := l.nft.GetGen()
	if err != nil {
		return 0, fmt.Errorf("the ruleset's generation cannot be read: %w", err)
	}
	return g.ID, nil
}
