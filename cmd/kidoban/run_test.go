package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
)

func TestAServerThatFailsEndsTheGateway(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"one fails", errors.New("accept: too bad"), "metrics: not served any more: accept: too bad"},
		{"none fails", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				running, end := context.WithCancel(t.Context())
				defer end()
				otherEnded := false
				stop := serve(end, slog.New(slog.NewTextHandler(io.Discard, nil)), map[string]func(context.Context) error{
					"metrics": func(ctx context.Context) error {
						if c.err == nil {
							<-ctx.Done()
						}
						return c.err
					},
					"other": func(ctx context.Context) error { <-ctx.Done(); otherEnded = true; return nil },
				})
				synctest.Wait()
				if got := running.Err() != nil; got != (c.err != nil) {
					t.Errorf("the gateway was ended: %v", got)
				}
				if otherEnded {
					t.Error("the other server ended before the gateway")
				}
				got := ""
				if err := stop(); err != nil {
					got = err.Error()
				}
				if got != c.want || !otherEnded {
					t.Errorf("stopping gives %q, want %q; the other server has ended: %v", got, c.want, otherEnded)
				}
			})
		})
	}
}
