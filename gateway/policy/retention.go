package policy

import (
	"strconv"
	"time"
)

// Retention is for how many months the journal keeps its entries; 0: the policy does not say, and
// they are never pruned.
type Retention int

// String writes it as the policy file has it: "5y", or "18mo" if it is not whole years.
func (r Retention) String() string {
	switch {
	case r == 0:
		return ""
	case r%12 == 0:
		return strconv.Itoa(int(r)/12) + "y"
	}
	return strconv.Itoa(int(r)) + "mo"
}

// Before is the instant before which entries may be pruned now.
func (r Retention) Before(now time.Time) time.Time { return now.AddDate(0, -int(r), 0) }
