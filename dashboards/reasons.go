package dashboards

// reasons describes every reason for a refusal.
func (b builder) reasons() map[string]string {
	return map[string]string{
		"not_ready":        b.say("the gateway was shut in doubt", "ゲートウェイが安全側に停止中"),
		"malformed":        b.say("not a packet for this gateway", "このゲートウェイ宛ての形式ではない"),
		"rate_limited":     b.say("too many attempts or connections at once", "接続要求または通信が多すぎる"),
		"unknown_key":      b.say("a key that nobody here has", "登録のない鍵"),
		"replayed":         b.say("A RECORDED ATTEMPT, OR TWO MACHINES WITH THE SAME KEY", "記録された接続要求の再送、または同じ鍵の端末が二台（要確認）"),
		"future_timestamp": b.say("the engineer's clock is more than a day ahead", "作業者の時計が1日以上進んでいる"),
		"gateway_shut":     b.say("an operator closed everything", "運用者が全面遮断中"),
		"vendor_shut":      b.say("an operator closed this vendor", "運用者がこの業者を遮断中"),
		"engineer_shut":    b.say("an operator closed this engineer", "運用者がこの作業者を遮断中"),
		"wrong_source":     b.say("THE RIGHT KEY FROM A WRONG ADDRESS: stolen, or moved?", "正しい鍵が登録外のアドレスから（盗難か移転か要確認）"),
		"contract_ended":   b.say("the contract is over", "契約終了後"),
		"outside_window":   b.say("no approved window is open", "承認時間帯の外"),
		"unlisted_target":  b.say("inside, but to a target that is not listed", "接続中だが許可外の宛先"),
		"admitted":         b.say("admitted", "許可"),
		"unlisted_source":  b.say("from an unlisted address: noise of the Internet", "登録外アドレスから（インターネットの雑音）"),
	}
}

// endings says every reason for which a session ends in words.
func (b builder) endings() map[string]string {
	return map[string]string{
		"window_closed":   b.say("the window closed", "時間帯の終了"),
		"policy_changed":  b.say("the policy changed", "ポリシー変更"),
		"gateway_shut":    b.say("everything was closed", "全面遮断"),
		"vendor_shut":     b.say("the vendor was closed", "業者の遮断"),
		"engineer_shut":   b.say("the engineer was closed", "作業者の遮断"),
		"idle":            b.say("silent for three minutes", "3分間通信なし"),
		"superseded":      b.say("came again from another address", "別アドレスからの再接続"),
		"unrecorded":      b.say("could not be recorded", "記録できず切断"),
		"gateway_stopped": b.say("the gateway stopped", "ゲートウェイ停止"),
		"crashed":         b.say("the gateway crashed", "ゲートウェイ異常終了"),
	}
}

// causes describes the kernel's reasons for a drop.
func (b builder) causes() map[string]string {
	return map[string]string{
		"source":   b.say("for the WireGuard port, from an unlisted address or too fast", "登録外アドレスから、または過多"),
		"tcp":      b.say("TCP for the WireGuard port's number", "WireGuardポート番号へのTCP"),
		"fragment": b.say("fragments for the WireGuard port", "WireGuardポートへの断片"),
		"spoofed":  b.say("with a source inside the tunnel, but not from there", "トンネル内アドレスの詐称"),
		"answer":   b.say("answers to an unlisted address", "登録外アドレスへの応答"),
		"icmp":     b.say("ICMP errors that no listed flow is about", "許可通信に属さないICMPエラー"),
		"gateway":  b.say("from the tunnel to the gateway itself", "トンネルからゲートウェイ自身へ"),
		"excess":   b.say("new connections of an engineer who has as many as one may, or begins them too fast", "一人の上限を超えた新しい通信"),
		"dnat":     b.say("new connections whose destination another program rewrote", "他のプログラムが宛先を書き換えた新しい通信"),
		"flow":     b.say("from the tunnel to what is not listed", "トンネルから許可外の宛先へ"),
		"path":     b.say("of a listed flow, but not by the way to its target", "許可通信だが対象への経路でないインターフェース"),
		"inward":   b.say("from the site into the tunnel", "施設内からトンネルへ"),
		"forward":  b.say("across the gateway, past the tunnel", "トンネルを通らない転送"),
	}
}

// doubts describes the doubts that keep the gateway shut.
func (b builder) doubts() map[string]string {
	return map[string]string{
		"journal": b.say("the journal cannot be trusted or written", "記録（ジャーナル）を検証・書込できない"),
		"clock":   b.say("the clock went back or is not synchronized yet", "時計が戻った、または未同期"),
		"policy":  b.say("there is no valid policy", "有効なポリシーがない"),
		"tunnel":  b.say("the tunnel failed", "トンネルの障害"),
		"ruleset": b.say("the kernel's rules are not as set", "カーネルのルールが設定と異なる"),
		"loop":    b.say("the gateway hangs, or has just started", "ゲートウェイの制御が停滞、または起動直後"),
	}
}

