package config

import (
	"fmt"
	"strconv"
	"strings"

	"kidoban/gateway/policy"
)

// mostRetained is the longest retention in months: a hundred years.
const mostRetained = 1200

// retention reads for how long the journal keeps its entries. Absent: for ever.
func (r *reader) retention(v value) policy.Retention {
	if !v.present() {
		return 0
	}
	kept, _ := read(&r.decoder, v, parseRetention)
	return kept
}

func parseRetention(text string) (policy.Retention, error) {
	number, months := text, 1
	if years, ok := strings.CutSuffix(text, "y"); ok {
		number, months = years, 12
	} else if number, ok = strings.CutSuffix(text, "mo"); !ok {
		number = ""
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > mostRetained/months || strconv.Itoa(n) != number {
		return 0, fmt.Errorf("%s is not a time in years or months: allowed is as in 5y or 18mo, from 1mo to 100y", quote(text))
	}
	return policy.Retention(n * months), nil
}
