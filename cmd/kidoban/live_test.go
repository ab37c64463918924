package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway"
	"kidoban/gateway/api"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// answer is what a gateway says to one request.
type answer struct {
	status int // 0: 200
	body   any
}

// askedOf runs a command against a gateway in Japan that gives prepared
// answers, and gives what it printed, its exit status, and the body that it sent.
func askedOf(t *testing.T, answers map[string]answer, args ...string) (out, failures string, exit int, sent string) {
	t.Helper()
	return askedIn(t, "Asia/Tokyo", answers, args...)
}

// askedIn is askedOf where the gateway names another time zone, or none.
func askedIn(t *testing.T, zone string, answers map[string]answer, args ...string) (out, failures string, exit int, sent string) {
	t.Helper()
	var o, f bytes.Buffer
	exit, sent = askedWith(t, zone, answers, &o, &f, args...)
	return o.String(), f.String(), exit, sent
}

// askedWith is askedIn with the places of output and errors.
func askedWith(t *testing.T, zone string, answers map[string]answer, out, failures io.Writer, args ...string) (exit int, sent string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "admin.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := answers[r.Method+" "+r.URL.Path]
		if !ok {
			t.Errorf("%v asked %s %s", args, r.Method, r.URL)
		}
		var body bytes.Buffer
		if _, err := body.ReadFrom(r.Body); err != nil {
			t.Error(err)
		}
		sent = body.String()
		if zone != "" {
			w.Header().Set("Kidoban-Timezone", zone)
		}
		if a.status != 0 {
			w.WriteHeader(a.status)
		}
		if text, ok := a.body.(string); ok {
			_, _ = w.Write([]byte(text))
			return
		}
		_ = json.NewEncoder(w).Encode(a.body)
	})}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	return run(args, []string{"KIDOBAN_ADMIN_SOCKET=" + socket}, out, failures), sent
}

var jst = time.FixedZone("JST", 9*60*60)

func at(clock string) time.Time {
	t, err := time.ParseInLocation(time.DateTime, "2030-12-09 "+clock, jst)
	if err != nil {
		panic(err)
	}
	return t
}

func pointer[T any](v T) *T { return &v }

