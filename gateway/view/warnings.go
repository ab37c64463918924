package view

import "fmt"

// Warnings about a policy: so many of a kind are told one by one, and so many places of
// the others are named.
const (
	alikeMost  = 3
	placesMost = 12
)

// Summed sums up warnings of one kind about a policy file, if there are many. The
// message has the first one, and the places of the others.
func Summed(warnings []Message) (all []Message) {
	kinds := map[Code][]Message{}
	for _, w := range warnings {
		kinds[w.Code] = append(kinds[w.Code], w)
	}
	told := map[Code]bool{}
	for _, w := range warnings {
		alike := kinds[w.Code]
		switch {
		case w.Args["where"] == nil || len(alike) <= alikeMost:
			all = append(all, w)
		case !told[w.Code]:
			told[w.Code] = true
			var places []string
			for _, other := range alike[1:] {
				places = append(places, fmt.Sprint(other.Args["where"], ":", other.Args["line"]))
			}
			all = append(all, Say("warnings_alike", Args{"first": w, "others": Few(places, placesMost)}))
		}
	}
	return all
}
