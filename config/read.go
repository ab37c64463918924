package config

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds for a policy of 10,000 engineers. Lexer and parser take several hundred bytes for each
// token, and quadratic time and memory for some texts. checkShape bounds the lexer's input,
// checkTokens the parser's.
const (
	maxBytes   = 4 << 20
	maxLines   = 60_000
	maxNesting = 32
	maxMarks   = 300_000  // each makes up to two tokens
	maxTabs    = 30       // of a line: within quotes the lexer reads on to its end for each
	maxAngles  = 20       // in a row: the lexer counts them anew for each
	maxBlank   = 30       // lines in a row: behind a block text the lexer copies the text for each
	maxKeys    = 12_000   // of one block mapping: the parser recurses and copies for each
	maxEmpty   = 1000     // keys without a value: the parser moves all that follows for each
	maxPaths   = 50 << 20 // bytes of all keys that lead to each token: the parser keeps them
)

// parse gives the one document of the file, or reports why there is none. It reports the parts of
// YAML that are not allowed and reads the rest.
func (d *decoder) parse(text []byte) ast.Node {
	text, ok := d.checkText(text)
	if !ok || !d.checkShape(text) {
		return nil
	}
	// A panic of the parser is an error in the text: the policy in force stays.
	defer func() {
		if r := recover(); r != nil {
			d.errorf(value{at: place{1, 1}}, "cannot be read as YAML: the parser failed, and the place is not known; take away what was added last")
		}
	}()
	// The lexer counts CR LF within quotes as two lines.
	lines := strings.ReplaceAll(string(text), "\r\n", "\n")
	tokens := lexer.Tokenize(lines)
	before := len(d.errors)
	if !d.checkTokens(tokens) {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		if len(d.errors) == before { // else the parser stumbled over that
			d.syntaxError(err, lines, tokens)
		}
		return nil
	}
	for _, document := range file.Docs {
		if document.Body != nil {
			return plain(document.Body)
		}
	}
	d.errorf(value{at: place{1, 1}}, "says nothing: a policy begins with \"version: 1\"")
	return nil
}

// fullWidth is a remark about full-width characters that Japanese input methods write in place of
// YAML's, and about spaces that are none.
func fullWidth(text string, line int) string {
	lines := strings.Split(text, "\n")
	if line > len(lines) {
		return ""
	}
	const wide, ascii = "：，［］｛｝＃－＂＇\u3000\u00a0", ":,[]{}#-\"'"
	i := strings.IndexAny(lines[line-1], wide)
	if i < 0 {
		return ""
	}
	r, _ := utf8.DecodeRuneInString(lines[line-1][i:])
	if noSpaces[r] != "" {
		return fmt.Sprintf("; the %s of this line is text, and no space", noSpaces[r])
	}
	meant := ascii[utf8.RuneCountInString(wide[:strings.IndexRune(wide, r)])]
	return fmt.Sprintf("; the full-width %q of this line is text, and no %q", r, meant)
}

// checkText refuses text that is not plain UTF-8, and characters that make a policy look different
// from its meaning (Boucher and Anderson, "Trojan Source", 2021), also in comments. It strips the
// byte order mark. ok is false if the rest is not readable.
func (d *decoder) checkText(text []byte) (rest []byte, ok bool) {
	start := value{at: place{1, 1}}
	if len(text) > maxBytes {
		d.errorf(start, "has more than %d bytes: allowed are %d", maxBytes, maxBytes)
		return nil, false
	}
	if n := bytes.Count(text, []byte("\n")); n > maxLines {
		d.errorf(start, "has %d lines: allowed are %d", n, maxLines)
		return nil, false
	}
	rest, ok = bytes.CutPrefix(text, []byte("\ufeff"))
	if ok {
		d.errorf(start, "begins with a byte order mark: save it as UTF-8 without one")
	}
	ok = true
	number := 0
	for line := range bytes.SplitSeq(rest, []byte("\n")) {
		number++
		line = bytes.TrimSuffix(line, []byte("\r"))
		column := 0
		for len(line) > 0 {
			r, size := utf8.DecodeRune(line)
			column++
			at := value{at: place{number, column}}
			if r == utf8.RuneError && size == 1 {
				d.errorf(at, "byte 0x%02x is not UTF-8: save the file as UTF-8", line[0])
				ok = false
				break
			}
			if r != '\t' && hidden(r) {
				d.errorf(at, "character %U does not show: remove it", r)
				ok = ok && !unicode.Is(unicode.Cc, r) // the lexer may take it for the end of a line
				break
			}
			line = line[size:]
		}
	}
	return rest, ok
}