// aDay is a gateway at ten in the morning, with everything there is to show.
func aDay() view.Status {
	return view.Status{
		Ready: true, Site: "Kido Hospital", Now: at("10:00:00"), NextChange: pointer(at("17:30:00")),
		Policy: view.PolicyStatus{Digest: "0123456789abcdef", LoadedAt: pointer(at("08:00:00")), FileOK: true},
		Shut: view.ShutStatus{Vendors: []string{"scanco"}, Engineers: []string{}, Records: []policy.ShutRecord{
			{Scope: "scanco", At: at("09:15:00"), Actor: "root (login tanaka)", Reason: "phone call",
				Again: []policy.Close{{At: at("09:20:00"), Actor: "mori", Reason: "unpaid"}}}},
			ByKey: []policy.Held{{Engineer: "scanco-east/tanaka", Scope: "scanco"}}},
		HintMessages: []view.Message{view.Say("routes_unread", view.Args{"cause": "\x1b[2J"})},
		Grants: []view.GrantStatus{{ID: "medisys/sato/support@20301209T000000Z", Vendor: "medisys", Engineer: "sato", Window: "support",
			From: at("09:00:00"), Until: at("17:30:00"), Targets: []string{"ehr-db", "pacs"},
			Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.10/32"), netip.MustParsePrefix("198.51.100.0/28")}}},
		Sessions: []view.SessionStatus{{ID: "SESSION1", Vendor: "medisys", Engineer: "sato", Source: netip.MustParseAddr("203.0.113.10"),
			OpenedAt: at("09:30:00"), Until: at("17:30:00"), Grants: []string{}, Received: 1023, Transmitted: 5 << 20, LastHandshake: pointer(at("09:59:00"))}},
		Requests: view.RequestCounts{Undecided: 1, Open: 2, Unratified: 1, SelfApproved: 1},
		ClockOK:  true,
	}
}

func TestStatus(t *testing.T) {
	out, failures, exit, _ := askedOf(t, map[string]answer{"GET /v1/status": {body: aDay()}}, "status")
	want := `READY  Kido Hospital
  now          2030-12-09 10:00:00 JST
  next change  2030-12-09 17:30:00 JST
  policy       0123456789ab of 2030-12-09 08:00:00 JST; the file on disk would survive a restart
  SHUT         scanco by root (login tanaka) at 2030-12-09 09:15:00 JST: phone call
  SHUT         scanco by mori at 2030-12-09 09:20:00 JST: unpaid
  SHUT         scanco-east/tanaka by its key: it was closed as scanco
  requests     1 undecided, 0 scheduled, 2 open, 0 frozen, 2 to sign
  hint: how the host reaches targets cannot be read, so none is reached: ·[2J

grants open: 1
ENGINEER      WINDOW   FROM (JST)  UNTIL     TARGETS      SOURCES
medisys/sato  support  09:00:00    17:30:00  ehr-db,pacs  203.0.113.10,198.51.100.0/28

sessions inside: 1
ENGINEER      FROM          SINCE (JST)  UNTIL     RECEIVED  SENT     HANDSHAKE  SESSION
medisys/sato  203.0.113.10  09:30:00     17:30:00  1023 B    5.0 MiB  1m0s ago   SESSION1
`
	if diff := cmp.Diff(out, want); diff != "" || failures != "" || exit != terminal.Yes {
		t.Errorf("exit %d, stderr %q (-got +want):\n%s", exit, failures, diff)
	}
}

// TestTimesOfTheSite: every command shows times with the name of the zone that
// the gateway names, whatever the zone of who asks is.
func TestTimesOfTheSite(t *testing.T) {
	// The clocks of Berlin go forward between these.
	before, after := time.Date(2031, 3, 29, 21, 0, 0, 0, time.UTC), time.Date(2031, 3, 30, 4, 0, 0, 0, time.UTC)
	in := func(t time.Time, hours int) time.Time { return t.In(time.FixedZone("", hours*3600)) }
	from, until := in(before, 1), in(after, 2)
	s := view.Status{Ready: true, Now: from, NextChange: &until, Policy: view.PolicyStatus{LoadedAt: &from},
		Shut:     view.ShutStatus{Records: []policy.ShutRecord{{Scope: "acme", At: until}}},
		Grants:   []view.GrantStatus{{From: from, Until: until}},
		Sessions: []view.SessionStatus{{OpenedAt: from, Until: until}}}
	for _, test := range []struct {
		args, path string
		body       any
		want       []string
	}{
		{"status", "/v1/status", s, []string{"now          2031-03-29 22:00:00 CET\n", "next change  2031-03-30 06:00:00 CEST\n", "of 2031-03-29 22:00:00 CET;",
			"at 2031-03-30 06:00:00 CEST", "FROM (CET, CEST)", "SINCE (CET, CEST)"}},
		{"sessions", "/v1/sessions", s.Sessions, []string{"SINCE (CET, CEST)", "2031-03-29 22:00", "2031-03-30 06:00"}},
		{"grants", "/v1/grants", s.Grants, []string{"FROM (CET, CEST)", "2031-03-29 22:00", "2031-03-30 06:00"}},
		{"refusals", "/v1/refusals", []view.Refusal{{First: from, Last: until}}, []string{"LAST (CET, CEST)", "2031-03-30 06:00", "2031-03-29 22:00"}},
		{"explain acme/brown", "/v1/explain", api.Explanation{Decision: "admit", At: from, Until: &until, NextOpening: &until},
			[]string{"at            2031-03-29 22:00:00 CET\n", "until         2031-03-30 06:00:00 CEST\n", "next opening  2031-03-30 06:00:00 CEST\n"}},
		{"calendar", "/v1/calendar", []api.Opening{{From: from, Until: until}}, []string{"FROM (CET, CEST)", "Sat 2031-03-29 22:00 CET", "Sun 2031-03-30 06:00 CEST"}},
	} {
		out, failures, _, _ := askedIn(t, "Europe/Berlin", map[string]answer{"GET " + test.path: {body: test.body}}, strings.Fields(test.args)...)
		for _, want := range test.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s does not show %q: %s%s", test.args, want, out, failures)
			}
		}
	}
	for _, zone := range []string{"", "Europe/Nowhere"} {
		if out, failures, exit, _ := askedIn(t, zone, map[string]answer{"GET /v1/status": {body: s}}, "status"); exit != terminal.Yes || !strings.Contains(out, "2031-03-29 22:00:00") {
			t.Errorf("of a gateway in %q: exit %d: %s%s", zone, exit, out, failures)
		}
	}
}

