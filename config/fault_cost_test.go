//go:build !race

package config

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/view"
)

// How many bytes the reading of any file may allocate, freed ones among them. A
// policy of 10,000 engineers takes 600 MB. The parser copies the keys of a block
// mapping anew for each of them, which is soon freed.
const (
	mostAllocated     = 1 << 30
	mostAllocatedKeys = 3 << 30
)

// fill repeats a part between two others as often as the bounds of a text allow.
func fill(head, part, tail string) string {
	most := (maxBytes - len(head) - len(tail)) / len(part)
	if n := strings.Count(part, "\n"); n > 0 {
		most = min(most, (maxLines-2)/n)
	}
	text := func(n int) string { return head + strings.Repeat(part, n) + tail }
	refused := func(n int) bool {
		var d decoder
		return !d.checkShape([]byte(text(n + 1)))
	}
	if !refused(most - 1) {
		return text(most)
	}
	return text(sort.Search(most, refused))
}

// numbered joins n parts, each with its number in place of every #.
func numbered(head, part string, n int, tail string) string {
	var b strings.Builder
	b.WriteString(head)
	for i := range n {
		b.WriteString(strings.ReplaceAll(part, "#", fmt.Sprint(i)))
	}
	b.WriteString(tail)
	return b.String()
}

const manyKeys = "keys, as allowed"

const (
	hostileHead    = "version: 1\nsite: s\ntimezone: UTC\ntunnel: {addresses: [10.64.0.1/10], endpoint: a.example:1}\n"
	hostileTargets = hostileHead + "targets: {x: {address: 192.0.2.1, ports: [tcp/22]}}\n"
	hostileVendor  = hostileTargets + "vendors:\n  v:\n    sources: [203.0.113.1]\n"
	hostileWindow  = "days: [mon], from: \"09:00\", to: \"10:00\", valid: {until: 2027-01-01}, targets: [x], approved_by: a"
)

