package gateway

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Table is every metric as a row of a Markdown table, sorted by name.
func (m *Metrics) Table() string {
	var rows []string
	for _, c := range append(slices.Clone(m.all), &states{}) {
		descs := make(chan *prometheus.Desc)
		go func() {
			c.Describe(descs)
			close(descs)
		}()
		histogram := isHistogram(c)
		for d := range descs {
			rows = append(rows, tableRow(d, histogram))
		}
	}
	slices.Sort(rows)
	return "| metric | type | labels | meaning | unit |\n|---|---|---|---|---|\n" + strings.Join(rows, "")
}

func isHistogram(c prometheus.Collector) bool {
	switch c.(type) {
	case prometheus.Histogram, *prometheus.HistogramVec:
		return true
	}
	return false
}

// descText takes a prometheus.Desc apart, which shows itself only as a text.
var descText = regexp.MustCompile(`^Desc{fqName: ("[^"]+"), help: ("(?:[^"\\]|\\.)*"), .*constLabels: {(.*)}, variableLabels: {(.*)}}$`)

func tableRow(d *prometheus.Desc, histogram bool) string {
	found := descText.FindStringSubmatch(d.String())
	if found == nil {
		panic(fmt.Sprintf("a metric shows itself in another way: %v", d)) // another version of client_golang
	}
	name, _ := strconv.Unquote(found[1])
	help, _ := strconv.Unquote(found[2])
	kind := "gauge"
	switch {
	case histogram:
		kind = "histogram"
	case strings.HasSuffix(name, "_total"): // counters are named so, and nothing else is
		kind = "counter"
	}
	var labels []string
	for label := range strings.SplitSeq(found[3]+","+found[4], ",") {
		if label, _, _ = strings.Cut(label, "="); label != "" {
			labels = append(labels, "`"+label+"`")
		}
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s | %s |\n", name, kind, strings.Join(labels, ", "), help, unit(name, help))
}

// unit is what a metric's values are of, as its name and meaning say: base
// units are the ends of names (https://prometheus.io/docs/practices/naming).
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
