// Package clock is where the program gets its time from.
package clock

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Source is the site's time.
type Source struct {
	Wall         func() time.Time     // may be set by anyone at any moment
	Boot         func() time.Duration // since boot, suspension included; no program can set it
	Set          <-chan struct{}      // receives when the wall clock was set; may be nil
	Synchronized func() bool          // reports whether the kernel says that the wall clock is synchronized
}

// System is the machine's clock. Its channel is fed until the context ends.
func System(ctx context.Context) (Source, error) {
	set, err := watch(ctx)
	if err != nil {
		return Source{}, err
	}
	return Source{Wall: time.Now, Boot: Boot, Set: set, Synchronized: synchronized}, nil
}

// Read reads the boot clock and then the wall clock, at most a millisecond apart:
// if the process was stopped in between, it reads again, up to 100 times.
func (s Source) Read() (wall time.Time, boot time.Duration) {
	narrowest := time.Duration(-1)
	for range 100 {
		before := s.Boot()
		now := s.Wall()
		if gap := s.Boot() - before; narrowest < 0 || gap < narrowest {
			narrowest, wall, boot = gap, now, before
		}
		if narrowest < time.Millisecond {
			break
		}
	}
	return wall, boot
}

// Boot reads CLOCK_BOOTTIME.
func Boot() time.Duration { return read(unix.CLOCK_BOOTTIME) }

// Suspended tells how long the machine has been suspended since boot.
func Suspended() time.Duration { return Boot() - read(unix.CLOCK_MONOTONIC) }

func read(id int32) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(id, &t); err != nil {
		panic(fmt.Sprintf("clock_gettime(%d): %v", id, err)) // both exist since Linux 2.6.39
	}
	return time.Duration(t.Nano())
}

// synchronized reads the kernel's clock discipline (adjtimex(2)).
func synchronized() bool {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err == nil && state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
}

// watch tells when the wall clock was set. The kernel then cancels a timer that
// never expires (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET).
func watch(ctx context.Context) (<-chan struct{}, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("timerfd_create: %w", err)
	}
	arm := func() error {
		never := unix.ItimerSpec{Value: unix.NsecToTimespec(time.Unix(1<<33, 0).UnixNano())} // the year 2242
		return unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &never, nil)
	}
	if err := arm(); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("timerfd_settime: %w", err)
	}
	f := os.NewFile(uintptr(fd), "timerfd")
	set := make(chan struct{}, 1)
	context.AfterFunc(ctx, func() { f.Close() })
	go func() {
		var b [8]byte
		for ctx.Err() == nil {
			if _, err := f.Read(b[:]); err == nil {
				continue
			}
			if ctx.Err() != nil || arm() != nil {
				return
			}
			select {
			case set <- struct{}{}:
			default:
			}
		}
	}()
	return set, nil
}
