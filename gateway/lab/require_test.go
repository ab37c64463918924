package lab

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// recorder is a T that writes down how it was ended.
type recorder struct{ end string }

func (r *recorder) Helper()                        {}
func (r *recorder) Cleanup(func())                 {}
func (r *recorder) Fatalf(format string, a ...any) { r.end = "failed: " + fmt.Sprintf(format, a...) }
func (r *recorder) Skipf(format string, a ...any)  { r.end = "skipped: " + fmt.Sprintf(format, a...) }

func TestRequireSkipsButFailsInCI(t *testing.T) {
	saved := errForbidden
	t.Cleanup(func() { errForbidden = saved })
	errForbidden = errors.New("not here")
	for ci, want := range map[string]string{"": "skipped: not here", "true": "failed: not here"} {
		t.Setenv("CI", ci)
		var r recorder
		if Require(&r); r.end != want {
			t.Errorf("CI=%q: %q, want %q", ci, r.end, want)
		}
	}
	errForbidden = nil
	var r recorder
	if Require(&r); r.end != "" {
		t.Errorf("where hosts can be made: %q, want nothing", r.end)
	}
}

func TestWaitForSaysWhatWasExpected(t *testing.T) {
	var r recorder
	WaitFor(&r, 20*time.Millisecond, "pigs fly", func() bool { return false })
	if want := "failed: after 20ms still not: pigs fly"; r.end != want {
		t.Errorf("%q, want %q", r.end, want)
	}
	r.end = ""
	calls := 0
	WaitFor(&r, 5*time.Second, "three calls", func() bool { calls++; return calls == 3 })
	if r.end != "" || calls != 3 {
		t.Errorf("%q after %d calls, want success at the third", r.end, calls)
	}
}

// A machine that was taken away for longer than the time.
func TestWaitForAsksOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		calls := 0
		WaitFor(&r, time.Millisecond, "a call after a stall", func() bool {
			if calls++; calls == 1 {
				time.Sleep(10 * time.Millisecond)
			}
			return calls == 2
		})
		if r.end != "" {
			t.Errorf("%q, want to be asked once more when the time is over", r.end)
		}
	})
}

func TestParsePacketTakesOnlyIP(t *testing.T) {
	for _, data := range []string{"", "E", strings.Repeat("\x00", 60), "\x4f" + strings.Repeat("\x00", 20), "\x60" + strings.Repeat("\x00", 30)} {
		if p, ok := parsePacket([]byte(data)); ok {
			t.Errorf("%q: read as %v", data, p)
		}
	}
}
