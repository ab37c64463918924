package view

import (
	"maps"

	"kidoban/gateway/policy"
)

// words are a message's text in each language.
type words struct{ en, ja string }

// Meaning explains a reason.
func Meaning(r policy.Reason) Message { return Say("reason_"+Code(r.String()), nil) }

// table has the text of every message.
var table = merged(configWords, map[Code]words{
	Plain: {"{text}", "{text}"},

	Begins:    {"starting", "起動中です。ジャーナルを読み込んでいます"},
	Stops:     {"the gateway is stopping", "ゲートウェイを停止しています"},
	LoopStuck: {"the loop does not turn: nothing has been heard of it for {age}; start the gateway anew, unless the service manager does so", "制御ループが {age} 応答していません。サービスマネージャーが再起動しない場合は `systemctl restart kidoban` を実行してください"},
	LoopStuckInside: {"the loop does not turn: nothing has been heard of it for {age}; start the gateway anew, unless the service manager does so; who is inside stays inside until then",
		"制御ループが {age} 応答していません。サービスマネージャーが再起動しない場合は `systemctl restart kidoban` を実行してください。それまで接続中のセッションは切断されません"},
	ClockUnsettled: {"the machine has just booted and its clock is not synchronized yet; waiting until {wait} after boot", "起動直後で時刻がまだ同期していません。起動後 {wait} まで待ちます。すぐに使うには `kidoban recover` を実行してください"},
	ClockBack: {"the clock went back: {newest} has been seen or recorded already; it is trusted again when it passes that, or on `kidoban recover`",
		"時計が戻りました。{newest} はすでに記録されています。時計がこの時刻を過ぎると再開します。今の時刻が正しければ `kidoban recover` を実行してください"},
	JournalClosed: {"the journal does not open: {cause}; `kidoban recover` moves it aside and begins a new one", "ジャーナルを開けません: {cause}。`kidoban recover` を実行すると、退避して新しいジャーナルを始めます"},
	JournalLost: {"the journal does not open: {cause}; `kidoban recover` moves it aside and begins a new one, and shuts everything: what it had shut cannot all be read",
		"ジャーナルを開けません: {cause}。`kidoban recover` を実行すると、退避して新しいジャーナルを始めます。遮断の記録をすべては読めないため、全体を遮断します"},
	JournalUnwritten: {"the journal cannot be written: {cause}; mend the disk, then `kidoban recover`", "ジャーナルに書き込めません: {cause}。ディスクを直してから `kidoban recover` を実行してください"},
	NoPolicy:         {"there is no policy in force: {cause}; mend it, then `kidoban reload`", "有効なポリシーがありません: {cause}。修正してから `kidoban reload` を実行してください"},
	NoPolicyYet:      {"there is no policy in force yet", "有効なポリシーがまだありません。`kidoban check` で確認し、`kidoban reload` を実行してください"},
	TunnelRefused:    {"the tunnel did not take the plan: {cause}; `kidoban recover` builds it anew", "トンネルに許可内容を設定できません: {cause}。`kidoban recover` を実行すると作り直します"},
	TunnelFailed:     {"the tunnel failed: {cause}; `kidoban recover` builds it anew", "トンネルが停止しました: {cause}。`kidoban recover` を実行すると作り直します"},
	TunnelUnbuilt:    {"the tunnel cannot be built: {cause}; `kidoban recover` tries again", "トンネルを作れません: {cause}。`kidoban recover` を実行すると再試行します"},
	RulesetWrong:     {"the ruleset is not as planned: {cause}; it is set again every {every}, and `kidoban recover` does it now", "カーネルのルールが設定どおりではありません: {cause}。{every} ごとに設定し直します。`kidoban recover` を実行するとすぐに設定します"},
	RulesetUnopened:  {"the ruleset is not as planned: {cause}; opening is tried again at {at}, and `kidoban recover` does it now", "カーネルのルールが設定どおりではありません: {cause}。{at} に再試行します。`kidoban recover` を実行するとすぐに設定します"},
	RulesetUnknown: {"the kernel has not answered for {wait}, and nobody knows which ruleset it has; it is set when it answers; if it does not, start the gateway anew",
		"カーネルが {wait} 応答せず、ルールの状態が分かりません。応答すれば設定します。応答しない場合は `systemctl restart kidoban` を実行してください"},
	DiskSilent: {"the disk has not answered for {wait}", "ディスクが {wait} 応答していません"},

	FileWrong:     {"the policy file on disk has errors and would not survive a restart: mend it, then `kidoban check` and `kidoban reload`", "ディスク上のポリシーファイルに誤りがあり、再起動すると使えません。修正してから `kidoban check` と `kidoban reload` を実行してください"},
	FileChanged:   {"the policy file on disk is not the policy in force: `kidoban reload` takes it", "ディスク上のポリシーファイルは、有効なポリシーと異なります。`kidoban reload` を実行すると反映します"},
	ClockUnsynced: {"the kernel says that the clock is not synchronized: windows open and close by it, so let chrony or systemd-timesyncd run", "時計が同期していません。時間帯はこの時計で開閉します。`systemctl start chrony` または `systemctl start systemd-timesyncd` を実行してください"},
	DiskSlow:      {"the disk has not answered for {wait}: until it does nobody new enters, since no admission lasts without its record", "ディスクが {wait} 応答していません。記録できるまで新しい接続は許可されません。`journalctl -k` でディスクの状態を確認してください"},
	KernelSlow:    {"the kernel has not answered for {wait}: until it does nothing new passes its ruleset, and what closes is closed by the gate alone", "カーネルが {wait} 応答していません。応答するまで新しい通信は通らず、遮断はゲートだけが行います。続く場合は `systemctl restart kidoban` を実行してください"},
	KernelSlowOut: {"the kernel has not answered for {wait}: until it does nothing new passes its ruleset, and what closes is closed by the gate alone; engineers kept out until then, because a change took something from them: {engineers}",
		"カーネルが {wait} 応答していません。応答するまで新しい通信は通らず、遮断はゲートだけが行います。許可が減ったため応答まで接続を止めている作業者: {engineers} 名。続く場合は `systemctl restart kidoban` を実行してください"},
	Unanswered: {"{engineer} sends ({bytes} bytes) and nothing comes back: the target may have no route to the tunnel; give it one, or set masquerade: true on the target",
		"{engineer} が送信しています ({bytes} バイト) が、応答がありません。接続先にトンネルへの経路がない可能性があります。経路を追加するか、ポリシーの接続先に masquerade: true を設定して `kidoban reload` を実行してください"},
	UnansweredRefused: {"{engineer} sends ({bytes} bytes) and nothing comes back: the target may have no route to the tunnel; give it one, or set masquerade: true on the target; or it is what `kidoban refusals` shows: {reason} to {target}",
		"{engineer} が送信しています ({bytes} バイト) が、応答がありません。接続先にトンネルへの経路がない可能性があります。経路を追加するか、ポリシーの接続先に masquerade: true を設定して `kidoban reload` を実行してください。または `kidoban refusals` に出ている拒否 ({target} 宛て {reason}) が原因です"},
	SourcesHidden: {"{count} of {all} attempts of engineers come from {source}, a private address: a NAT in front hides the vendors' addresses; let the router forward UDP without rewriting sources (no source NAT on the port forward)",
		"作業者からの接続 {all} 件のうち {count} 件がプライベートアドレス {source} から来ています。前段の NAT が接続元を隠しています。ルーターのポート転送で送信元 NAT を使わない設定にし、`kidoban refusals` で確認してください"},
	Excess: {"{engineer} has as many connections open as one engineer may have, or begins them too fast, and more are refused (last: to {target}): ask what runs there; `kidoban close {engineer}` cuts all of them",
		"{engineer} の接続数または接続の速さが上限に達し、超えた分を拒否しています (最後の宛先: {target})。何を実行しているか本人に確認してください。`kidoban close {engineer} --reason 理由` ですべて切断します"},
	ExcessOthers: {"{count} other engineers are refused connections as well, as `kidoban refusals` shows: rate_limited", "ほかに {count} 名の作業者の接続も上限で拒否しています。`kidoban refusals` の rate_limited で確認してください"},

	NoRoute: {"the host has no route to {targets}: bring the interface up, or add a route", "{targets} への経路がありません。インターフェースを有効にするか、`ip route add` で経路を追加してください"},
	RouteAstrayOnly: {"the host has no route to {targets} but {why}, through its only interface {through}: a host on the way to the Internet could answer in its name; a route of its own is better; if the way inside is {through}, set KIDOBAN_INSIDE_INTERFACES={inside}",
		"{targets} への経路は、唯一のインターフェース {through} を通る{why}だけです。インターネット側の機器が接続先になりすませるため、`ip route add` で専用の経路を追加してください。{through} が内部側なら KIDOBAN_INSIDE_INTERFACES={inside} を設定して `systemctl restart kidoban` を実行してください"},
	RouteAstray: {"the host has no route to {targets} but {why}, through {through}, by which nothing is sent there: bring the right interface up, or add a route of its own through an interface with a permanent address and without the default route; if the way inside is {through}, set KIDOBAN_INSIDE_INTERFACES={inside}",
		"{targets} への経路は {through} を通る{why}だけで、そこへは送信しません。正しいインターフェースを有効にするか、固定アドレスがありデフォルトルートのないインターフェースに `ip route add` で経路を追加してください。{through} が内部側なら KIDOBAN_INSIDE_INTERFACES={inside} を設定して `systemctl restart kidoban` を実行してください"},
	RouteUnnamed: {"the host has no route to {targets} but {why}, through {through}, by which nothing is sent there: bring the right interface up, or add a route of its own through an interface that is named there; if the way inside is {through}, set KIDOBAN_INSIDE_INTERFACES={inside}",
		"{targets} への経路は {through} を通る{why}だけで、そこへは送信しません。正しいインターフェースを有効にするか、設定にあるインターフェースに `ip route add` で経路を追加してください。{through} が内部側なら KIDOBAN_INSIDE_INTERFACES={inside} を設定して `systemctl restart kidoban` を実行してください"},
	InsideMissing: {"KIDOBAN_INSIDE_INTERFACES names {interfaces}, which the host does not have: correct the setting, or bring the interface up", "KIDOBAN_INSIDE_INTERFACES にある {interfaces} がこのホストにありません。設定を直して `systemctl restart kidoban` を実行するか、インターフェースを有効にしてください"},
	RoutesUnread:  {"how the host reaches targets cannot be read, so none is reached: {cause}", "接続先への経路を読み取れないため、どの接続先にも送信しません: {cause}。`ip route show table all` で確認してください"},
	NoIPv6:        {"IPv6 targets cannot be reached: {cause}", "IPv6 の接続先に到達できません: {cause}。`sysctl net.ipv6.conf` で確認してください"},
	Rewritten:     {"another program on this host rewrites where engineers' connections go (DNAT), so they are refused: look for the rule with `nft list ruleset | grep dnat` or `iptables-save -t nat`", "このホストの別のプログラムが作業者の接続先を書き換えている (DNAT) ため、拒否しています。`nft list ruleset | grep dnat` または `iptables-save -t nat` でルールを探してください"},
	RewrittenBy: {"another program on this host rewrites where engineers' connections go (DNAT), so they are refused: look for the rule with `nft list ruleset | grep dnat` or `iptables-save -t nat`, it may be in {chains}",
		"このホストの別のプログラムが作業者の接続先を書き換えている (DNAT) ため、拒否しています。`nft list ruleset | grep dnat` または `iptables-save -t nat` でルールを探してください。候補: {chains}"},
	Sidetracked: {"the host sends packets of engineers' connections, or gets their answers, by an interface that does not count as a way to the target, so they are refused: `ip route get TARGET` and `ip route show` say by which it sends; somebody on a wire may have advertised such a route: delete it, or, if that interface leads inside as well, name all that do in KIDOBAN_INSIDE_INTERFACES",
		"作業者の通信が、接続先への経路と認められないインターフェースを通るため、拒否しています。`ip route get 接続先` と `ip route show` で確認してください。他の機器が広告した経路なら削除し、そのインターフェースも内部側なら、内部側をすべて KIDOBAN_INSIDE_INTERFACES に設定して `systemctl restart kidoban` を実行してください"},
	Unshown: {"`wg show` shows nothing, and nothing else suffers from it: {cause}; as root remove that file, and give its folder to the gateway's user (uid {uid})", "`wg show` に何も表示されません (ほかに影響はありません): {cause}。root でそのファイルを削除し、フォルダーの所有者をゲートウェイのユーザー (uid {uid}) にしてください"},

	RoutePart:     {"a part of {targets}", "{targets} の一部"},
	TargetsMore:   {"{targets} and {count} other targets", "{targets} ほか {count} 件"},
	RouteNotNamed: {"one that KIDOBAN_INSIDE_INTERFACES does not allow", " KIDOBAN_INSIDE_INTERFACES が許していない経路"},
	RouteTold:     {"what DHCP or a router may have advertised", " DHCP またはルーターが広告した可能性のある経路"},
	RouteBeside:   {"one where the default route is or was", "デフォルトルートがある (または、あった) インターフェースの経路"},
	RouteDefault:  {"the default route", "デフォルトルート"},

	SourcesListed:   {"it may come from {sources}; if the vendor has a new address, list it and `kidoban reload`", "許可された接続元: {sources}。業者のアドレスが変わった場合は、ポリシーに追加して `kidoban reload` を実行してください"},
	OpenUntil:       {"a window is open, until {until}", "時間帯は {until} まで開いています"},
	ContractOver:    {"its last day was {day}", "契約の最終日は {day} でした。延長した場合は、ポリシーを直して `kidoban reload` を実行してください"},
	TargetsOpen:     {"open to this engineer then: {targets}", "その時刻にこの作業者に開いている接続先: {targets}"},
	TargetsNone:     {"open to this engineer then: nothing", "その時刻にこの作業者に開いている接続先はありません。`kidoban calendar` で確認してください"},
	NoFamily:        {"the policy gives this engineer no {family} address in the tunnel, so nothing of that family can be reached", "ポリシーでこの作業者にトンネルの {family} アドレスがないため、{family} の接続先には到達できません。追加して `kidoban reload` を実行してください"},
	ShutBy:          {"closed by {actor} at {at}: {reason}; `kidoban reopen {scope} --reason R` takes it back", "{actor} が {at} に遮断しました: {reason}。解除するには `kidoban reopen {scope} --reason 理由` を実行してください"},
	ShutAs:          {"closed as {name} by {actor} at {at}: {reason}; `kidoban reopen {scope} --reason R` takes it back", "{actor} が {at} に {name} として遮断しました: {reason}。解除するには `kidoban reopen {scope} --reason 理由` を実行してください"},
	InsideElsewhere: {"asked about is the address of the last attempt; the open session comes from {source}", "最後に試みたアドレスについて答えています。接続中のセッションの接続元は {source} です。`--from {source}` で確認してください"},

	"reason_not_ready":        {"the gateway is in doubt and admits nobody", "ゲートウェイに問題があり、誰も入れません"},
	"reason_malformed":        {"not a well-formed WireGuard packet for this gateway", "このゲートウェイ宛ての正しい WireGuard パケットではありません"},
	"reason_rate_limited":     {"more initiations or connections than this source or engineer is allowed", "接続の回数が、この接続元または作業者の上限を超えました"},
	"reason_unknown_key":      {"the initiation proves no engineer's key", "登録された作業者の鍵ではありません"},
	"reason_replayed":         {"its timestamp is not newer than the newest seen of this key", "タイムスタンプが、この鍵の最新のものより新しくありません"},
	"reason_future_timestamp": {"its timestamp is more than 24 h ahead: the engineer's clock is wrong", "タイムスタンプが 24 時間以上先です。作業者側の時計が誤っています"},
	"reason_gateway_shut":     {"an operator closed everything", "運用者が全体を遮断しています"},
	"reason_vendor_shut":      {"an operator closed this vendor", "運用者がこの業者を遮断しています"},
	"reason_engineer_shut":    {"an operator closed this engineer", "運用者がこの作業者を遮断しています"},
	"reason_wrong_source":     {"the address is not one of the engineer's sources", "この作業者に許可された接続元アドレスではありません"},
	"reason_contract_ended":   {"the vendor's contract has ended", "業者の契約が終了しています"},
	"reason_outside_window":   {"no approved window is open", "承認された時間帯ではありません"},
	"reason_unlisted_target":  {"no open window lets the engineer reach this destination", "開いている時間帯に、この宛先は許可されていません"},
	"reason_admitted":         {"a window is open", "時間帯が開いています"},
	"reason_unlisted_source":  {"no readable initiation, from an address that no open window lists", "どの時間帯にも許可されていないアドレスからの、読み取れない接続です"},

	SayReady:        {"READY", "受付中"},
	SayNotReady:     {"NOT READY: nobody may enter", "受付停止: 誰も入れません"},
	SayShut:         {"SHUT by an operator: nobody may enter", "運用者が遮断中: 誰も入れません"},
	SayFileOK:       {"the file on disk would survive a restart", "ディスク上のファイルは再起動後も使えます"},
	SayFileWrong:    {"THE FILE ON DISK WOULD NOT SURVIVE A RESTART", "ディスク上のファイルは再起動すると使えません"},
	SayPolicy:       {"{digest} of {at}; {file}", "{digest} ({at} 読込)。{file}"},
	SayShutBy:       {"{scope} by {actor} at {at}: {reason}", "{scope} ({actor} が {at} に遮断: {reason})"},
	SayShutByKey:    {"{engineer} by its key: it was closed as {scope}", "{engineer} (鍵による。{scope} として遮断)"},
	SayHint:         {"hint: {text}", "注意: {text}"},
	SayWarning:      {"warning: {text}", "警告: {text}"},
	SayMoreWarnings: {"warnings about the policy that are not shown: {count}; `kidoban check` shows them", "ほかにポリシーの警告が {count} 件あります。`kidoban check` で表示します"},
	SayGrants:       {"{count} grants open", "開いている許可: {count} 件"},
	SayGrant:        {"1 grant open", "開いている許可: 1 件"},
	SayNoGrants:     {"no grants open", "開いている許可: なし"},
	SaySessions:     {"{count} sessions inside", "接続中のセッション: {count} 件"},
	SaySession:      {"1 session inside", "接続中のセッション: 1 件"},
	SayNoSessions:   {"no sessions inside", "接続中のセッション: なし"},
	SayNobodyInside: {"Nobody is inside.", "接続中の人はいません。"},
	SayNothingOpen:  {"Nothing is open.", "開いている許可はありません。"},
	SayNoRefusals:   {"Nobody was refused since the gateway started.", "ゲートウェイの起動後、拒否された接続はありません。"},
	SayAgo:          {"{time} ago", "{time} 前"},
	SaySummed:       {"more than are kept one by one, counted together", "個別に残せる数を超えた分の合計です"},
	SayNamesMore:    {"{names} and {count} more", "{names} ほか {count} 件"},

	SayAdmit:     {"ADMIT", "許可"},
	SayRefuse:    {"REFUSE", "拒否"},
	SayAnySource: {"any of the engineer's sources (none was given, and none has been seen)", "許可された接続元のどれか (指定がなく、接続の記録もありません)"},
	SayTunnel:    {"the tunnel", "トンネル"},
	SayNoOpening: {"none within 400 days", "400 日以内にありません"},

	LabelNow:        {"now", "現在"},
	LabelNextChange: {"next change", "次の変化"},
	LabelPolicy:     {"policy", "ポリシー"},
	LabelShut:       {"SHUT", "遮断"},
	LabelEngineer:   {"ENGINEER", "作業者"},
	LabelSource:     {"FROM", "接続元"},
	LabelSince:      {"SINCE", "開始"},
	LabelUntil:      {"UNTIL", "終了"},
	LabelReceived:   {"RECEIVED", "受信"},
	LabelSent:       {"SENT", "送信"},
	LabelHandshake:  {"HANDSHAKE", "ハンドシェイク"},
	LabelSession:    {"SESSION", "セッション"},
	LabelWindow:     {"WINDOW", "時間帯"},
	LabelBegin:      {"FROM", "開始"},
	LabelTargets:    {"TARGETS", "接続先"},
	LabelSources:    {"SOURCES", "接続元"},
	LabelLast:       {"LAST", "最終"},
	LabelFirst:      {"FIRST", "最初"},
	LabelCount:      {"COUNT", "回数"},
	LabelReason:     {"REASON", "理由"},
	LabelWho:        {"WHO", "作業者"},
	LabelTo:         {"TO", "宛先"},

	LabelOf:          {"engineer", "作業者"},
	LabelFrom:        {"from", "接続元"},
	LabelToward:      {"to", "宛先"},
	LabelAt:          {"at", "時刻"},
	LabelGrant:       {"grant", "許可"},
	LabelEnd:         {"until", "終了"},
	LabelNextOpening: {"next opening", "次の開始"},
})

func merged(parts ...map[Code]words) map[Code]words {
	all := map[Code]words{}
	for _, part := range parts {
		maps.Copy(all, part)
	}
	return all
}
