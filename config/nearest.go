package config

import (
	"strings"

	"kidoban/gateway/policy"
)

// didYouMean is `; did you mean x?` with a candidate that differs from a word by few typing
// errors, or nothing. It bounds the candidates.
func didYouMean(word string, candidates []string) string {
	if best := policy.Nearest(word, candidates[:min(len(candidates), 1000)]); best != "" {
		return "; did you mean " + best + "?"
	}
	return ""
}

// maxNamed is how many names of a list a message shows.
const maxNamed = 24

// oneOf is "a, b or c"; of many, the first ones.
func oneOf(words []string) string {
	switch n := len(words); {
	case n == 0:
		return "none"
	case n == 1:
		return words[0]
	case n > maxNamed:
		return strings.Join(words[:maxNamed], ", ") + ", ..."
	default:
		return strings.Join(words[:n-1], ", ") + " or " + words[n-1]
	}
}
