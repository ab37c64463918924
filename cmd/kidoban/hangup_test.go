package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/config"
	"kidoban/gateway"
	"kidoban/gateway/clock"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// TestAReloadThatHangsDoesNotHoldTheEndUp: SIGHUP comes while the disk of the
// policy file does not answer, and then the process is to end.
func TestAReloadThatHangsDoesNotHoldTheEndUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		asked := 0
		began := time.Now()
		g := gateway.New(gateway.Config{
			Clock:   clock.Source{Wall: time.Now, Boot: func() time.Duration { return time.Since(began) }},
			KeyFile: config.KeyFile{Path: "none"},
			PolicyFile: hangingFile(func() error {
				asked++
				<-answer
				return errors.New("it has errors")
			}),
		})
		hangup := make(chan os.Signal, 1)
		var said bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&said, nil))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { reloadOnHangup(ctx, hangup, g, logger); close(ended) }()
		hangup <- syscall.SIGHUP
		synctest.Wait()
		hangup <- syscall.SIGHUP
		synctest.Wait()
		if asked != 1 {
			t.Errorf("the policy file is read %d times at once", asked)
		}
		time.Sleep(hangupPatience + time.Second)
		synctest.Wait()
		if !strings.Contains(said.String(), "still reads the policy file") {
			t.Errorf("nobody is told that it hangs: %s", &said)
		}
		cancel()
		synctest.Wait()
		select {
		case <-ended:
		default:
			t.Error("the end waits for the disk of the policy file")
		}
		close(answer)
	})
}

// hangingFile is a policy file with errors.
type hangingFile func() error

func (f hangingFile) Load() (*policy.Policy, []view.Message, error)   { return nil, nil, f() }
func (hangingFile) Check() (string, error)                            { return "", nil }
func (hangingFile) Warnings(*policy.Policy, time.Time) []view.Message { return nil }
