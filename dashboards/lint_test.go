package dashboards

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"kidoban/gateway/policy"
	"kidoban/gateway/session"
)

// program finds a program of a Debian package, or skips; with CI=true it fails.
func program(t *testing.T, name, debian string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v: apt-get install %s", err, debian)
		}
		t.Skipf("%v: apt-get install %s", err, debian)
	}
	return path
}

// metricName finds what may be a metric in an expression.
var metricName = regexp.MustCompile(`\b(kidoban[a-z:_0-9]*|wireguard_[a-z_]+|process_[a-z_]+|up|ALERTS)\b(?:[{\s)\[,]|$)`)

// metricsTable is the table of all metrics, which the program makes.
func metricsTable(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/REFERENCE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "<!-- metrics: generated -->\n")
	table, _, _ = strings.Cut(table, "<!-- metrics: end -->\n")
	return table
}

// known lists every metric there is: the gateway's, the process's, and what
// the recording rules make.
func known(t *testing.T) map[string]bool {
	names := map[string]bool{"up": true, "ALERTS": true, "process_cpu_seconds_total": true, "process_resident_memory_bytes": true,
		"process_open_fds": true, "process_max_fds": true}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z]+) ").FindAllStringSubmatch(metricsTable(t), -1) {
		names[row[1]] = true
		if row[2] == "histogram" {
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				names[row[1]+suffix] = true
			}
		}
	}
	for _, r := range readRules(t) {
		if r.Record != "" {
			names[r.Record] = true
		}
	}
	if len(names) < 50 {
		t.Fatalf("only %d metrics are known", len(names))
	}
	return names
}

// rule is one of rules/kidoban.yaml.
type rule struct {
	Record, Alert, Expr, For string
	Labels, Annotations      map[string]string
}

