package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// place is a position in the file. Lines and columns count from 1, columns in characters.
type place struct{ line, column int }

func placeOf(tk *token.Token) place {
	if tk == nil || tk.Position == nil {
		return place{1, 1}
	}
	return place{tk.Position.Line, tk.Position.Column}
}

// value is a node of the file and the keys that lead to it. The zero value is an absent node:
// reading it reports nothing, since its mapping has reported it.
type value struct {
	node  ast.Node
	where string
	at    place // of the value itself
	key   place // of the key that names it; of an item of a list the same as at
}

func (v value) present() bool { return v.node != nil }

// readable reports whether the value is present, and has not been reported as unreadable.
func (v value) readable() bool { return v.present() && !unread(v.node) }

// named is the same value, with its key as the place of errors.
func (v value) named() value {
	v.at = v.key
	return v
}

// entry is one `name: value` of a mapping with names as keys.
type entry struct {
	name string
	value
}

// decoder collects errors and warnings.
type decoder struct {
	file         string
	errors       Errors
	warnings     []view.Message
	more         int               // errors beyond maxErrors
	warned       map[view.Code]int // warnings by kind
	moreWarnings int               // those beyond maxErrors of a kind
	gaps         bool              // a mapping could not be read, or not all of it

	shared     bool // REPLACE is a value like others
	strange    bool // the mapping that was read last has an unknown field, which may be meant as any other
	tunnelGaps bool // an address of the tunnel could not be read
}

// maxErrors bounds the errors, and the warnings of each kind, that are listed. A file could have one
// every few bytes.
const maxErrors = 100

// errorf reports a mistake. It returns the error, or nil if the list is full.
func (d *decoder) errorf(v value, format string, args ...any) *Error {
	if d.full() {
		d.more++
		return nil
	}
	e := &Error{File: d.file, Line: v.at.line, Column: v.at.column, Where: v.where, What: fmt.Sprintf(format, args...)}
	d.errors = append(d.errors, e)
	return e
}

// full reports whether no more mistakes are told, only counted.
func (d *decoder) full() bool { return len(d.errors) >= maxErrors }

// warn adds a warning about a value.
func (d *decoder) warn(v value, code view.Code, args view.Args) {
	if d.warned == nil {
		d.warned = map[view.Code]int{}
	}
	if d.warned[code]++; d.warned[code] > maxErrors {
		d.moreWarnings++
		return
	}
	if args == nil {
		args = view.Args{}
	}
	args["file"], args["line"], args["column"], args["where"] = d.file, v.at.line, v.at.column, v.where
	d.warnings = append(d.warnings, view.Say(code, args))
}

// unknown reports an unknown name. It calls known only for a message, because that takes a while.
func (d *decoder) unknown(v value, name, what string, known func() []string) {
	if d.full() {
		d.more++
		return
	}
	all := known()
	d.errorf(v, "%s: known is %s%s", what, oneOf(all), didYouMean(name, all))
}

// quote shows a text from the file: on one line, escaped, cut if long.
func quote(text string) string {
	const most = 80
	if utf8.RuneCountInString(text) > most {
		return strconv.Quote(string([]rune(text)[:most])) + "..."
	}
	return strconv.Quote(text)
}

// describe names a node in errors.
func describe(n ast.Node) string {
	switch n.(type) {
	case *ast.NullNode:
		return "nothing"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	default:
		return quote(n.GetToken().Value)
	}
}

// pairs gives keys and values of a mapping in the order of the file. Duplicate keys are errors.
func (d *decoder) pairs(v value) (all []entry, ok bool) {
	var nodes []*ast.MappingValueNode
	if unread(v.node) {
		d.gaps = true
		return nil, false
	}
	switch n := v.node.(type) {
	case nil:
		return nil, false
	case *ast.MappingNode:
		nodes = n.Values
	case *ast.MappingValueNode:
		nodes = []*ast.MappingValueNode{n}
	default:
		d.errorf(v, "is %s: allowed is a mapping (key: value)", describe(n))
		return nil, false
	}
	seen := map[string]place{}
	for _, n := range nodes {
		if key, ok := n.Key.(ast.Node); ok && (unread(key) || key.Type() == ast.MergeKeyType) {
			d.gaps = true
			continue
		}
		e := entry{n.Key.GetToken().Value, value{where: v.where, node: plain(n.Value), key: placeOf(n.Key.GetToken())}}
		e.at = placeOfNode(e.node, e.key)
		if e.where != "" {
			e.where += "."
		}
		e.where += shown(e.name)
		if first, twice := seen[e.name]; twice {
			d.errorf(e.named(), "is there twice: the first is in line %d", first.line)
			continue
		}
		seen[e.name] = e.key
		all = append(all, e)
	}
	return all, true
}

