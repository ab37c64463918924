package view

import (
	_ "embed"
	"fmt"
	"strings"

	"kidoban/gateway/policy"
)

//go:embed words.txt
var wordsFile string

// table has the text of every message, by language.
var table = parse(wordsFile)

func parse(file string) map[Code]map[Language]string {
	all := map[Code]map[Language]string{}
	var texts map[Language]string // of the last code
	for i, line := range strings.Split(file, "\n") {
		word, text, isText := strings.Cut(line, " ")
		l := Language(word)
		switch {
		case line == "" || word == "#":
		case !isText && all[Code(word)] == nil:
			texts = map[Language]string{}
			all[Code(word)] = texts
		case isText && texts != nil && (l == English || l == Japanese) && texts[l] == "":
			texts[l] = text
		default:
			panic(fmt.Sprintf("words.txt:%d: %q is neither a new code nor its text", i+1, line))
		}
	}
	return all
}

// Meaning explains a reason.
func Meaning(r policy.Reason) Message { return Say("reason_"+Code(r.String()), nil) }

// Changed tells of a change between two policies.
func Changed(c policy.Change) Message {
	return Say("change_"+Code(c.Kind), Args{"thing": Say("thing_"+Code(c.Thing), Args{"name": c.Name})})
}