func readRules(t *testing.T) []rule {
	t.Helper()
	text, err := os.ReadFile("rules/kidoban.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	var all []rule
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

func checkMetrics(t *testing.T, names map[string]bool, where, expr string) {
	t.Helper()
	found := metricName.FindAllStringSubmatch(expr, -1)
	if len(found) == 0 {
		t.Errorf("%s: no metric is named in %s", where, expr)
	}
	for _, m := range found {
		if !names[m[1]] && !strings.Contains(expr, `"`+m[1]) { // a value of a label is no metric
			t.Errorf("%s: there is no metric %s", where, m[1])
		}
	}
}

// Every panel is whole: it asks a question, has a unit, stands alone in its
// place, and names metrics and dashboards that exist.
func TestPanelsAreWhole(t *testing.T) {
	names := known(t)
	uids := map[string]bool{}
	for _, l := range []Language{English, Japanese} {
		for _, d := range All(l) {
			if uids[d.UID] || len(d.UID) > 40 {
				t.Errorf("%s: this UID is not unique, or too long", d.UID)
			}
			uids[d.UID] = true
		}
	}
	dashboard := regexp.MustCompile(`/d/([a-z-]+)`)
	for _, l := range []Language{English, Japanese} {
		for _, d := range All(l) {
			if d.Description == "" || d.SchemaVersion != SchemaVersion {
				t.Errorf("%s: description %q, schema %d", d.UID, d.Description, d.SchemaVersion)
			}
			ids, titles, panels := map[int]bool{}, map[string]bool{}, 0
			place := map[[2]int]string{}
			for i, p := range d.Panels {
				where := d.UID + ", " + p.Title
				if p.Type == "row" && (i+1 == len(d.Panels) || d.Panels[i+1].Type == "row") {
					t.Errorf("%s: the row is empty", where)
				}
				if p.ID < 1 || ids[p.ID] || p.Title == "" || titles[p.Title] {
					t.Errorf("%s: id %d or title is missing or not unique", where, p.ID)
				}
				ids[p.ID], titles[p.Title] = true, true
				if p.GridPos.X < 0 || p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W < 1 || p.GridPos.H < 1 {
					t.Errorf("%s lies outside the grid: %+v", where, p.GridPos)
				}
				for x := range p.GridPos.W {
					for y := range p.GridPos.H {
						at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
						if other := place[at]; other != "" {
							t.Fatalf("%s lies upon %s", where, other)
						}
						place[at] = where
					}
				}
				if p.Type == "row" {
					continue
				}
				panels++
				// A Japanese sentence ends otherwise.
				if !strings.ContainsAny(p.Description, ".?。？") {
					t.Errorf("%s: the description %q is no sentence", where, p.Description)
				}
				if p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
					t.Errorf("%s: unit %q, %d queries", where, p.FieldConfig.Defaults.Unit, len(p.Targets))
				}
				letters := map[string]bool{}
				for _, target := range p.Targets {
					if letters[target.RefID] {
						t.Errorf("%s: two queries %s", where, target.RefID)
					}
					letters[target.RefID] = true
					checkMetrics(t, names, where, target.Expr)
				}
				for _, transformation := range p.Transformations {
					columns, _ := transformation["options"].(object)["renameByName"].(object)
					for field, title := range columns {
						if letter, ok := strings.CutPrefix(field, "Value #"); ok && !letters[letter] || field == "Value" && len(p.Targets) > 1 {
							t.Errorf("%s: column %q shows no query", where, title)
						}
					}
				}
			}
			if texts := words.Panels[strings.TrimSuffix(strings.TrimPrefix(d.UID, "kidoban-"), l.suffix())]; len(texts) != panels {
				t.Errorf("%s: words.yaml has texts of %d panels, want %d", d.UID, len(texts), panels)
			}
			for _, a := range d.Annotations.List {
				checkMetrics(t, names, d.UID+", "+a.Name, a.Target.Expr)
			}
			text, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			links := dashboard.FindAllStringSubmatch(string(text), -1)
			if len(links) < 2 {
				t.Errorf("%s leads nowhere", d.UID)
			}
			for _, link := range links {
				if !uids[link[1]] {
					t.Errorf("%s leads to %s, which is no dashboard", d.UID, link[1])
				}
				if strings.HasSuffix(link[1], "-ja") != (l == Japanese) {
					t.Errorf("%s leads to %s, which is in another language", d.UID, link[1])
				}
			}
			for _, v := range d.Templating.List {
				if query, ok := v["query"].(object); ok {
					checkMetrics(t, names, d.UID+", "+v["name"].(string), query["query"].(string))
				}
			}
		}
	}
}

// What the gateway measures somebody looks at: a panel, a rule, or whoever is
// named here.
func TestMetricsAreLookedAt(t *testing.T) {
	elsewhere := map[string]string{
		"wireguard_device_info":                 "dashboards for wireguard_exporter",
		"wireguard_peer_info":                   "dashboards for wireguard_exporter",
		"wireguard_peer_receive_bytes_total":    "dashboards for wireguard_exporter",
		"wireguard_peer_transmit_bytes_total":   "dashboards for wireguard_exporter",
		"wireguard_peer_last_handshake_seconds": "dashboards for wireguard_exporter",
	}
	var text strings.Builder
	for _, d := range All(English) {
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				fmt.Fprintln(&text, target.Expr)
			}
		}
		for _, v := range d.Templating.List {
			fmt.Fprintln(&text, v["query"])
		}
	}
	for _, r := range readRules(t) {
		fmt.Fprintln(&text, r.Expr)
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` ").FindAllStringSubmatch(metricsTable(t), -1) {
		name := row[1]
		if looked := regexp.MustCompile(`\b` + name + `(_bucket|_count|_sum)?\b`).MatchString(text.String()); looked == (elsewhere[name] != "") {
			t.Errorf("%s: looked at here: %t, elsewhere: %q", name, looked, elsewhere[name])
		}
	}
}

// kana is a letter that no English text has.
var kana = regexp.MustCompile(`[\p{Hiragana}\p{Katakana}\p{Han}]`)

// Both languages show the same, in other words.
func TestLanguagesDifferInWordsOnly(t *testing.T) {
	english, japanese := All(English), All(Japanese)
	for i, d := range english {
		j := japanese[i]
		if len(d.Panels) != len(j.Panels) {
			t.Fatalf("%s has %d panels, %s %d", d.UID, len(d.Panels), j.UID, len(j.Panels))
		}
		for k, p := range d.Panels {
			q := j.Panels[k]
			if diff := cmp.Diff(p.Targets, q.Targets, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".LegendFormat" }, cmp.Ignore())); diff != "" {
				t.Errorf("%s and %s ask other questions: %s", p.Title, q.Title, diff)
			}
			if p.GridPos != q.GridPos || p.Type != q.Type || p.FieldConfig != nil && p.FieldConfig.Defaults.Unit != q.FieldConfig.Defaults.Unit {
				t.Errorf("%s and %s look different", p.Title, q.Title)
			}
			if kana.MatchString(p.Title+p.Description) || p.Type != "row" && !kana.MatchString(q.Description) {
				t.Errorf("%q, %q: not in the languages that they should be in", p.Title+p.Description, q.Title+q.Description)
			}
		}
	}
}

// Every word of the gateway for a reason is explained, every cause for which the
// kernel drops a packet, and every alert.
func TestReasonsAreExplained(t *testing.T) {
	b := builder{English}
	for _, r := range policy.Reasons() {
		if b.said(words.Reasons)[r.String()] == "" {
			t.Errorf("the reason %v is not explained", r)
		}
	}
	for _, e := range session.Endings() {
		if b.said(words.Endings)[string(e)] == "" {
			t.Errorf("the ending %v is not explained", e)
		}
	}
	rules, err := os.ReadFile("../gateway/firewall/testdata/deny-all.nft")
	if err != nil {
		t.Fatal(err)
	}
	causes := map[string]bool{}
	for _, found := range regexp.MustCompile(`counter refused_(\w+)`).FindAllStringSubmatch(string(rules), -1) {
		causes[found[1]] = true
		if b.said(words.Causes)[found[1]] == "" {
			t.Errorf("what the kernel drops as %s is not explained", found[1])
		}
	}
	if len(b.said(words.Causes)) != len(causes) {
		t.Errorf("%d causes are explained, of %d that the ruleset has", len(b.said(words.Causes)), len(causes))
	}
	for _, l := range []Language{English, Japanese} {
		b := builder{l}
		meanings, runbooks := b.alerts()
		n := 0
		for _, r := range readRules(t) {
			if r.Alert == "" {
				continue
			}
			n++
			if meanings[r.Alert] == "" || b.said(words.Severities)[r.Labels["severity"]] == "" {
				t.Errorf("the alert %s, or its severity, is not explained", r.Alert)
			}
			if want := filepath.Join("docs/runbooks", l.folder(), filepath.Base(r.Annotations["runbook_url"])); runbooks[r.Alert] != want {
				t.Errorf("the page about %s is %s, want %s", r.Alert, runbooks[r.Alert], want)
			}
		}
		if len(meanings) != n || len(runbooks) != n {
			t.Errorf("%d alerts are explained and %d have a page, want %d", len(meanings), len(runbooks), n)
		}
	}
	if len(b.said(words.Reasons)) != len(policy.Reasons()) || len(b.said(words.Endings)) != len(session.Endings()) {
		t.Error("something is explained that the gateway never says")
	}
}

// Every alert says what happened and what to do, in both languages, is tested
// both ways, and is as severe as its pages say.
func TestAlertsAreWhole(t *testing.T) {
	names := known(t)
	tests, err := os.ReadFile("rules/kidoban_test.yaml")
	days, more := os.ReadFile("rules/kidoban_days_test.yaml")
	_, cases, _ := strings.Cut(string(days), "tests:\n")
	tests, err = append(tests, cases...), errors.Join(err, more)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string           `yaml:"alertname"`
				ExpAlerts []map[string]any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal(tests, &file); err != nil {
		t.Fatal(err)
	}
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, x := range file.Tests {
		for _, a := range x.AlertRuleTest {
			if len(a.ExpAlerts) > 0 {
				fires[a.Alertname] = true
			} else {
				silent[a.Alertname] = true
			}
		}
	}
	runbooks := map[string]bool{"README.md": true}
	for _, r := range readRules(t) {
		checkMetrics(t, names, r.Record+r.Alert, r.Expr)
		if r.Alert == "" {
			continue
		}
		if !fires[r.Alert] || !silent[r.Alert] {
			t.Errorf("%s: tested to fire: %t; tested not to: %t", r.Alert, fires[r.Alert], silent[r.Alert])
		}
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
			t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
		}
		for _, name := range []string{"summary", "summary_ja", "description", "description_ja", "runbook_url"} {
			if r.Annotations[name] == "" {
				t.Errorf("%s has no %s", r.Alert, name)
			}
			if strings.HasSuffix(name, "_ja") != kana.MatchString(r.Annotations[name]) {
				t.Errorf("%s: %s %q is in the other language", r.Alert, name, r.Annotations[name])
			}
		}
		book := r.Annotations["runbook_url"]
		runbooks[filepath.Base(book)] = true
		for _, path := range []string{book, filepath.Join(filepath.Dir(book), "ja", filepath.Base(book))} {
			text, err := os.ReadFile(filepath.Join("..", path))
			if err != nil || !strings.Contains(string(text), "`"+r.Alert+"`") {
				t.Errorf("%s: %s does not tell of it: %v", r.Alert, path, err)
			}
		}
		severity := r.Labels["severity"]
		word, _, _ := strings.Cut(builder{Japanese}.said(words.Severities)[severity], "（")
		for path, want := range map[string]string{
			book: "`" + r.Alert + "`, severity " + severity + ".",
			filepath.Join(filepath.Dir(book), "ja", filepath.Base(book)): "`" + r.Alert + "`（重大度：" + word,
			filepath.Join(filepath.Dir(book), "README.md"):               "| [" + r.Alert + "](" + filepath.Base(book) + ") | " + severity + " |",
			filepath.Join(filepath.Dir(book), "ja/README.md"):            "| [" + r.Alert + "](" + filepath.Base(book) + ") | " + builder{Japanese}.said(words.Severities)[severity] + " |",
		} {
			text, err := os.ReadFile(filepath.Join("..", path))
			if err != nil || !strings.Contains(string(text), want) {
				t.Errorf("%s: %s does not say %q: %v", r.Alert, path, want, err)
			}
		}
	}
	for _, folder := range []string{"", "ja"} {
		pages, err := filepath.Glob(filepath.Join("../docs/runbooks", folder, "*.md"))
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			if !runbooks[filepath.Base(page)] {
				t.Errorf("%s is the runbook of no alert", page)
			}
		}
		if len(pages) != len(runbooks) {
			t.Errorf("%d runbooks in %q, want %d", len(pages), folder, len(runbooks))
		}
	}
}

// A runbook sends nobody to a panel that is not there.
func TestRunbooksNamePanelsThatExist(t *testing.T) {
	code := regexp.MustCompile("(?s)```.*?```|`[^`]*`")
	for _, x := range []struct {
		language Language
		quoted   *regexp.Regexp
	}{{English, regexp.MustCompile(`"([^"]+)"`)}, {Japanese, regexp.MustCompile(`「([^」]+)」`)}} {
		names := map[string]bool{}
		for _, d := range All(x.language) {
			_, short, _ := strings.Cut(strings.ReplaceAll(d.Title, "：", ": "), ": ")
			names[short] = true
			for _, p := range d.Panels {
				names[p.Title] = true
			}
		}
		pages, err := filepath.Glob(filepath.Join("../docs/runbooks", x.language.folder(), "*.md"))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, page := range pages {
			if filepath.Base(page) == "README.md" {
				continue
			}
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			for _, found := range x.quoted.FindAllStringSubmatch(code.ReplaceAllString(string(text), ""), -1) {
				n++
				if name := strings.Join(strings.Fields(found[1]), " "); !names[name] {
					t.Errorf("%s: there is no panel or dashboard %q", page, name)
				}
			}
		}
		if n < 10 {
			t.Errorf("the pages name %d panels only", n)
		}
	}
}

// TestFault101WhichRefusalsMakeABurst: of every reason it is decided whether many
// refusals are a reason to look. Where a known engineer may not enter now, they are
// a client that was left on.
func TestFault101WhichRefusalsMakeABurst(t *testing.T) {
	promtool := program(t, "promtool", "prometheus")
	var expr string
	for _, r := range readRules(t) {
		if r.Alert == "KidobanRefusalBurst" {
			expr = r.Expr
		}
	}
	type object = map[string]any
	var tests []object
	for _, reason := range policy.Reasons() {
		samples := []object{{"labels": "{}", "value": 1}}
		switch reason {
		case policy.Admitted, policy.UnlistedSource, policy.NotReady, policy.OutsideWindow, policy.ContractEnded,
			policy.GatewayShut, policy.VendorShut, policy.EngineerShut:
			samples = []object{}
		}
		tests = append(tests, object{"name": reason.String(), "interval": "15s",
			"input_series":     []object{{"series": `kidoban_admissions_total{instance="gate",vendor="medisys",reason="` + reason.String() + `"}`, "values": "0+29x20"}},
			"promql_expr_test": []object{{"expr": "count(" + expr + ")", "eval_time": "5m", "exp_samples": samples}}})
	}
	text, err := yaml.Marshal(object{"tests": tests})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "test.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "test", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestRules has Prometheus try every rule on series made for it.
func TestRules(t *testing.T) {
	promtool := program(t, "promtool", "prometheus")
	for _, args := range [][]string{{"check", "rules", "kidoban.yaml"}, {"test", "rules", "kidoban_test.yaml", "kidoban_days_test.yaml"}} {
		c := exec.Command(promtool, args...)
		c.Dir = "rules"
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}
