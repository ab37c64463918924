package view

// Plain is a text that has no code of its own yet.
const Plain Code = "plain"

// table has the text of every message in every language.
var table = map[Code]map[Language]string{
	Plain: {English: "{text}", Japanese: "{text}"},
}
