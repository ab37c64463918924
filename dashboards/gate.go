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
	instance, engineer, engineerName := b.gateway(), b.engineer(), b.engineerName()
	vendor := Column{Field: "vendor", Title: b.say("Vendor", "業者"), Link: vendorLink}
	words, runbooks := b.alerts()
	return b.lay(d,
		row(b.say("Is the gate healthy?", "木戸は健全か")),
		question{kind: "stat", width: 4, height: 4, title: b.say("Ready", "稼働状態"),
			text: b.say("Does the gateway let in whom the policy lets in? NOT READY: it is shut, because something is in doubt; \"Why it is shut\" says what. ABSENT: Prometheus cannot reach it.",
				"ポリシーどおりに許可できる状態か。「停止中」は疑義があり全員を拒否している（「停止の理由」を参照）。「不在」は Prometheus から到達できない。"),
			unit:     "none",
			queries:  []query{{`min by (instance) (kidoban_ready{` + ofInstance + `} or (up{job="kidoban",` + ofInstance + `} - 1))`, "{{instance}}"}},
			mappings: is(1, b.say("READY", "稼働中"), blue, 0, b.say("NOT READY", "停止中"), vermilion, -1, b.say("ABSENT", "不在"), vermilion),
			noValue:  b.say("ABSENT", "不在"), thresholds: steps(vermilion, 1, blue)},
		question{kind: "stat", width: 4, height: 4, title: b.say("Kill switch", "全面遮断"),
			text: b.say("Has an operator closed everything? Then nobody enters until `kidoban reopen --all`.",
				"運用者が全面遮断したか。`kidoban reopen --all` まで誰も接続できない。"),
			unit: "none", queries: []query{{`max by (instance) (kidoban_shut{` + ofInstance + `,scope="all"})`, "{{instance}}"}},
			mappings: is(0, b.say("off", "なし"), blue, 1, b.say("EVERYTHING IS CLOSED", "全面遮断中"), vermilion), thresholds: steps(blue, 1, vermilion)},
		question{kind: "stat", width: 4, height: 4, title: b.say("Closed by operators", "個別の遮断"),
			text: b.say("How many vendors and single engineers have operators closed? They stay closed, over restarts too, until somebody reopens them; `kidoban status` names them.",
				"運用者が遮断した業者と作業者の数。解除するまで（再起動後も）接続できない。対象は `kidoban status` に示される。"),
			unit: "none", queries: []query{{`sum(kidoban_shut{` + ofInstance + `,scope="vendors"})`, b.say("vendors", "業者")},
				{`sum(kidoban_shut{` + ofInstance + `,scope="engineers"})`, b.say("engineers", "作業者")}}, thresholds: steps(blue, 1, orange)},
		question{kind: "table", width: 12, height: 4, title: b.say("Why it is shut", "停止の理由"),
			text: b.say("What keeps the gateway from letting anybody in? `kidoban status` says the same in more words and names what leads out of it. Empty: nothing.",
				"何が全員の接続を止めているか。`kidoban status` に詳しい理由と解消方法がある。空欄なら理由なし（正常）。"),
			unit: "none", noValue: b.say("nothing: no doubt", "なし（正常）"),
			queries:    []query{{`kidoban_doubt{` + ofInstance + `} == 1`, ""}},
			columns:    []Column{instance, {Field: "about", Title: b.say("Doubt", "疑義"), Mappings: b.doubts()}},
			mayBeEmpty: "shows only what is wrong, and nothing is"},
		question{kind: "table", width: 24, height: 5, title: b.say("Alerts", "警報"),
			text: b.say("Which alerts are firing, about whom, and which page says what to do? The pages are in the folder docs/runbooks of Kidoban.",
				"発報中の警報、その対象、対応手順書の場所（Kidoban の docs/runbooks フォルダー）。"),
			unit: "none", noValue: b.say("none", "なし"),
			queries: []query{{`label_replace(` + named(joined(`max by (instance, alertname, severity, vendor, engineer) (ALERTS{alertname=~"Kidoban.*",alertstate="firing",instance=~"$instance|"})`,
				"vendor, engineer", "engineer_name", "kidoban_engineer_info")) + `, "page", "$1", "alertname", "(.*)")`, ""}},
			columns: []Column{instance, {Field: "severity", Title: b.say("Severity", "重大度"), Mappings: b.severities()}, {Field: "alertname", Title: b.say("Alert", "警報"), Mappings: words},
				vendor, b.vendorName("name"), engineer, engineerName, {Field: "page", Title: b.say("What to do", "対応手順書"), Mappings: runbooks}},
			mayBeEmpty: "no alert is firing"},

		row(b.say("Who is inside?", "誰が接続中か")),
		question{kind: "stat", width: 4, height: 7, title: b.say("Inside now", "接続中の人数"),
			text: b.say("How many engineers are inside at this moment?", "現在接続中の作業者の人数。"),
			unit: "none", queries: []query{{`sum(kidoban_session_active{` + ofVendors + `})`, ""}}, thresholds: steps(grey, 1, blue)},
		question{kind: "table", width: 14, height: 7, title: b.say("Who is inside, and until when", "誰が・いつまで接続中か"),
			text: b.say("Who is inside, since when, and when will the gateway cut the session at the latest? `kidoban journal list` has the session under the same number. Empty: nobody is inside, or more are than KIDOBAN_METRICS_ENGINEERS.",
				"誰が・いつから接続し、遅くともいつ切断されるか。セッション番号は記録（`kidoban journal list`）と同じ。空欄は接続者なし、または接続者数が KIDOBAN_METRICS_ENGINEERS を超えている。"),
			unit: "none", noValue: b.say("nobody", "なし"),
			queries: []query{
				inside(`kidoban_session_start_timestamp_seconds{` + ofVendors + `} * 1000`),
				inside(`kidoban_session_until_timestamp_seconds{` + ofVendors + `} * 1000`),
				inside(`(kidoban_session_until_timestamp_seconds{` + ofVendors + `} - time())`),
			},
			columns: []Column{instance, vendor, b.vendorName("vendor_name"), engineer, engineerName,
				{Field: "Value #A", Title: b.say("Since", "開始"), Unit: "dateTimeAsLocal"}, {Field: "Value #B", Title: b.say("Until", "終了予定"), Unit: "dateTimeAsLocal"},
				{Field: "Value #C", Title: b.say("Time left", "残り時間"), Unit: "s"}, {Field: "session", Title: b.say("Session", "セッション")}},
			mayBeEmpty: "nobody is inside"},
		question{kind: "timeseries", width: 6, height: 7, title: b.say("Inside, over time", "接続人数の推移"),
			text: b.say("How many engineers of which vendor were inside when?", "いつ・どの業者が何人接続していたか。"),
			unit: "none", queries: []query{{`sum by (vendor, name) (` + named(`kidoban_session_active{`+ofVendors+`}`) + `)`, "{{vendor}} ({{name}})"}}, links: []object{seriesLink}, drawn: stacked},

		row(b.say("When may anybody enter?", "いつ接続できるか")),
		question{kind: "state-timeline", width: 12, height: 8, title: b.say("Windows of the next 24 hours", "今後24時間の承認時間帯"), timeFrom: "+24h",
			text: b.say("When will which window be open? As the policy in force has it now; of each window what is left of this opening, and the next one.",
				"どの時間帯がいつ開くか（現在のポリシーによる予定。各時間帯の進行中の残りと次回分）。"),
			unit: "none", queries: []query{{windowsAhead, "{{vendor}}/{{window}} ({{name}})"}}, mappings: b.open(), thresholds: steps(grey, 1, blue), links: []object{seriesLink}},
		question{kind: "state-timeline", width: 12, height: 8, title: b.say("Windows of the last 7 days", "過去7日間の承認時間帯"), timeFrom: "7d",
			text: b.say("When was which window open? Gaps: the gateway was absent. A window that an operator had closed, or that fell into a time of doubt, was not open.",
				"どの時間帯がいつ開いていたか。空白はゲートウェイ不在。遮断中や疑義による停止中は開いていない。"),
			unit: "none", queries: []query{{named(`max by (instance, vendor, window) (kidoban_window_open{` + ofVendors + `})`), "{{vendor}}/{{window}} ({{name}})"}}, mappings: b.open(), thresholds: steps(grey, 1, blue), links: []object{seriesLink}},

		row(b.say("Who tried, and why not?", "誰が・なぜ拒否されたか")),
		question{kind: "stat", width: 4, height: 8, title: b.say("Refusals that should worry, 24 h", "要確認の拒否（24時間）"),
			text: b.say("How often in the last 24 hours did somebody prove a vendor's key from an address that is not its own (wrong_source), or make an attempt that is not newer than the key's last (replayed)? Ask the vendor: a stolen laptop or copy of the key, an address that changed, a second machine?",
				"過去24時間に、業者の正しい鍵が登録外アドレスから使われた回数（wrong_source）と、同じ鍵の最新のものより新しくない接続要求の回数（replayed）。業者に確認すること（端末や鍵の盗難か、アドレス変更か、二台目の端末か）。"),
			unit: "none", whole: true, queries: []query{
				{`sum(round(increase(kidoban_admissions_total{` + ofVendors + `,reason="wrong_source"}[24h])))`, b.say("wrong address", "登録外アドレス")},
				{`sum(round(increase(kidoban_admissions_total{` + ofVendors + `,reason="replayed"}[24h])))`, b.say("not newer", "古い要求")}}, thresholds: steps(blue, 1, vermilion)},
		question{kind: "table", width: 10, height: 8, title: b.say("Refused: who, and why", "拒否：誰が・なぜ"),
			text: b.say("Who tried to enter in the period shown and could not, why, how often? Whoever proved no key has no name. Engineers are in the table beside; addresses are in `kidoban refusals`, on purpose not in metrics.",
				"表示期間中に誰が・なぜ・何回拒否されたか。鍵を証明しない者に名前はない。作業者は右の表、アドレスは `kidoban refusals` で確認する（メトリクスには意図的に含めない）。"),
			unit: "none", noValue: b.say("nobody", "なし"),
			queries: []query{{`label_replace(label_replace(round(sum by (vendor, name, reason) (` + named(`increase(kidoban_admissions_total{`+ofVendors+`,reason!="admitted"}[$__range])`) + `)) > 0, "vendor", "?", "vendor", ""), "meaning", "$1", "reason", "(.*)")`, ""}},
			columns: []Column{{Field: "vendor", Title: b.say("Vendor", "業者"), Mappings: map[string]string{"?": b.say("nobody proven", "身元不明")}}, b.vendorName("name"),
				{Field: "meaning", Title: b.say("Why", "理由"), Mappings: b.reasons()}, {Field: "reason", Title: b.say("Code", "理由コード")}, {Field: "Value", Title: b.say("Times", "回数"), Unit: "none"}},
			mayBeEmpty: "nobody was refused"},
		question{kind: "table", width: 10, height: 8, title: b.say("Refused: which engineer, when", "拒否：どの作業者が・いつ"),
			text: b.say("Which engineers proved their key and were refused in the period shown, why, and when the last time? Empty: none was, or the policy lists more engineers than KIDOBAN_METRICS_ENGINEERS; then `kidoban refusals` names them.",
				"表示期間中に、鍵を証明したうえで拒否された作業者と、理由、最後の日時。空欄は該当なし、または作業者数が KIDOBAN_METRICS_ENGINEERS を超えている（その場合は `kidoban refusals` で確認する）。"),
			unit: "none", noValue: b.say("nobody", "なし"),
			queries: []query{{`sort_desc(label_replace(` + namedEngineer(`(max by (instance, vendor, engineer, reason) (max_over_time(kidoban_engineer_last_refusal_timestamp_seconds{`+ofVendors+`}[$__range])) >= time() - $__range_s) * 1000`) + `, "meaning", "$1", "reason", "(.*)"))`, ""}},
			columns: []Column{instance, vendor, b.vendorName("vendor_name"), engineer, engineerName, {Field: "meaning", Title: b.say("Why", "理由"), Mappings: b.reasons()},
				{Field: "Value", Title: b.say("Last", "最後の日時"), Unit: "dateTimeAsLocal"}},
			mayBeEmpty: "no engineer was refused"},
		question{kind: "timeseries", width: 24, height: 8, title: b.say("Admitted and refused, by reason", "許可と拒否（理由別）"),
			text: b.say("When were how many decisions made, for which reason? The codes are those of the panel above. `admitted` also counts the renewals of open sessions, about one in two minutes each.",
				"いつ・どの理由の判定が何件あったか。コードは上の表のとおり。admitted には接続中の鍵更新（約2分ごと）も含む。"),
			unit: "none", queries: []query{{`sum by (reason) (increase(kidoban_admissions_total{` + ofVendors + `}[$__rate_interval]))`, "{{reason}}"}}, drawn: bars | stacked,
			colors: map[string]string{"admitted": blue, "wrong_source": vermilion, "replayed": purple, "outside_window": sky, "unknown_key": orange, "unlisted_source": grey, "rate_limited": yellow, "unlisted_target": teal}},

		row(b.say("Requests and approvals (a later version brings them)", "申請と承認（今後の版で追加）")),
	)
}

func (b builder) open() []mapping {
	return is(0, b.say("closed", "閉"), grey, 1, b.say("open", "開"), blue)
}
