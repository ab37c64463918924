package share

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	command "flag"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/idna"

	"kidoban/config"
	"kidoban/gateway/policy"
)

var testNow = time.Date(2026, 11, 20, 3, 0, 0, 0, time.UTC)

var seeds = command.Uint64("seeds", 15, "how many policies TestSharedPoliciesTellNothing and TestTemplates make")

// random makes policies, and remembers what must not be shared.
type random struct {
	*rand.Rand
	secrets []string
	keys    int
}

func (r *random) secret() string {
	word := []byte("q")
	for range 5 + r.IntN(6) {
		word = append(word, "abcdefghijklmnopqrstuvwxyz"[r.IntN(26)])
	}
	r.secrets = append(r.secrets, string(word))
	return string(word)
}

func (r *random) key() string {
	r.keys++
	k := policy.Key{9, byte(r.keys), 7}
	r.secrets = append(r.secrets, k.String())
	return k.String()
}

func (r *random) date() string {
	return policy.Date{Year: 2026, Month: 12, Day: 1}.AddDays(r.IntN(200)).String()
}

// some gives some of all, at least one.
func (r *random) some(all []string) string {
	n := 1 + r.IntN(len(all))
	picked := slices.Clone(all)
	r.Shuffle(len(picked), func(i, j int) { picked[i], picked[j] = picked[j], picked[i] })
	return "[" + strings.Join(picked[:n], ", ") + "]"
}

func (r *random) valid() string {
	from := policy.Date{Year: 2026, Month: 12, Day: 1}.AddDays(r.IntN(60))
	return fmt.Sprintf("{from: %s, until: %s}", from, from.AddDays(r.IntN(200)))
}

func (r *random) window(targets, calendars, engineers []string) string {
	when := ""
	switch r.IntN(3) {
	case 0:
		when = fmt.Sprintf("rrule: \"FREQ=WEEKLY;INTERVAL=2;BYDAY=%s\", at: \"2%d:00\", duration: %dh", []string{"MO", "TU,FR", "SU"}[r.IntN(3)], r.IntN(4), 1+r.IntN(9))
	case 1:
		when = fmt.Sprintf("days: [%s, %s], from: \"0%d:30\", to: \"1%d:00\"", []string{"mon", "sat"}[r.IntN(2)], calendars[r.IntN(len(calendars))], r.IntN(10), r.IntN(10))
	case 2:
		d := policy.Date{Year: 2026, Month: 12, Day: 1}.AddDays(r.IntN(200))
		when = fmt.Sprintf("once: {from: %sT20:15, until: %sT0%d:00}", d, d.AddDays(1+r.IntN(3)), r.IntN(10))
	}
	return fmt.Sprintf("{%s, valid: %s, except: %s, targets: %s, engineers: %s, approved_by: %q, ticket: %s, grace: 15m}", when, r.valid(), r.some(calendars), r.some(targets),
		r.some(engineers), []string{"情報システム課長", "課長 " + r.secret(), "Head of IT"}[r.IntN(3)], r.secret())
}

