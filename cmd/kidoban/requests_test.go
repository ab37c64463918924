package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway"
	"kidoban/gateway/api"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

const requestPolicy = `version: 1
site: Kido Hospital
timezone: Asia/Tokyo
tunnel: {addresses: [10.99.0.1/24], endpoint: "gate.example.jp:51820"}
targets:
  ehr-db: {address: 10.1.0.5, ports: [tcp/22, icmp]}
operators:
  tanaka: {user: tanaka, may: [record, approve]}
  mori: {user: mori, may: [approve, ratify]}
vendors:
  medisys:
    name: 株式会社メディシス
    phone: 03-0000-0000
    contract: {until: 2199-12-31}
    sources: [198.18.0.10]
    engineers:
      sato: {name: 佐藤, public_key: "2wwiNhY3WZPk0uE7XO1A/ZgbKPSlgHhNALW7A44oVAc=", addresses: [10.99.0.2]}
    on_request:
      targets: [ehr-db]
      engineers: [sato]
      valid: {until: 2199-12-31}
      approvals: 1
      approvers: [tanaka, mori]
      max_duration: 4h
      emergency: {max_duration: 1h, ratify_within: 3d, ratifiers: [mori]}
`

// asked is a request of an evening that waits for its approval.
func asked() view.Request {
	key, _ := policy.ParseKey("2wwiNhY3WZPk0uE7XO1A/ZgbKPSlgHhNALW7A44oVAc=")
	from := []netip.Prefix{netip.MustParsePrefix("198.18.0.10/32")}
	t := policy.Terms{ID: "~7k2m9x", Version: 1, Site: "Kido Hospital", Vendor: "medisys", Purpose: "the index", Ticket: "INC-7", Sources: from,
		Engineers: []policy.AskedEngineer{{Key: key, Name: "sato", Sources: from}},
		Targets:   []policy.AskedTarget{{Name: "ehr-db", Prefix: netip.MustParsePrefix("10.1.0.5/32"), Services: []string{"tcp/22", "icmp"}}},
		From:      at("20:00:00").UTC(), Until: at("22:00:00").UTC()}
	r := view.Request{ID: t.ID, Vendor: t.Vendor, Name: "株式会社メディシス", Phone: "03-0000-0000", State: policy.Undecided, From: at("20:00:00"), Until: at("22:00:00"), MaxUntil: at("23:59:59")}
	r.Details.EngineerNames = []string{"佐藤"}
	r.Signatures = view.Signatures{RecordedBy: "tanaka", RecordedAt: at("18:00:00"), Needed: 1}
	return with(r, t)
}

// with gives a request with other terms, of the newest version.
func with(r view.Request, t policy.Terms) view.Request {
	r.Terms, r.Version, r.Digest = t, t.Version, t.Digest()
	r.Engineers, r.Targets, r.Sources, r.Purpose, r.Ticket = t.Engineers, t.Targets, t.Sources, t.Purpose, t.Ticket
	if r.Versions = append(r.Versions, t); r.Emergency != nil {
		r.Versions = []policy.Terms{t}
	}
	return r
}

// openNow is the request when it has been approved.
func openNow() view.Request {
	r := asked()
	r.State, r.Grants = policy.StageOpen, []string{"medisys/sato/~7k2m9x@20301209T110000Z"}
	r.Approvals = []policy.Sign{{By: "mori", At: at("18:05:00"), Via: "socket"}}
	return r
}

// listed is the answer to a question about requests.
func listed(all ...view.Request) map[string]answer {
	return map[string]answer{"GET /v1/requests": {body: api.Page[view.Request]{Items: all}}}
}

// and adds the answer to a command.
func and(answers map[string]answer, command string, a answer) map[string]answer {
	if answers == nil {
		answers = map[string]answer{}
	}
	answers[command] = a
	return answers
}

func recorded(r view.Request) answer {
	return answer{body: api.Recorded{Request: r, Outcome: gateway.Outcome{Applied: true, Recorded: true, Shut: []string{}}}}
}

