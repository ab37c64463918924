package e2e

import (
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.zx2c4.com/wireguard/device"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// TestDashboardsAnswer tells a gateway a story, has a real Prometheus watch,
// and runs every query of every dashboard, annotation and rule: each gives
// what its panel needs, or the panel says why it may be empty. What the
// dashboards then show is held against texts that a person can judge, in
// dashboards/testdata; -update writes them anew.
func TestDashboardsAnswer(t *testing.T) {
	program, err := exec.LookPath("prometheus")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v: apt-get install prometheus", err)
		}
		t.Skipf("%v: apt-get install prometheus", err)
	}
	t.Parallel()
	g := newGround(t)
	w := &watch{ground: g}
	g.smallDisk("1g") // the disk of a busy machine may be too slow for a record, and the story would be another
	// Scanco has no names: its short one is shown twice.
	g.names = strings.NewReplacer("  medisys:\n", "  medisys:\n    name: 株式会社メディシス\n", "      sato: {", "      sato: {name: 佐藤 太郎, ")
	g.serve()
	g.employ()
	g.operators += "notify:\n  team: {webhook: https://10.1.9.9/k, format: slack}\n"         // whom nobody serves
	g.settings = append(g.settings, "KIDOBAN_WITNESS=http://127.0.0.1:1/log+"+witnessKey(t)) // whom nobody runs
	g.write(g.offsetFile(), "0s")
	now := time.Now().Truncate(time.Second)
	work := window("work", now.Add(-time.Minute), now.Add(92*time.Minute), "ehr, ehr6", "sato") // "in 1 h 30 min" for seven minutes
	brief := func(until time.Time) string { return window("brief", now.Add(-time.Minute), until, "ehr", "suzuki") }
	later := window("later", now.Add(2*time.Hour), now.Add(3*time.Hour), "pacs")
	night := window("night", now.Add(124*time.Minute), now.Add(184*time.Minute), "ehr", "suzuki") // in about two hours, for nine minutes
	g.open([]string{work, brief(now.Add(time.Hour)), night}, []string{later})
	w.start(program)
	// A gateway to which nothing has happened wakes nobody. (The clock is the
	// machine's.)
	w.waitFor(`count(kidoban:engineer_idle_seconds) unless on () ALERTS{alertname!~"KidobanClockUnsynchronized|KidobanNoticesFailing|KidobanWitnessSilent"}`)
	w.story(work, night, brief, later)
	if out, complaint, exit := g.operator("probe"); exit != exitYes {
		t.Errorf("the self-test ended with %d:\n%s%s", exit, out, complaint)
	}
	w.look()

	for _, l := range []language{english, japanese} {
		for _, name := range dashboardNames {
			d := g.dashboard(name, l)
			got, err := printed(d, l, w.at, w.answer)
			got = anyMachine(got, l)
			if err != nil {
				t.Error(err)
				continue
			}
			for _, a := range d.Annotations.List {
				w.marks(d, a)
			}
			file := filepath.Join("../../dashboards/testdata", string(l), name+".txt")
			if *update {
				g.check(os.MkdirAll(filepath.Dir(file), 0o755))
				g.check(os.WriteFile(file, []byte(got), 0o644))
			}
			want, err := os.ReadFile(file)
			g.check(err)
			if diff := gocmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s shows something else (-%s +got):\n%s", d.UID, file, diff)
			}
		}
	}
	for _, p := range w.problems {
		t.Error(p)
	}
	w.rules()
	w.exemplars()
}

// witnessKey is the verifier key of a witness (https://c2sp.org/tlog-cosignature).
func witnessKey(t *testing.T) string {
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	const name = "witness.example"
	key := append([]byte{4}, public...)
	hash := sha256.Sum256(append([]byte(name+"\n"), key...))
	return fmt.Sprintf("%s+%08x+%s", name, binary.BigEndian.Uint32(hash[:4]), base64.StdEncoding.EncodeToString(key))
}