// hidden reports invisible characters and those that change the display of others: controls, format
// marks, line and paragraph separators.
func hidden(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// checkShape bounds the lexer's work. It counts characters that may begin or end a token, also
// within quotes and comments; the bounds leave room for these.
func (d *decoder) checkShape(text []byte) bool {
	marks, quotes, blank, number := 0, 0, 0, 0
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		number++
		marks++
		at := value{at: place{number, 1}}
		if blank++; len(bytes.TrimSpace(line)) > 0 {
			blank = 0
		}
		tabs, angles := 0, 0
		directive := false
		for i, c := range line {
			if c != '<' {
				angles = 0
			}
			switch c {
			case '[', ']', '{', '}', ',', '&', '*', '!', '@', '`':
				marks++
			case '%': // of a directive each word is a token
				marks++
				directive = true
			case ':', '-', '?': // a mark only before a space; in a flow, marks of other kinds stand around it
				if i+1 == len(line) || line[i+1] == ' ' || line[i+1] == '\t' || line[i+1] == '\r' {
					marks++
				}
			case '"', '\'': // a pair of quotes encloses one text
				quotes++
			case '\t':
				tabs++
				marks++
			case ' ':
				if directive {
					marks++
				}
			case '<':
				angles++
			}
			switch {
			case tabs > maxTabs:
				d.errorf(at, "a line has more than %d tabs: allowed are %d; write spaces", maxTabs, maxTabs)
				return false
			case angles > maxAngles:
				d.errorf(at, "has more than %d %q in a row: allowed are %d", maxAngles, '<', maxAngles)
				return false
			}
		}
		switch {
		case blank > maxBlank:
			d.errorf(at, "has more than %d blank lines in a row: allowed are %d", maxBlank, maxBlank)
			return false
		case marks+quotes/2 > maxMarks:
			d.errorf(at, "has more than %d lines, values and signs of YAML up to here: allowed are %d, which is enough for 10,000 engineers", maxMarks, maxMarks)
			return false
		}
	}
	return true
}

// shape is the nesting that the parser would see.
type shape struct {
	block  []level // mappings with one key a line, each further to the right than its parent
	flow   []level // open [ and {
	dashes int     // "- - -"
	empty  int     // keys and entries without a value
	paths  int     // bytes of the keys that lead to each token
}

type level struct {
	column  int
	key     int  // the length of its newest key
	keys    int  // in a flow: since the last comma
	mapping bool // opened by {
}

// add counts one token, with the tokens before and behind it.
func (s *shape) add(before, tk, next *token.Token) {
	if tk.Type != token.SequenceEntryType {
		s.dashes = 0
	}
	inner := (*level)(nil)
	if len(s.flow) > 0 {
		inner = &s.flow[len(s.flow)-1]
	}
	switch tk.Type {
	case token.MappingStartType, token.SequenceStartType:
		s.flow = append(s.flow, level{mapping: tk.Type == token.MappingStartType})
	case token.MappingEndType, token.SequenceEndType, token.CollectEntryType:
		if inner == nil {
			break
		}
		nothing := before.Type == token.MappingStartType || before.Type == token.CollectEntryType // as in {} and {a: 1,}
		if inner.mapping && !nothing && (inner.keys == 0 || before.Type == token.MappingValueType) {
			s.empty++
		}
		if inner.keys = 0; tk.Type != token.CollectEntryType {
			s.flow = s.flow[:len(s.flow)-1]
		}
	case token.SequenceEntryType:
		s.dashes++
		s.leave(tk.Position.Column + 1)
		if next == nil || next.Position.Column <= tk.Position.Column {
			s.empty++
		}
	case token.MappingValueType:
		if before == nil {
			break
		}
		column := before.Position.Column
		if next == nil || next.Position.Column <= column {
			s.empty++
		}
		if inner == nil {
			s.leave(column + 1)
			if n := len(s.block); n == 0 || s.block[n-1].column < column {
				s.block = append(s.block, level{column: column})
			}
			inner = &s.block[len(s.block)-1]
		}
		inner.keys++
		inner.key = len(before.Value)
	}
	for _, levels := range [][]level{s.block, s.flow} {
		for _, l := range levels {
			s.paths += l.key
		}
	}
}