// policy makes the text of a policy.
func (r *random) policy() string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	names := func(n int) (all []string) {
		for range n {
			all = append(all, r.secret())
		}
		return all
	}
	net := fmt.Sprintf("10.%d", r.IntN(250))
	say("# %s", r.secret())
	say("version: 1\nsite: %s 病院%s\ncontact: %s\ntimezone: Europe/London", r.secret(), r.secret(), r.secret())
	say("tunnel: {addresses: [172.16.%d.1/24, \"fd00:%d::1/64\"], endpoint: %s.example.org:51820}", r.IntN(250), 1+r.IntN(99), r.secret())
	tunnel := regexp.MustCompile(`172\.16\.\d+`).FindString(b.String())
	calendars := names(3)
	say("calendars:\n  %s: {country: GB}\n  %s: {dates: [\"%s\", \"2026-12-29..2027-01-03\"]}\n  %s: {dates: [%s]}", calendars[0], calendars[1], r.date(), calendars[2], r.date())
	targets := names(4)
	if r.IntN(2) == 0 {
		say("zones:\n  %s: {prefixes: [%s.0.0/16]}", r.secret(), net)
	}
	say("targets:\n  %s: {address: %s.0.5, ports: [tcp/22, tcp/11112], role: ehr} # %s", targets[0], net, r.secret())
	say("  %s: {address: %s.2.0/28, ports: [icmp, udp/161-170], masquerade: true, role: %s}", targets[1], net, r.secret())
	say("  %s: {address: %s.2.3, ports: [tcp/443]}", targets[2], net)
	say("  %s: {address: %s.255.255, ports: [tcp/443], role: ehr}", targets[3], net)
	line, plain := r.secret(), r.secret()
	say("lines: {%s: {interface: eth1.310, kind: ip-vpn, provider: %s}, %s: {interface: eth1.311, kind: leased, plain: true}}", line, r.secret(), plain)
	operators := names(2)
	say("operators:\n  %s: {name: %s, user: %s, may: [record, approve, ratify]}\n  %s: {may: [record, approve, ratify, review]}", operators[0], r.secret(), r.secret(), operators[1])
	say("notify:\n  %s: {webhook: \"https://%s.example.org/k\"}\nvendors:", r.secret(), r.secret())
	prime := ""
	for i := range 1 + r.IntN(3) {
		vendor, engineers := r.secret(), names(1+r.IntN(3))
		say("  %s:\n    name: %s\n    phone: %s\n    sources: [203.0.113.%d, 198.51.%d.0/24, \"2001:db8:%d::/64\"]", vendor, r.secret(), r.secret(), i, 90+i, i+1)
		if prime != "" {
			say("    under: %s\n    consent: {by: %s, date: 2026-04-01, until: 2027-05-31, document: %s}", prime, r.secret(), r.secret())
		} else {
			say("    contract: {until: 2027-05-31, certificates: [{kind: %s, number: %s, until: 2027-03-31}]}", r.secret(), r.secret())
		}
		if i == 1 {
			say("    line: %s", line)
		}
		say("    engineers:")
		for j, e := range engineers {
			say("      %s: {name: 佐藤, public_key: %q, addresses: [%s.%d, \"%s\"]}", e, r.key(), tunnel, 2+10*i+j, strings.Replace(regexp.MustCompile(`fd00:\d+::1`).FindString(b.String()), "::1", fmt.Sprintf("::%x", 2+10*i+j), 1))
		}
		say("    windows:")
		for range 1 + r.IntN(3) {
			say("      %s: %s", r.secret(), r.window(targets, calendars, engineers))
		}
		say("    on_request: {targets: %s, engineers: %s, valid: %s, max_duration: 4h, approvers: %s, one_time_source: {within: [198.51.%d.0/24]}}",
			"["+strings.Join(targets, ", ")+"]", r.some(engineers), r.valid(), "["+strings.Join(operators, ", ")+"]", 90+i)
		if prime == "" {
			prime = vendor
		}
	}
	w := regexp.MustCompile(`engineers: \[[^]]*\], `).ReplaceAllString(r.window(targets, calendars, []string{"all"}), "")
	say("  %s:\n    sources: [172.31.%d.8/29, 172.31.0.77, \"fd77:%d::5\"]\n    line: %s\n    windows:\n      %s: %s", r.secret(), r.IntN(250), 1+r.IntN(99), plain, r.secret(), w)
	return b.String()
}

func parsed(t *testing.T, text string) (*policy.Policy, error) {
	t.Helper()
	p, _, err := config.ParsePolicy("policy.yaml", []byte(text), t.TempDir(), config.Host{Sealed: true}, testNow)
	return p, err
}

func randomPolicy(t *testing.T, seed uint64) (*random, string, *policy.Policy) {
	t.Helper()
	r := &random{Rand: rand.New(rand.NewPCG(seed, 7))}
	text := r.policy()
	p, err := parsed(t, text)
	if err != nil {
		t.Fatalf("seed %d: %v\n%s", seed, err, text)
	}
	return r, text, p
}