// hostile are texts as large as the bounds let through, of kinds for which
// lexer, parser or we would take time or memory without end.
func hostile() map[string]string {
	blank := strings.Repeat("\n", maxBlank-1)
	all := map[string]string{
		"commas in a list":          fill("a: [", ",", ""),
		"commas in a list, closed":  fill("a: [", "1,", "1]\n"),
		"values in a list":          fill(hostileHead+"targets: {a: {address: 192.0.2.1, ports: [", "1,", "1]}}\n"),
		"commas in a mapping":       fill("a: {", "a,", "}\n"),
		"commas in commas":          fill("a: {", "a:,", "}\n"),
		"lists in lists":            fill("a: ", "[", ""),
		"mappings in mappings":      fill("a: ", "{", ""),
		"keys of keys":              fill("", "a: ", "\n"),
		"keys of keys in a list":    fill("[", "a: ", "]\n"),
		"entries of entries":        fill("", "- ", "\n"),
		"complex keys":              fill("", "? ", "\n"),
		"empty entries":             fill("", "-\n", ""),
		"entries":                   fill("", "- a\n", ""),
		"empty keys":                fill("", "a:\n", ""),
		"empty keys, as allowed":    strings.Repeat("a:\n", maxEmpty) + fill("b: [", "1,", "1]\n"),
		"empty keys in a flow":      fill("[", "a:\n", "]\n"),
		"keys":                      fill("", "a: 1\n", ""),
		manyKeys:                    strings.Repeat(numbered("a:\n", " k#: 1\n", maxKeys-1, ""), 4),
		"keys in a list":            fill("[", "a: 1\n", "]\n"),
		"keys in a list, spread":    strings.Repeat("[", 1) + strings.Repeat("a: 1\n ", maxKeys) + "]\n",
		"double quotes":             fill("", `"`, ""),
		"double quotes in a list":   fill("[", `"",`, "]\n"),
		"single quotes":             fill("", `'`, ""),
		"open quotes, one a line":   fill("", "a: \"\n", ""),
		"escapes that are none":     fill("", `"\q`, ""),
		"escapes that are none, ,":  fill("[", `"\q,`, ""),
		"tabs within quotes":        fill(`"`, strings.Repeat("\tx", maxTabs/2)+strings.Repeat("y", 3900)+"\n", ""),
		"tabs within quotes, long":  `"` + strings.Repeat("\tx", maxTabs) + strings.Repeat("y", maxBytes-1000),
		"tabs":                      fill("", "\t", ""),
		"tabs, one a line":          fill("", "\ta\n", ""),
		"reserved characters":       fill("", "@", ""),
		"angles":                    fill("", strings.Repeat("<", maxAngles)+" ", ""),
		"merge keys":                fill("", "<<: 1\n", ""),
		"merge keys that are none":  fill("", "<< ", ""),
		"anchors":                   fill("", "&a ", ""),
		"anchors, one a line":       fill("", "&a\n", ""),
		"aliases":                   fill("[", "*a ,", "]\n"),
		"tags":                      fill("", "!a ", ""),
		"tags, one a line":          fill("", "!a\n", ""),
		"directives":                fill("%", "a ", ""),
		"directives, one a line":    fill("", "%a b\n", ""),
		"comments":                  fill("", "#\n", ""),
		"comments behind values":    fill("", "a: 1 #\n", ""),
		"one long comment":          fill("#", "#", ""),
		"documents":                 fill("", "---\n", ""),
		"ends of documents":         fill("", "...\n", ""),
		"block text, then nothing":  "a: |\n " + strings.Repeat("x", maxBytes-1000) + blank,
		"block texts, then nothing": fill("", "a: |\n "+strings.Repeat("x", 6000)+blank, ""),
		"block text":                fill("a: |\n", " x\n", ""),
		"folded text":               fill("a: >\n", " x\n", ""),
		"folded without a sign":     fill("a: b\n", "  - c\n", ""),
		"plain text over lines":     fill("a: b\n", " c\n", ""),
		"plain text":                fill("a: ", "c", "\n"),
		"digits":                    fill("a: ", "1", "\n"),
		"digits and underscores":    fill("a: ", "1_", "\n"),
		"deep":                      deep(2000),
		"a long key above many":     fill(strings.Repeat("k", 100_000)+": {", "a: 1,", "}\n"),
		"a long key in a flow":      fill("a: {"+strings.Repeat("k", 100_000)+": {", "a: 1,", "}}\n"),
		"keys as long as allowed":   fill(strings.Repeat("k", maxPaths/600_000)+": {", "a: 1,", "}\n"),
		"invisible characters":      fill("", "a\u202e\n", ""),
		"no UTF-8":                  fill("", "a\xff\n", ""),
	}
	for name, text := range map[string]string{
		"unknown fields":           numbered(hostileHead, "f#: 1\n", maxKeys-10, ""),
		"a field twice":            hostileHead + strings.Repeat("site: a\n", maxKeys-10),
		"wrong names":              numbered(hostileHead+"targets: {", "T#: 1,", 60_000, "}\n"),
		"a source twice":           hostileTargets + "vendors: {v: {sources: [" + strings.Repeat("203.0.113.1,", 140_000) + "203.0.113.1]}}\n",
		"sources within sources":   numbered(hostileTargets+"vendors: {v: {sources: [11.0.0.0/8,", "11.0.#.0/24,11.0.#.1,", maxSources/2-1, "11.1.0.1]}}\n"),
		"names":                    hostileTargets + "vendors: {v: {sources: [203.0.113.1]," + numbered("engineers: {", "e#: {},", 60_000, "}") + "}}\n",
		"names of nobody":          numbered(hostileHead+"targets: {", "target-with-a-long-name-of-its-own-#: {},", 20_000, "}\n") + "vendors: {v: {sources: [203.0.113.1], engineers: {}, windows: {w: {targets: [" + numbered("", "target-with-a-long-name-of-its-orn-#,", 70_000, "x]}}}}\n"),
		"calendars of nobody":      numbered(hostileHead+"calendars: {", "calendar-with-a-long-name-#: {country: JP},", 20_000, "}\n") + "targets: {}\nvendors: {v: {windows: {w: {days: [" + numbered("", "calendar-with-o-long-name-#,", 100_000, "x]}}}}\n"),
		"windows and engineers":    hostileVendor + numbered("    engineers: {", "e#: {addresses: [10.64.0.2]},", 13_000, "}\n") + numbered("    windows: {", "w#: {targets: [x], days: [mon]},", 11_000, "}\n"),
		"targets and engineers":    hostileHead + numbered("targets: {", "t#: {address: \"fd00::\", ports: [icmp]},", 8_000, "}\n") + "vendors:\n  v:\n    sources: [203.0.113.1]\n" + numbered("    engineers: {", "e#: {addresses: [10.64.0.2]},", 6_000, "}\n") + "    windows: {w: {days: [mon], targets: [" + numbered("", "t#,", 8_000, "t0") + "]}}\n",
		"rules that match nothing": hostileVendor + "    engineers: {}\n" + numbered("    windows: {", "w#: {rrule: \"FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30\"},", 20_000, "}\n"),
		"rules that match late":    hostileVendor + "    engineers: {}\n" + numbered("    windows: {", "w#: {rrule: \"FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO\", at: \"09:00\", duration: 1h},", 10_000, "}\n"),
		"rules that are none":      hostileVendor + "    engineers: {}\n" + numbered("    windows: {", "w#: {rrule: \"FREQ=\", days: [], once: []},", 15_000, "}\n"),
		"warnings":                 hostileVendor + numbered("    engineers: {", "e#: {addresses: [10.64.0.2]},", 10_000, "}\n") + numbered("    windows: {", "w#: {"+hostileWindow+"},", 6_000, "}\n"),
		"ports":                    hostileHead + "targets: {x: {address: 192.0.2.1, ports: [" + numbered("", "tcp/#,", 60_000, "icmp]}}\n"),
		"operators":                hostileTargets + numbered("operators: {", "o#: {user: u#, may: [record, approve]},", 11_000, "}\n") + "vendors: {v: {sources: [203.0.113.1], engineers: {}, on_request: {approvers: [" + numbered("", "o#,", 11_000, "o0") + "], targets: [x], max_duration: 1h}}}\n",
		"approvers who may not":    hostileTargets + numbered("operators: {", "o#: {user: u#, may: [record]},", maxOperators, "}\n") + "vendors: {" + numbered("", "v#: {on_request: {approvers: ["+numbered("", "o#,", maxOperators, "o0")+"], targets: [x], max_duration: 1h}},", 500, "}\n"),
		"requests of all":          hostileTargets + numbered("operators: {", "o#: {user: u#, may: [record, approve, ratify]},", maxOperators, "}\n") + "vendors: {" + numbered("", "v#: {on_request: {approvals: 5, targets: [x], max_duration: 1h, emergency: {max_duration: 1h, ratify_within: 1d}}},", 5_000, "}\n"),
		"sinks":                    hostileTargets + numbered("notify: {", "s#: {webhook: \"https://a.example/\", kinds: [shut, drift]},", 11_000, "}\n"),
		"files":                    hostileVendor + numbered("    engineers: {", "e#: {preshared_key_file: p#},", 20_000, "}\n"),
	} {
		all[name] = text
	}
	return all
}

