package main

import "testing"

// One processor is left when it is crowded, and several when one would do; between the two nothing changes.
func TestProcessors(t *testing.T) {
	for _, c := range []struct {
		have, all int
		load      float64
		want      int
	}{
		{1, 4, 0, 1}, {1, 4, 0.6, 1}, {1, 4, 0.8, 4}, {1, 4, 1, 4},
		{4, 4, 3.9, 4}, {4, 4, 0.6, 4}, {4, 4, 0.4, 1}, {4, 4, 0, 1},
		{1, 1, 1, 1},
	} {
		if got := processors(c.have, c.all, c.load); got != c.want {
			t.Errorf("%d of %d processors at a load of %v become %d, want %d", c.have, c.all, c.load, got, c.want)
		}
	}
}
