package opening

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kidoban/gateway/policy"
)

func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// TestNarrowing: what is lost twice is waited for as soon as the first, and
// until the second stands.
func TestNarrowing(t *testing.T) {
	key, now := policy.Key{1}, time.Date(2000, 1, 1, 1, 30, 0, 0, time.UTC)
	n := Narrowing{losses: map[policy.Key]*loss{}}
	takes := func(application uint64, boot time.Duration) {
		n.take(map[policy.Key]time.Time{key: now}, application, now, boot)
	}
	takes(7, time.Hour)
	takes(8, time.Hour+time.Second/4)
	same(t, "due in", n.Next(time.Minute, time.Hour), NarrowedWithin)
	same(t, "stands, after the first", n.Stands(7), false)
	same(t, "out before it is due", n.Expire(time.Hour+NarrowedWithin-1) || n.keepsOut(key), false)
	same(t, "out when it is due", n.Expire(time.Hour+NarrowedWithin) && n.keepsOut(key), true)
	same(t, "due once more", n.Next(time.Minute, 2*time.Hour), time.Minute)
	same(t, "out once more", n.Expire(2*time.Hour), false)
	same(t, "how many are out", n.Out(), 1)
	same(t, "stands, after both", n.Stands(9), true)
	same(t, "out then", n.keepsOut(key), false)
	takes(10, 3*time.Hour)
	same(t, "somebody was out for what stands in time", n.Stands(10), false)
	same(t, "due then", n.Next(time.Minute, 3*time.Hour), time.Minute)
}
