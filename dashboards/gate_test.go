package dashboards

// windowsAhead predicts for future instants whether a window will be open, from the state at the
// beginning of the period: now. It knows the current opening and the next.
const windowsAhead = `max by (instance, vendor, window) (
  label_replace((kidoban_window_open{` + ofVendors + `} @ start()) * (time() < bool (kidoban_window_next_close_timestamp_seconds{` + ofVendors + `} @ start())), "opening", "this", "", "")
  or
  label_replace((time() >= bool (kidoban_window_next_open_timestamp_seconds{` + ofVendors + `} @ start())) * (time() < bool (kidoban_window_next_open_until_timestamp_seconds{` + ofVendors + `} @ start())), "opening", "next", "", "")
) * on (instance, vendor) group_left (name) (kidoban_vendor_info @ start())`

// gate is the dashboard that stays open on the wall.
func (b builder) gate() *Dashboard {
	d := b.dashboard("gate", b.say("Kidoban: Gate", "木戸番：木戸"),
		b.say("Who is inside, until when; who tried and failed, and why; and is the gate healthy?", "誰が・いつまで接続中か。誰が・なぜ拒否されたか。木戸は健全か。"),
		"now-24h", ofVendors, b.variable("vendor", b.say("Vendor", "業者"), "label_values(kidoban_engineers{"+ofInstance+"}, vendor)", true))
	vendorLink := b.toVendor("${__value.text}")
	seriesLink := b.toVendor("${__field.labels.vendor}")
	instance, engineer, engineerName := b.column("instance"), b.column("engineer"), b.column("engineer_name")
	vendor := Column{Field: "vendor", Title: b.say("Vendor", "業者"), Link: vendorLink}
	meanings, runbooks := b.alerts()
	return b.lay(d, "gate",
		row(b.say("Is the gate healthy?", "木戸は健全か")),
		question{kind: "stat", width: 4, height: 4, title: "Ready", unit: "none",
			queries:  []query{{`min by (instance) (kidoban_ready{` + ofInstance + `} or (up{job="kidoban",` + ofInstance + `} - 1))`, "{{instance}}"}},
			mappings: is(1, b.say("READY", "稼働中"), blue, 0, b.say("NOT READY", "停止中"), vermilion, -1, b.say("ABSENT", "不在"), vermilion),
			noValue:  b.say("ABSENT", "不在"), thresholds: steps(vermilion, 1, blue)},
		question{kind: "stat", width: 4, height: 4, title: "Kill switch", unit: "none", queries: []query{{`max by (instance) (kidoban_shut{` + ofInstance + `,scope="all"})`, "{{instance}}"}},
			mappings: is(0, b.say("off", "なし"), blue, 1, b.say("EVERYTHING IS CLOSED", "全面遮断中"), vermilion), thresholds: steps(blue, 1, vermilion)},
		question{kind: "stat", width: 4, height: 4, title: "Closed by operators", unit: "none", queries: []query{{`sum(kidoban_shut{` + ofInstance + `,scope="vendors"})`, b.say("vendors", "業者")},
			{`sum(kidoban_shut{` + ofInstance + `,scope="engineers"})`, b.say("engineers", "作業者")},
			{`sum(kidoban_switch_shut{` + ofInstance + `})`, b.say("shut file", "遮断ファイル")}}, thresholds: steps(blue, 1, orange)},
		question{kind: "table", width: 12, height: 4, title: "Why it is shut", unit: "none", noValue: b.say("nothing: no doubt", "なし（正常）"),
			queries: []query{{`kidoban_doubt{` + ofInstance + `} == 1`, ""}},
			columns: []Column{instance, {Field: "about", Title: b.say("Doubt", "疑義"), Mappings: b.said(words.Doubts)}}},
		question{kind: "table", width: 24, height: 5, title: "Alerts", unit: "none", noValue: b.say("none", "なし"),
			queries: []query{{`label_replace(` + named(joined(`max by (instance, alertname, severity, vendor, engineer) (ALERTS{alertname=~"Kidoban.*",alertstate="firing",instance=~"$instance|"})`,
				"vendor, engineer", "engineer_name", "kidoban_engineer_info")) + `, "page", "$1", "alertname", "(.*)")`, ""}},
			columns: []Column{instance, {Field: "severity", Title: b.say("Severity", "重大度"), Mappings: b.said(words.Severities)}, {Field: "alertname", Title: b.say("Alert", "警報"), Mappings: meanings},
				vendor, b.column("name"), engineer, engineerName, {Field: "page", Title: b.say("What to do", "対応手順書"), Mappings: runbooks}}},

		row(b.say("Who is inside?", "誰が接続中か")),
		question{kind: "stat", width: 4, height: 7, title: "Inside now", unit: "none", queries: []query{{`sum(kidoban_session_active{` + ofVendors + `})`, b.say("engineers", "作業者")},
			{`sum(kidoban_grants_frozen{` + ofInstance + `})`, b.say("frozen", "猶予中")}}, thresholds: steps(grey, 1, blue)},
		question{kind: "table", width: 14, height: 7, title: "Who is inside, and until when", unit: "none", noValue: b.say("nobody", "なし"),
			queries: []query{
				inside(`kidoban_session_start_timestamp_seconds{` + ofVendors + `} * 1000`),
				inside(`kidoban_session_until_timestamp_seconds{` + ofVendors + `} * 1000`),
				inside(`(kidoban_session_until_timestamp_seconds{` + ofVendors + `} - time())`),
			},
			columns: []Column{instance, vendor, b.column("vendor_name"), engineer, engineerName,
				{Field: "Value #A", Title: b.say("Since", "開始"), Unit: "dateTimeAsLocal"}, {Field: "Value #B", Title: b.say("Until", "終了予定"), Unit: "dateTimeAsLocal"},
				{Field: "Value #C", Title: b.say("Time left", "残り時間"), Unit: "s"}, {Field: "session", Title: b.say("Session", "セッション")}}},
		question{kind: "timeseries", width: 6, height: 7, title: "Inside, over time",
			unit: "none", queries: []query{{`sum by (vendor, name) (` + named(`kidoban_session_active{`+ofVendors+`}`) + `)`, "{{vendor}} ({{name}})"}}, links: []object{seriesLink}, drawn: stacked},

		row(b.say("When may anybody enter?", "いつ接続できるか")),
		question{kind: "state-timeline", width: 12, height: 8, title: "Windows of the next 24 hours", timeFrom: "+24h",
			unit: "none", queries: []query{{windowsAhead, "{{vendor}}/{{window}} ({{name}})"}}, mappings: b.open(), thresholds: steps(grey, 1, blue), links: []object{seriesLink}},
		question{kind: "state-timeline", width: 12, height: 8, title: "Windows of the last 7 days", timeFrom: "7d",
			unit: "none", queries: []query{{named(`max by (instance, vendor, window) (kidoban_window_open{` + ofVendors + `})`), "{{vendor}}/{{window}} ({{name}})"}}, mappings: b.open(), thresholds: steps(grey, 1, blue), links: []object{seriesLink}},

		row(b.say("What was asked for?", "申請")),
		question{kind: "stat", width: 5, height: 7, title: "Requests", unit: "none", queries: []query{{`sum(kidoban_requests{` + ofInstance + `,state="requested"})`, b.say("undecided", "承認待ち")},
			{`sum(kidoban_requests{` + ofInstance + `,state="scheduled"})`, b.say("scheduled", "開始前")}, {`sum(kidoban_requests{` + ofInstance + `,state="open"})`, b.say("open", "開放中")}}, thresholds: steps(grey, 1, blue)},
		question{kind: "stat", width: 5, height: 7, title: "To be signed", unit: "none", queries: []query{{`sum(kidoban_emergencies_unratified{` + ofVendors + `})`, b.say("emergencies", "緊急開放")},
			{`sum(kidoban_emergencies_overdue{` + ofVendors + `})`, b.say("overdue", "期限切れ")}, {`sum(kidoban_reviews_pending{` + ofInstance + `})`, b.say("reviews", "確認待ち")}}, thresholds: steps(blue, 1, orange)},
		question{kind: "timeseries", width: 7, height: 7, title: "Decisions, by kind",
			unit: "none", queries: []query{{`sum by (outcome) (increase(kidoban_requests_total{` + ofVendors + `}[$__rate_interval]))`, "{{outcome}}"}}, drawn: bars | stacked,
			colors: map[string]string{"requested": sky, "approved": blue, "denied": vermilion, "withdrawn": grey, "revoked": orange, "extension_asked": yellow, "extended": teal, "shortened": purple}},
		question{kind: "timeseries", width: 7, height: 7, title: "Time to a decision",
			unit: "s", queries: []query{{`histogram_quantile(0.5, sum by (le) (rate(kidoban_request_decision_seconds_bucket{` + ofInstance + `}[1d])))`, b.say("half", "50%")},
				{`histogram_quantile(0.9, sum by (le) (rate(kidoban_request_decision_seconds_bucket{` + ofInstance + `}[1d])))`, b.say("nine of ten", "90%")}}},

		row(b.say("Was it checked?", "確認")),
		question{kind: "timeseries", width: 9, height: 7, title: "Sessions to be checked", unit: "none", queries: []query{
			{`sum(kidoban_sessions_unreviewed{` + ofVendors + `})`, b.say("not checked", "未確認")}, {`sum(kidoban_review_overdue{` + ofVendors + `})`, b.say("overdue", "期限切れ")}}},
		question{kind: "timeseries", width: 9, height: 7, title: "Differences that nobody has explained", unit: "none", queries: []query{
			{`sum by (kind) (kidoban_mismatches_open{` + ofInstance + `})`, "{{kind}}"}}, drawn: stacked},
		question{kind: "stat", width: 6, height: 7, title: "Age of the copy elsewhere", unit: "s", noValue: b.say("none", "なし"), queries: []query{
			{`time() - max(kidoban_witness_timestamp_seconds{` + ofInstance + `} > 0)`, b.say("cosignature", "連署")},
			{`time() - max(kidoban_copy_timestamp_seconds{` + ofInstance + `} > 0)`, b.say("copy", "写し")}}, thresholds: steps(blue, 8*86400, orange)},

		row(b.say("Who tried, and why not?", "誰が・なぜ拒否されたか")),
		question{kind: "stat", width: 4, height: 8, title: "Refusals that should worry, 24 h", unit: "none", whole: true, queries: []query{
			{`sum(round(increase(kidoban_admissions_total{` + ofVendors + `,reason="wrong_source"}[24h])))`, b.say("wrong address", "登録外アドレス")},
			{`sum(round(increase(kidoban_admissions_total{` + ofVendors + `,reason="replayed"}[24h])))`, b.say("not newer", "古い要求")}}, thresholds: steps(blue, 1, vermilion)},
		question{kind: "table", width: 10, height: 8, title: "Refused: who, and why", unit: "none", noValue: b.say("nobody", "なし"),
			queries: []query{{`label_replace(label_replace(round(sum by (vendor, name, reason) (` + named(`increase(kidoban_admissions_total{`+ofVendors+`,reason!="admitted"}[$__range])`) + `)) > 0, "vendor", "?", "vendor", ""), "meaning", "$1", "reason", "(.*)")`, ""}},
			columns: []Column{{Field: "vendor", Title: b.say("Vendor", "業者"), Mappings: map[string]string{"?": b.say("nobody proven", "身元不明")}}, b.column("name"),
				{Field: "meaning", Title: b.say("Why", "理由"), Mappings: b.said(words.Reasons)}, {Field: "reason", Title: b.say("Code", "理由コード")}, {Field: "Value", Title: b.say("Times", "回数"), Unit: "none"}}},
		question{kind: "table", width: 10, height: 8, title: "Refused: which engineer, when", unit: "none", noValue: b.say("nobody", "なし"),
			queries: []query{{`sort_desc(label_replace(` + namedEngineer(`(max by (instance, vendor, engineer, reason) (max_over_time(kidoban_engineer_last_refusal_timestamp_seconds{`+ofVendors+`}[$__range])) >= time() - $__range_s) * 1000`) + `, "meaning", "$1", "reason", "(.*)"))`, ""}},
			columns: []Column{instance, vendor, b.column("vendor_name"), engineer, engineerName, {Field: "meaning", Title: b.say("Why", "理由"), Mappings: b.said(words.Reasons)},
				{Field: "Value", Title: b.say("Last", "最後の日時"), Unit: "dateTimeAsLocal"}}},
		question{kind: "timeseries", width: 24, height: 8, title: "Admitted and refused, by reason",
			unit: "none", queries: []query{{`sum by (reason) (increase(kidoban_admissions_total{` + ofVendors + `}[$__rate_interval]))`, "{{reason}}"}}, drawn: bars | stacked,
			colors: map[string]string{"admitted": blue, "wrong_source": vermilion, "replayed": purple, "outside_window": sky, "unknown_key": orange, "unlisted_source": grey, "rate_limited": yellow, "unlisted_target": teal}},
	)
}

func (b builder) open() []mapping {
	return is(0, b.say("closed", "閉"), grey, 1, b.say("open", "開"), blue)
}