func TestRequests(t *testing.T) {
	declared, over, old := openNow(), asked(), asked()
	declared.ID, declared.SelfApproved, declared.Stale, declared.Why = "~aaaaaa", true, true, "targets"
	declared.Emergency = &view.Emergency{RatifyBy: at("23:00:00")}
	over.ID, over.State, over.Emergency = "~bbbbbb", policy.StageClosed, &view.Emergency{RatifyBy: at("08:00:00"), Overdue: true}
	old.ID, old.State = "~cccccc", policy.StageDenied
	soon := asked()
	terms := soon.Terms
	terms.For = 7200
	soon = with(soon, terms)
	answers := listed(old, over, soon, declared)
	for lang, want := range map[string]string{
		"en": `ID       STATE          WHO           TARGETS  FROM (JST)        UNTIL  BY      NOTES
~aaaaaa  open           medisys/sato  ehr-db   2030-12-09 20:00  22:00  tanaka  UNRATIFIED, self-approved, opens in part
~7k2m9x  requested 0/1  medisys/sato  ehr-db   when approved     +2h    tanaka  
~bbbbbb  closed         medisys/sato  ehr-db   2030-12-09 20:00  22:00  tanaka  UNRATIFIED, OVERDUE
~cccccc  denied         medisys/sato  ehr-db   2030-12-09 20:00  22:00  tanaka  
`,
		"ja": `番号     状態          作業者        接続先  開始 (JST)        終了   記録者  備考
~aaaaaa  開放中        medisys/sato  ehr-db  2030-12-09 20:00  22:00  tanaka  事後承認待ち, 自己承認, 一部のみ有効
~7k2m9x  承認待ち 0/1  medisys/sato  ehr-db  承認時            +2h    tanaka  
~bbbbbb  終了          medisys/sato  ehr-db  2030-12-09 20:00  22:00  tanaka  事後承認 期限切れ
~cccccc  却下          medisys/sato  ehr-db  2030-12-09 20:00  22:00  tanaka  
`,
	} {
		out, failures, exit, _ := askedOf(t, answers, "requests", "--lang", lang)
		if diff := cmp.Diff(want, out); diff != "" || exit != terminal.Yes || failures != "" {
			t.Errorf("%s: exit %d, %s (-want +got):\n%s", lang, exit, failures, diff)
		}
	}
	if out, _, exit, _ := askedOf(t, listed(), "requests"); out != "There is no request.\n" || exit != terminal.Yes {
		t.Errorf("of none: exit %d, %s", exit, out)
	}
	out, _, _, _ := askedOf(t, answers, "requests", "--json")
	var page api.Page[view.Request]
	if err := json.Unmarshal([]byte(out), &page); err != nil || len(page.Items) != 4 || page.Next != "" {
		t.Errorf("%v: %s", err, out)
	}
}