// TestSharedPoliciesTellNothing: no name, ticket, key, date or comment of a policy is in what is shared.
func TestSharedPoliciesTellNothing(t *testing.T) {
	t.Parallel()
	for seed := range *seeds {
		r, text, p := randomPolicy(t, seed)
		s, err := Export("policy.yaml", []byte(text), Story{Purpose: "the purpose", WentWrong: "nothing", Clause: "12"}, nil)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
		out := strings.ToLower(string(s.Text()))
		secrets := append(r.secrets, "佐藤", "2026", "2027", "example.org", "eth1")
		for _, v := range p.Vendors {
			for _, e := range v.Engineers {
				for _, a := range e.Addresses {
					secrets = append(secrets, a.String()+"\"", a.String()+",", a.String()+"]")
				}
			}
		}
		for _, word := range secrets {
			if strings.Contains(out, strings.ToLower(word)) {
				t.Errorf("seed %d: %q is in\n%s", seed, word, out)
			}
		}
	}
}

// TestGuard: a word of the policy that a person wrote into the story is found, however it is written. Without
// the guard it gets through.
func TestGuard(t *testing.T) {
	t.Parallel()
	r, text, _ := randomPolicy(t, 1)
	text = "# 木戸市民病院\n" + text
	puny, err := idna.ToASCII("木戸市民病院")
	if err != nil {
		t.Fatal(err)
	}
	secret, private := r.secrets[3], strings.TrimSuffix(regexp.MustCompile(`172\.16\.\d+\.2,`).FindString(text), ",")
	for name, word := range map[string]string{
		"plain": secret, "capital": strings.ToUpper(secret), "within": "x" + secret + "9", "hex": hex.EncodeToString([]byte(secret)),
		"base64": base64.StdEncoding.EncodeToString([]byte(secret)), "base64 of more": base64.StdEncoding.EncodeToString([]byte("a " + secret + " b")),
		"full width": strings.Map(func(r rune) rune { return r - '!' + '！' }, secret), "an address between brackets": strings.ReplaceAll(private, ".", "[.]"),
		"a host of a plain line":       "host-172-31-0-77",
		"a host that the prefix lists": regexp.MustCompile(`(172\.31\.\d+\.)8/29`).FindStringSubmatch(text)[1] + "14",
		"a host of six":                "host-fd77-0001-0000-0000-0000-0000-0000-0005",
		"a name":                       "佐藤さん", "an address": private, "a kanji word": "病院x", "punycode": puny,
	} {
		story := Story{WentWrong: "we saw " + word + " there"}
		_, err := Export("policy.yaml", []byte(text), story, nil)
		var leak *LeakError
		found := errors.As(err, &leak) && leak.Field == "story.went_wrong"
		if !found {
			t.Errorf("%s: %v", name, err)
		}
		if s, err := export("policy.yaml", []byte(text), story, nil, false); err != nil || !strings.Contains(string(s.Text()), word) {
			t.Errorf("%s: without the guard: %v", name, err)
		}
	}
}

// TestTemplates: check names each REPLACE of a template once, with its line; and filled with what the source has,
// the template opens the same at the same times, under other names.
func TestTemplates(t *testing.T) {
	t.Parallel()
	for seed := range *seeds {
		_, text, source := randomPolicy(t, seed)
		s, err := Export("policy.yaml", []byte(text), Story{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		template, err := Template("shared.yaml", s.Text())
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, s.Text())
		}
		lines := strings.Split(string(template), "\n")
		_, err = parsed(t, string(template))
		var mistakes config.Errors
		errors.As(err, &mistakes)
		var want, got []string
		for i, line := range lines {
			if code, _, _ := strings.Cut(line, "  #"); !strings.HasPrefix(line, "#") {
				for range strings.Count(code, config.Replace) {
					want = append(want, fmt.Sprint(i+1))
				}
			}
		}
		for _, m := range mistakes {
			got = append(got, fmt.Sprint(m.Line))
		}
		if len(want) > 90 { // check lists 100 mistakes
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d (-want +got):\n%s%v\n%s", seed, diff, err, template)
		}
		filled, err := parsed(t, fill(t, string(template), text, s.Map, mistakes))
		if err != nil {
			t.Fatalf("seed %d: filled: %v\n%s", seed, err, template)
		}
		if diff := cmp.Diff(openings(source, s.Map), openings(filled, Map{})); diff != "" {
			t.Fatalf("seed %d: openings (-source +filled):\n%s", seed, diff)
		}
	}
}

