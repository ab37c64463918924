package lab

import (
	"context"
	"fmt"
	"time"
)

// pollInterval is fine enough to time tens of milliseconds, and leaves the processor to others.
const pollInterval = 2 * time.Millisecond

// Wait polls until the condition returns nil or ctx ends; then the error has the condition's last
// error. It asks once more after the end, because a busy machine may have used up the time without
// asking.
func Wait(ctx context.Context, condition func() error) error {
	for {
		over := ctx.Err() != nil
		err := condition()
		if err == nil {
			return nil
		}
		if over {
			return fmt.Errorf("%w; last: %w", context.Cause(ctx), err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pollInterval):
		}
	}
}

// WaitFor polls until the condition holds. It ends the test after the time, with "still not: " and
// expected.
func WaitFor(t T, within time.Duration, expected string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if Wait(ctx, func() error {
		if condition() {
			return nil
		}
		return context.DeadlineExceeded
	}) != nil {
		t.Fatalf("after %v still not: %s", within, expected)
	}
}
