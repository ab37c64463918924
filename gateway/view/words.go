package view

// table has the text of every message in every language.
var table = map[Code]map[Language]string{}