// fill writes what the source has into the places of a template.
func fill(t *testing.T, template, text string, m Map, mistakes config.Errors) string {
	t.Helper()
	source, err := config.ReadTree("policy.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	back := map[string]string{}
	for path := range m.Names {
		parts := strings.Split(path, ".")
		back[renamed(path, m)] = parts[len(parts)-1]
	}
	lines := strings.Split(template, "\n")
	seen := map[string]int{}
	for _, e := range mistakes {
		at := source
		path := ""
		for _, part := range strings.Split(e.Where, ".") {
			path = join(path, part)
			if was := back[path]; was != "" {
				part = was
			}
			at = at.Field(part)
		}
		value := ""
		switch {
		case at != nil && len(at.Items) > 0 && at.Items[0].Text != "":
			value = at.Items[seen[e.Where]].Text
		case at != nil && at.Text != "":
			value = at.Text
		default:
			value = "2027-05-31" // of a certificate
		}
		seen[e.Where]++
		lines[e.Line-1] = strings.Replace(lines[e.Line-1], config.Replace, fmt.Sprintf("%q", value), 1)
	}
	return strings.Join(lines, "\n")
}

// renamed is a path with the names of the shared policy.
func renamed(path string, m Map) string {
	parts := strings.Split(path, ".")
	to := slices.Clone(parts)
	for i := range parts {
		if called := m.Names[strings.Join(parts[:i+1], ".")]; called != "" {
			to[i] = called
		}
	}
	return strings.Join(to, ".")
}

// openings shows what a policy opens in 400 days, with the names of a map.
func openings(p *policy.Policy, m Map) (all []string) {
	host := func(e *policy.Engineer) string { // by the mapped address
		for was, is := range m.Addresses {
			from, to := netip.MustParsePrefix(whole(was)), netip.MustParsePrefix(whole(is))
			if a := e.Addresses[0]; from.Contains(a) {
				n := new(big.Int).SetBytes(a.AsSlice())
				n.Sub(n, new(big.Int).SetBytes(from.Masked().Addr().AsSlice()))
				mapped, _ := netip.AddrFromSlice(n.Add(n, new(big.Int).SetBytes(to.Masked().Addr().AsSlice())).FillBytes(make([]byte, len(a.AsSlice()))))
				return policy.HostOf(e.Vendor, mapped).Name
			}
		}
		return e.Name
	}
	name := func(path string) string { return renamed(path, m) }
	for _, o := range p.Openings(testNow, testNow.Add(policy.Horizon)) {
		var who, what []string
		for _, e := range o.Engineers {
			if e.Plain() {
				who = append(who, name("vendors."+o.Window.Vendor.Name)+".engineers."+host(e))
				continue
			}
			who = append(who, name("vendors."+o.Window.Vendor.Name+".engineers."+e.Name))
		}
		for _, t := range o.Window.Targets {
			what = append(what, fmt.Sprint(name("targets."+t.Name), t.Services))
		}
		slices.Sort(who)
		slices.Sort(what)
		all = append(all, fmt.Sprint(o.From.UTC(), o.Until.UTC(), name("vendors."+o.Window.Vendor.Name+".windows."+o.Window.Name), who, what))
	}
	slices.Sort(all)
	return all
}

// whole is an address as a prefix.
func whole(text string) string {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()).String()
	}
	return text
}

// TestAddressesKeepWhatLiesInWhat: mapped prefixes contain each other as before, and none is one of the policy.
func TestAddressesKeepWhatLiesInWhat(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		found := map[netip.Prefix]bool{}
		tunnel := netip.MustParsePrefix("172.16.9.0/24")
		for i := range byte(1 + r.IntN(5)) {
			found[netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, 9, i + 1}), 32)] = true
		}
		for range 1 + r.IntN(30) {
			a := netip.AddrFrom4([4]byte{[]byte{10, 203, 198}[r.IntN(3)], byte(r.IntN(2)), byte(r.IntN(256)), byte(r.IntN(256))})
			if r.IntN(4) == 0 {
				a = netip.AddrFrom4([4]byte{203, 0, 113, byte(r.IntN(256))})
			}
			found[netip.PrefixFrom(a, []int{16, 24, 24, 28, 32, 32}[r.IntN(6)]).Masked()] = true
		}
		all := []netip.Prefix{tunnel}
		for p := range found {
			all = append(all, p)
		}
		m, err := mapAddresses(all, all[:1])
		if errors.Is(err, ErrTooWide) {
			continue
		}
		for _, p := range all {
			for _, q := range all {
				if policy.Within(p, q) != policy.Within(m.of(p), m.of(q)) || m.of(p).Overlaps(q) {
					t.Fatalf("seed %d: %v in %v: %v in %v", seed, p, q, m.of(p), m.of(q))
				}
			}
			if p.Bits() != m.of(p).Bits() && !m.Shrunk {
				t.Errorf("seed %d: %v is %v", seed, p, m.of(p))
			}
		}
	}
}

