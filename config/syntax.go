package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/token"
)

// syntaxError reports why the text is not YAML, in our own words: the parser's mean nothing to
// people who edit a policy, and often name a place far behind the mistake.
func (d *decoder) syntaxError(err error, text string, tokens token.Tokens) {
	var located interface {
		GetMessage() string
		GetToken() *token.Token
	}
	at, message := place{1, 1}, ""
	if errors.As(err, &located) {
		at, message = placeOf(located.GetToken()), located.GetMessage()
	}
	lines := strings.Split(text, "\n")
	// The mistake is at the parser's place or above it. The next line is kept, since it may
	// continue the parser's line.
	lines = lines[:min(len(lines), at.line+1)]
	why := ""
	for _, diagnose := range []func() (place, string){
		func() (place, string) { return leadingBlank(lines) },
		func() (place, string) { return openQuote(lines[:min(len(lines), at.line)]) },
		func() (place, string) { return brackets(tokens, at) },
		func() (place, string) { return indentation(lines) },
		func() (place, string) { return colonAlone(lines, at) },
		func() (place, string) { return at, meaning(lines, at, message) },
	} {
		if found, what := diagnose(); what != "" {
			at, why = found, what
			break
		}
	}
	if !strings.HasSuffix(why, "allowed are spaces") {
		why += fullWidth(text, at.line)
	}
	d.errorf(value{at: at}, "is not YAML: %s", why)
}

// noSpaces look like spaces, and are none to YAML.
var noSpaces = map[rune]string{'\t': "tab", '\u3000': "full-width space", '\u00a0': "no-break space"}

// leadingBlank finds a line that is indented by what is no space.
func leadingBlank(lines []string) (place, string) {
	for i, line := range lines {
		text := strings.TrimLeft(line, " ")
		r, _ := utf8.DecodeRuneInString(text)
		if noSpaces[r] != "" && strings.TrimSpace(text) != "" {
			return place{i + 1, len(line) - len(text) + 1}, fmt.Sprintf("a %s stands before the text: allowed are spaces", noSpaces[r])
		}
	}
	return place{}, ""
}

// openQuote finds a quote that does not end on its line, and text behind the end of one.
func openQuote(lines []string) (place, string) {
	for i, line := range lines {
		begins := true // a value may begin here
		for rest := line; rest != ""; {
			before, c := line[:len(line)-len(rest)], rest[0]
			rest = rest[1:]
			switch {
			case c == '#' && (begins || strings.HasSuffix(before, " ")):
				rest = ""
			case begins && (c == '"' || c == '\''):
				end := endOfQuote(rest, c)
				if end < 0 {
					twice := map[byte]string{'"': `\"`, '\'': "''"}[c]
					return place{i + 1, utf8.RuneCountInString(before) + 1}, fmt.Sprintf("the quote %c that begins here does not end on this line: close it; within the text it is written %s", c, twice)
				}
				rest = rest[end+1:]
				behind := strings.TrimLeft(rest, " ")
				if behind != "" && !strings.Contains(",]}:#", behind[:1]) {
					return place{i + 1, utf8.RuneCountInString(line) - utf8.RuneCountInString(behind) + 1},
						"text stands behind the end of a quote: enclose all of it in quotes, or nothing"
				}
				begins = false
			case strings.IndexByte("[{,", c) >= 0, (c == ':' || c == '-') && (rest == "" || rest[0] == ' '):
				begins = true
			case c != ' ':
				begins = false
			}
		}
	}
	return place{}, ""
}

// endOfQuote is the index of the quote that ends a text, or -1.
func endOfQuote(text string, quote byte) int {
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && quote == '"':
			i++
		case text[i] == quote && quote == '\'' && i+1 < len(text) && text[i+1] == quote:
			i++
		case text[i] == quote:
			return i
		}
	}
	return -1
}

// brackets finds a bracket or a comma that does not fit, up to a place.
func brackets(tokens token.Tokens, at place) (place, string) {
	closing := map[token.Type]string{token.SequenceStartType: "]", token.MappingStartType: "}"}
	var open []*token.Token
	var before *token.Token
	for _, tk := range tokens {
		here := placeOf(tk)
		if tk.Type == token.CommentType {
			continue
		}
		switch tk.Type {
		case token.SequenceStartType, token.MappingStartType:
			open = append(open, tk)
		case token.SequenceEndType, token.MappingEndType:
			if len(open) == 0 {
				return here, fmt.Sprintf("the %s closes nothing: allowed is one for each [ or { before it", tk.Value)
			}
			if last := open[len(open)-1]; closing[last.Type] != tk.Value {
				return here, fmt.Sprintf("before this a %s is missing: the %s in line %d is not closed yet", closing[last.Type], last.Value, last.Position.Line)
			}
			open = open[:len(open)-1]
		case token.CollectEntryType:
			if len(open) > 0 && (before.Type == token.CollectEntryType || closing[before.Type] != "") {
				return here, "a comma stands here without an item before it: take it away"
			}
		}
		before = tk
		if here.line > at.line || here.line == at.line && here.column >= at.column {
			break
		}
	}
	if len(open) == 0 {
		return place{}, ""
	}
	first := open[len(open)-1]
	return at, fmt.Sprintf("before this a comma or a %s is missing: the %s in line %d is not closed yet", closing[first.Type], first.Value, first.Position.Line)
}