// marks holds that an annotation marks moments of the story: Grafana takes the
// values for times in milliseconds.
func (w *watch) marks(d *dashboard, a annotation) {
	w.t.Helper()
	found, err := w.query(w.fill(a.Target.Expr), w.began, w.at, time.Second)
	if err != nil || len(found) == 0 || !a.UseValueForTime {
		w.t.Errorf("%s, annotation %s: %d series, %v", d.UID, a.Name, len(found), err)
	}
	for _, s := range found {
		for _, name := range regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(a.TitleFormat, -1) {
			if s.Labels[name[1]] == "" {
				w.t.Errorf("%s, annotation %s: %v has no label %s", d.UID, a.Name, s.Labels, name[1])
			}
		}
		for i, v := range s.Values {
			// The turn was in the step before.
			if at := time.UnixMilli(int64(v)); at.Before(w.began.Add(-time.Second)) || at.After(s.Times[i]) || at.Before(s.Times[i].Add(-2*time.Second)) {
				w.t.Errorf("%s, annotation %s: at %s it marks %s", d.UID, a.Name, s.Times[i], at)
			}
		}
	}
}

// anyMachine takes out of a text what differs between machines and runs.
func anyMachine(text string, l language) string {
	for _, x := range []struct{ pattern, english, japanese string }{
		{`[A-Z2-7]{16}`, "(an id)", "（番号）"},
		{`[0-9a-f]{64}`, "(a digest)", "（ダイジェスト）"},
		// An answer may be on its way when its address is closed.
		{`(?m)(^   > answer|: answer \|.*): .*`, "$1: (now and then)", "$1: （時々）"},
		{`(under way|書込中|設定中): .*`, "$1: (now and then)", "$1: （時々）"},
		{`go1\.[0-9.]+[a-z0-9]*`, "(a version)", "（版）"},
		{`\((devel|[0-9a-f]{7}[^)]*)\)`, "(a version)", "（版）"},
		{`127\.0\.0\.1:9586`, "gateway", "gateway"},
		{`NOT SYNCHRONIZED\n|synchronized\n`, "(as the kernel says)\n", ""},
		{`未同期\n|同期済み\n`, "", "（カーネルによる）\n"},
		// On a busy machine a closing may be late, and the alert says so rightly.
		{`(?m)^   > .*(?:a closing took longer than a second|閉鎖に1秒以上かかった).*\n`, "", ""},
		{`((?:the loop hangs\.|過負荷か制御の停滞。)\n   > )[0-9]+`, "$1(0 or more)", "$1（0以上）"},
		// How long the sessions of the story last is the machine's; how many
		// they are, durations has seen.
		{`(?m)(^   > (?:up to .*|longer|.*以内|24時間超)): [0-9].*$`, "$1: (0 or more)", "$1: （0以上）"},
	} {
		to := x.english
		if l == japanese {
			to = x.japanese
		}
		text = regexp.MustCompile(x.pattern).ReplaceAllString(text, to)
	}
	return text
}

// endedInStory is how many sessions of medisys end in the story: suzuki's with
// its window, and sato's by an operator.
const endedInStory = 2

// durations holds that a histogram of sessions' durations has those that ended,
// each in a bucket: what its bars show of them differs between machines.
func (w *watch) durations(p *panel, buckets []series) {
	count := map[float64]float64{}
	for _, s := range buckets {
		bound, err := strconv.ParseFloat(s.Labels["le"], 64)
		if err != nil {
			w.problems = append(w.problems, fmt.Sprintf("%s: a bucket up to %q: %v", p.Title, s.Labels["le"], err))
			return
		}
		count[bound] = s.Last()
	}
	bars, before := 0.0, 0.0 // as Grafana draws them: what a bucket has beyond the one before
	for _, bound := range slices.Sorted(maps.Keys(count)) {
		bar := count[bound] - before
		if bar < 0 {
			w.problems = append(w.problems, fmt.Sprintf("%s: %g sessions up to %g s, and %g up to less", p.Title, count[bound], bound, before))
		}
		bars, before = bars+bar, count[bound]
	}
	if bars < endedInStory {
		w.problems = append(w.problems, fmt.Sprintf("%s: %g sessions in %d bars, and %d ended", p.Title, bars, len(count), endedInStory))
	}
	// No story lasts an hour.
	if count[3600] != bars {
		w.problems = append(w.problems, fmt.Sprintf("%s: %g of %g sessions lasted an hour or less, want all", p.Title, count[3600], bars))
	}
}