// placeOfNode is where a value begins. The token of a block mapping is its first colon, so its
// first key counts. A missing value is at its key.
func placeOfNode(n ast.Node, key place) place {
	switch n := n.(type) {
	case *ast.MappingNode:
		if len(n.Values) > 0 && !n.IsFlowStyle {
			return placeOf(n.Values[0].Key.GetToken())
		}
	case *ast.MappingValueNode:
		return placeOf(n.Key.GetToken())
	case *ast.NullNode:
		if n.Token.Type == token.ImplicitNullType {
			return key
		}
	}
	return placeOf(n.GetToken())
}

// shown is a key in a message. It is quoted unless it looks like a name or a field, since it may be
// hostile.
func shown(key string) string {
	if isName(strings.ReplaceAll(key, "_", "-")) {
		return key
	}
	return quote(key)
}

// misspelled stands for the value of a field with a misspelled name, which has been reported.
var misspelled ast.Node = &ast.AliasNode{}

// told counts the mistakes so far. If it grows, a part has been read with mistakes.
func (d *decoder) told() int { return len(d.errors) + d.more }

// mapping reads a mapping with fixed fields; one with "?" behind it may be absent. Unknown and
// missing fields are errors. Nothing more is said of a field with a misspelled name.
func (d *decoder) mapping(v value, fields ...string) map[string]value {
	all, ok := d.pairs(v)
	d.strange = !ok
	if !ok {
		return nil
	}
	found := map[string]value{}
	for _, e := range all {
		found[e.name] = e.value
	}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = strings.TrimSuffix(f, "?")
	}
	for _, e := range all {
		if slices.Contains(names, e.name) {
			continue
		}
		d.errorf(e.named(), "unknown field: allowed here is %s%s", oneOf(names), didYouMean(e.name, names))
		delete(found, e.name)
		if meant := policy.Nearest(e.name, names); meant == "" {
			d.strange = true
		} else if !found[meant].present() {
			found[meant] = value{node: misspelled, where: e.where, at: e.at, key: e.key}
		}
	}
	for _, f := range fields {
		if name, optional := strings.CutSuffix(f, "?"); !optional && (!found[name].present() || found[name].node == misspelled) {
			d.errorf(v.named(), "the field %s is missing", name)
		}
	}
	return found
}

// named reads a mapping with names as keys, each value with read. It gives the results sorted by
// name, and by name: nil if there is no such mapping, and with the name unreadEntry if some entries
// could not be read. Entries with a bad name are reported and read.
func named[T any](d *decoder, v value, read func(entry) T) (sorted []T, byName map[string]T) {
	gaps := d.gaps
	d.gaps = false
	all, ok := d.pairs(v)
	partial := d.gaps
	d.gaps = gaps || partial
	if !ok {
		return nil, nil
	}
	if len(all) == 0 {
		d.errorf(v, "is empty: at least one is needed")
	}
	byName = map[string]T{}
	for _, e := range all {
		if !isName(e.name) {
			d.errorf(e.named(), "the name %s is not allowed: a name is 1 to 63 of a-z, 0-9 and hyphen, with no hyphen at its ends", quote(e.name))
		}
		byName[e.name] = read(e)
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		sorted = append(sorted, byName[name])
	}
	if partial {
		var none T
		byName[unreadEntry] = none
	}
	return sorted, byName
}

// unreadEntry stands for the entries of a mapping that could not be read.
const unreadEntry = ""

// mayBe reports whether an unknown name may be one whose entry was reported: because the mapping or
// the entry could not be read, or because the entry has a bad name that is nearly the same.
func mayBe[T any](known map[string]T, name string) bool {
	var bad []string
	for k := range known {
		if !isName(k) {
			bad = append(bad, k)
		}
	}
	return known == nil || slices.Contains(bad, unreadEntry) || policy.Nearest(name, bad) != ""
}

