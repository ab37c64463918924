package evidence

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"kidoban/gateway/policy"
)

// Sample draws sessions of a report for an auditor. The site first hands over the report, with its digest
// and checkpoint; then the auditor names the seed. So neither side can steer the draw, and anybody can
// repeat it: each session gets the SHA-256 of the digest, the seed and its id, with one space between
// them, and the sessions with the smallest come first.
//
//	printf '%s %s %s' DIGEST SEED SESSION | sha256sum
//
// n is how many are drawn; all of them if there are not more.
func Sample(r Report, n int, seed string) []ReportSession {
	rank := func(s ReportSession) string {
		sum := sha256.Sum256([]byte(strings.Join([]string{r.Digest, seed, s.ID}, " ")))
		return hex.EncodeToString(sum[:])
	}
	all := slices.Clone(r.Sessions)
	slices.SortFunc(all, func(a, b ReportSession) int {
		return cmp.Or(strings.Compare(rank(a), rank(b)), strings.Compare(a.ID, b.ID))
	})
	return all[:min(max(n, 0), len(all))]
}

// SampleSize is how many sessions an auditor draws of a month, by the tier of inspection.
func SampleSize(tier policy.Tier) int {
	switch {
	case tier <= policy.Tier1:
		return 3
	case tier == policy.Tier2:
		return 10
	}
	return 25
}