func TestRequestInFull(t *testing.T) {
	r := openNow()
	r.SelfApproved, r.Reports = true, []policy.Sign{{By: "sato", At: at("21:00:00"), Reason: "rebuilt\nthe index"}}
	r.Shortened = []view.Extension{{Until: at("21:30:00"), Asked: &policy.Sign{By: "mori", At: at("20:30:00"), Reason: "enough"}}}
	later := r.Terms
	later.Version, later.Until = 2, at("23:00:00").UTC()
	r.Extension = &view.Extension{Until: at("23:00:00"), Version: 2, Needed: 1, Asked: &policy.Sign{By: "tanaka", At: at("21:00:00"), Reason: "it takes longer"}}
	r = with(r, later)
	for lang, want := range map[string]string{
		"en": `~7k2m9x  open
tanaka recorded and approved it; nobody else has signed it.
  vendor         medisys (株式会社メディシス)
  engineer       sato (佐藤)  2wwiNhY3WZPk0uE7XO1A/ZgbKPSlgHhNALW7A44oVAc=
  from           198.18.0.10
  to             ehr-db  10.1.0.5  tcp/22 icmp
  begins         2030-12-09 20:00:00 JST
  until          2030-12-09 22:00:00 JST (2h)
  at most until  2030-12-09 23:59:59 JST
  purpose        the index
  ticket         INC-7
  call back      03-0000-0000
  recorded       tanaka at 2030-12-09 18:00:00 JST
  approvals      1 of 1
                 mori at 2030-12-09 18:05:00 JST
  extension      until 2030-12-09 23:00:00 JST, which is not approved; tanaka asked for it: it takes longer
                 0 of 1
  shortened      to 2030-12-09 21:30:00 JST by mori: enough
  report         sato at 2030-12-09 21:00:00 JST: rebuilt·the index
  earlier        version 1, until 2030-12-09 22:00:00 JST
  open now       medisys/sato/~7k2m9x@20301209T110000Z
  version        2
  digest         DIGEST
`,
		"ja": `~7k2m9x  開放中
tanaka が記録と承認の両方を行いました。ほかの人の確認はまだありません。
  業者            medisys (株式会社メディシス)
  作業者          sato (佐藤)  2wwiNhY3WZPk0uE7XO1A/ZgbKPSlgHhNALW7A44oVAc=
  接続元          198.18.0.10
  宛先            ehr-db  10.1.0.5  tcp/22 icmp
  開始            2030-12-09 20:00:00 JST
  終了            2030-12-09 22:00:00 JST (2時間)
  延長の上限      2030-12-09 23:59:59 JST
  作業内容        the index
  案件番号        INC-7
  折返し先        03-0000-0000
  記録            tanaka（2030-12-09 18:00:00 JST）
  承認            1 人中 1 人
                  mori（2030-12-09 18:05:00 JST）
  延長            2030-12-09 23:00:00 JST まで（未承認。tanaka が申請: it takes longer）
                  1 人中 0 人
  短縮            2030-12-09 21:30:00 JST まで（mori: enough）
  作業報告        sato（2030-12-09 21:00:00 JST）: rebuilt·the index
  以前の版        版 1、2030-12-09 22:00:00 JST まで
  開いている許可  medisys/sato/~7k2m9x@20301209T110000Z
  版              2
  ダイジェスト    DIGEST
`,
	} {
		out, failures, exit, _ := askedOf(t, listed(r), "requests", "7k2m9x", "--lang", lang)
		if diff := cmp.Diff(want, strings.ReplaceAll(out, r.Digest, "DIGEST")); diff != "" || exit != terminal.Yes || failures != "" {
			t.Errorf("%s: exit %d, %s (-want +got):\n%s", lang, exit, failures, diff)
		}
	}
	if out, _, _, _ := askedOf(t, listed(asked()), "requests", "~7K2M9X"); !strings.HasSuffix(out, "Before it is approved, call medisys (株式会社メディシス) back under 03-0000-0000.\nThen: `kidoban approve 7k2m9x`, or `kidoban deny 7k2m9x --reason ...`\n") {
		t.Errorf("before the approval:\n%s", out)
	}
	revoked := openNow()
	revoked.State, revoked.Ended, revoked.Stale = policy.StageRevoked, &policy.Sign{By: "tanaka", At: at("20:45:00"), Reason: "done"}, true
	first := revoked.Terms
	first.For = 7200
	revoked.Versions = []policy.Terms{first, revoked.Terms}
	out, _, _, _ := askedOf(t, listed(revoked), "requests", "7k2m9x")
	for _, want := range []string{"until          2030-12-09 20:45:00 JST (45m)\n", "earlier        version 1, until 2h after that\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("revoked: no %q in\n%s", want, out)
		}
	}
	if out, _, _, _ = askedOf(t, listed(revoked), "requests"); !strings.Contains(out, "20:45  tanaka  \n") {
		t.Errorf("revoked, with an end of its own and no note:\n%s", out)
	}
	r.Purpose, r.Terms.Purpose = "something else", "something else"
	if out, failures, exit, _ := askedOf(t, listed(r), "requests", "7k2m9x"); exit != terminal.Failed || out != "" || !strings.HasPrefix(failures, "kidoban: nothing was done: the gateway tells the digest "+r.Digest+" of ~7k2m9x, but") {
		t.Errorf("with another digest: exit %d, %s%s", exit, out, failures)
	}
}