// TestHintsBeforeWarnings: what the gateway noticed stands first; what the
// policy warns of comes in the order of the file, and does not fill the screen.
func TestHintsBeforeWarnings(t *testing.T) {
	s := aDay()
	s.HintMessages = []view.Message{view.Say("file_changed", nil)}
	codes := []view.Code{"policy_window_always", "policy_window_always", "policy_rule_long", "policy_days_long", "policy_once_long", "policy_once_over", "policy_vendor_closed"}
	for i, line := range []int{8, 9, 15, 22, 43, 100, 101} {
		s.Warnings = append(s.Warnings, view.Say(codes[i], view.Args{"file": "/etc/kidoban/policy.yaml", "line": line, "column": 23, "where": "vendors.v.windows.w.days"}))
	}
	out, _, _, _ := askedOf(t, map[string]answer{"GET /v1/status": {body: s}}, "status")
	want := "  hint: " + s.HintMessages[0].String() + "\n"
	for _, w := range s.Warnings[:5] {
		want += "  warning: " + w.String() + "\n"
	}
	want += "  warnings about the policy that are not shown: 2; `kidoban check` shows them\n\ngrants open: 1\n"
	if !strings.Contains(out, want) {
		t.Errorf("got\n%s\nwant in it\n%s", out, want)
	}
}

func TestStatusInDoubt(t *testing.T) {
	noPolicy := view.Say(view.NoPolicy, view.Args{"cause": "policy.yaml:3:1: site: is blank\nand more"})
	s := view.Status{NotReadyReason: noPolicy.String(), Doubts: []view.Doubt{{About: view.Policy, Message: noPolicy}}, Now: at("10:00:00"),
		Policy: view.PolicyStatus{Error: "policy.yaml:3:1: site: is blank\npolicy.yaml:9:1: targets: is empty"},
		Grants: []view.GrantStatus{}, Sessions: []view.SessionStatus{}}
	out, failures, exit, _ := askedOf(t, map[string]answer{"GET /v1/status": {body: s}}, "status")
	if exit != terminal.No || failures != "" {
		t.Errorf("exit %d, stderr %q", exit, failures)
	}
	for _, line := range []string{
		"NOT READY: nobody may enter",
		"  there is no policy in force: policy.yaml:3:1: site: is blank",
		"  and more; mend it, then `kidoban reload`",
		"policy.yaml:3:1: site: is blank",
		"policy.yaml:9:1: targets: is empty",
		"grants open: 0",
	} {
		if !strings.Contains(out, line+"\n") && !strings.Contains(out, line+"  ") {
			t.Errorf("the answer lacks the line %q:\n%s", line, out)
		}
	}
	out, _, exit, _ = askedOf(t, map[string]answer{"GET /v1/status": {body: s}}, "status", "--json")
	if exit != terminal.No || !json.Valid([]byte(out)) || strings.Count(out, "\n") != 1 {
		t.Errorf("exit %d, not one line of JSON: %s", exit, out)
	}
	// What the reason says already is not said again.
	s.Policy.Error = "policy.yaml:3:1: site: is blank\nand more"
	if out, _, _, _ := askedOf(t, map[string]answer{"GET /v1/status": {body: s}}, "status"); strings.Count(out, "site: is blank") != 1 {
		t.Errorf("a mistake is told more than once:\n%s", out)
	}
	// Ready, but an operator closed everything.
	s = aDay()
	s.Shut.All = true
	if out, _, exit, _ := askedOf(t, map[string]answer{"GET /v1/status": {body: s}}, "status"); exit != terminal.Yes || !strings.HasPrefix(out, "SHUT by an operator: nobody may enter  Kido Hospital\n") {
		t.Errorf("with everything shut: exit %d\n%s", exit, out)
	}
	// A file that went bad under a gateway that is at work.
	s = aDay()
	s.Policy.FileOK, s.Policy.Error = false, "policy.yaml:3:1: site: is blank"
	if out, _, exit, _ := askedOf(t, map[string]answer{"GET /v1/status": {body: s}}, "status"); exit != terminal.Yes || !strings.Contains(out, "THE FILE ON DISK WOULD NOT SURVIVE A RESTART") {
		t.Errorf("exit %d:\n%s", exit, out)
	}
}

