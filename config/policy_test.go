package config

import (
	"bytes"
	"crypto/ecdh"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// exampleYAML is the policy to begin with. It has no mistakes, and warnings of what has to
// be replaced; its dates lie around the end of 2026, so that later it gives more.
//
//go:embed example.yaml
var exampleYAML []byte

// testNow is when the policies of these tests are read.
var testNow = time.Date(2026, 11, 20, 3, 0, 0, 0, time.UTC)

// testGateway is the gateway's own key in testdata.
var testGateway = mustKey("QKfhZVYnGhaCPOYSUNIq0vCN9GQwiG5Zm0n1FRq4XHg=")

// testHost is the machine that the policies of testdata are for.
var testHost = Host{Interface: "kido0", Inside: []string{"eth2"}, Key: &testGateway, Addresses: []netip.Addr{
	netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("::ffff:10.1.255.2"), netip.MustParseAddr("fe80::1%eth0"),
}}

func mustKey(text string) policy.Key {
	k, err := policy.ParseKey(text)
	if err != nil {
		panic(err)
	}
	return k
}

func parseTest(t *testing.T, name string, text []byte) (*policy.Policy, []view.Message, error) {
	t.Helper()
	return ParsePolicy(name, text, pskDir(t), testHost, testNow)
}

// pskDir makes the preshared-key files that testdata names.
func pskDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, f := range map[string]struct {
		text string
		mode fs.FileMode
	}{
		"good.psk":  {testPSK + "\n", 0o640},
		"loose.psk": {testPSK + "\n", 0o644},
		"short.psk": {"c2hvcnQ=\n", 0o600},
		"zero.psk":  {strings.Repeat("A", 43) + "=\n", 0o600},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(f.text), f.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, f.mode); err != nil { // the umask may have cut it
			t.Fatal(err)
		}
	}
	return dir
}

const testPSK = "3q2+796tvu/erb7v3q2+796tvu/erb7v3q2+796tvu8="

// wanted gives the lines that the head of a file of testdata asks for:
// "# error: LINE:COL: where: what" and "# warning: ...".
func wanted(text []byte, kind string) []string {
	var all []string
	for line := range strings.Lines(strings.TrimPrefix(string(text), "\ufeff")) {
		if rest, ok := strings.CutPrefix(line, "# "+kind+": "); ok {
			all = append(all, strings.TrimSuffix(rest, "\n"))
		}
	}
	return all
}

func messages(name string, err error) []string {
	var all []string
	var errs Errors
	if errors.As(err, &errs) {
		for _, e := range errs {
			all = append(all, strings.TrimPrefix(e.Error(), name+":"))
		}
	}
	return all
}

func warningTexts(warnings []view.Message) []string {
	var all []string
	for _, w := range warnings {
		all = append(all, strings.TrimPrefix(w.String(), "policy.yaml:"))
	}
	return all
}

// Every file in testdata/bad has a mistake, or several, and says at its head
// the exact messages, in order. Every file in testdata/warn is a policy that
// says its warnings.
func TestPolicyFilesSayWhatIsWrong(t *testing.T) {
	for _, path := range testPolicies(t) {
		saysWhatIsWrong(t, path)
	}
}

func saysWhatIsWrong(t *testing.T, path string) {
	t.Helper()
	t.Run(filepath.Base(path), func(t *testing.T) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		p, warnings, err := parseTest(t, "policy.yaml", text)
		wantErrors := wanted(text, "error")
		if diff := cmp.Diff(wantErrors, messages("policy.yaml", err)); diff != "" {
			t.Errorf("errors (-want +got):\n%s", diff)
		}
		if (p == nil) != (err != nil) {
			t.Errorf("policy %v with error %v: a policy comes exactly without errors", p, err)
		}
		if want := wanted(text, "warning"); len(want) > 0 || strings.Contains(path, "warn") {
			if diff := cmp.Diff(want, warningTexts(warnings)); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		}
		if (len(wantErrors) > 0) != strings.Contains(path, "bad") {
			t.Errorf("a file in bad has errors, one in warn has none")
		}
	})
}

