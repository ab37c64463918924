package config

import "strings"

// didYouMean is `; did you mean "x"?` with a candidate that differs from a word by few typing
// errors, or nothing. It bounds the candidates.
func didYouMean(word string, candidates []string) string {
	candidates = candidates[:min(len(candidates), 1000)]
	best, bestDistance := "", 1+min(3, (len(word)+1)/3)
	if len(word) > 64 {
		return ""
	}
	for _, c := range candidates {
		if d := editDistance(strings.ToLower(word), strings.ToLower(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// editDistance counts the bytes to insert, delete or replace (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// maxNamed is how many names of a list a message shows.
const maxNamed = 16

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
