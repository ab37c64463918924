package view

import (
	"fmt"
	"slices"
)

// Up to alikeMost warnings of a kind are told one by one. Of more, one line names up to
// placesMost places.
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
			for _, one := range alike {
				if place := fmt.Sprint(one.Args["where"], ":", one.Args["line"]); !slices.Contains(places, place) {
					places = append(places, place)
				}
			}
			if len(places) == 1 {
				places = append(places, places[0])
			}
			all = append(all, Say("warnings_alike", Args{"first": w, "others": Few(places[1:], placesMost)}))
		}
	}
	return all
}