// Every warning that the code can give stands in testdata, and says the same in
// every language.
func TestWarningsInEveryLanguage(t *testing.T) {
	codes, err := os.ReadFile("../gateway/view/words.txt")
	if err != nil {
		t.Fatal(err)
	}
	wanted := map[view.Code]bool{}
	for _, m := range regexp.MustCompile(`(?m)^(policy_[a-z_]+)$`).FindAllStringSubmatch(string(codes), -1) {
		wanted[view.Code(m[1])] = true
	}
	if len(wanted) < 20 {
		t.Fatalf("found only %d codes", len(wanted))
	}
	var all []view.Message
	for _, path := range testPolicies(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, warnings, _ := parseTest(t, "policy.yaml", text)
		all = append(all, warnings...)
	}
	many := "vendors:\n  v:\n    sources:\n"
	for n := range maxErrors + 1 {
		many += fmt.Sprintf("      - 10.1.0.%d\n", n)
	}
	_, warnings, _ := parseTest(t, "policy.yaml", []byte(many))
	all = append(all, warnings...)
	blank := regexp.MustCompile(`\{[a-z]+\}`)
	for _, w := range all {
		delete(wanted, w.Code)
		for _, text := range []string{w.In(view.English), w.In(view.Japanese)} {
			if blank.MatchString(text) {
				t.Errorf("%s: an argument is missing: %s", w.Code, text)
			}
			for name, value := range w.Args {
				if list, ok := value.([]string); ok {
					value = list[0]
				}
				if !strings.Contains(text, fmt.Sprint(value)) {
					t.Errorf("%s: the text does not have the argument %s: %s", w.Code, name, text)
				}
			}
		}
		if w.In(view.English) == w.In(view.Japanese) {
			t.Errorf("%s has no Japanese text", w.Code)
		}
	}
	for code := range wanted {
		t.Errorf("no file of testdata has the warning %s", code)
	}
}

func TestZoneOf(t *testing.T) {
	for text, want := range map[string]string{
		"timezone: Asia/Tokyo\n":                     "Asia/Tokyo",
		"{version: 1, timezone: \"Europe/Berlin\"}":  "Europe/Berlin",
		"site: ''\nvendors: 7\ntimezone: Asia/Tokyo": "Asia/Tokyo",
		"timezone: Mars/Olympus":                     "<nil>",
		"version: 1":                                 "<nil>",
		"[timezone]":                                 "<nil>",
		"timezone: [":                                "<nil>",
		"":                                           "<nil>",
	} {
		got := "<nil>"
		if zone := ZoneOf([]byte(text)); zone != nil {
			got = zone.String()
		}
		if got != want {
			t.Errorf("ZoneOf(%q) = %s, want %s", text, got, want)
		}
	}
}

// An editor that ends lines with CR LF changes no message and no place.
// TestFault86OnceTakesWhatCommandsTake: a time that explain takes may be pasted into
// the policy. A date alone and a part of a second are no beginning of a window.
func TestFault86OnceTakesWhatCommandsTake(t *testing.T) {
	text, err := os.ReadFile("testdata/bad/once-time.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for form, want := range map[string]string{
		"2026-12-01T20:00":            "2026-12-01T20:00",
		"2026-12-01 20:00:30":         "2026-12-01T20:00:30",
		"2026-12-01T20:00:00+09:00":   "2026-12-01T20:00",
		"2026-12-01T11:00Z":           "2026-12-01T20:00",
		"2026-12-01":                  "",
		"2026-12-01T20:00:00.5+09:00": "",
		"2200-01-01T00:00":            "",
		"2199-12-31T16:00Z":           "", // 2200 in Tokyo
	} {
		p, _, err := parseTest(t, "once.yaml", bytes.Replace(text, []byte("2026-12-01T20:00+9,"), []byte(form+","), 1))
		switch {
		case want == "":
			if err == nil || !strings.Contains(err.Error(), strconv.Quote(form)+" is not a time: allowed is 2026-12-01T20:00 (in Asia/Tokyo)") {
				t.Errorf("%s: %v", form, err)
			}
		case err != nil:
			t.Errorf("%s: %v", form, err)
		default:
			for _, w := range p.Vendor("medisys").Windows {
				if once, ok := w.Schedule.(*policy.Once); ok && once.From.String() != want {
					t.Errorf("%s begins at %s, want %s", form, once.From, want)
				}
			}
		}
	}
}

