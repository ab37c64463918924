package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway"
	"kidoban/gateway/policy"
)

// TestAReloadThatHangsDoesNotHoldTheEndUp: SIGHUP comes while the disk of the
// policy file does not answer, and then the process is to end.
func TestAReloadThatHangsDoesNotHoldTheEndUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		asked := 0
		began := time.Now()
		g := gateway.New(gateway.Config{
			Clock: gateway.Clock{Wall: time.Now, Boot: func() time.Duration { return time.Since(began) }},
			LoadPolicy: func() (*policy.Policy, []string, error) {
				asked++
				<-answer
				return nil, nil, errors.New("it has errors")
			},
		})
		hangup := make(chan os.Signal, 1)
		logger := slog.New(slog.DiscardHandler)
		stop := serve(func() {}, logger, map[string]func(context.Context) error{
			"SIGHUP": func(ctx context.Context) error { reloadOnHangup(ctx, hangup, g, logger); return nil },
		})
		hangup <- syscall.SIGHUP
		synctest.Wait()
		hangup <- syscall.SIGHUP
		synctest.Wait()
		if asked != 1 {
			t.Errorf("the policy file is read %d times at once", asked)
		}
		ended := make(chan error, 1)
		go func() { ended <- stop() }()
		synctest.Wait()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("the end waits for the disk of the policy file")
		}
		close(answer)
	})
}
