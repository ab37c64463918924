package view

// configWords has the warnings of a policy file, each behind its place.
var configWords = placed(map[Code]words{
	WarnSourcePrivate: {
		"{source} is private ({range}): if a NAT in front of the gateway hides the vendors' addresses, every vendor comes from the same one",
		"{source} はプライベートアドレス（{range}）です。ゲートウェイの手前の NAT が業者のアドレスを隠している場合、すべての業者が同じアドレスから来ることになります",
	},
	WarnSourceWide: {
		"{source} is wider than /{bits}: few vendors own so many addresses",
		"{source} は /{bits} より広い範囲です。これほど多くのアドレスを持つ業者はまれです",
	},
	WarnSourceShared: {
		"{source} overlaps {other} of vendor {vendor}: keys still tell the vendors apart, but the address does not",
		"{source} は業者 {vendor} の {other} と重なっています。鍵では業者を区別できますが、アドレスでは区別できません",
	},
	WarnSourceOverlap: {
		"{source} overlaps {other} of the same list: one of them is enough",
		"{source} は同じ一覧の {other} と重なっています。どちらか一方で足ります",
	},
	WarnSourceOutside: {
		"{source} lies outside the vendor's sources: an engineer's own sources count in place of them, so this one is open all the same",
		"{source} は業者の接続元（sources）に含まれていません。作業者に sources を書くと業者のものに代わるため、このアドレスからも接続できます",
	},
	WarnServiceRisky: {
		"{service} opens {name}, the usual way of ransomware: is it needed?",
		"{service} は {name} を開きます。ランサムウェアがよく使う経路です。本当に必要か確認してください",
	},
	WarnVendorClosed: {
		"has no window: nobody of this vendor can enter",
		"時間帯（windows）がないため、この業者の作業者は誰も接続できません",
	},
	WarnContractEnded: {
		"the contract ended on {date}: nobody of this vendor can enter",
		"契約は {date} に終了しました。この業者の作業者は誰も接続できません",
	},
	WarnContractEnding: {
		"the contract ends on {date}, in less than 31 days",
		"契約は {date} に終了します。残り31日未満です",
	},
	WarnValidMissing: {
		"has no valid: its approval never ends; name its last day with valid: {until: ...}",
		"valid がないため、承認に期限がありません。最終日を valid: {until: ...} で指定してください",
	},
	WarnValidOpen: {
		"has no until: the approval never ends",
		"until がないため、承認に期限がありません",
	},
	WarnValidOver: {
		"was over on {date}: the window does not open again",
		"承認は {date} で終わりました。この時間帯が再び開くことはありません",
	},
	WarnWindowAlways: {
		"is all day, every day",
		"毎日、終日開いています",
	},
	WarnRuleAlways: {
		"may be all day, every day",
		"毎日、終日開いている可能性があります",
	},
	WarnRuleLong: {
		"is more than 24 hours",
		"24時間を超えています",
	},
	WarnDaysLong: {
		"is more than 24 hours: whole days that follow each other",
		"終日の時間帯が連続する日に続くため、24時間を超えて開きます",
	},
	WarnOnceOver: {
		"is over: the window does not open again",
		"すでに過ぎています。この時間帯が再び開くことはありません",
	},
	WarnOnceLong: {
		"is more than 24 hours after the start",
		"開始から24時間を超えています",
	},
	WarnUnreachableAll: {
		"nobody of this window has an {family} address in the tunnel, so nobody can reach {targets}",
		"この時間帯の作業者は誰もトンネル内の {family} アドレスを持たないため、対象 {targets} に届きません",
	},
	WarnUnreachable: {
		"{engineer} has no {family} address in the tunnel and cannot reach {targets}",
		"作業者 {engineer} はトンネル内の {family} アドレスを持たないため、対象 {targets} に届きません",
	},
	WarnPolicyMany: {
		"{count} more warnings are not listed",
		"ほかに {count} 件の警告がありますが、省略しました",
	},
})

// placed puts the place in the policy file before each text.
func placed(all map[Code]words) map[Code]words {
	const place = "{file}:{line}:{column}: {where}: "
	for code, w := range all {
		all[code] = words{place + w.en, place + w.ja}
	}
	return all
}