// leave ends the block mappings from a column on.
func (s *shape) leave(column int) {
	for n := len(s.block); n > 0 && s.block[n-1].column >= column; n-- {
		s.block = s.block[:n-1]
	}
}

// tooMuch says why the parser must not be given the tokens so far.
func (s *shape) tooMuch() string {
	keys := 0
	for _, levels := range [][]level{s.block, s.flow} {
		if n := len(levels); n > 0 {
			keys = max(keys, levels[n-1].keys)
		}
	}
	switch {
	case len(s.block)+len(s.flow) > maxNesting, s.dashes > maxNesting:
		return fmt.Sprintf("nested deeper than %d", maxNesting)
	case keys > maxKeys:
		return fmt.Sprintf("is one more than %d keys of one mapping: allowed are %d", maxKeys, maxKeys)
	case s.empty > maxEmpty:
		return fmt.Sprintf("more than %d keys have no value up to here: each needs one", maxEmpty)
	case s.paths > maxPaths:
		return "the keys that lead here are too long, for all that they lead to: a name has up to 63 characters"
	}
	return ""
}

// refusedTokens are the parts of YAML that a policy does not use. The rest of the file is readable
// behind some of them.
var refusedTokens = map[token.Type]struct {
	what     string
	readable bool
}{
	token.AnchorType:         {"an anchor (&) is not allowed: write the value out; text that begins with & needs quotes", true},
	token.AliasType:          {"an alias (*) is not allowed: write the value out; text that begins with * needs quotes", true},
	token.MergeKeyType:       {"a merge key (<<) is not allowed: write the values out", true},
	token.TagType:            {"a tag (!) is not allowed; text that begins with ! needs quotes", true},
	token.LiteralType:        {"a block text (| or >) is not allowed: write it on one line", true},
	token.FoldedType:         {"a block text (| or >) is not allowed: write it on one line", true},
	token.MappingKeyType:     {"a complex key (?) is not allowed: write key: value", false},
	token.DirectiveType:      {"a directive (%) is not allowed", false},
	token.DocumentHeaderType: {"a second document (---) is not allowed: a policy is one document", false},
	token.DocumentEndType:    {"an end of document (...) is not allowed: a policy is one document", false},
}

// checkTokens refuses the parts of YAML that a policy does not use, and bounds the work of the
// recursive parser. ok is false if the rest is not readable.
func (d *decoder) checkTokens(all token.Tokens) (ok bool) {
	ok = true
	tokens := make(token.Tokens, 0, len(all))
	for _, tk := range all {
		if tk.Type != token.CommentType {
			tokens = append(tokens, tk)
		}
	}
	var s shape
	directive := false
	for i, tk := range tokens {
		at := value{at: placeOf(tk)}
		if refused, is := refusedTokens[tk.Type]; is && (tk.Type != token.DocumentHeaderType || i > 0 && !directive) {
			d.errorf(at, "%s", refused.what)
			ok = ok && refused.readable
		}
		directive = directive || tk.Type == token.DirectiveType
		var before, next *token.Token
		if i > 0 {
			before = tokens[i-1]
		}
		if i+1 < len(tokens) {
			next = tokens[i+1]
		}
		s.add(before, tk, next)
		if why := s.tooMuch(); why != "" {
			d.errorf(at, "%s", why)
			return false
		}
	}
	return ok
}

// plain is a node without an anchor or a tag, which have been reported.
func plain(n ast.Node) ast.Node {
	for {
		var inner ast.Node
		switch n := n.(type) {
		case *ast.AnchorNode:
			inner = n.Value
		case *ast.TagNode:
			inner = n.Value
		}
		if inner == nil {
			return n
		}
		n = inner
	}
}

// unread reports nodes that have been reported and have no known value.
func unread(n ast.Node) bool {
	switch n.(type) {
	case *ast.AliasNode, *ast.AnchorNode, *ast.TagNode, *ast.LiteralNode:
		return true
	}
	return false
}
