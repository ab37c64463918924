package lab

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// pollInterval is how often Wait asks: fine enough to time things that take
// tens of milliseconds, coarse enough to leave the processor to them.
const pollInterval = 2 * time.Millisecond

// Wait asks until the condition returns nil, or until ctx is over; then its
// error carries what the condition said last. It asks once more when ctx is
// over: a machine that was taken away may have used the time up without having
// asked in it.
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

// WaitFor asks until the condition holds, and ends the test if it does not
// within the time. What is expected completes the sentence "still not: ...".
func WaitFor(t T, within time.Duration, expected string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	not := errors.New("no")
	if Wait(ctx, func() error {
		if condition() {
			return nil
		}
		return not
	}) != nil {
		t.Fatalf("after %v still not: %s", within, expected)
	}
}