// watch is a Prometheus beside a gateway.
type watch struct {
	*ground
	began    time.Time
	at       time.Time // the moment that is looked at
	problems []string
	seen     map[string]bool // panels that were told of, in another language
}

// fine is between two points of a query: less than between two samples, so
// that none is missed.
const fine = 100 * time.Millisecond

const prometheusAddress = "127.0.0.1:9090"

// start starts Prometheus where the gateway is, with the rules as they are
// shipped but evaluated each second.
func (w *watch) start(program string) {
	w.t.Helper()
	w.began, w.seen = time.Now(), map[string]bool{}
	rules, err := os.ReadFile("../../dashboards/rules/kidoban.yaml")
	w.check(err)
	w.write(filepath.Join(w.folder, "rules.yaml"), strings.ReplaceAll(string(rules), "interval: 15s", "interval: 1s"))
	w.write(filepath.Join(w.folder, "prometheus.yaml"), `
global: {scrape_interval: 500ms, scrape_timeout: 500ms}
rule_files: [rules.yaml]
scrape_configs:
  - job_name: kidoban
    static_configs: [{targets: ["127.0.0.1:9586"]}]
`)
	log, err := os.Create(filepath.Join(w.folder, "prometheus.log"))
	w.check(err)
	defer log.Close()
	c := w.gateway.Command(w.t.Context(), program, "--config.file="+filepath.Join(w.folder, "prometheus.yaml"),
		"--storage.tsdb.path="+filepath.Join(w.folder, "prometheus"), "--web.listen-address="+prometheusAddress,
		"--enable-feature=exemplar-storage", "--log.level=warn")
	c.Stdout, c.Stderr = log, log
	w.check(c.Start())
	ended := make(chan struct{})
	go func() { _ = c.Wait(); close(ended) }()
	w.t.Cleanup(func() {
		_ = c.Process.Kill()
		<-ended
		if w.t.Failed() {
			text, err := os.ReadFile(log.Name())
			w.t.Logf("Prometheus' log: %v\n%s", err, text)
		}
	})
	w.waitFor("kidoban_ready == 1")
	// Rates need a sample from before what happens.
	w.waitFor(`count_over_time(kidoban_ready[1m]) > 2`)
}

// waitFor waits until a query has an answer.
func (w *watch) waitFor(expr string) {
	w.t.Helper()
	err := lab.Wait(w.within(30*time.Second), func() error {
		found, err := w.query(expr, time.Time{}, time.Now(), 0)
		if err == nil && len(found) == 0 {
			err = fmt.Errorf("%s has no answer", expr)
		}
		return err
	})
	w.check(err)
}