// TestDecisions: what a decision sends, and how its outcome is told.
func TestDecisions(t *testing.T) {
	digest, other := asked().Digest, strings.Repeat("0", 64)
	lying := asked() // the digest is of other terms
	lying.Terms.Purpose = "something else"
	extended := openNow()
	extended.Until = at("23:00:00")
	longer := openNow().Terms
	longer.Version, longer.Until = 2, at("23:00:00").UTC()
	waiting := openNow()
	waiting.Extension = &view.Extension{Until: at("23:00:00"), Version: 2, Needed: 2, Asked: &policy.Sign{By: "tanaka", At: at("21:00:00"), Reason: "more"}}
	waiting = with(waiting, longer)
	partly := asked()
	partly.Needed, partly.Approvals = 2, openNow().Approvals
	no := func(code view.Code, args view.Args) answer {
		return answer{409, api.Problem{Status: 409, Code: code, Args: args, Detail: "no"}}
	}
	differing := no("request_other", view.Args{"id": "~7k2m9x"})
	problem := differing.body.(api.Problem)
	problem.Differences = []policy.Difference{{Field: "until", Was: "22:00", Is: "23:00"}}
	differing.body = problem
	for _, c := range []struct {
		args    string
		answers map[string]answer
		exit    int
		sent    string
		told    string // at the end of both outputs
	}{
		{"approve 7k2m9x", listed(asked()), terminal.Usage, "", "\nkidoban: nothing was done: this command asks first, and here is no terminal to ask at; a script says --yes\n"},
		{"approve 7k2m9x --yes", and(listed(asked()), "POST /v1/approve", recorded(openNow())), terminal.Yes, `{"digest":"` + digest + `","id":"~7k2m9x"}`,
			"\n  approvals  0 of 1\nApproved: ~7k2m9x. It opens at 2030-12-09 20:00:00 JST, and ends at 2030-12-09 22:00:00 JST.\n"},
		{"approve 7k2m9x --yes", and(listed(asked()), "POST /v1/approve", recorded(partly)), terminal.Yes, `{"digest":"` + digest + `","id":"~7k2m9x"}`,
			"\nApproved: ~7k2m9x, by 1 of 2. Nothing is open yet.\n"},
		{"approve 7k2m9x --digest " + other, and(listed(asked()), "POST /v1/approve", differing), terminal.Failed, `{"digest":"` + other + `","id":"~7k2m9x"}`,
			"  until 22:00 -> 23:00\nkidoban: ~7k2m9x is not as it was shown: look at it again with `kidoban requests 7k2m9x`\n"},
		{"approve 7k2m9x", and(listed(openNow()), "POST /v1/approve", no("request_stage", view.Args{"id": "~7k2m9x", "stage": view.StageName(policy.StageOpen), "allowed": "revoke"})), terminal.Failed,
			`{"digest":"` + digest + `","id":"~7k2m9x"}`, "kidoban: ~7k2m9x is open, which does not allow that: allowed is now revoke\n"},
		{"extend 7k2m9x --for 1h", listed(asked()), terminal.Usage, "", "\nkidoban: nothing was done: this command asks first, and here is no terminal to ask at; a script says --yes\n"},
		{"approve 7k2m9x --digest abc", nil, terminal.Usage, "", "is not a digest: allowed are 64 hex digits, as `kidoban requests ID` shows them\nSee kidoban approve --help.\n"},
		{"approve 7k/2m", nil, terminal.Usage, "", "\"7k/2m\" is not a request: allowed is an id, as in 7k2m9x\nSee kidoban approve --help.\n"},
		{"approve 7k2m9x --yes", listed(lying), terminal.Failed, "", "of ~7k2m9x, but what it tells of it has the digest " + lying.Terms.Digest() + "\n"},
		{"ratify 7k2m9x --finding f --yes", listed(lying), terminal.Failed, "", "of ~7k2m9x, but what it tells of it has the digest " + lying.Terms.Digest() + "\n"},
		{"extend 7k2m9x --for 1h --yes", listed(lying), terminal.Failed, "", "of ~7k2m9x, but what it tells of it has the digest " + lying.Terms.Digest() + "\n"},
		{"deny 7k2m9x --reason no", and(nil, "POST /v1/deny", recorded(asked())), terminal.Yes, `{"id":"~7k2m9x","reason":"no"}`, "Denied: ~7k2m9x.\n"},
		{"withdraw 7k2m9x --reason no", and(nil, "POST /v1/withdraw", recorded(asked())), terminal.Yes, `{"id":"~7k2m9x","reason":"no"}`, "Withdrawn: ~7k2m9x.\n"},
		{"revoke ~7k2m9x --reason no", and(nil, "POST /v1/revoke", recorded(asked())), terminal.Yes, `{"id":"~7k2m9x","reason":"no"}`, "Revoked: ~7k2m9x. It cannot be opened again.\n"},
		{"revoke 7k2m9x --reason=", nil, terminal.Usage, "", "kidoban: --reason: is empty: say why, it is kept in the journal\n"},
		{"shorten 7k2m9x --until 2030-12-09T23:00:00+09:00 --reason no", and(nil, "POST /v1/shorten", recorded(extended)), terminal.Yes,
			`{"id":"~7k2m9x","reason":"no","until":"2030-12-09T14:00:00Z"}`, "Shortened: ~7k2m9x ends at 2030-12-09 23:00:00 JST.\n"},
		{"shorten 7k2m9x --until 2030-12-09T23:00 --reason no", and(and(nil, "GET /v1/grants", answer{body: "[]"}), "POST /v1/shorten", recorded(extended)), terminal.Yes,
			`{"id":"~7k2m9x","reason":"no","until":"2030-12-09T14:00:00Z"}`, "Shortened: ~7k2m9x ends at 2030-12-09 23:00:00 JST.\n"},
		{"extend 7k2m9x --for 1h --yes", and(listed(openNow()), "POST /v1/extend", recorded(extended)), terminal.Yes,
			`{"digest":"` + longer.Digest() + `","id":"~7k2m9x","until":"2030-12-09T14:00:00Z"}`,
			"\nThe end changes from 2030-12-09 22:00:00 JST to 2030-12-09 23:00:00 JST.\nExtended: ~7k2m9x ends at 2030-12-09 23:00:00 JST.\n"},
		{"extend 7k2m9x --until 2030-12-09T23:00 --yes", and(listed(openNow()), "POST /v1/extend", recorded(waiting)), terminal.Yes,
			`{"digest":"` + longer.Digest() + `","id":"~7k2m9x","until":"2030-12-09T14:00:00Z"}`,
			"\nApproved: the extension of ~7k2m9x, by 0 of 2. Until then it ends at 2030-12-09 22:00:00 JST.\n"},
		{"extend 7k2m9x --yes", and(listed(waiting), "POST /v1/extend", recorded(extended)), terminal.Yes,
			`{"digest":"` + longer.Digest() + `","id":"~7k2m9x","until":"2030-12-09T14:00:00Z"}`, "Extended: ~7k2m9x ends at 2030-12-09 23:00:00 JST.\n"},
		{"extend 7k2m9x --yes", listed(openNow()), terminal.Usage, "", "kidoban: until when? allowed is --for or --until; nobody has asked for an extension\n"},
		{"extend 7k2m9x --for 1h --until 2030-12-09 --yes", nil, terminal.Usage, "", "--for and --until can't be used together\nSee kidoban extend --help.\n"},
		{"extend 7k2m9x --for 1hour --yes", nil, terminal.Usage, "", "\"1hour\" is not a duration: allowed is as in 90m, 2h, 1h30m or 1d\nSee kidoban extend --help.\n"},
		{"extend 7k2m9x --for 1h --yes --reason more", and(and(listed(openNow()), "POST /v1/extend", no("operator_may_not", view.Args{"name": "approve", "names": "mori"})), "POST /v1/ask-extension", recorded(waiting)), terminal.Yes,
			`{"id":"~7k2m9x","reason":"more","until":"2030-12-09T14:00:00Z"}`, "Asked for: ~7k2m9x until 2030-12-09 23:00:00 JST. It takes an approver: `kidoban extend 7k2m9x`\n"},
		{"extend 7k2m9x --for 1h --yes", and(listed(openNow()), "POST /v1/extend", no("operator_may_not", view.Args{"name": "approve", "names": "mori"})), terminal.Failed,
			`{"digest":"` + longer.Digest() + `","id":"~7k2m9x","until":"2030-12-09T14:00:00Z"}`, "kidoban: that takes an operator with `approve`: mori\n"},
		{"ratify 7k2m9x --finding needed --yes", and(listed(openNow()), "POST /v1/ratify", recorded(openNow())), terminal.Yes, `{"digest":"` + digest + `","finding":"needed","id":"~7k2m9x"}`, "Ratified: ~7k2m9x.\n"},
		{"ratify 7k2m9x --finding= --yes", nil, terminal.Usage, "", "kidoban: --finding: is empty: say what you found, it is kept in the journal\n"},
	} {
		out, failures, exit, sent := askedOf(t, c.answers, strings.Fields(c.args)...)
		if exit != c.exit || sent != c.sent || !strings.HasSuffix("\n"+out+failures, c.told) {
			t.Errorf("kidoban %s:\n got exit %d, sent %s\n%s%s\nwant exit %d, sent %s, the end %q", c.args, exit, sent, out, failures, c.exit, c.sent, c.told)
		}
	}
	out, failures, _, _ := askedOf(t, and(listed(asked()), "POST /v1/approve", recorded(openNow())), "approve", "7k2m9x", "--yes", "--json")
	var done api.Recorded
	if err := json.Unmarshal([]byte(out), &done); err != nil || done.Request.ID != "~7k2m9x" || failures != "" {
		t.Errorf("as JSON: %v, %s%s", err, out, failures)
	}
}