// deep is keys of keys, each line one further to the right.
func deep(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%sa:\n", strings.Repeat(" ", i))
	}
	return b.String()
}

// TestFault78ReadingIsBounded: whatever a file of the policy's bounds says, to
// read it takes bounded memory, and tells a bounded number of mistakes.
func TestFault78ReadingIsBounded(t *testing.T) {
	all := hostile()
	dir := t.TempDir()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			text := []byte(all[name])
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			type result struct {
				err      error
				warnings []view.Message
			}
			done := make(chan result, 1)
			go func() {
				_, warnings, err := ParsePolicy("p", text, dir, Host{}, testNow)
				done <- result{err, warnings}
			}()
			var r result
			select {
			case r = <-done:
			case <-time.After(5 * time.Minute): // it takes seconds on two cores
				t.Fatalf("%d bytes are still not read after 5 minutes", len(text))
			}
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			allocated := after.TotalAlloc - before.TotalAlloc
			first := ""
			if all := messages("p", r.err); len(all) > 0 {
				first = all[0]
			}
			t.Logf("%d bytes: %d MB in %v, %d mistakes, %d warnings; %.150s", len(text), allocated>>20, took.Round(time.Millisecond), len(messages("p", r.err)), len(r.warnings), first)
			most := uint64(mostAllocated)
			if name == manyKeys {
				most = mostAllocatedKeys
			}
			if allocated > most {
				t.Errorf("%d MB were allocated, allowed are %d", allocated>>20, most>>20)
			}
			if r.err == nil {
				t.Error("there is no error")
			}
			if n := len(messages("p", r.err)); n > maxErrors+1 || len(r.warnings) > 10*maxErrors {
				t.Errorf("there are %d mistakes and %d warnings, allowed are %d mistakes and as many warnings of a kind, and a line that counts the rest", n, len(r.warnings), maxErrors)
			}
		})
	}
}
