package share

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"iter"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"

	"kidoban/config"
)

// LeakError says that a word of the policy would be in the shared policy.
type LeakError struct {
	Field string // of the shared policy
	Word  string
}

func (e *LeakError) Error() string {
	return fmt.Sprintf("%s: %q is a word of the policy", e.Field, e.Word)
}

// shortest is how many characters a word has that must not be in the shared policy. Of a name in the policy
// two characters count, if they are not Latin: 佐藤.
const shortest, shortestName = 4, 2

// guard finds words of a policy in texts.
type guard struct {
	words     map[string]map[string]string // by their first four bytes: the word in each form that it may have
	addresses map[string]bool
}

// guardOf knows the words of the text of a policy, comments among them, and its names and addresses.
func guardOf(source *config.Tree, text []byte, addresses map[string]string) *guard {
	g := &guard{words: map[string]map[string]string{}, addresses: map[string]bool{}}
	for w := range runs(norm.NFKC.String(string(text))) {
		if utf8.RuneCountInString(w) >= shortest {
			g.add(w)
		}
	}
	g.names(source)
	for a := range addresses {
		alone, _, _ := strings.Cut(a, "/")
		g.addresses[strings.ToLower(alone)] = true
	}
	for _, host := range hosts(source) {
		g.addresses[host.String()] = true
	}
	return g
}

// hosts are the hosts of vendors on plain lines: each address in their sources, of which prefixes are in
// the policy as well.
func hosts(source *config.Tree) (all []netip.Addr) {
	vendors, lines := source.Field("vendors"), source.Field("lines")
	if vendors == nil {
		return nil
	}
	for _, v := range vendors.Fields {
		line, sources := v.Field("line"), v.Field("sources")
		if line == nil || sources == nil {
			continue
		}
		if plain := lines.Field(line.Text).Field("plain"); plain == nil || plain.Text != "true" {
			continue
		}
		for _, s := range sources.Items {
			p, ok := prefix(s.Text)
			for a := p.Masked().Addr(); ok && p.Contains(a) && len(all) < mostHosts; a = a.Next() {
				all = append(all, a)
			}
		}
	}
	return all
}

// mostHosts bounds the hosts that the guard looks for; a vendor has 32 at most.
const mostHosts = 4096

// names adds the short names that are not Latin.
func (g *guard) names(t *config.Tree) {
	switch t.Name {
	case "site", "name", "contact", "approved_by", "by":
		for w := range runs(norm.NFKC.String(t.Text)) {
			if w[0] >= utf8.RuneSelf && utf8.RuneCountInString(w) >= shortestName {
				g.add(w)
			}
		}
	}
	for _, f := range t.Fields {
		g.names(f)
	}
	for _, item := range t.Items {
		g.names(item)
	}
}

// runs gives the words of a text, each with its place: letters, and digits, of one script.
func runs(text string) iter.Seq2[string, int] {
	return func(yield func(string, int) bool) {
		start, before := 0, 0
		for i, r := range text + " " {
			now := script(r)
			if now == before {
				continue
			}
			if before != 0 && !yield(text[start:i], start) {
				return
			}
			start, before = i, now
		}
	}
}

// script numbers the scripts of words; 0: the character is of no word.
func script(r rune) int {
	switch {
	case unicode.Is(unicode.Han, r) || r == '々':
		return 1
	case unicode.Is(unicode.Katakana, r) || r == 'ー':
		return 2
	case unicode.Is(unicode.Hiragana, r):
		return 3
	case unicode.IsLetter(r) || unicode.IsDigit(r):
		return 4
	}
	return 0
}

// add adds a word with its hex, base64 and punycode, unless it is one of the language or of a post.
func (g *guard) add(w string) {
	lower := strings.ToLower(w)
	if known(lower) {
		return
	}
	for _, form := range []string{w, lower, strings.ToUpper(w)} {
		g.put(form, w)
		g.put(hex.EncodeToString([]byte(form)), w)
		for shift := range 3 { // where the word may begin in the encoded text
			code := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + form))
			first := []int{0, 2, 3}[shift]
			last := len(code) - []int{0, 1, 1}[(shift+len(form))%3]
			g.put(code[first:max(first, last)], w)
		}
	}
	if puny, err := idna.Punycode.ToASCII(lower); err == nil && puny != lower {
		g.put(strings.TrimPrefix(puny, "xn--"), w)
	}
}

