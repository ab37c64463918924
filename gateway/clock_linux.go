package gateway

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// SystemClock is the machine's clock. The channel it watches with ends with
// the context.
func SystemClock(ctx context.Context) (Clock, error) {
	set, err := watchClock(ctx)
	if err != nil {
		return Clock{}, err
	}
	return Clock{Wall: time.Now, Boot: Boottime, Set: set, Synchronized: synchronized}, nil
}

// Boottime reads CLOCK_BOOTTIME: time since boot, suspension included, never set.
func Boottime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(fmt.Sprintf("clock_gettime(CLOCK_BOOTTIME): %v", err)) // since Linux 2.6.39
	}
	return time.Duration(t.Nano())
}

// synchronized reads the kernel's clock discipline (adjtimex(2)).
func synchronized() bool {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err == nil && state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
}

// watchClock tells when the wall clock was set: a timer that never expires is
// cancelled then (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET).
func watchClock(ctx context.Context) (<-chan struct{}, error) {
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