// isName reports whether a text may name a vendor, an engineer and so on. Names become labels, file
// names and lines of configurations.
func isName(text string) bool {
	return text != "" && len(text) <= 63 && text[0] != '-' && text[len(text)-1] != '-' &&
		strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// list reads a list; an empty one is an error.
func (d *decoder) list(v value) []value {
	if !v.present() || unread(v.node) {
		return nil
	}
	n, ok := v.node.(*ast.SequenceNode)
	if !ok {
		d.errorf(v, "is %s: allowed is a list, as in [a, b]", describe(v.node))
		return nil
	}
	if len(n.Values) == 0 {
		d.errorf(v, "is an empty list: at least one item is needed")
	}
	items := make([]value, len(n.Values))
	for i, item := range n.Values {
		item = plain(item)
		at := placeOfNode(item, placeOf(item.GetToken()))
		items[i] = value{item, v.where, at, at}
	}
	return items
}

// maxText bounds the characters of a display text.
const maxText = 1000

// text reads one value as it is written; YAML's own types do not matter.
func (d *decoder) text(v value) (string, bool) {
	if unread(v.node) {
		return "", false
	}
	switch n := v.node.(type) {
	case nil:
		return "", false
	case *ast.StringNode:
		length := utf8.RuneCountInString(n.Value)
		switch {
		case length == 0:
			d.errorf(v, "is empty")
		case n.Value == Replace && !d.shared:
			d.errorf(v, "REPLACE stands for a value that a shared policy leaves out: write the site's own")
		case length > maxText:
			d.errorf(v, "has %d characters: allowed are %d", length, maxText)
		default:
			return n.Value, true
		}
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	case *ast.NullNode:
		d.errorf(v, "has no value")
	case *ast.MappingNode, *ast.MappingValueNode:
		// As [fd00::1] is to YAML.
		d.errorf(v, "is a mapping: allowed is one value; an IPv6 address, and other text with a colon, needs quotes")
	default:
		d.errorf(v, "is %s: allowed is one value", describe(n))
	}
	return "", false
}

// read reads a value with parse, and reports the error of parse.
func read[T any](d *decoder, v value, parse func(text string) (T, error)) (result T, ok bool) {
	text, ok := d.text(v)
	if !ok {
		return result, false
	}
	parsed, err := parse(text)
	if err != nil {
		d.errorf(v, "%v", err)
		return result, false
	}
	return parsed, true
}

// visible reads a text of which all characters show.
func (d *decoder) visible(v value) (string, bool) {
	text, ok := d.text(v)
	if i := strings.IndexFunc(text, hidden); i >= 0 {
		r, _ := utf8.DecodeRuneInString(text[i:])
		d.errorf(v, "%s contains %U, which does not show: remove it", quote(text), r)
		return "", false
	}
	return text, ok
}

// display reads a text for people: up to 200 characters that all show.
func (d *decoder) display(v value) string { return d.shortText(v, 200) }

// shortText reads a text of a bounded number of characters that all show.
func (d *decoder) shortText(v value, most int) string {
	text, ok := d.visible(v)
	n := utf8.RuneCountInString(text)
	switch {
	case !ok:
	case n > most:
		d.errorf(v, "has %d characters: allowed are %d", n, most)
	case strings.TrimSpace(text) == "":
		d.errorf(v, "is blank")
	default:
		return text
	}
	return ""
}

// boolean reads true or false.
func (d *decoder) boolean(v value) bool {
	if !v.present() || unread(v.node) {
		return false
	}
	n, ok := v.node.(*ast.BoolNode)
	if !ok {
		d.errorf(v, "is %s: allowed is true or false", describe(v.node))
		return false
	}
	return n.Value
}

// references reads a list of names. Unknown and duplicate names are errors. The checks report what
// else is wrong with an item, and say whether it counts.
func references[T any](d *decoder, v value, kind string, known map[string]T, checks ...func(item value, thing T) bool) []T {
	var all []T
	seen := map[string]bool{}
	for _, item := range d.list(v) {
		name, ok := d.text(item)
		if !ok {
			continue
		}
		thing, ok := known[name]
		switch {
		case !ok && !d.full() && mayBe(known, name):
		case !ok:
			d.unknown(item, name, fmt.Sprintf("there is no %s %s", kind, quote(name)), func() []string { return namesOf(known) })
		case seen[name]:
			d.errorf(item, "%s is there twice", quote(name))
		case slices.ContainsFunc(checks, func(check func(value, T) bool) bool { return !check(item, thing) }):
		default:
			all = append(all, thing)
		}
		seen[name] = true
	}
	return all
}

// namesOf lists names for a message, sorted, without those that are not allowed.
func namesOf[T any](known map[string]T) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(known)), func(name string) bool { return !isName(name) })
}