func (g *guard) put(form, word string) {
	form = strings.ToLower(form)
	if len(form) < 4 {
		return
	}
	if g.words[form[:4]] == nil {
		g.words[form[:4]] = map[string]string{}
	}
	g.words[form[:4]][form] = word
}

// known reports whether a word tells nothing: it is of the language of policies, a known role, zone or post.
func known(w string) bool {
	if language[w] || roles[w] || zoneNames[w] {
		return true
	}
	for p := range posts {
		for part := range runs(p) {
			if strings.ToLower(part) == w {
				return true
			}
		}
	}
	return false
}

// check looks through what is to be shared. Values that follow a fixed pattern tell nothing.
func (g *guard) check(shared *config.Tree) error {
	for _, f := range shared.Fields {
		var err error
		switch f.Name {
		case "policy":
			err = g.checkRule(policyRules, f, f.Name)
		case "story":
			for _, s := range f.Fields {
				if err == nil {
					err = g.find(join(f.Name, s.Name), s.Text)
				}
			}
		default:
			err = g.checkNames(f, f.Name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (g *guard) checkNames(t *config.Tree, path string) error {
	for _, f := range t.Fields {
		if err := g.find(join(path, f.Name), f.Name); err != nil {
			return err
		}
	}
	return nil
}

func (g *guard) checkRule(r rule, t *config.Tree, path string) error {
	for _, item := range t.Items {
		if err := g.checkRule(*r.item, item, path); err != nil {
			return err
		}
	}
	if r.kind == names {
		if err := g.checkNames(t, path); err != nil {
			return err
		}
	}
	for _, f := range t.Fields {
		of := r.fields[f.Name]
		if r.kind == names {
			of = with(r.fields)
		}
		if err := g.checkRule(of, f, join(path, f.Name)); err != nil {
			return err
		}
	}
	if r.kind == address || r.kind == inside {
		return g.findAddress(path, t.Text)
	}
	if t.Text == "" || r.kind == left && r.pattern.MatchString(t.Text) || r.kind == post && posts[t.Text] || r.kind == moment {
		return nil
	}
	return g.find(path, t.Text)
}

// find looks for a word or an address of the policy in a text, in letters of any width, but for words that
// are known.
func (g *guard) find(path, text string) error {
	text = norm.NFKC.String(text)
	rest := []byte(strings.ToLower(text))
	for w, at := range runs(string(rest)) {
		if known(w) {
			copy(rest[at:], strings.Repeat(" ", len(w)))
		}
	}
	for i := 0; i+4 <= len(rest); i++ {
		for form, word := range g.words[string(rest[i:i+4])] {
			if strings.HasPrefix(string(rest[i:]), form) {
				return &LeakError{path, word}
			}
		}
	}
	return g.findAddress(path, text)
}

func (g *guard) findAddress(path, text string) error {
	for _, a := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !strings.ContainsRune("0123456789abcdef.:", r) }) {
		if a = strings.Trim(a, ".:"); g.addresses[a] {
			return &LeakError{path, a}
		}
	}
	written := numbers(text) // 10[.]1[.]0[.]5, 10-1-0-5, 010.001.000.005
	for a := range g.addresses {
		if !strings.Contains(a, ":") && strings.Contains(written, numbers(a)) {
			return &LeakError{path, a}
		}
	}
	return nil
}

// numbers are the decimal numbers of a text, each between blanks.
func numbers(text string) string {
	all := " "
	for _, n := range strings.FieldsFunc(text, func(r rune) bool { return r < '0' || r > '9' }) {
		all += cmp.Or(strings.TrimLeft(n, "0"), "0") + " "
	}
	return all
}