func TestRequest(t *testing.T) {
	inForce := answer{body: api.InForce{Text: requestPolicy, Ready: true}}
	policyOnly := map[string]answer{"GET /v1/policy": inForce}
	declared := openNow()
	declared.Emergency = &view.Emergency{RatifyBy: at("23:30:00")}
	base := "request medisys --engineers sato --targets ehr-db --purpose index "
	for _, c := range []struct {
		args    string
		answers map[string]answer
		exit    int
		sent    string
		told    string // at the end of both outputs
	}{
		{base + "--for 2h --ticket INC-7", and(map[string]answer{"GET /v1/policy": inForce}, "POST /v1/request", recorded(asked())), terminal.Yes,
			`{"engineers":["sato"],"for":"2h0m0s","purpose":"index","targets":["ehr-db"],"ticket":"INC-7","vendor":"medisys"}`,
			"Recorded: ~7k2m9x. Nothing is open yet.\nBefore it is approved, call medisys (株式会社メディシス) back under 03-0000-0000.\nThen: `kidoban approve 7k2m9x`, or `kidoban deny 7k2m9x --reason ...`\n"},
		{base + "--for 1h --emergency", policyOnly, terminal.Usage, "", "kidoban: nothing was done: this command asks first, and here is no terminal to ask at; a script says --yes\n"},
		{base + "--for 1h --emergency --yes", and(map[string]answer{"GET /v1/policy": inForce}, "POST /v1/request", recorded(declared)), terminal.Yes,
			`{"emergency":true,"engineers":["sato"],"for":"1h0m0s","purpose":"index","targets":["ehr-db"],"vendor":"medisys"}`,
			"EMERGENCY ~7k2m9x is open until 2030-12-09 22:00:00 JST. Somebody else has to ratify it by 2030-12-09 23:30:00 JST: `kidoban ratify 7k2m9x --finding ...`\n"},
		{base + "--for 2h --emergency --yes", policyOnly, terminal.Usage, "", "(max_duration)\n"},
		{"request medisys --engineers sat --targets ehr-d --purpose index --for 1h", policyOnly, terminal.Usage, "", "kidoban: engineers: \"sat\" cannot be requested: allowed is sato; did you mean sato?\n" +
			"targets: \"ehr-d\" cannot be requested: allowed is ehr-db; did you mean ehr-db?\n"},
		{base, nil, terminal.Usage, "", "missing flags: --for=D or --until=T\nSee kidoban request --help.\n"},
		{base + "--for 1h --source x", policyOnly, terminal.Usage, "", "source: \"x\" is not an address: allowed is one IPv4 or IPv6 address, as in 203.0.113.10\n"},
		{base + "--until tomorrow", policyOnly, terminal.Usage, "", "kidoban: \"tomorrow\" is not a time: allowed is 2026-12-01T20:00 (in Asia/Tokyo), with a blank in place of the T or seconds if you like, or with an offset as 2026-12-01T20:00:00+09:00\n"},
	} {
		out, failures, exit, sent := askedOf(t, c.answers, strings.Fields(c.args)...)
		if exit != c.exit || sent != c.sent || !strings.HasSuffix(out+failures, c.told) {
			t.Errorf("kidoban %s:\n got exit %d, sent %s\n%s%s\nwant exit %d, sent %s, the end %q", c.args, exit, sent, out, failures, c.exit, c.sent, c.told)
		}
	}
}

