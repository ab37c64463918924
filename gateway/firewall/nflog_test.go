package firewall

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// TestFault70CopiesAreReadAgain: reading what the kernel refuses fails, and
// another program takes the group meanwhile. That is reported as long as it
// lasts; then engineers are named again.
func TestFault70CopiesAreReadAgain(t *testing.T) {
	n := newPlace(t, testOptions)
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	asked := uint16(99)
	named := func(when string) {
		t.Helper()
		asked++ // another port each time: what was asked before may be told late
		lab.WaitFor(t, 10*time.Second, "an engineer who asks for what is not listed is named "+when, func() bool {
			if err := n.engineer.Send(lab.UDPPacket(netip.AddrPortFrom(engineer4, 4000), netip.AddrPortFrom(target4, asked), []byte("hello"))); err != nil {
				t.Fatal(err)
			}
			for {
				select {
				case fact := <-n.firewall.outbox.facts:
					if fact.Kind == policy.Refusal && fact.Engineer.Name == "sato" && fact.To.Port() == asked {
						return true
					}
				case <-time.After(100 * time.Millisecond):
					return false
				}
			}
		})
	}
	c := n.firewall.copies
	// fail has reading fail once, and somebody come before it is tried again.
	fail := func(meanwhile func()) {
		c.mu.Lock()
		defer c.mu.Unlock()
		open := c.open
		c.open = func() (logSocket, error) {
			c.open = open
			meanwhile()
			return open()
		}
		if err := c.socket.SetReadDeadline(time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	named("at first")
	opened := make(chan bool, 1)
	fail(func() { opened <- true })
	lab.WaitFor(t, 10*time.Second, "it is opened again", func() bool { return len(opened) == 1 })
	named("after reading failed once")
	if err := n.firewall.check(); err != nil {
		t.Errorf("reading failed once, and Check says: %v", err)
	}

	taken := make(chan logSocket, 1)
	fail(func() {
		s, err := openLog(defaultLogGroup, c.namespace)
		if err != nil {
			t.Error(err)
		}
		taken <- s
	})
	lab.WaitFor(t, 10*time.Second, "it is opened again, too late", func() bool { return len(taken) == 1 })
	other := <-taken
	lab.WaitFor(t, 10*time.Second, "Check reports it", func() bool {
		err := n.firewall.check()
		return err != nil && strings.Contains(err.Error(), "cannot be read") && strings.Contains(err.Error(), "another program may hold it")
	})
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	lab.WaitFor(t, 10*time.Second, "Check reports it no longer", func() bool { return n.firewall.check() == nil })
	named("when the other program has left")
}

// logScript is a socket that is opened and read as a test says.
type logScript struct {
	mu              sync.Mutex
	opening, always error      // what comes of opening it, and of each reading
	next            chan error // what comes of one reading, if not always the same
	opened          int
}

func (s *logScript) set(opening, always error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening, s.always = opening, always
}

func (s *logScript) open() (logSocket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened++
	return &scripted{script: s, closed: make(chan struct{})}, s.opening
}

// scripted is one of them.
type scripted struct {
	script *logScript
	quiet  <-chan time.Time
	closed chan struct{}
}

func (s *scripted) Receive() ([]netlink.Message, error) {
	s.script.mu.Lock()
	err := s.script.always
	s.script.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case err := <-s.script.next:
		return nil, err
	case <-s.closed:
		return nil, os.ErrClosed
	case <-s.quiet:
		return nil, &netlink.OpError{Op: "receive", Err: os.ErrDeadlineExceeded}
	}
}

func (s *scripted) SetReadDeadline(at time.Time) error {
	s.quiet = nil
	if !at.IsZero() {
		s.quiet = time.After(time.Until(at))
	}
	return nil
}

func (s *scripted) Close() error { close(s.closed); return nil }

// TestFault70UnreadableCopies: a socket that fails as soon as it was opened
// does not work, nor one that cannot be opened. One that is only silent does,
// and so does one that loses some.
func TestFault70UnreadableCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := &logScript{next: make(chan error)}
		c := &copies{logger: slog.New(slog.DiscardHandler), open: script.open, done: make(chan struct{}), closed: make(chan struct{})}
		var err error
		if c.namespace, err = os.Open(os.DevNull); err != nil {
			t.Fatal(err)
		}
		after := func(d time.Duration, what string, want error) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := c.err(); !errors.Is(got, want) {
				t.Errorf("%s: Check is told %v, want %v", what, got, want)
			}
		}
		script.set(nil, unix.ENOMEM)
		if c.socket, err = c.open(); err != nil {
			t.Fatal(err)
		}
		go c.run(nil)
		after((unreadMost-2)*unreadPause, "it has failed for a moment", nil)
		after(2*unreadPause, "it goes on failing", unix.ENOMEM)
		script.set(unix.EBUSY, nil)
		after(2*unreadPause, "it cannot be opened", unix.EBUSY)
		script.set(nil, nil)
		after(2*unreadPause, "it was opened", unix.EBUSY)
		after(unreadCalm, "it is silent", nil)

		opened := script.opened
		for range 2 * unreadMost {
			script.next <- unix.ENOBUFS
			script.next <- nil
		}
		after(24*time.Hour, "it lost some", nil)
		script.mu.Lock()
		if script.opened != opened {
			t.Errorf("it was opened %d times, although some were lost and no more", script.opened-opened)
		}
		script.mu.Unlock()

		script.set(nil, unix.ENOMEM)
		script.next <- unix.ENOMEM
		after(time.Hour, "it fails again", unix.ENOMEM)
		script.set(nil, nil)
		time.Sleep(2 * unreadPause)
		script.next <- unix.ENOBUFS
		after(0, "it is read, and lost some", nil)
		script.set(nil, unix.ENOMEM)
		script.next <- unix.ENOMEM
		synctest.Wait() // it waits for the next attempt
		if err := c.close(); err != nil {
			t.Error(err)
		}
		opened = script.opened
		time.Sleep(time.Hour)
		if script.opened != opened {
			t.Error("it is opened after it was closed")
		}
	})
}