func TestLists(t *testing.T) {
	none := map[string]answer{"GET /v1/sessions": {body: "[]"}, "GET /v1/grants": {body: "[]"}, "GET /v1/refusals": {body: "[]"}}
	for command, want := range map[string]string{
		"sessions": "Nobody is inside.\n",
		"grants":   "Nothing is open.\n",
		"refusals": "Nobody was refused since the gateway started.\n",
	} {
		if out, failures, exit, _ := askedOf(t, none, command); out != want || failures != "" || exit != terminal.Yes {
			t.Errorf("%s: exit %d, %q, %q, want %q", command, exit, out, failures, want)
		}
		if out, _, exit, _ := askedOf(t, none, command, "--json"); out != "[]\n" || exit != terminal.Yes {
			t.Errorf("%s --json: exit %d, %q", command, exit, out)
		}
	}
	refused := []view.Refusal{
		{First: at("08:00:00"), Last: at("09:00:00"), Count: 3, Reason: "wrong_source", Vendor: "medisys", Engineer: "sato", Source: netip.MustParseAddr("192.0.2.1")},
		{First: at("07:00:00"), Last: at("07:00:01"), Count: 2, Reason: "unlisted_target", Vendor: "medisys", Engineer: "sato", Source: netip.MustParseAddr("203.0.113.10"), Target: "10.1.0.6:tcp/22"},
		{First: at("06:00:00"), Last: at("06:00:00"), Count: 9, Reason: "unlisted_source"},
	}
	out, _, _, _ := askedOf(t, map[string]answer{"GET /v1/refusals": {body: refused}}, "refusals")
	want := `LAST (JST)        FIRST             COUNT  REASON           WHO           FROM          TO
2030-12-09 09:00  2030-12-09 08:00  3      wrong_source     medisys/sato  192.0.2.1     -
2030-12-09 07:00  2030-12-09 07:00  2      unlisted_target  medisys/sato  203.0.113.10  10.1.0.6:tcp/22
2030-12-09 06:00  2030-12-09 06:00  9      unlisted_source  -             -             -

wrong_source     the address is not one of the engineer's sources
unlisted_target  no open window lets the engineer reach this destination
unlisted_source  from an address that no open window lists: no readable initiation, or by a line without WireGuard
`
	if diff := cmp.Diff(out, want); diff != "" {
		t.Errorf("refusals (-got +want):\n%s", diff)
	}
}

