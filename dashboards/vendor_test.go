package dashboards

const ofVendor = ofInstance + `,vendor="$vendor"`

// vendor is the dashboard about one vendor, for a talk with it.
func (b builder) vendor() *Dashboard {
	d := b.dashboard("vendor", b.say("Kidoban: Vendor", "木戸番：業者"),
		b.say("One vendor: who of it is inside, how much of what was approved is used, whose keys lie unused, and when does the contract end?",
			"一つの業者について：誰が接続中か、承認した時間のうちどれだけ使われたか、使われていない鍵、契約終了日。"),
		"now-30d", ofVendor, b.variable("vendor", b.say("Vendor", "業者"), "label_values(kidoban_engineers{"+ofInstance+"}, vendor)", false))
	instance, engineer, engineerName := b.column("instance"), b.column("engineer"), b.column("engineer_name")
	return b.lay(d, "vendor",
		row(b.say("Now", "現在")),
		question{kind: "stat", width: 4, height: 4, title: "Inside now", unit: "none", queries: []query{{`sum(kidoban_session_active{` + ofVendor + `})`, ""}}, thresholds: steps(grey, 1, blue)},
		question{kind: "stat", width: 4, height: 4, title: "Time left of the next end", unit: "s", noValue: b.say("nobody is inside", "接続者なし"),
			queries: []query{{`min((kidoban_session_next_end_timestamp_seconds{` + ofVendor + `} > 0) - time())`, ""}}, thresholds: steps(vermilion, 0, orange, 600, blue)},
		question{kind: "stat", width: 4, height: 4, title: "Open windows", unit: "none", queries: []query{{`sum(kidoban_window_open{` + ofVendor + `})`, b.say("windows", "時間帯")},
			{`sum(kidoban_grant_active{` + ofVendor + `})`, b.say("grants", "許可")}}, thresholds: steps(grey, 1, blue)},
		question{kind: "stat", width: 4, height: 4, title: "Closed by an operator",
			unit: "none", queries: []query{{`max(kidoban_vendor_shut{` + ofVendor + `})`, ""}}, mappings: is(0, b.say("no", "いいえ"), blue, 1, b.say("CLOSED", "遮断中"), vermilion), thresholds: steps(blue, 1, vermilion)},
		question{kind: "stat", width: 4, height: 4, title: "Contract ends in", unit: "s", noValue: b.say("no end is named", "終了日の記載なし"),
			queries: []query{{`min(kidoban_vendor_contract_end_timestamp_seconds{` + ofVendor + `}) - time()`, ""}}, thresholds: steps(vermilion, 0, orange, 30*86400, blue)},
		question{kind: "stat", width: 4, height: 4, title: "Dormant keys",
			unit: "none", queries: []query{{`count(kidoban:engineer_idle_seconds{` + ofVendor + `} > 90 * 86400) or vector(0)`, ""}}, thresholds: steps(blue, 1, orange)},
		question{kind: "table", width: 24, height: 6, title: "Who is inside, and until when", unit: "none", noValue: b.say("nobody", "なし"),
			queries: []query{
				inside(`kidoban_session_start_timestamp_seconds{` + ofVendor + `} * 1000`),
				inside(`kidoban_session_until_timestamp_seconds{` + ofVendor + `} * 1000`),
			},
			columns: []Column{instance, engineer, engineerName, {Field: "Value #A", Title: b.say("Since", "開始"), Unit: "dateTimeAsLocal"},
				{Field: "Value #B", Title: b.say("Until", "終了予定"), Unit: "dateTimeAsLocal"}, {Field: "session", Title: b.say("Session", "セッション")}}},

		row(b.say("What was done with the approval", "承認の利用状況")),
		question{kind: "table", width: 12, height: 8, title: "Hours open and hours used", unit: "none", queries: []query{
			{`sum by (window) (increase(kidoban_window_open_seconds_total{` + ofVendor + `}[$__range]))`, ""},
			{`sum by (window) (increase(kidoban_window_used_seconds_total{` + ofVendor + `}[$__range]))`, ""},
			{`sum by (window) (increase(kidoban_window_used_seconds_total{` + ofVendor + `}[$__range])) / (sum by (window) (increase(kidoban_window_open_seconds_total{` + ofVendor + `}[$__range])) > 0)`, ""},
		},
			columns: []Column{{Field: "window", Title: b.say("Window", "時間帯")}, {Field: "Value #A", Title: b.say("Open", "開いていた"), Unit: "s"},
				{Field: "Value #B", Title: b.say("Used", "使われた"), Unit: "s"}, {Field: "Value #C", Title: b.say("Share", "利用率"), Unit: "percentunit"}}},
		question{kind: "state-timeline", width: 12, height: 8, title: "Windows of the last 7 days", timeFrom: "7d",
			unit: "none", queries: []query{{`max by (instance, window) (kidoban_window_open{` + ofVendor + `})`, "{{window}}"}}, mappings: b.open(), thresholds: steps(grey, 1, blue)},
		question{kind: "timeseries", width: 12, height: 8, title: "Sessions that ended, and why",
			unit: "none", queries: []query{{`sum by (ended) (increase(kidoban_sessions_total{` + ofVendor + `}[$__rate_interval]))`, "{{ended}}"}}, drawn: bars | stacked | exemplars,
			colors: map[string]string{"idle": grey, "window_closed": blue, "vendor_shut": vermilion, "engineer_shut": vermilion, "gateway_shut": vermilion, "unrecorded": purple, "crashed": orange, "policy_changed": sky}},
		question{kind: "table", width: 12, height: 8, title: "Why sessions ended",
			unit: "none", queries: []query{{`round(sum by (ended, meaning) (label_replace(increase(kidoban_sessions_total{` + ofVendor + `}[$__range]), "meaning", "$1", "ended", "(.*)")))`, ""}},
			columns: []Column{{Field: "ended", Title: b.say("Code", "理由コード")}, {Field: "meaning", Title: b.say("Meaning", "意味"), Mappings: b.said(words.Endings)}, {Field: "Value", Title: b.say("Sessions", "セッション数"), Unit: "none"}}},
		question{kind: "bargauge", width: 8, height: 8, title: "How long sessions lasted",
			unit: "none", queries: []query{{`round(sum by (le) (increase(kidoban_session_duration_seconds_bucket{` + ofVendor + `}[$__range])))`, "{{le}}"}}, names: b.durations()},
		question{kind: "timeseries", width: 8, height: 8, title: "Duration of sessions",
			unit: "s", queries: []query{{`sum(rate(kidoban_session_duration_seconds_sum{` + ofVendor + `}[$__rate_interval])) / (sum(rate(kidoban_session_duration_seconds_count{` + ofVendor + `}[$__rate_interval])) > 0)`, b.say("mean", "平均")}}, drawn: exemplars},
		question{kind: "timeseries", width: 8, height: 8, title: "Traffic", unit: "Bps", queries: []query{
			{`sum(rate(kidoban_session_receive_bytes_total{` + ofVendor + `}[$__rate_interval]))`, b.say("into the site", "施設内へ")},
			{`sum(rate(kidoban_session_transmit_bytes_total{` + ofVendor + `}[$__rate_interval]))`, b.say("out of the site", "施設外へ")}}},

		row(b.say("Who belongs to the vendor", "登録作業者")),
		question{kind: "table", width: 12, height: 8, title: "Last seen", unit: "none", noValue: b.say("too many engineers to be shown", "作業者数が上限を超えている"),
			queries: []query{
				{namedEngineer(`kidoban_engineer_last_seen_timestamp_seconds{` + ofVendor + `} * 1000`), ""},
				{namedEngineer(`kidoban:engineer_idle_seconds{` + ofVendor + `}`), ""},
			},
			columns: []Column{instance, engineer, engineerName, {Field: "Value #A", Title: b.say("Last seen", "最終接続"), Unit: "dateTimeAsLocal", Mappings: map[string]string{"0": b.say("never", "なし")}}, {Field: "Value #B", Title: b.say("Unused for", "未使用期間"), Unit: "s"}}},
		question{kind: "table", width: 12, height: 8, title: "Refused, and why", unit: "none", noValue: b.say("nobody", "なし"),
			queries: []query{{`round(sum by (reason, meaning) (label_replace(increase(kidoban_admissions_total{` + ofVendor + `,reason!="admitted"}[$__range]), "meaning", "$1", "reason", "(.*)"))) > 0`, ""}},
			columns: []Column{{Field: "reason", Title: b.say("Reason", "理由コード")}, {Field: "meaning", Title: b.say("Meaning", "意味"), Mappings: b.said(words.Reasons)}, {Field: "Value", Title: b.say("Times", "回数"), Unit: "none"}}},
	)
}
