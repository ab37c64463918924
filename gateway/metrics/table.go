package metrics

import (
	"fmt"
	"slices"
	"strings"
)

// Table is every metric as a row of a Markdown table, sorted by name.
func (m *Metrics) Table() string {
	rows := slices.Concat(m.rows, stateRows)
	slices.Sort(rows)
	return "| metric | type | labels | meaning | unit |\n|---|---|---|---|---|\n" + strings.Join(rows, "")
}

func row(kind, name, help string, labels ...string) string {
	quoted := make([]string, len(labels))
	for i, label := range labels {
		quoted[i] = "`" + label + "`"
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s | %s |\n", name, kind, strings.Join(quoted, ", "), help, unit(name, help))
}

// unit finds a metric's unit, which ends its name
// (https://prometheus.io/docs/practices/naming).
func unit(name, help string) string {
	name = strings.TrimSuffix(name, "_total")
	switch {
	case strings.HasPrefix(help, "Unix time"):
		return "seconds since 1970"
	case strings.HasSuffix(name, "_seconds"):
		return "seconds"
	case strings.HasSuffix(name, "_bytes"):
		return "bytes"
	case strings.HasSuffix(name, "_info"):
		return "1"
	case strings.HasPrefix(help, "1 if "):
		return "0 or 1"
	}
	return "number"
}