// TestOrders: what an operator commands, what is sent, and how the outcome is told.
func TestOrders(t *testing.T) {
	done := gateway.Outcome{Applied: true, Recorded: true, Shut: []string{}}
	risky := view.Say("policy_service_risky", view.Args{"file": "policy.yaml", "line": 6, "column": 39, "where": "targets.ehr.ports", "service": "tcp/3389", "name": "RDP"})
	for _, test := range []struct {
		args           string // the last is a reason where there is one
		path           string
		answer         answer
		exit           int
		sent           string
		out, complaint string
	}{
		{"close medisys/sato --reason drill", "POST /v1/close", answer{body: gateway.Outcome{Applied: true, Recorded: true, Sessions: 1, Shut: []string{"medisys/sato"}}},
			terminal.Yes, `{"reason":"drill","scope":"medisys/sato"}`,
			"Shut: medisys/sato. It stays shut over restarts until `kidoban reopen`.\nSessions cut: 1.\nShut now: medisys/sato\n", ""},
		{"close scanco --reason drill", "POST /v1/close", answer{body: gateway.Outcome{Applied: true, Recorded: true, Shut: []string{"scanco"}, Was: &aDay().Shut.Records[0]}},
			terminal.Yes, `{"reason":"drill","scope":"scanco"}`,
			"Shut: scanco. It stays shut over restarts until `kidoban reopen`.\n" +
				"It was shut already; the earlier closes stay on record, and one reopening takes all back:\n" +
				"  scanco by root (login tanaka) at 2030-12-09 09:15:00 JST: phone call\n  scanco by mori at 2030-12-09 09:20:00 JST: unpaid\nShut now: scanco\n", ""},
		{"reopen scanco --reason over", "POST /v1/reopen", answer{body: gateway.Outcome{Applied: true, Recorded: true, Shut: []string{}, Was: &aDay().Shut.Records[0]}},
			terminal.Yes, `{"reason":"over","scope":"scanco"}`,
			"Reopened: scanco.\nTaken back:\n  scanco by root (login tanaka) at 2030-12-09 09:15:00 JST: phone call\n  scanco by mori at 2030-12-09 09:20:00 JST: unpaid\n", ""},
		{"close --all --reason drill", "POST /v1/close", answer{body: gateway.Outcome{Applied: true, Kept: true, Shut: []string{"all"}, Problems: []view.Message{view.Say("not_recorded", view.Args{"cause": "the disk is full"})}}},
			terminal.Yes, `{"reason":"drill","scope":"all"}`,
			"Shut: all. It stays shut over restarts until `kidoban reopen`.\nShut now: all\nNOT RECORDED in the journal.\nA restart honours it all the same.\n",
			"kidoban: not recorded: the disk is full\n"},
		{"close --all --reason drill", "POST /v1/close", answer{body: gateway.Outcome{Applied: true, UntilBoot: true, Shut: []string{"all"}, Problems: []view.Message{view.Say("not_recorded", view.Args{"cause": "the disk is full"})}}},
			terminal.Failed, `{"reason":"drill","scope":"all"}`,
			"Shut: all, while the gateway runs.\nShut now: all\nNOT RECORDED in the journal.\nA restart of the gateway honours it, the machine's NEXT BOOT FORGETS IT: mend the disk, then `kidoban recover` records it.\n",
			"kidoban: not recorded: the disk is full\n"},
		{"close --all --reason drill", "POST /v1/close", answer{body: gateway.Outcome{Recorded: true, Shut: []string{"all"}, Problems: []view.Message{view.Say("not_applied_yet", view.Args{"wait": 3 * time.Second})}}},
			terminal.Failed, `{"reason":"drill","scope":"all"}`,
			"Shut: all. It stays shut over restarts until `kidoban reopen`.\nShut now: all\n", "kidoban: the kernel's ruleset was not set within 3s\n"},
		{"close acme --reason drill", "POST /v1/close", answer{404, api.Problem{Status: 404, Detail: `the policy has no vendor or engineer "acme"`}},
			terminal.No, `{"reason":"drill","scope":"acme"}`, "", "kidoban: the policy has no vendor or engineer \"acme\"\n"},
		{"close medisys --reason drill", "POST /v1/close", answer{403, api.Problem{Status: 403, Detail: "it could be anybody"}},
			terminal.Failed, `{"reason":"drill","scope":"medisys"}`, "", "kidoban: it could be anybody\n"},
		{"reopen medisys --reason over", "POST /v1/reopen", answer{body: done}, terminal.Yes, `{"reason":"over","scope":"medisys"}`, "Reopened: medisys.\n", ""},
		{"reopen --all --reason over", "POST /v1/reopen", answer{body: gateway.Outcome{Applied: true, Recorded: true, Shut: []string{"all"}}}, terminal.Yes, `{"reason":"over","scope":"all"}`,
			"Approved: the reopening of all, which is still shut.\nShut now: all\n", ""},
		{"reopen medisys --reason over", "POST /v1/reopen", answer{404, api.Problem{Status: 404, Detail: `"medisys" is not shut`}},
			terminal.No, `{"reason":"over","scope":"medisys"}`, "", "kidoban: \"medisys\" is not shut\n"},
		{"reload", "POST /v1/reload", answer{body: gateway.Outcome{Applied: true, Recorded: true, Digest: "0123456789abcdef", Changes: []string{"2"}, WarningMessages: []view.Message{risky},
			ChangeMessages: view.Changes([]policy.Change{{Kind: "removed", Thing: "window", Vendor: "medisys", Name: "late"}, {Kind: "changed", Thing: "tunnel"}})}},
			terminal.Yes, "", "Policy 0123456789ab is in force.\n  removed window medisys/late\n  changed tunnel\n  warning: policy.yaml:6:39: targets.ehr.ports: tcp/3389 opens RDP, the usual way of ransomware: is it needed?\n", ""},
		{"reload", "POST /v1/reload", answer{body: gateway.Outcome{Applied: true, Recorded: true, Digest: "0123456789abcdef"}},
			terminal.Yes, "", "Policy 0123456789ab is in force; nothing changed.\n", ""},
		{"reload", "POST /v1/reload", answer{409, api.Problem{Status: 409, Detail: "two", Errors: []string{"policy.yaml:3:1: one", "policy.yaml:4:1: two"}}},
			terminal.Failed, "", "", "policy.yaml:3:1: one\npolicy.yaml:4:1: two\nkidoban: the policy file has errors; the policy in force stays, and the file would not survive a restart\n"},
		{"recover --reason battery", "POST /v1/recover", answer{body: gateway.Outcome{Applied: true, Recorded: true, Journal: "/var/lib/kidoban/journal.broken-1"}},
			terminal.Yes, `{"reason":"battery"}`,
			"Recovered: the clock is accepted, handshake timestamps are forgotten.\nThe broken journal is kept at /var/lib/kidoban/journal.broken-1: copy it to a safe place.\n", ""},
		{"recover --reason battery", "POST /v1/recover", answer{body: gateway.Outcome{Applied: true, Recorded: true, Problems: []view.Message{view.Say("no_policy_yet", nil), view.Say(view.Stops, nil)}}},
			terminal.Failed, `{"reason":"battery"}`,
			"Recovered: the clock is accepted, handshake timestamps are forgotten.\n", "kidoban: there is no policy in force yet\nthe gateway is stopping\n"},
		{"status", "GET /v1/status", answer{body: "<html>"}, terminal.Failed, "", "", "kidoban: the gateway answered what this command does not know: invalid character '<' looking for beginning of value\n"},
		{"status", "GET /v1/status", answer{500, "oops"}, terminal.Failed, "", "", "kidoban: 500 Internal Server Error\n"},
	} {
		out, complaint, exit, sent := askedOf(t, map[string]answer{test.path: test.answer}, strings.Fields(test.args)...)
		if exit != test.exit || sent != test.sent || out != test.out || complaint != test.complaint {
			t.Errorf("kidoban %s, answered %+v:\n got exit %d, sent %q, stdout %q, stderr %q\nwant exit %d, sent %q, stdout %q, stderr %q",
				test.args, test.answer, exit, sent, out, complaint, test.exit, test.sent, test.out, test.complaint)
		}
	}
	out, _, exit, _ := askedOf(t, map[string]answer{"POST /v1/close": {body: done}}, "close", "--json", "--all", "--reason", "x")
	if exit != terminal.Yes || !json.Valid([]byte(out)) {
		t.Errorf("close --json: exit %d, %s", exit, out)
	}
}

