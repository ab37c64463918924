package firewall

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
)

// String is the ruleset as `nft list ruleset` prints it, but elements show their
// ends, and counters no numbers.
func (r *Rules) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", tableName)
	for _, c := range counterNames {
		fmt.Fprintf(&b, "\tcounter %s {\n\t}\n\n", c)
	}
	for _, s := range r.sets {
		fmt.Fprintf(&b, "\tset %s {\n\t\ttype %s\n", s.name, s.kind)
		if s.dynamic {
			fmt.Fprintf(&b, "\t\tsize %d\n\t\tflags dynamic\n", dynamicSize)
		} else {
			b.WriteString("\t\tflags timeout\n")
		}
		if s.limited() {
			fmt.Fprintf(&b, "\t\t%s\n", s.each.text)
		}
		if len(s.elements) > 0 {
			b.WriteString("\t\telements = {\n")
			for _, key := range slices.Sorted(maps.Keys(s.elements)) {
				fmt.Fprintf(&b, "\t\t\t%s until %s\n", s.kind.text(key), s.elements[key].UTC().Format(time.RFC3339Nano))
			}
			b.WriteString("\t\t}\n")
		}
		b.WriteString("\t}\n\n")
	}
	for i, c := range r.chains {
		fmt.Fprintf(&b, "\tchain %s {\n", c.name)
		if c.kind != "" {
			fmt.Fprintf(&b, "\t\ttype %s hook %s priority %s; policy %s;\n", c.kind, hookWords[c.hook], c.priorityText(), [...]string{"drop", "accept"}[c.policy()])
		}
		for _, rule := range c.rules {
			fmt.Fprintf(&b, "\t\t%s\n", rule)
		}
		b.WriteString("\t}\n")
		if i < len(r.chains)-1 {
			b.WriteString("\n")
		}
	}
	b.WriteString("}\n")
	return b.String()
}

var hookWords = [...]string{"prerouting", "input", "forward", "output", "postrouting"}

func (c *chain) priorityText() string {
	switch {
	case c.priority == 0:
		return "filter"
	case c.kind == "nat" && c.priority == 100:
		return "srcnat"
	}
	return fmt.Sprint(c.priority)
}

// String is the type as nft writes it.
func (k setKind) String() string {
	words := make([]string, len(k))
	for i, p := range k {
		words[i] = p.Name
	}
	return strings.Join(words, " . ")
}

// text writes a key as nft does.
func (k setKind) text(key string) string {
	words := make([]string, len(k))
	for i, p := range k {
		if len(key) < padded(p) {
			return fmt.Sprintf("%x", key)
		}
		field := []byte(key[:padded(p)])
		key = key[padded(p):]
		switch p {
		case nftables.TypeIPAddr, nftables.TypeIP6Addr:
			address, _ := netip.AddrFromSlice(field)
			words[i] = address.String()
		case nftables.TypeInetProto:
			words[i] = protocolWord(field[0])
		case nftables.TypeIFName:
			words[i] = fmt.Sprintf("%q", bytes.TrimRight(field, "\x00"))
		case nftables.TypeInetService:
			words[i] = fmt.Sprint(binary.BigEndian.Uint16(field))
		}
	}
	return strings.Join(words, " . ")
}