// indentation finds the first line that does not stand below a line before it.
func indentation(lines []string) (place, string) {
	var stands []int            // the indents that lines above have, each further to the right
	item := map[int]bool{}      // by indent: the newest line there is an item of a list
	known := map[int]bool{}     // by indent: there is such a line, below the same key
	complete, depth := false, 0 // the line before has its value; brackets that are open
	keyless := place{}          // the line before, if it has no key
	for i, line := range lines {
		text := strings.TrimLeft(line, " ")
		if content, _, comment := strings.Cut(" "+text, " #"); comment {
			text = strings.TrimSpace(content)
		}
		if text == "" || strings.HasPrefix(text, "---") {
			continue
		}
		indent := len(line) - len(strings.TrimLeft(line, " "))
		if stands == nil {
			stands = []int{indent}
		}
		if depth == 0 {
			if indent < stands[0] {
				return place{i + 1, indent + 1}, fmt.Sprintf("is indented by %s: allowed here is %s, as in the first line", spaces(indent), list(stands))
			}
			for n := len(stands); n > 1 && stands[n-1] > indent; n-- {
				delete(known, stands[n-1])
				if stands = stands[:n-1]; stands[n-2] < indent { // between two
					return place{i + 1, indent + 1}, fmt.Sprintf("is indented by %s: allowed here is %s, as in the lines above it", spaces(indent), indents(stands, indent, lines[:i]))
				}
			}
			dash := strings.HasPrefix(text, "- ") || text == "-"
			switch {
			case stands[len(stands)-1] < indent && keyless != place{}:
				return keyless, noKey
			case stands[len(stands)-1] < indent && complete:
				return place{i + 1, indent + 1}, fmt.Sprintf("is indented by %s, and the line above it has its value already: allowed here is %s", spaces(indent), list(stands))
			case stands[len(stands)-1] < indent:
				stands = append(stands, indent)
			case known[indent] && item[indent] != dash && (item[indent] || i == len(lines)-1):
				return place{i + 1, indent + 1}, "an item of a list (- a) and a key (key: value) stand side by side: allowed is one of both"
			}
			known[indent], item[indent] = true, dash
			if dash {
				inner := indent + len(text) - len(strings.TrimLeft(text[1:], " "))
				if strings.Contains(text, ": ") || strings.HasSuffix(text, ":") {
					stands = append(stands, inner)
				}
			}
		}
		depth = max(0, depth+strings.Count(text, "[")+strings.Count(text, "{")-strings.Count(text, "]")-strings.Count(text, "}"))
		complete, keyless = !strings.HasSuffix(text, ":") && text != "-", place{}
		if complete && depth == 0 && !strings.Contains(text, ": ") && !strings.HasPrefix(text, "- ") && !strings.ContainsAny(text, "]}") {
			keyless = place{i + 1, indent + 1}
		}
	}
	return place{}, ""
}

// indents lists the indents that a line may have: those that are open above it.
func indents(stands []int, indent int, above []string) string {
	all := slices.Clone(stands)
	for _, line := range slices.Backward(above) {
		if n := len(line) - len(strings.TrimLeft(line, " ")); n > indent && strings.TrimSpace(line) != "" {
			if !slices.Contains(all, n) {
				all = append(all, n)
			}
			continue
		}
		if strings.TrimSpace(line) != "" {
			break
		}
	}
	slices.Sort(all)
	return list(all)
}

func list(indents []int) string {
	var words []string
	for _, n := range indents {
		words = append(words, fmt.Sprint(n))
	}
	return oneOf(words)
}

func spaces(n int) string {
	if n == 1 {
		return "1 space"
	}
	return fmt.Sprintf("%d spaces", n)
}

// colonAlone finds a line without a key, at a place or on the next line.
func colonAlone(lines []string, at place) (place, string) {
	for i := max(at.line, 1) - 1; i < len(lines); i++ {
		if text := strings.TrimLeft(lines[i], " "); strings.HasPrefix(text, ":") {
			return place{i + 1, len(lines[i]) - len(text) + 1}, "a line begins with a colon: its key is missing"
		}
	}
	return place{}, ""
}

// behindEnd reports whether a bracket or a quote ends before a place, on its line.
func behindEnd(lines []string, at place) bool {
	if at.line > len(lines) {
		return false
	}
	line := []rune(lines[at.line-1])
	before := strings.TrimRight(string(line[:min(len(line), at.column-1)]), " ")
	return before != "" && strings.Contains("]}\"'", before[len(before)-1:])
}

const noKey = "here is no \"key: value\", with a space behind the colon"

// meaning gives the message of the parser in our words.
func meaning(lines []string, at place, message string) string {
	switch {
	case strings.HasSuffix(message, "is a reserved character") && at.line <= len(lines) && at.column <= utf8.RuneCountInString(lines[at.line-1]):
		return fmt.Sprintf("text that begins with %c needs quotes", []rune(lines[at.line-1])[at.column-1])
	case strings.Contains(message, "escape character"):
		return `a text in double quotes has a backslash that means nothing: a backslash is written \\; or take single quotes`
	case strings.HasPrefix(message, "non-map value"), message == "unexpected key name":
		return noKey
	case strings.HasPrefix(message, "invalid header option"):
		return refusedTokens[token.LiteralType].what
	case strings.Contains(message, "tag"):
		return refusedTokens[token.TagType].what
	case strings.HasPrefix(message, "could not find end character"):
		return "a quote that begins here has no end"
	case strings.HasPrefix(message, "could not find '"):
		return "a bracket closes nothing: allowed is one for each [ or { before it"
	case strings.HasPrefix(message, "block sequence"):
		return "an item of a list (- a) stands behind its key: allowed is [a, b], or each item on a line of its own"
	case behindEnd(lines, at):
		return "this stands behind the end of a list, a mapping or a quote: take it away, or put a comma before it"
	case strings.HasPrefix(message, "mapping value"), strings.HasPrefix(message, "found an invalid key"):
		return "a value has a colon with a space behind it: enclose the value in quotes"
	}
	return "this does not fit the lines before it: allowed are lines of \"key: value\", each below its key, lists as [a, b], and quotes around text with signs of YAML"
}