// TestExplainOfNobody is no answer of a gateway, and so no "no".
func TestExplainOfNobody(t *testing.T) {
	out, failures, exit, _ := askedOf(t, map[string]answer{"GET /v1/explain": {404, api.Problem{Status: 404, Detail: `the policy has no vendor "nobody"`}}}, "explain", "nobody/x", "--json")
	if exit != terminal.Usage || out != "" || failures != "kidoban: the policy has no vendor \"nobody\"\n" {
		t.Errorf("exit %d: %q, %q", exit, out, failures)
	}
}

// TestLanguage: --lang decides, else the locale; JSON is the same in both.
func TestLanguage(t *testing.T) {
	for _, test := range []struct {
		environ []string
		want    view.Language
	}{
		{nil, view.English},
		{[]string{"LANG=ja_JP.UTF-8"}, view.Japanese},
		{[]string{"LANG=ja_JP.UTF-8", "LC_ALL=C"}, view.English},
		{[]string{"LANG=en_US.UTF-8", "LC_MESSAGES=ja"}, view.Japanese},
		{[]string{"LANG=ja_JP.UTF-8", "LC_ALL="}, view.Japanese},
	} {
		if got := view.LanguageOf(test.environ); got != test.want {
			t.Errorf("%q: %q, want %q", test.environ, got, test.want)
		}
	}
	s := aDay()
	s.Sessions[0].Names = view.Names{VendorName: "株式会社メディシス", EngineerName: "佐藤"}
	s.Ready, s.Doubts = false, []view.Doubt{{About: view.Journal, Message: view.Say("journal_unwritten", view.Args{"cause": "EIO"})}}
	answers := map[string]answer{"GET /v1/status": {body: s}}
	out, failures, _, _ := askedOf(t, answers, "status", "--lang", "ja")
	want := `受付停止: 誰も接続できません  Kido Hospital
  ジャーナルに書き込めません: EIO。ディスクを直してから ` + "`kidoban recover`" + ` を実行してください
  現在      2030-12-09 10:00:00 JST
  次の開閉  2030-12-09 17:30:00 JST
  ポリシー  0123456789ab（2030-12-09 08:00:00 JST 読み込み）。ディスク上のファイルは再起動後も使えます
`
	if !strings.HasPrefix(out, want) || failures != "" {
		t.Errorf("(-got +want):\n%s%s", cmp.Diff(out, want), failures)
	}
	want = `接続中のセッション: 1 件
作業者                                  接続元        開始 (JST)  終了      受信    送信     ハンドシェイク  セッション
medisys/sato (株式会社メディシス 佐藤)  203.0.113.10  09:30:00    17:30:00  1023 B  5.0 MiB  1分0秒前        SESSION1
`
	if !strings.HasSuffix(out, want) {
		t.Errorf("(-got +want):\n%s", cmp.Diff(out, want))
	}
	japanese, _, _, _ := askedOf(t, answers, "status", "--json", "--lang=ja")
	english, _, _, _ := askedOf(t, answers, "status", "--json", "--lang=en")
	if japanese != english {
		t.Errorf("JSON differs:\n%s\n%s", japanese, english)
	}
}