// TestQuestions: on a terminal a person sees what would open, and is asked. Whatever is no
// yes is a no, and nothing is sent.
func TestQuestions(t *testing.T) {
	for _, c := range []struct {
		args, typed string
		exit        int
		shows       []string
	}{
		{"approve 7k2m9x", "y\n", terminal.Yes, []string{"ehr-db  10.1.0.5  tcp/22 icmp", "call back  03-0000-0000", "Approve ~7k2m9x? [y/N]"}},
		{"approve 7k2m9x --lang ja", "はい\n", terminal.Yes, []string{"~7k2m9x を承認しますか [y/N]"}},
		{"approve 7k2m9x", "\n", terminal.No, []string{"nothing was done"}},
		{"approve 7k2m9x", "yess\n", terminal.No, []string{"nothing was done"}},
		{"approve 7k2m9x", "\x04", terminal.No, []string{"nothing was done"}}, // the end of the input
		{"approve 7k2m9x --json", "y\n", terminal.Yes, []string{"2wwiNhY3WZPk0uE7XO1A", "Approve ~7k2m9x? [y/N]"}},
		{"request medisys --engineers sato --targets ehr-db --purpose index --for 2h", "n\n", terminal.No, []string{"begins     when approved", "Record this request? [y/N]"}},
		{"request medisys --engineers sato --targets ehr-db --purpose index --for 1h --emergency", "n\n", terminal.No, []string{"This EMERGENCY opens at once. Declare it? [y/N]"}},
	} {
		person, tty, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		stdin := os.Stdin
		os.Stdin = tty
		answers := and(listed(asked()), "GET /v1/policy", answer{body: api.InForce{Text: requestPolicy, Ready: true}})
		if c.exit == terminal.Yes {
			and(answers, "POST /v1/approve", recorded(openNow()))
		}
		if _, err := io.WriteString(person, c.typed); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		exit, _ := askedWith(t, "Asia/Tokyo", answers, &out, tty, strings.Fields(c.args)...)
		os.Stdin = stdin
		if err := tty.Close(); err != nil {
			t.Fatal(err)
		}
		seen, _ := io.ReadAll(person) // ends with an error, as a terminal without programs does
		_ = person.Close()
		for _, want := range c.shows {
			if exit != c.exit || !strings.Contains(string(seen), want) {
				t.Errorf("kidoban %s, then %q: exit %d, want %d and %q:\n%s", c.args, c.typed, exit, c.exit, want, seen)
			}
		}
		if strings.Contains(c.args, "--json") && !json.Valid(out.Bytes()) {
			t.Errorf("JSON is not alone:\n%s", &out)
		}
	}
}

// TestWhatClosesTakesYes: a script that gives it everywhere must not fail where it closes.
func TestWhatClosesTakesYes(t *testing.T) {
	for _, args := range [][]string{{"close", "--all"}, {"deny", "7k2m9x"}, {"withdraw", "7k2m9x"}, {"revoke", "7k2m9x"}, {"shorten", "7k2m9x", "--until", "2030-01-01T20:00"}} {
		var out bytes.Buffer
		args = append(args, "--reason", "a test", "--yes")
		if exit := run(args, []string{"KIDOBAN_ADMIN_SOCKET=" + filepath.Join(t.TempDir(), "none.sock")}, &out, &out); exit != terminal.Failed || !strings.Contains(out.String(), "no gateway runs at") {
			t.Errorf("%v: exit %d: %s", args, exit, out.String())
		}
	}
}
