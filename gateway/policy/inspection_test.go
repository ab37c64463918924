package policy

import "testing"

func TestTierNeeded(t *testing.T) {
	for _, test := range []struct {
		size        Size
		sensitivity Sensitivity
		vendors     int
		want        Tier
	}{
		{Small, NoData, 5, Tier1},
		{Small, Personal, 5, Tier1},
		{Small, Personal, 6, Tier2},
		{Small, Sensitive, 1, Tier2},
		{Medium, NoData, 1, Tier2},
		{Medium, Sensitive, 20, Tier2},
		{Medium, Sensitive, 21, Tier3},
		{Small, MyNumber, 1, Tier3},
		{Large, NoData, 1, Tier3},
	} {
		if got := (Inspection{Size: test.size, Sensitivity: test.sensitivity}).Needed(test.vendors); got != test.want {
			t.Errorf("%s, %s, %d vendors need tier %d, want %d", test.size, test.sensitivity, test.vendors, got, test.want)
		}
	}
}