// TestOrdersInJapanese: outcomes and problems come with their messages.
func TestOrdersInJapanese(t *testing.T) {
	closed := gateway.Outcome{Applied: true, Kept: true, Sessions: 2, Shut: []string{"all", "medisys"}, Problem: "not shown",
		Problems: []view.Message{view.Say("not_recorded_yet", view.Args{"wait": 3 * time.Second})}}
	reloaded := gateway.Outcome{Applied: true, Recorded: true, Digest: "0123456789abcdef", Changes: []string{"not shown"}, Warnings: []string{"not shown"},
		ChangeMessages:  append(view.Changes([]policy.Change{{Kind: "added", Thing: "window", Vendor: "medisys", Name: "patch"}, {Kind: "changed", Thing: "tunnel"}}), view.Say("tunnel_anew", nil)),
		WarningMessages: []view.Message{view.Say("policy_window_always", view.Args{"file": "policy.yaml", "line": 8, "column": 3, "where": "vendors.medisys"})}}
	hangs := view.Say("shut_later", view.Args{"why": view.Say("shut_starts", view.Args{"scope": "all"})})
	for _, test := range []struct {
		args, path     string
		answer         answer
		exit           int
		out, complaint string
	}{
		{"close --all --reason drill", "POST /v1/close", answer{body: closed}, terminal.Yes,
			"all を遮断しました。再起動しても、`kidoban reopen` で解除するまで続きます。\n切断したセッション: 2 件\n現在の遮断: all, medisys\nジャーナルに記録していません。\n再起動しても続きます。\n",
			"kidoban: ジャーナルへの記録が3秒以内に終わりませんでした\n"},
		{"close --all --reason drill", "POST /v1/close", answer{409, api.Problem{Status: 409, Detail: hangs.String(), Code: hangs.Code, Args: hangs.Args}}, terminal.Failed,
			"", "kidoban: ゲートウェイは起動中で、接続中の人はいません（all はまだポリシーと照合していません。起動後に `kidoban status` で遮断を確認してください）。ゲートウェイが再び動くか再起動すると、すぐに遮断します\n"},
		{"close x --reason drill", "POST /v1/close", answer{409, api.Problem{Status: 409, Detail: "of a newer gateway", Code: "of_tomorrow"}}, terminal.Failed, "", "kidoban: of a newer gateway\n"},
		{"close x --reason drill", "POST /v1/close", answer{404, api.Problem{Status: 404, Detail: "the policy has no x"}}, terminal.No, "", "kidoban: 該当がありません: the policy has no x\n"},
		{"close x --reason drill", "POST /v1/close", answer{404, api.Problem{Status: 404, Detail: "...", Code: "no_scope", Args: view.Args{"scope": "x", "near": view.Say("did_you_mean", view.Args{"name": "y"})}}}, terminal.No,
			"", "kidoban: 該当がありません: ポリシーに業者・作業者 x がありません。y の間違いではありませんか\n"},
		{"close --reason drill", "", answer{}, terminal.Usage, "", "kidoban: 対象がありません。指定できるのは 業者/作業者、業者、--all です\n"},
		{"reload", "POST /v1/reload", answer{body: reloaded}, terminal.Yes,
			"ポリシー 0123456789ab が有効になりました。\n  追加: 許可時間帯 medisys/patch\n  変更: トンネル\n  トンネル自身のアドレスが変わったため作り直します。すべてのセッションが終了します\n" +
				"  警告: policy.yaml:8:3: vendors.medisys: 毎日、終日開いています\n", ""},
		{"calendar", "GET /v1/calendar", answer{body: []api.Opening{{Vendor: "medisys", VendorName: "株式会社メディシス", Window: "w", From: at("09:00:00"), Until: at("17:30:00"),
			Engineers: []string{"sato"}, Names: []string{"佐藤"}, Targets: []string{"ehr"}, ApprovedBy: "院長"}}}, terminal.Yes,
			"開始 (JST)           終了   許可時間帯                      作業者       接続先  承認\n" +
				"月 2030-12-09 09:00  17:30  medisys/w (株式会社メディシス)  sato (佐藤)  ehr     院長\n", ""},
	} {
		out, complaint, exit, _ := askedOf(t, map[string]answer{test.path: test.answer}, append([]string{"--lang=ja"}, strings.Fields(test.args)...)...)
		if exit != test.exit || out != test.out || complaint != test.complaint {
			t.Errorf("kidoban %s:\n got exit %d, stdout %q, stderr %q\nwant exit %d, stdout %q, stderr %q", test.args, exit, out, complaint, test.exit, test.out, test.complaint)
		}
	}
}