func TestCarriageReturnsChangeNothing(t *testing.T) {
	all := map[string]string{"quotes over lines": "version: \"1\n  2\"\nsite: 'a\n\n  b'\nvendors: []\n"}
	for _, path := range testPolicies(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[path] = strings.ReplaceAll(string(text), "\r\n", "\n")
	}
	for path, text := range all {
		_, wantWarnings, want := parseTest(t, "p", []byte(text))
		_, gotWarnings, got := parseTest(t, "p", []byte(strings.ReplaceAll(text, "\n", "\r\n")))
		if diff := cmp.Diff(messages("p", want), messages("p", got)); diff != "" {
			t.Errorf("%s: errors (-LF +CR LF):\n%s", path, diff)
		}
		if diff := cmp.Diff(view.Texts(wantWarnings), view.Texts(gotWarnings)); diff != "" {
			t.Errorf("%s: warnings (-LF +CR LF):\n%s", path, diff)
		}
	}
}

func testPolicies(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"testdata/bad/*.yaml", "testdata/warn/*.yaml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("no files %s (%v)", pattern, err)
		}
		all = append(all, paths...)
	}
	return all
}

// Every message that the code can give stands in testdata, so that nobody
// meets one that nobody has read.
func TestEveryMessageIsInTestdata(t *testing.T) {
	// Bounds that a file for a person to read cannot reach; they have tests of
	// their own.
	elsewhere := []string{"has more than %d bytes", "has %d lines", "the parser failed", "has %d characters",
		"a line has more than", "in a row", "lines, values and signs", "is one more than", "has %d entries", "times a target", "is not looked at", "everybody on this machine", "cannot be read: %w", "KIDOBAN_FORWARD_OTHERS is true"}
	var all []string
	for _, path := range testPolicies(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, wanted(text, "error")...)
		all = append(all, wanted(text, "warning")...)
	}
	verb := regexp.MustCompile(`%[a-z0-9]*[a-zA-Z]`)
	found := 0
	for format, position := range messageFormats(t) {
		if slices.ContainsFunc(elsewhere, func(s string) bool { return strings.Contains(format, s) }) {
			continue
		}
		var pattern strings.Builder
		rest := strings.ReplaceAll(format, "%%", "\x00")
		for _, part := range verb.Split(rest, -1) {
			pattern.WriteString(regexp.QuoteMeta(strings.ReplaceAll(part, "\x00", "%")) + ".*")
		}
		re := regexp.MustCompile(": " + pattern.String() + "$")
		found++
		if format != "%s" && format != "%v" && !slices.ContainsFunc(all, re.MatchString) {
			t.Errorf("%s: no file of testdata has the message %q", position, format)
		}
	}
	if found < 85 {
		t.Errorf("found only %d messages in the code: is this test blind?", found)
	}
}

// messageFormats finds the formats of errorf and the messages of refusedTokens in
// this package, and the formats of fmt.Errorf in the files that parse values.
func messageFormats(t *testing.T) map[string]string {
	t.Helper()
	formats := map[string]string{}
	fset := token.NewFileSet()
	paths, _ := filepath.Glob("*.go")
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			var text ast.Expr
			escape := false
			switch n := n.(type) {
			case *ast.CallExpr:
				selector, ok := n.Fun.(*ast.SelectorExpr)
				switch {
				case ok && selector.Sel.Name == "errorf":
					text = n.Args[1]
				case ok && selector.Sel.Name == "Errorf" && slices.Contains([]string{"address.go", "operator.go", "policy.go", "request.go", "sink.go", "vendor.go", "window.go"}, path):
					text = n.Args[0]
				}
			case *ast.KeyValueExpr:
				if selector, ok := n.Key.(*ast.SelectorExpr); ok && path == "read.go" && strings.HasSuffix(selector.Sel.Name, "Type") {
					text, escape = n.Value.(*ast.CompositeLit).Elts[0], true
				}
			}
			if text == nil {
				return true
			}
			literal, ok := text.(*ast.BasicLit)
			if !ok {
				t.Errorf("%s: the format is no literal", fset.Position(n.Pos()))
				return true
			}
			format, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			if escape {
				format = strings.ReplaceAll(format, "%", "%%")
			}
			formats[format] = fset.Position(n.Pos()).String()
			return true
		})
	}
	return formats
}

