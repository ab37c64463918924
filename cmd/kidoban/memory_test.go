package main

import "testing"

func TestCollection(t *testing.T) {
	for _, c := range []struct {
		name     string
		sessions int
		live     uint64
		want     int
	}{
		{"nobody inside", 0, 40 << 20, 15},
		{"somebody inside", 1, 40 << 20, 100},
		{"thousands of engineers, nobody inside", 0, 300 << 20, 100},
	} {
		if got := collection(c.sessions, c.live); got != c.want {
			t.Errorf("%s: GOGC %d, want %d", c.name, got, c.want)
		}
	}
}