// story is one evening: everybody who may enters, everybody else is refused
// for every reason there is, a window closes upon somebody, operators close
// and reopen, the clock goes back, requests are decided. In the end sato is inside again.
func (w *watch) story(work, night string, brief func(time.Time) string, later string) {
	w.t.Helper()
	client := w.client(w.medisys, sato, 4)
	w.mustEnter(client)
	w.check(w.works())
	_ = w.reach(w.medisys, "tcp", netip.AddrPortFrom(ehr4, 8080), patience) // unlisted_target
	client.Close()                                                          // its session stays until an operator ends it

	// The window closes upon suzuki.
	second := w.client(w.medisys, suzuki, 4)
	w.mustRun(w.medisys, "ip", "route", "replace", "192.0.2.0/24", "via", "203.0.113.1", "src", medisysB4.String())
	w.mustEnter(second)
	w.waitFor(`kidoban_session_active{vendor="medisys"} == 2`)
	end := soon(2 * time.Second)
	w.approve([]string{work, brief(end), night}, []string{later})
	w.must("reload")
	w.waitFor(`kidoban_sessions_total{ended="window_closed"} == 1`)
	second.Close()
	w.mustRun(w.medisys, "ip", "route", "del", "192.0.2.0/24")

	shoot := w.shooter(43000)
	garbage := make([]byte, device.MessageInitiationSize)
	binary.LittleEndian.PutUint32(garbage, device.MessageInitiationType)
	stranger, _ := lab.NewKey()
	shoot(medisys4, garbage)                                                 // malformed
	shoot(outsider4, garbage)                                                // unlisted_source
	shoot(medisys4, initiation(w.t, stranger, w.publicKey, time.Now(), nil)) // unknown_key
	shoot(medisys4, w.initiation(sato, time.Now().Add(48*time.Hour)))        // future_timestamp
	once := w.initiation(sato, time.Now())
	shoot(medisys4, once)
	shoot(medisys4, once)                              // replayed
	shoot(medisys4, w.initiation(tanaka, time.Now()))  // wrong_source: another vendor's address
	shoot(outsider4, w.initiation(sato, time.Now()))   // wrong_source: anywhere
	shoot(medisysB4, w.initiation(suzuki, time.Now())) // outside_window
	for _, reason := range []policy.Reason{policy.Malformed, policy.UnlistedSource, policy.UnknownKey, policy.FutureTimestamp, policy.Replayed, policy.WrongSource, policy.OutsideWindow} {
		w.counts(reason)
	}
	for _, x := range []struct {
		who    string
		reason policy.Reason
		shut   string
	}{{sato, policy.EngineerShut, `scope="engineers"`}, {"medisys", policy.VendorShut, `scope="vendors"`}, {"--all", policy.GatewayShut, `scope="all"`}} {
		w.must("close", x.who, "--reason", "phone call")
		shoot(medisys4, w.initiation(sato, time.Now()))
		w.counts(x.reason)
		w.waitFor(`kidoban_shut{` + x.shut + `} == 1`)
		w.waitFor(`sum_over_time(kidoban_window_open{window="work"}[1900ms]) == 0`) // longer than an annotation looks back
		w.must("reopen", x.who, "--reason", "phone call")
		w.waitFor(`kidoban_shut{` + x.shut + `} == 0`)
		w.waitFor(`min_over_time(kidoban_window_open{window="work"}[1900ms]) == 1`)
	}
	text := w.policyText([]string{work, brief(end), night}, []string{hour("now", "pacs"), later})
	w.write(w.policyFile(), strings.NewReplacer("  scanco:\n", "  scanco:\n    contract: {until: 2025-03-31}\n",
		"  medisys:\n", "  medisys:\n    contract: {until: "+time.Now().AddDate(0, 0, 20).Format(time.DateOnly)+"}\n").Replace(text))
	w.must("reload")
	shoot(scanco4, w.initiation(tanaka, time.Now()))
	w.counts(policy.ContractEnded)
	for range 14 {
		shoot(medisys4, w.initiation(sato, time.Now()))
	}
	w.counts(policy.RateLimited)
	w.write(w.offsetFile(), "-20s")
	w.waitFor(`sum_over_time(kidoban_window_open{window="work"}[1900ms]) == 0 and ignoring (vendor, window) min without (about) (kidoban_doubt{about="clock"}) == 1`)
	shoot(medisys4, w.initiation(sato, time.Now()))
	w.counts(policy.NotReady)
	w.write(w.offsetFile(), "0s")
	w.waitFor("kidoban_ready == 1")
	w.waitFor(`kidoban_window_open{window="work"} == 1`)

	// One request is approved for later, one is denied, one waits, and an emergency is open.
	in := func(d time.Duration) string { return time.Now().Add(d).Format(time.RFC3339) }
	w.mustAs("ito", "approve", w.request("tanaka", "--from", in(3*time.Hour), "--for", "1h"), "--yes")
	w.mustAs("ito", "deny", w.request("tanaka", "--for", "1h"), "--reason", "not tonight")
	w.request("tanaka", "--from", in(2*time.Hour), "--for", "1h")
	w.request("tanaka", "--for", "30m", "--emergency")
	w.waitFor(`kidoban_emergencies_unratified{vendor="medisys"} == 1`)

	w.mustEnter(w.client(w.medisys, sato, 4))
	w.check(w.works())
	w.waitFor(`kidoban_session_active{vendor="medisys"} == 1`)
	w.waitFor(`kidoban:engineer_idle_seconds{engineer="sato"} < 60`)
	w.waitFor(`ALERTS{alertname="KidobanWrongSource",alertstate="firing",vendor="medisys"}`)
	w.waitFor(`ALERTS{alertname="KidobanContractEnds",alertstate="firing",vendor="medisys"}`)
	w.waitFor(`increase(kidoban_admissions_total{reason="contract_ended",vendor="scanco"}[5m]) > 0`)
	w.waitFor(`increase(kidoban_requests_total{outcome="denied",vendor="medisys"}[5m]) > 0`)
}

