package share

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"

	"kidoban/config"
)

// plain are texts that need no quotes.
var plain = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9_+/-]*|\d{1,3}[dhms]?)$`)

// write gives the YAML of a tree: a mapping a line for each field, a list on one line.
func write(t *config.Tree) []byte {
	var b bytes.Buffer
	fields(&b, t, "", nil)
	return b.Bytes()
}

// remarks are the comments behind values.
type remarks map[*config.Tree]string

func fields(b *bytes.Buffer, t *config.Tree, indent string, remarks remarks) {
	for _, f := range t.Fields {
		b.WriteString(indent + f.Name + ":")
		switch {
		case len(f.Fields) > 0:
			b.WriteString("\n")
			fields(b, f, indent+"  ", remarks)
			continue
		case len(f.Items) > 0:
			b.WriteString(" " + inline(f))
		default:
			b.WriteString(" " + quoted(f.Text))
		}
		if r := remarks[f]; r != "" {
			b.WriteString("  # " + r)
		}
		b.WriteString("\n")
	}
}

// inline writes a value on one line.
func inline(t *config.Tree) string {
	var parts []string
	for _, item := range t.Items {
		parts = append(parts, inline(item))
	}
	if parts != nil {
		return "[" + strings.Join(parts, ", ") + "]"
	}
	for _, f := range t.Fields {
		parts = append(parts, f.Name+": "+inline(f))
	}
	if parts != nil {
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return quoted(t.Text)
}

func quoted(text string) string {
	if plain.MatchString(text) {
		return text
	}
	return strconv.Quote(text)
}
