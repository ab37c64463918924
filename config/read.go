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
func (d *decoder) parse(text []byte) ast.Node {
	if !d.checkText(text) {
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
	tokens := lexer.Tokenize(strings.ReplaceAll(string(text), "\r\n", "\n"))
	if !d.checkTokens(tokens) {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntaxError(err)
		return nil
	}
	for _, document := range file.Docs {
		if document.Body != nil {
			return document.Body
		}
	}
	d.errorf(value{at: place{1, 1}}, "the file says nothing: a policy begins with \"version: 1\"")
	return nil
}

func (d *decoder) syntaxError(err error) {
	var located interface {
		GetMessage() string
		GetToken() *token.Token
	}
	at, message := place{1, 1}, err.Error()
	if errors.As(err, &located) {
		at, message = placeOf(located.GetToken()), located.GetMessage()
	}
	d.errorf(value{at: at}, "is not YAML: %s", strings.ReplaceAll(message, "\t", `\t`))
}

// checkText refuses what is no plain UTF-8 text, and characters that make a
// policy look different from what it says (Boucher and Anderson, "Trojan
// Source", 2021), also in comments.
func (d *decoder) checkText(text []byte) bool {
	before := len(d.errors)
	start := value{at: place{1, 1}}
	if len(text) > maxBytes {
		d.errorf(start, "the file has %d bytes: allowed are %d", len(text), maxBytes)
		return false
	}
	if n := bytes.Count(text, []byte("\n")); n > maxLines {
		d.errorf(start, "the file has %d lines: allowed are %d", n, maxLines)
		return false
	}
	if bytes.HasPrefix(text, []byte("\ufeff")) {
		d.errorf(start, "the file begins with a byte order mark: save it as UTF-8 without one")
		text = text[len("\ufeff"):]
	}
	number := 0
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		number++
		line = bytes.TrimSuffix(line, []byte("\r"))
		column := 0
		for len(line) > 0 {
			r, size := utf8.DecodeRune(line)
			column++
			at := value{at: place{number, column}}
			if r == utf8.RuneError && size == 1 {
				d.errorf(at, "byte 0x%02x is not UTF-8: save the file as UTF-8", line[0])
				break
			}
			if r != '\t' && hidden(r) {
				d.errorf(at, "character %U does not show: remove it", r)
				break
			}
			line = line[size:]
		}
	}
	return len(d.errors) == before
}

// hidden reports characters that do not show, or change how others show:
// control characters, bidirectional and other format marks, line and
// paragraph separators.
func hidden(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// checkTokens refuses the parts of YAML that a policy does not use, and bounds
// nesting before a recursive parser sees it.
func (d *decoder) checkTokens(tokens token.Tokens) bool {
	before := len(d.errors)
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
		case token.DirectiveType:
			directive = true
			d.errorf(at, "a directive (%%) is not allowed")
		case token.LiteralType, token.FoldedType:
			d.errorf(at, "a block text (| or >) is not allowed: write it on one line")
		case token.DocumentHeaderType:
			if firstContent(tokens) != i && !directive {
				d.errorf(at, "a second document (---) is not allowed: a policy is one document")
			}
		case token.DocumentEndType:
			d.errorf(at, "an end of document (...) is not allowed: a policy is one document")
		}
		if flow > maxNesting || entries > maxNesting {
			d.errorf(at, "nested deeper than %d", maxNesting)
			return false
		}
	}
	return len(d.errors) == before
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