// TestExample: the policy to begin with, as it is shared.
func TestExample(t *testing.T) {
	text, err := os.ReadFile("../example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Export("example.yaml", text, Story{Purpose: "月次の保守"}, []Usage{{"medisys", 7, 40000}, {"nobody", 1, 1}})
	if err != nil {
		t.Fatal(err)
	}
	golden := "testdata/example.yaml"
	want, _ := os.ReadFile(golden)
	if os.Getenv("UPDATE") != "" {
		os.MkdirAll("testdata", 0o755)
		os.WriteFile(golden, s.Text(), 0o644)
		want = s.Text()
	}
	if diff := cmp.Diff(string(want), string(s.Text())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	kept, err := s.Map.Text()
	var m Map
	if err != nil || json.Unmarshal(kept, &m) != nil || m.Names["vendors.medisys.engineers.sato"] != "engineer-1" || m.Addresses["10.1.0.5"] == "" {
		t.Errorf("%v\n%s", err, kept)
	}
}

// TestTemplatesOfWhatIsNoSharedPolicy names each mistake.
func TestTemplatesOfWhatIsNoSharedPolicy(t *testing.T) {
	for text, want := range map[string]string{
		"kidoban_share: 2\npolicy: {version: 1}":                                                            "s.yaml:1:1: kidoban_share: is not 1",
		"kidoban_share: 1":                                                                                  "s.yaml:1:1: policy: the field policy is missing",
		"kidoban_share: 1\npolicy: {notify: {}}":                                                            `s.yaml:2:1: policy: unknown field "notify"`,
		"kidoban_share: 1\npolicy:\n  vendors: {a: {sources: [example.org]}}":                               `s.yaml:3:1: policy.vendors.a.sources: "example.org" is nothing`,
		"kidoban_share: 1\npolicy:\n  vendors: {\"a b\": {}}":                                               `s.yaml:3:1: policy.vendors: "a b" is no name`,
		"kidoban_share: 1\npolicy: 1":                                                                       "s.yaml:2:1: policy: is no mapping",
		"kidoban_share: 1\npolicy: {targets: {a: {ports: 1}}}":                                              "s.yaml:2:1: policy.targets.a.ports: is no list",
		"kidoban_share: 1\nother: 1\npolicy: {version: 1}":                                                  "s.yaml:2:1: other: unknown field",
		"kidoban_share: 1\npolicy: {vendors: {a: {windows: {w: {once: {month: month+1, at: \"20:00\"}}}}}}": "policy.vendors.a.windows.w.once: the field lasts is missing",
		"a: [": "s.yaml:1:",
	} {
		if _, err := Template("s.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestBuckets(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 1: "1-3", 3: "1-3", 4: "4-10", 30: "11-30", 100: "31-100", 101: "over 100"} {
		if got := bucket(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	if letters(0)+letters(25)+letters(26)+letters(701)+letters(702) != "azaazzaaa" {
		t.Error("vendors are not counted in letters")
	}
	if _, err := UsageOf([]byte(`{"version": 2, "vendors": []}`)); err == nil || !strings.Contains(err.Error(), "has version 2: a newer kidoban made it, and this one knows versions up to 1") {
		t.Errorf("a report of a newer version: %v", err)
	}
	if u, err := UsageOf([]byte(`{"vendors": [{"vendor": "a", "sessions": 3, "used_seconds": 7}]}`)); err != nil || len(u) != 1 || u[0] != (Usage{"a", 3, 7}) {
		t.Errorf("%v, %v", u, err)
	}
}