// look chooses the moment that is looked at: one, already past, at which
// Prometheus had everything. A scrape that is late is none, and until the next
// the gateway is absent.
func (w *watch) look() {
	w.t.Helper()
	err := lab.Wait(w.within(30*time.Second), func() error {
		at := time.Now().Add(-2 * time.Second) // what was scraped until then is there by now
		for _, expr := range []string{
			`kidoban_ready == 1`,
			`kidoban_session_active{vendor="medisys"} == 1`,
			`kidoban:engineer_idle_seconds{engineer="sato"} < 60`,
			`kidoban:closing_late:increase5m`,
			`ALERTS{alertname="KidobanWrongSource",alertstate="firing",vendor="medisys"}`,
			`ALERTS{alertname="KidobanContractEnds",alertstate="firing",vendor="medisys"}`,
			`increase(kidoban_admissions_total{reason="contract_ended",vendor="scanco"}[5m]) > 0`,
			`kidoban_probe_last_run_timestamp_seconds`,
		} {
			if found, err := w.query(expr, time.Time{}, at, 0); err != nil || len(found) == 0 {
				return fmt.Errorf("%s had no answer at %v: %v", expr, at, err)
			}
		}
		w.at = at
		return nil
	})
	w.check(err)
}

// counts waits until the metrics have counted a reason.
func (w *watch) counts(r policy.Reason) {
	w.t.Helper()
	w.waitFor(fmt.Sprintf(`kidoban_admissions_total{reason=%q} > 0`, r.String()))
}

// fill puts in what the dashboards' variables stand for, the choices being
// all gateways, and medisys where one vendor is to be chosen.
func (w *watch) fill(expr string) string {
	shown := int(w.at.Sub(w.began).Seconds()) + 2
	return strings.NewReplacer(
		`vendor="$vendor"`, `vendor="medisys"`, "$vendor", ".*", "$instance", ".*",
		// What Prometheus sees began a moment after us.
		"offset 1m", "offset 1s", ":1m]", ":1s]", // annotations look at each minute
		"$__range_s", fmt.Sprint(shown), "$__range", fmt.Sprintf("%ds", shown), "$__rate_interval", "3s", "$__interval", "1s",
	).Replace(expr)
}

// answer runs a panel's query, and notes what is not as the panel needs it.
func (w *watch) answer(p *panel, target target) ([]series, error) {
	now := w.at
	step := fine // and up to now
	from, until := now.Add(-now.Sub(w.began).Truncate(step)), now
	switch {
	case target.Instant:
		from = time.Time{}
	case strings.HasPrefix(p.TimeFrom, "+"):
		ahead, err := time.ParseDuration(p.TimeFrom[1:])
		if err != nil {
			return nil, err
		}
		from, until, step = now, now.Add(ahead), time.Minute
	}
	found, err := w.query(w.fill(target.Expr), from, until, step)
	if err != nil {
		return nil, err
	}
	if target.Expr == "" || len(found) == 0 && p.MayBeEmpty == "" {
		w.problems = append(w.problems, fmt.Sprintf("%s, query %s has no answer, and nothing says why: %s", p.Title, target.RefID, target.Expr))
	}
	if target.Format == "heatmap" {
		w.durations(p, found)
	}
	for _, s := range found {
		if !slices.ContainsFunc(s.Values, func(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }) && p.MayBeEmpty == "" {
			w.problems = append(w.problems, fmt.Sprintf("%s, query %s: no value of %v is a number", p.Title, target.RefID, s.Labels))
		}
		for _, name := range regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(target.LegendFormat, -1) {
			if s.Labels[name[1]] == "" {
				w.problems = append(w.problems, fmt.Sprintf("%s, query %s: the legend %s names a label that %v has not", p.Title, target.RefID, target.LegendFormat, s.Labels))
			}
		}
	}
	return found, nil
}