// TestManyWarningsHideNoOthers: the list is bounded for each kind of warning.
func TestManyWarningsHideNoOthers(t *testing.T) {
	var sources strings.Builder
	for i := range maxErrors + 50 {
		fmt.Fprintf(&sources, "10.0.%d.1, ", i)
	}
	text := strings.Replace(string(exampleYAML), "198.51.100.0/28, ", sources.String(), 1)
	_, warnings, err := ParsePolicy("p.yaml", []byte(text), t.TempDir(), Host{}, testNow)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[view.Code]int{}
	for _, w := range warnings {
		kinds[w.Code]++
	}
	for code, want := range map[view.Code]int{"policy_source_private": maxErrors, "policy_warnings_more": 1, "policy_key_example": 2} {
		if kinds[code] != want {
			t.Errorf("%d warnings of the kind %s, want %d", kinds[code], code, want)
		}
	}
}

func TestExample(t *testing.T) {
	p, warnings, err := ParsePolicy("example.yaml", exampleYAML, t.TempDir(), Host{}, testNow)
	if err != nil {
		t.Fatalf("the example has mistakes:\n%v", err)
	}
	// Who leaves it as it is must hear of it.
	var told []string
	for _, w := range warnings {
		told = append(told, fmt.Sprint(w.Code, " ", w.Args["source"]))
	}
	if diff := cmp.Diff([]string{"policy_contact_example <nil>", "policy_endpoint_example <nil>", "policy_source_example 203.0.113.10", "policy_source_example 198.51.100.0/28",
		"policy_source_example 2001:db8:1::/64", "policy_key_example <nil>", "policy_key_example <nil>"}, told); diff != "" {
		t.Errorf("warnings of the example (-want +got):\n%s", diff)
	}
	tokyo, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	prefixes := func(all ...string) (out []netip.Prefix) {
		for _, s := range all {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	date := func(s string) policy.Date {
		d, err := policy.ParseDate(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if p.Site != "木戸市民病院" || p.Zone.String() != tokyo.String() {
		t.Errorf("site %q in %v, want 木戸市民病院 in Asia/Tokyo", p.Site, p.Zone)
	}
	wantTunnel := policy.Tunnel{Addresses: prefixes("10.99.0.1/24", "fd00:99::1/64"), Endpoint: "vpn.example.jp:51820"}
	compareAddresses := cmp.Options{
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	}
	if diff := cmp.Diff(wantTunnel, p.Tunnel, compareAddresses); diff != "" {
		t.Errorf("tunnel (-want +got):\n%s", diff)
	}
	wantTargets := []*policy.Target{
		{Name: "ehr-db", Prefix: netip.MustParsePrefix("10.1.0.5/32"), Masquerade: true,
			Services: []policy.Service{{Protocol: policy.TCP, First: 22, Last: 22}, {Protocol: policy.TCP, First: 1521, Last: 1521}, {Protocol: policy.ICMP}}},
		{Name: "pacs", Prefix: netip.MustParsePrefix("10.1.2.0/28"),
			Services: []policy.Service{{Protocol: policy.TCP, First: 104, Last: 104}, {Protocol: policy.TCP, First: 11112, Last: 11112}, {Protocol: policy.TCP, First: 5900, Last: 5910}}},
	}
	if diff := cmp.Diff(wantTargets, p.Targets, compareAddresses); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
	v := p.Vendor("medisys")
	if v == nil || v.DisplayName != "株式会社メディシス" || v.ContractUntil != date("2027-03-31") || len(v.Engineers) != 2 || len(v.Windows) != 4 {
		t.Fatalf("vendor medisys is %+v", v)
	}
	sato, suzuki := p.Engineer("medisys/sato"), p.Engineer("medisys/suzuki")
	if diff := cmp.Diff(v.Sources, sato.Sources, compareAddresses); diff != "" {
		t.Errorf("sato's sources are not the vendor's:\n%s", diff)
	}
	if diff := cmp.Diff(prefixes("203.0.113.10/32"), suzuki.Sources, compareAddresses); diff != "" {
		t.Errorf("suzuki's sources (-want +got):\n%s", diff)
	}
	var got []string
	for _, w := range v.Windows {
		form := fmt.Sprintf("%T", w.Schedule)
		switch s := w.Schedule.(type) {
		case *policy.Rule:
			form += fmt.Sprintf(" %s at %d for %v", s.Text, s.At, s.Duration)
		case *policy.Days:
			form += fmt.Sprintf(" %v+%d %d-%d", s.Weekdays, len(s.Calendars), s.From, s.To)
		case *policy.Once:
			form += fmt.Sprintf(" %v %d - %v %d", s.From.Date, s.From.Time, s.Until.Date, s.Until.Time)
		}
		got = append(got, fmt.Sprintf("%v: %s; valid %v to %v; except %d; targets %d; engineers %v; %s; %s", w, form, w.ValidFrom, w.ValidUntil, len(w.Except), len(w.Targets), w.Engineers, w.ApprovedBy, w.Ticket))
	}
	want := []string{
		"medisys/cutover: *policy.Once 2026-12-01 72000 - 2026-12-02 7200; valid 0000-00-00 to 0000-00-00; except 0; targets 2; engineers [medisys/sato medisys/suzuki]; 院長; CHG-2026-0150",
		"medisys/night: *policy.Days [false false false false false false true]+1 79200-7200; valid 2026-12-01 to 2027-03-31; except 0; targets 1; engineers [medisys/sato medisys/suzuki]; 情報システム課長; CHG-2026-0144",
		"medisys/patch: *policy.Rule FREQ=MONTHLY;BYDAY=2SU at 79200 for 4h0m0s; valid 2026-12-01 to 2027-03-31; except 1; targets 1; engineers [medisys/sato medisys/suzuki]; 情報システム課長; CHG-2026-0142",
		"medisys/support: *policy.Days [false true true true true true false]+0 32400-63000; valid 2026-12-01 to 2027-03-31; except 2; targets 1; engineers [medisys/sato]; 情報システム課長; CHG-2026-0143",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("windows (-want +got):\n%s", diff)
	}
	if p.Text != string(exampleYAML) {
		t.Error("the policy does not keep its text")
	}
}

// withPSK is the example with a preshared key for suzuki.
func withPSK(name string) []byte {
	return []byte(strings.Replace(string(exampleYAML), "# preshared_key_file: suzuki.psk", "preshared_key_file: "+name, 1))
}

func TestPresharedKeyCounts(t *testing.T) {
	dir := pskDir(t)
	parse := func() *policy.Policy {
		t.Helper()
		p, _, err := ParsePolicy("p.yaml", withPSK("good.psk"), dir, Host{}, testNow)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	before := parse()
	if got, want := before.Engineer("medisys/suzuki").PresharedKey, mustKey(testPSK); got != want {
		t.Errorf("preshared key is %x, want %x", got, want)
	}
	if again := parse(); again.Digest != before.Digest {
		t.Errorf("the same policy has digests %s and %s", before.Digest, again.Digest)
	}
	other := strings.Replace(testPSK, "3q2", "4q2", 1)
	if err := os.WriteFile(filepath.Join(dir, "good.psk"), []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	after := parse()
	if after.Digest == before.Digest {
		t.Error("another preshared key does not change the digest")
	}
	if strings.Contains(after.Text, other) {
		t.Error("the text contains the preshared key")
	}
	without, _, err := ParsePolicy("p.yaml", exampleYAML, dir, Host{}, testNow)
	if err != nil {
		t.Fatal(err)
	}
	if without.Digest == before.Digest || len(without.Digest) != 64 {
		t.Errorf("digest %q without a preshared key, %q with one", without.Digest, before.Digest)
	}
	link := filepath.Join(dir, "absent")
	if _, _, err := ParsePolicy("p.yaml", withPSK("absent"), dir, Host{}, testNow); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s absent: error %v, want one that is fs.ErrNotExist", link, err)
	}
}

func TestLoadPolicy(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "policy.yaml")
	if _, _, err := LoadPolicy(path, Host{}); !errors.Is(err, fs.ErrNotExist) || err.Error() != path+": cannot be read: no such file or directory" {
		t.Errorf("absent file: error %v", err)
	}
	if _, _, err := LoadPolicy(dir, Host{}); err == nil || err.Error() != dir+": is not a regular file (d---------)" {
		t.Errorf("directory: error %v", err)
	}
	pipe := filepath.Join(dir, "pipe") // to which nobody ever writes
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadPolicy(pipe, Host{}); err == nil || err.Error() != pipe+": is not a regular file (p---------)" {
		t.Errorf("pipe: error %v", err)
	}
	if err := os.WriteFile(path, exampleYAML, 0o644); err != nil {
		t.Fatal(err)
	}
	p, _, err := LoadPolicy(path, Host{})
	if err != nil || p.Vendor("medisys") == nil {
		t.Errorf("policy %v, error %v", p, err)
	}
	key := p.Engineer("medisys/sato").Key
	if _, _, err := LoadPolicy(path, Host{Key: &key}); err == nil || !strings.Contains(err.Error(), "vendors.medisys.engineers.sato.public_key: "+key.String()+" is the gateway's own key") {
		t.Errorf("the gateway's own key: error %v", err)
	}
	if err := os.Chmod(path, 0o646); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadPolicy(path, Host{}); err == nil || !strings.HasPrefix(err.Error(), path+": has mode 0646: everybody on this machine could open the gate") {
		t.Errorf("writable by everybody: error %v", err)
	}
}

func TestBounds(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"large", strings.Repeat("#", maxBytes+1), "1:1: the file: has more than 4194304 bytes: allowed are 4194304"},
		{"long", strings.Repeat("a: 1\n", maxLines+1), "1:1: the file: has 60001 lines: allowed are 60000"},
		{"nested lists", strings.Repeat("[", 100_000), "1:33: the file: nested deeper than 32"},
		{"nested mappings", strings.Repeat("{a: ", 100_000), "1:129: the file: nested deeper than 32"},
		{"nested entries", strings.Repeat("- ", 100_000), "1:65: the file: nested deeper than 32"},
		{"many mistakes", strings.Repeat("f: 1\n", 150), " 56 more mistakes are not listed: mend these first"},
		{"many keys", strings.Repeat("f: 1\n", maxKeys+1), "12001:2: the file: is one more than 12000 keys of one mapping: allowed are 12000"},
		{"many signs", "a: [" + strings.Repeat(",", maxMarks), "1:1: the file: has more than 300000 lines, values and signs of YAML up to here: allowed are 300000, which is enough for 10,000 engineers"},
		{"empty keys", strings.Repeat("f:\n", maxEmpty+1), "1001:2: the file: more than 1000 keys have no value up to here: each needs one"},
		{"long keys", "a: {" + strings.Repeat("k", 63) + ": {" + strings.Repeat("k", 100_000) + ": [" + strings.Repeat("1,", 1000), "1:100595: the file: the keys that lead here are too long, for all that they lead to: a name has up to 63 characters"},
		{"tabs", "# \n#" + strings.Repeat("\t", maxTabs+1), "2:1: the file: a line has more than 30 tabs: allowed are 30; write spaces"},
		{"angles", "# " + strings.Repeat("<", maxAngles+1), "1:1: the file: has more than 20 '<' in a row: allowed are 20"},
		{"blank lines", "a: 1" + strings.Repeat("\n", maxBlank+2), "32:1: the file: has more than 30 blank lines in a row: allowed are 30"},
		{"operators", numberedEntries("operators", "o#: {user: u#, may: [record]}", maxOperators+1), "1:1: operators: has 201 entries: allowed are 200"},
		{"sinks", numberedEntries("notify", "s#: {webhook: \"https://a.example\"}", maxSinks+1), "1:1: notify: has 33 entries: allowed are 32"},
		{"receivers", "notify: {s: {smtp: \"a.example:25\", from: a@a.example, to: [" + strings.Repeat("a@a.example, ", maxReceivers) + "a@a.example]}}\n", "1:710: notify.s.to: is one more than 50 items: allowed are 50"},
		{"nothing", "", `1:1: the file: says nothing: a policy begins with "version: 1"`},
		{"only a comment", "# none\n", `1:1: the file: says nothing: a policy begins with "version: 1"`},
		{"long text", "site: " + strings.Repeat("病", 201), "1:7: site: has 201 characters: allowed are 200"},
	} {
		_, _, err := parseTest(t, "p", []byte(test.text))
		if got := messages("p", err); !slices.Contains(got, test.want) {
			t.Errorf("%s: errors are %q, want %q among them", test.name, got, test.want)
		}
	}
}

// numberedEntries is a mapping with n entries, each with its number in place of every #.
func numberedEntries(field, entry string, n int) string {
	text := field + ":\n"
	for i := range n {
		text += "  " + strings.ReplaceAll(entry, "#", fmt.Sprint(i)) + "\n"
	}
	return text
}

// A policy as large as the largest we mean to serve is read in seconds, however
// it is written.
func TestTenThousandEngineers(t *testing.T) {
	const head = "version: 1\nsite: s\ntimezone: UTC\ntunnel: {addresses: [10.64.0.1/10], endpoint: a.example:1}\ntargets: {x: {address: 192.0.2.1, ports: [tcp/22]}}\nvendors:\n  v:\n    sources: [203.0.113.1]\n    windows: {w: {days: [mon], from: \"09:00\", to: \"10:00\", valid: {until: 2027-01-01}, targets: [x], approved_by: a}}\n    engineers:"
	for _, style := range []struct{ name, head, engineer, tail string }{
		{"lines", head + "\n", "      e%d:\n        public_key: %v\n        addresses: [%v]\n", ""},
		{"a line each", head + "\n", "      e%d: {name: \"佐藤, 一郎\", public_key: \"%v\", addresses: [%v], sources: [203.0.113.1, \"2001:db8:1:2::/64\"]} # since 2026-12-01: CHG-1\n", ""},
		{"JSON", head + " {\n", "\"e%d\": {\"name\": \"佐藤\", \"public_key\": \"%v\", \"addresses\": [\"%v\"], \"sources\": [\"203.0.113.1\"]},", "}\n"},
	} {
		t.Run(style.name, func(t *testing.T) {
			var b strings.Builder
			b.WriteString(style.head)
			a := netip.MustParseAddr("10.64.0.2")
			for i := range 10_000 {
				fmt.Fprintf(&b, style.engineer, i, policy.Key{byte(i), byte(i >> 8), 1}, a)
				a = a.Next()
			}
			b.WriteString(style.tail)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			p, _, err := parseTest(t, "p", []byte(b.String()))
			if err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			if n := len(p.Vendor("v").Engineers); n != 10_000 {
				t.Errorf("%d engineers, want 10000", n)
			}
			t.Logf("%d bytes in %v, %d MB allocated", b.Len(), time.Since(began), (after.TotalAlloc-before.TotalAlloc)>>20)
		})
	}
}

func TestErrorsUnwrap(t *testing.T) {
	_, _, err := parseTest(t, "p", []byte("version: 2\nsite: a\n"))
	var one *Error
	if !errors.As(err, &one) || one.File != "p" || one.Line == 0 {
		t.Errorf("errors.As found %+v in %v", one, err)
	}
	if lines := strings.Split(err.Error(), "\n"); len(lines) != len(err.(Errors)) {
		t.Errorf("%d errors in %d lines", len(err.(Errors)), len(lines))
	}
}

// The library refuses low-order points when it multiplies; we refuse the same
// ones, with the highest bit or without, before a tunnel sees them.
func TestLowOrderPoints(t *testing.T) {
	private, err := ecdh.X25519().NewPrivateKey(slices.Repeat([]byte{0x42}, 32))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(key policy.Key) bool {
		public, err := ecdh.X25519().NewPublicKey(key[:])
		if err != nil {
			t.Fatal(err)
		}
		_, err = private.ECDH(public)
		return err != nil
	}
	if len(lowOrderPoints) != 7 {
		t.Errorf("%d points of low order, want 7", len(lowOrderPoints))
	}
	for text := range lowOrderPoints {
		raw, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, high := range []byte{0, 0x80} {
			key := policy.Key(raw)
			key[31] |= high
			if !refused(key) || !lowOrder(key) {
				t.Errorf("%x: library refuses it: %v, we: %v", key, refused(key), lowOrder(key))
			}
		}
	}
	for i := range 256 {
		key := policy.Key{byte(i), 7}
		if refused(key) != lowOrder(key) {
			t.Errorf("%x: library refuses it: %v, we: %v", key, refused(key), lowOrder(key))
		}
	}
}

func TestCanonical(t *testing.T) {
	for text, want := range map[string]bool{
		"ec" + strings.Repeat("ff", 30) + "7f":   true,  // p-1
		"ed" + strings.Repeat("ff", 30) + "7f":   false, // p
		"ff" + strings.Repeat("ff", 30) + "7f":   false,
		"09" + strings.Repeat("00", 31):          true,
		"09" + strings.Repeat("00", 30) + "80":   false,
		"ff" + strings.Repeat("ff", 29) + "fe7f": true,
	} {
		raw, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := canonical(policy.Key(raw)); got != want {
			t.Errorf("canonical(%s) = %v, want %v", text, got, want)
		}
	}
}

// FuzzParsePolicy: whatever the text, there is a policy or there are errors,
// each with a place that exists, and no message carries what does not show.
func FuzzParsePolicy(f *testing.F) {
	f.Add(exampleYAML)
	for _, pattern := range []string{"testdata/bad/*.yaml", "testdata/warn/*.yaml"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		p, warnings, err := ParsePolicy("p.yaml", text, dir, testHost, testNow)
		if (p == nil) == (err == nil) {
			t.Fatalf("policy %v with error %v", p, err)
		}
		lines := strings.Count(string(text), "\n") + 1
		check := func(line, column int, message string) {
			if line < 1 || line > lines || column < 1 {
				t.Errorf("%q stands at %d:%d of %d lines", message, line, column, lines)
			}
			if strings.ContainsFunc(message, hidden) {
				t.Errorf("message %q has characters that do not show", message)
			}
		}
		var errs Errors
		if err != nil && !errors.As(err, &errs) {
			t.Fatalf("%T is no Errors", err)
		}
		for i, e := range errs {
			if i == maxErrors {
				break // it counts the rest
			}
			check(e.Line, e.Column, e.Where+": "+e.What)
		}
		for _, w := range warnings {
			check(w.Args["line"].(int), w.Args["column"].(int), w.String())
		}
		if p == nil {
			return
		}
		for _, v := range p.Vendors {
			for _, w := range v.Windows {
				if w.Schedule == nil || len(w.Engineers) == 0 || len(w.Targets) == 0 || w.ApprovedBy == "" {
					t.Errorf("window %v is incomplete: %+v", w, w)
				}
			}
			if o := v.OnRequest; o != nil {
				e := o.Emergency
				if len(o.Engineers) == 0 || len(o.Targets) == 0 || o.Approvals < 1 || o.Approvals > len(o.Approvers) || o.MaxDuration < time.Second || o.MaxTotal < o.MaxDuration ||
					o.Ahead < time.Second || o.Undecided < time.Second || e != nil && (e.MaxDuration < time.Second || e.MaxDuration > o.MaxDuration || e.RatifyWithin < time.Second || len(e.Ratifiers) == 0) {
					t.Errorf("on_request of %s is incomplete: %+v", v.Name, o)
				}
			}
		}
	})
}
