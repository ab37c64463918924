package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds that a policy of 10,000 engineers keeps within. The parser recurses
// for every key of a block mapping and takes time quadratic in their number
// (1.2 s for 20,000 keys, 6 s for 50,000), so it must not be given just anything.
const (
	maxBytes   = 4 << 20
	maxLines   = 60_000
	maxNesting = 32
)

// parse gives the one document of the file, or reports why there is none.
// What a policy does not use of YAML is reported, and the rest is read all the
// same, so that every mistake is told at once.
func (d *decoder) parse(text []byte) ast.Node {
	text, ok := d.checkText(text)
	if !ok {
		return nil
	}
	// The parser is not ours and reads what people wrote: if it panics, the
	// text is at fault for us, and the policy in force stays.
	defer func() {
		if r := recover(); r != nil {
			d.errorf(value{at: place{1, 1}}, "cannot be read as YAML (the parser failed: %s)", quote(fmt.Sprint(r)))
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
			d.syntaxError(err, lines)
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

func (d *decoder) syntaxError(err error, text string) {
	var located interface {
		GetMessage() string
		GetToken() *token.Token
	}
	at, message := place{1, 1}, err.Error()
	if errors.As(err, &located) {
		at, message = placeOf(located.GetToken()), located.GetMessage()
	}
	if message == "non-map value is specified" { // goccy's words
		message = "here is no \"key: value\", with a space behind the colon"
	}
	d.errorf(value{at: at}, "is not YAML: %s%s", strings.ReplaceAll(message, "\t", `\t`), fullWidth(text, at.line))
}

// fullWidth is what to add about a line with a character that looks like a
// part of YAML and is none: input methods of Japanese write it.
func fullWidth(text string, line int) string {
	lines := strings.Split(text, "\n")
	if line > len(lines) {
		return ""
	}
	const wide, ascii = "：，［］｛｝＃－＂＇　", ":,[]{}#-\"' "
	i := strings.IndexAny(lines[line-1], wide)
	if i < 0 {
		return ""
	}
	r, _ := utf8.DecodeRuneInString(lines[line-1][i:])
	meant := ascii[utf8.RuneCountInString(wide[:strings.IndexRune(wide, r)])]
	return fmt.Sprintf("; the full-width %q of this line is text, and no %q", r, meant)
}

// checkText refuses what is no plain UTF-8 text, and characters that make a
// policy look different from what it says (Boucher and Anderson, "Trojan
// Source", 2021), also in comments. It gives the text without a byte order
// mark, and false where it is no use to read on.
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

// hidden reports characters that do not show, or change how others show:
// control characters, bidirectional and other format marks, line and
// paragraph separators.
func hidden(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// checkTokens refuses the parts of YAML that a policy does not use, and bounds
// nesting before a recursive parser sees it. It is false where the rest is no
// use to read: what plain and unread know can be passed over.
func (d *decoder) checkTokens(tokens token.Tokens) (ok bool) {
	ok = true
	flow, entries := 0, 0
	directive := false
	for i, tk := range tokens {
		at := value{at: placeOf(tk)}
		if tk.Type != token.SequenceEntryType {
			entries = 0
		}
		switch tk.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType:
			entries++
		case token.AnchorType:
			d.errorf(at, "an anchor (&) is not allowed: write the value out; text that begins with & needs quotes")
		case token.AliasType:
			d.errorf(at, "an alias (*) is not allowed: write the value out; text that begins with * needs quotes")
		case token.MergeKeyType:
			d.errorf(at, "a merge key (<<) is not allowed: write the values out")
		case token.TagType:
			d.errorf(at, "a tag (!) is not allowed; text that begins with ! needs quotes")
		case token.MappingKeyType:
			d.errorf(at, "a complex key (?) is not allowed: write key: value")
			ok = false
		case token.DirectiveType:
			directive = true
			d.errorf(at, "a directive (%%) is not allowed")
			ok = false
		case token.LiteralType, token.FoldedType:
			d.errorf(at, "a block text (| or >) is not allowed: write it on one line")
		case token.DocumentHeaderType:
			if firstContent(tokens) != i && !directive {
				d.errorf(at, "a second document (---) is not allowed: a policy is one document")
				ok = false
			}
		case token.DocumentEndType:
			d.errorf(at, "an end of document (...) is not allowed: a policy is one document")
			ok = false
		}
		if flow > maxNesting || entries > maxNesting {
			d.errorf(at, "nested deeper than %d", maxNesting)
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

// unread reports nodes whose value is not known, and which have been reported.
func unread(n ast.Node) bool {
	switch n.(type) {
	case *ast.AliasNode, *ast.AnchorNode, *ast.TagNode, *ast.LiteralNode:
		return true
	}
	return false
}

// firstContent is the index of the first token that is no comment.
func firstContent(tokens token.Tokens) int {
	for i, tk := range tokens {
		if tk.Type != token.CommentType {
			return i
		}
	}
	return -1
}