// alerts gives for each alert its meaning and its runbook.
func (b builder) alerts() (words, runbooks map[string]string) {
	words, runbooks = map[string]string{}, map[string]string{}
	for alert, a := range map[string]struct{ page, words string }{
		"KidobanAbsent":                      {"absent", b.say("the gateway does not answer Prometheus", "ゲートウェイが応答しない")},
		"KidobanNotReady":                    {"not-ready", b.say("the gateway is shut in doubt", "ゲートウェイが安全側に停止中")},
		"KidobanSessionOutsideWindow":        {"session-outside-window", b.say("SOMEBODY IS INSIDE OUTSIDE EVERY WINDOW", "承認時間外に接続中")},
		"KidobanWrongSource":                 {"wrong-source", b.say("a vendor's key was used from an address that is not its own", "業者の鍵が登録外アドレスから使われた")},
		"KidobanReplayed":                    {"replayed", b.say("a vendor's key was used again and again with an old time: recorded, or two machines", "業者の鍵による古い接続要求の繰り返し（再送、または端末が二台）")},
		"KidobanRefusalBurst":                {"refusal-burst", b.say("many refusals in a short time", "短時間に多数の拒否")},
		"KidobanFlowsInExcess":               {"flows-in-excess", b.say("an engineer has more connections than one may", "上限を超えた通信を大量に拒否")},
		"KidobanDestinationRewritten":        {"destination-rewritten", b.say("another program rewrites where engineers' connections go", "他のプログラムが通信の宛先を書き換えている")},
		"KidobanWindowEndsWithSessionInside": {"window-ends", b.say("somebody is inside and will be cut within ten minutes", "接続中の者が10分以内に切断される")},
		"KidobanRulesetDrift":                {"ruleset-drift", b.say("somebody changed the kernel's rules", "カーネルのルールが変更された")},
		"KidobanRulesetStuck":                {"ruleset-stuck", b.say("the kernel does not take the rules", "カーネルがルールを受け付けない")},
		"KidobanJournalStuck":                {"journal-stuck", b.say("the journal does not advance", "記録が進まない")},
		"KidobanJournalDoubtful":             {"journal-doubtful", b.say("the journal does not verify or cannot be written", "記録を検証または書込できない")},
		"KidobanJournalShrank":               {"journal-shrank", b.say("the journal has fewer entries than before", "記録の件数が減った")},
		"KidobanJournalReplaced":             {"journal-shrank", b.say("an operator began a new journal", "運用者が新しい記録を始めた")},
		"KidobanClockUnsynchronized":         {"clock", b.say("the clock is not synchronized", "時計が同期していない")},
		"KidobanPolicyReloadFailed":          {"policy-reload-failed", b.say("the policy file has errors", "ポリシーファイルに誤りがある")},
		"KidobanClosingLate":                 {"closing-late", b.say("a closing took longer than a second", "閉鎖に1秒以上かかった")},
		"KidobanContractEnds":                {"contract-ends", b.say("a contract ends within 30 days", "契約が30日以内に終了する")},
		"KidobanDormantKey":                  {"dormant-key", b.say("a key has not been used for 90 days", "鍵が90日間使われていない")},
		"KidobanKillSwitchOn":                {"kill-switch", b.say("everything has been closed for four hours", "全面遮断が4時間続いている")},
	} {
		words[alert], runbooks[alert] = a.words, "docs/runbooks/"+b.language.folder()+a.page+".md"
	}
	return words, runbooks
}

// severities describes the severities.
func (b builder) severities() map[string]string {
	return map[string]string{
		"critical": b.say("critical, now", "重大（すぐ対応）"),
		"warning":  b.say("warning, today", "警告（当日中）"),
		"info":     b.say("info", "情報"),
	}
}

// durations names the buckets in which sessions' durations are counted.
func (b builder) durations() []Naming {
	return []Naming{
		{"10", b.say("up to 10 s", "10秒以内")}, {"60", b.say("up to 1 min", "1分以内")}, {"300", b.say("up to 5 min", "5分以内")},
		{"900", b.say("up to 15 min", "15分以内")}, {"1800", b.say("up to 30 min", "30分以内")}, {"3600", b.say("up to 1 h", "1時間以内")},
		{"7200", b.say("up to 2 h", "2時間以内")}, {"14400", b.say("up to 4 h", "4時間以内")}, {"28800", b.say("up to 8 h", "8時間以内")},
		{"86400", b.say("up to 24 h", "24時間以内")}, {"+Inf", b.say("longer", "24時間超")},
	}
}