// get asks Prometheus.
func (w *watch) api(path string, parameters url.Values, answer any) error {
	_, text, err := get(w.gateway, "http://"+prometheusAddress+"/api/v1/"+path+"?"+parameters.Encode(), 10*time.Second)
	if err != nil {
		return err
	}
	var body struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		return err
	}
	if body.Status != "success" {
		return fmt.Errorf("%s: %s", parameters.Get("query"), body.Error)
	}
	return json.Unmarshal(body.Data, answer)
}

// query gives the series at an instant, until, or from then to then.
func (w *watch) query(expr string, from, until time.Time, step time.Duration) ([]series, error) {
	at := func(t time.Time) string { return fmt.Sprintf("%.3f", float64(t.UnixMilli())/1000) }
	path, parameters := "query", url.Values{"query": {expr}, "time": {at(until)}}
	if !from.IsZero() {
		path, parameters = "query_range", url.Values{"query": {expr}, "start": {at(from)}, "end": {at(until)}, "step": {fmt.Sprint(step.Seconds())}}
	}
	var data struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
			Values [][2]any
		}
	}
	if err := w.api(path, parameters, &data); err != nil {
		return nil, err
	}
	var all []series
	for _, r := range data.Result {
		if path == "query" {
			r.Values = [][2]any{r.Value}
		}
		s := series{Labels: r.Metric}
		for _, v := range r.Values {
			s.Times = append(s.Times, time.UnixMilli(int64(math.Round(v[0].(float64)*1000))))
			number, err := strconv.ParseFloat(v[1].(string), 64)
			if err != nil {
				return nil, err
			}
			s.Values = append(s.Values, number)
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b series) int { return cmp.Compare(fmt.Sprint(a.Labels), fmt.Sprint(b.Labels)) })
	return all, nil
}

// selector is a metric with its labels in an expression.
var selector = regexp.MustCompile(`\b(?:kidoban[a-z_:0-9]*|up)(?:{[^}]*})?`)

// rules holds that every rule was evaluated without an error, that what was
// recorded is there, and that every metric of every alert is there: an alert
// that stays silent does so because nothing is wrong.
func (w *watch) rules() {
	w.t.Helper()
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Query, Health, LastError, Type string }
		}
	}
	w.check(w.api("rules", nil, &data))
	n := 0
	for _, group := range data.Groups {
		for _, r := range group.Rules {
			n++
			if r.Health != "ok" {
				w.t.Errorf("rule %s: %s %s", r.Name, r.Health, r.LastError)
			}
			wanted := selector.FindAllString(r.Query, -1)
			if r.Type == "recording" {
				wanted = append(wanted, r.Name)
			}
			if len(wanted) == 0 {
				w.t.Errorf("rule %s looks at nothing", r.Name)
			}
			for _, s := range wanted {
				if found, err := w.query(s, time.Time{}, w.at, 0); err != nil || len(found) == 0 {
					w.t.Errorf("rule %s looks at %s, of which there is nothing: %v", r.Name, s, err)
				}
			}
		}
	}
	if n < 16 {
		w.t.Errorf("Prometheus has %d rules", n)
	}
}

// exemplars holds that the points of a panel lead to sessions in the journal.
func (w *watch) exemplars() {
	w.t.Helper()
	var data []struct {
		Exemplars []struct{ Labels map[string]string }
	}
	if err := w.api("query_exemplars", url.Values{"query": {"kidoban_session_duration_seconds_bucket"},
		"start": {fmt.Sprint(w.began.Unix())}, "end": {fmt.Sprint(time.Now().Unix() + 1)}}, &data); err != nil {
		w.t.Fatal(err)
	}
	journal := w.must("journal", "list", "--json")
	n := 0
	for _, s := range data {
		for _, e := range s.Exemplars {
			n++
			if id := e.Labels["session"]; id == "" || !strings.Contains(journal, `"session":"`+id+`"`) {
				w.t.Errorf("an exemplar names the session %q, which the journal does not have", id)
			}
		}
	}
	if n == 0 {
		w.t.Error("no exemplar was kept")
	}
}
