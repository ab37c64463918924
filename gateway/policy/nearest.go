package policy

import "strings"

// Nearest is the candidate that differs from a word by few typing errors, or "".
func Nearest(word string, candidates []string) string {
	best, bestDistance := "", 1+min(3, (len(word)+1)/3)
	if len(word) > 127 { // two names with a slash between them
		return ""
	}
	for _, c := range candidates {
		if max(len(c)-len(word), len(word)-len(c)) >= bestDistance {
			continue
		}
		if d := editDistance(strings.ToLower(word), strings.ToLower(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
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

// Nearest is the vendor or vendor/engineer that a mistyped name may mean, or "". A
// display name, and an engineer's name alone, mean their owner, if it is the only one.
func (p *Policy) Nearest(name string) string {
	owners := map[string]string{} // the scope that a candidate means; empty: one of several
	var candidates []string
	add := func(candidate, scope string) {
		switch owner, known := owners[candidate]; {
		case candidate == "":
		case !known:
			owners[candidate] = scope
			candidates = append(candidates, candidate)
		case owner != scope:
			owners[candidate] = ""
		}
	}
	alone := !strings.Contains(name, "/")
	for _, v := range p.Vendors {
		if alone {
			add(v.Name, v.Name)
			add(v.DisplayName, v.Name)
		}
		for _, e := range v.Engineers {
			if alone {
				add(e.Name, e.String())
				add(e.DisplayName, e.String())
			}
			add(e.String(), e.String())
		}
	}
	return owners[Nearest(name, candidates)]
}
