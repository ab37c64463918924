package dashboards

// appliance is the dashboard of the machine.
func (b builder) appliance() *Dashboard {
	d := b.dashboard("appliance", b.say("Kidoban: Appliance", "木戸番：装置"),
		b.say("Does the gateway keep its promises in time, are its records sound, and has the machine enough of everything?", "約束どおりの速さで閉じているか、記録は健全か、資源は足りているか。"),
		"now-24h", ofInstance)
	quantile := func(q, metric string) string {
		return `histogram_quantile(` + q + `, sum by (le) (rate(` + metric + `_bucket{` + ofInstance + `}[$__rate_interval])))`
	}
	return b.lay(d, "appliance",
		row(b.say("Does closing close?", "確実に閉じているか")),
		question{kind: "stat", width: 4, height: 7, title: "Closed late, in the period shown",
			unit: "none", whole: true, queries: []query{{`round(sum(increase(kidoban_closing_lag_seconds_count{` + ofInstance + `}[$__range])) - sum(increase(kidoban_closing_lag_seconds_bucket{` + ofInstance + `,le=~"1|1\\.0"}[$__range])))`, ""}}, thresholds: steps(blue, 1, vermilion)},
		question{kind: "timeseries", width: 10, height: 7, title: "Closing lag",
			unit: "s", queries: []query{{quantile("0.5", "kidoban_closing_lag_seconds"), b.say("half", "50%")}, {quantile("0.99", "kidoban_closing_lag_seconds"), "99%"}}},
		question{kind: "timeseries", width: 10, height: 7, title: "Time to set the ruleset",
			unit: "s", queries: []query{{quantile("0.5", "kidoban_reconcile_seconds"), b.say("half", "50%")}, {quantile("0.99", "kidoban_reconcile_seconds"), "99%"},
				{`max(kidoban_ruleset_waiting_seconds{` + ofInstance + `})`, b.say("under way", "設定中")}}},
		question{kind: "stat", width: 5, height: 5, title: "Drift, in the period shown",
			unit: "none", whole: true, queries: []query{{`round(sum(increase(kidoban_ruleset_drift_total{` + ofInstance + `}[$__range])))`, ""}}, thresholds: steps(blue, 1, vermilion)},
		question{kind: "stat", width: 5, height: 5, title: "Rules that could not be set",
			unit: "none", whole: true, queries: []query{{`round(sum(increase(kidoban_reconcile_failures_total{` + ofInstance + `}[$__range])))`, ""}}, thresholds: steps(blue, 1, vermilion)},
		question{kind: "stat", width: 5, height: 5, title: "Policy",
			unit: "none", queries: []query{{`min by (instance) (kidoban_policy_reload_successful{` + ofInstance + `} * on (instance) kidoban_policy_file_valid)`, "{{instance}}"}},
			mappings: is(1, b.say("good", "正常"), blue, 0, b.say("BROKEN FILE", "ファイル不正"), vermilion), thresholds: steps(vermilion, 1, blue)},
		question{kind: "stat", width: 5, height: 5, title: "Policy in force since",
			unit: "dateTimeAsLocal", queries: []query{{`max by (instance) (kidoban_policy_loaded_timestamp_seconds{` + ofInstance + `}) * 1000`, "{{instance}}"}}},
		question{kind: "stat", width: 4, height: 5, title: "Self-test passed", noValue: b.say("never", "なし"),
			unit: "s", queries: []query{{`time() - min by (instance) (kidoban_probe_last_success_timestamp_seconds{` + ofInstance + `} > 0)`, "{{instance}}"}}, thresholds: steps(blue, 8*86400, orange)},

		row(b.say("Are the records sound?", "記録は健全か")),
		question{kind: "timeseries", width: 8, height: 7, title: "Entries in the journal", unit: "none", queries: []query{{`max by (instance) (kidoban_journal_size{` + ofInstance + `})`, "{{instance}}"}}},
		question{kind: "timeseries", width: 8, height: 7, title: "Time until entries are on disk",
			unit: "s", queries: []query{{quantile("0.5", "kidoban_journal_append_seconds"), b.say("half", "50%")}, {quantile("0.99", "kidoban_journal_append_seconds"), "99%"},
				{`max(kidoban_journal_waiting_seconds{` + ofInstance + `})`, b.say("under way", "書込中")}}},
		question{kind: "stat", width: 4, height: 7, title: "Last signed",
			unit: "s", queries: []query{{`time() - max by (instance) (kidoban_journal_checkpoint_timestamp_seconds{` + ofInstance + `})`, "{{instance}}"}}},
		question{kind: "stat", width: 4, height: 7, title: "Log records lost", unit: "none", whole: true, queries: []query{
			{`round(sum(increase(kidoban_log_dropped_total{` + ofInstance + `}[$__range])))`, b.say("own log", "ログ")},
			{`round(sum(increase(kidoban_syslog_dropped_total{` + ofInstance + `}[$__range])))`, "syslog"}}, thresholds: steps(blue, 1, orange)},
		question{kind: "stat", width: 6, height: 5, title: "Clock", unit: "none", queries: []query{{`min by (instance) (kidoban_clock_synchronized{` + ofInstance + `})`, "{{instance}}"}},
			mappings: is(1, b.say("synchronized", "同期済み"), blue, 0, b.say("NOT SYNCHRONIZED", "未同期"), orange), thresholds: steps(orange, 1, blue)},
		question{kind: "stat", width: 6, height: 5, title: "Times the clock was set",
			unit: "none", whole: true, queries: []query{{`round(sum(increase(kidoban_clock_steps_total{` + ofInstance + `}[$__range])))`, ""}}, thresholds: steps(blue, 1, orange)},
		question{kind: "table", width: 12, height: 5, title: "What runs",
			unit: "none", queries: []query{{`kidoban_build_info{` + ofInstance + `} * on (instance) group_left (digest) kidoban_policy_info`, ""}},
			columns: []Column{b.column("instance"), {Field: "version", Title: b.say("Version", "版")}, {Field: "goversion", Title: "Go"}, {Field: "digest", Title: b.say("Policy", "ポリシー")}}},

		row(b.say("What comes in", "到来する通信")),
		question{kind: "timeseries", width: 12, height: 8, title: "Handshakes and the rate limiter", unit: "reqps", queries: []query{
			{`sum(rate(kidoban_admissions_total{` + ofInstance + `,reason="admitted"}[$__rate_interval]))`, b.say("admitted", "許可")},
			{`sum(rate(kidoban_admissions_total{` + ofInstance + `,reason!~"admitted|rate_limited"}[$__rate_interval]))`, b.say("refused", "拒否")},
			{`sum(rate(kidoban_admissions_total{` + ofInstance + `,reason="rate_limited"}[$__rate_interval]))`, b.say("too fast", "過多")}}},
		question{kind: "timeseries", width: 12, height: 8, title: "Packets that the kernel dropped",
			unit: "pps", queries: []query{{`sum by (cause) (rate(kidoban_refused_packets_total{` + ofInstance + `}[$__rate_interval]))`, "{{cause}}"}},
			colors: map[string]string{"source": grey, "flow": vermilion, "gateway": orange, "spoofed": purple, "forward": sky, "inward": teal, "tcp": yellow}},
		question{kind: "table", width: 24, height: 9, title: "Dropped by the kernel, in words",
			unit: "none", queries: []query{{`sort_desc(round(sum by (cause, meaning) (label_replace(increase(kidoban_refused_packets_total{` + ofInstance + `}[$__range]), "meaning", "$1", "cause", "(.*)"))))`, ""}},
			columns: []Column{{Field: "cause", Title: b.say("Cause", "原因コード")}, {Field: "meaning", Title: b.say("Meaning", "意味"), Mappings: b.said(words.Causes)}, {Field: "Value", Title: b.say("Packets", "パケット数"), Unit: "none"}}},

		row(b.say("Has the machine enough of everything?", "資源は足りているか")),
		question{kind: "timeseries", width: 6, height: 7, title: "CPU",
			unit: "percentunit", queries: []query{{`sum by (instance) (rate(process_cpu_seconds_total{job="kidoban",` + ofInstance + `}[$__rate_interval]))`, "{{instance}}"}}},
		question{kind: "timeseries", width: 6, height: 7, title: "Memory",
			unit: "bytes", queries: []query{{`max by (instance) (process_resident_memory_bytes{job="kidoban",` + ofInstance + `})`, "{{instance}}"}}},
		question{kind: "timeseries", width: 6, height: 7, title: "File descriptors in use",
			unit: "percentunit", queries: []query{{`max by (instance) (process_open_fds{job="kidoban",` + ofInstance + `} / process_max_fds)`, "{{instance}}"}}, share: true},
		question{kind: "timeseries", width: 6, height: 7, title: "Connection tracking in use",
			unit: "percentunit", queries: []query{{`max by (instance) (kidoban_conntrack_entries{` + ofInstance + `} / kidoban_conntrack_limit)`, "{{instance}}"}}, share: true},
	)
}
