package view

// Doubts.
const (
	Begins           Code = "starting"
	Stops            Code = "stopping"
	LoopStuck        Code = "loop_stuck"
	LoopStuckInside  Code = "loop_stuck_inside" // the same, with open sessions
	ClockUnsettled   Code = "clock_unsettled"
	ClockBack        Code = "clock_back"
	JournalClosed    Code = "journal_closed"
	JournalLost      Code = "journal_lost" // the same, and not all that is shut is known
	JournalUnwritten Code = "journal_unwritten"
	NoPolicy         Code = "no_policy" // no policy is in force, and why
	NoPolicyYet      Code = "no_policy_yet"
	TunnelRefused    Code = "tunnel_refused"
	TunnelFailed     Code = "tunnel_failed"
	TunnelUnbuilt    Code = "tunnel_unbuilt"
	RulesetWrong     Code = "ruleset_wrong"
	RulesetUnopened  Code = "ruleset_unopened" // the same, after an opening
	RulesetUnknown   Code = "ruleset_unknown"  // the kernel does not answer
)

// Hints.
const (
	FileWrong         Code = "file_wrong"
	FileChanged       Code = "file_changed" // the policy file is not in force
	ClockUnsynced     Code = "clock_unsynchronized"
	DiskSlow          Code = "disk_slow"
	KernelSlow        Code = "kernel_slow"
	KernelSlowOut     Code = "kernel_slow_out" // the same, and engineers are kept out
	Unanswered        Code = "unanswered"
	UnansweredRefused Code = "unanswered_refused" // the same, and flows were refused
	SourcesHidden     Code = "sources_hidden"
	Excess            Code = "excess" // an engineer is at the bound of flows
	ExcessOthers      Code = "excess_others"
	NoRoute           Code = "no_route"
	RouteAstrayOnly   Code = "route_astray_only" // targets are reached by the default route alone
	RouteAstray       Code = "route_astray"      // no route to targets counts
	RouteUnnamed      Code = "route_unnamed"     // the route's interface is not named in the settings
	InsideMissing     Code = "inside_missing"
	RoutesUnread      Code = "routes_unread"
	NoIPv6            Code = "no_ipv6"
	Rewritten         Code = "rewritten"
	RewrittenBy       Code = "rewritten_by"
	Sidetracked       Code = "sidetracked"
	Unshown           Code = "unshown" // wg show has no socket
)

// Parts of other messages.
const (
	SayNamesMore  Code = "say_names_more"
	DiskSilent    Code = "disk_silent" // cause: the disk does not answer
	RoutePart     Code = "route_part"
	TargetsMore   Code = "targets_more"
	RouteNotNamed Code = "route_not_named"
	RouteTold     Code = "route_told"
	RouteBeside   Code = "route_beside"
	RouteDefault  Code = "route_default"
)

// Details of an explanation.
const (
	SourcesListed   Code = "sources_listed"
	OpenUntil       Code = "open_until"
	ContractOver    Code = "contract_over"
	TargetsOpen     Code = "targets_open"
	TargetsNone     Code = "targets_none"
	NoFamily        Code = "no_family"
	ShutBy          Code = "shut_by"
	ShutAs          Code = "shut_as"          // the same, under an earlier name
	InsideElsewhere Code = "inside_elsewhere" // the open session has another source
)

// Warnings of a policy file, at a place in it.
const (
	WarnSourcePrivate  Code = "policy_source_private"
	WarnSourceWide     Code = "policy_source_wide"
	WarnSourceShared   Code = "policy_source_shared"
	WarnSourceOverlap  Code = "policy_source_overlap"
	WarnSourceOutside  Code = "policy_source_outside"
	WarnServiceRisky   Code = "policy_service_risky"
	WarnVendorClosed   Code = "policy_vendor_closed"
	WarnContractEnded  Code = "policy_contract_ended"
	WarnContractEnding Code = "policy_contract_ending"
	WarnValidMissing   Code = "policy_valid_missing"
	WarnValidOpen      Code = "policy_valid_open"
	WarnValidOver      Code = "policy_valid_over"
	WarnWindowAlways   Code = "policy_window_always"
	WarnRuleAlways     Code = "policy_rule_always"
	WarnRuleLong       Code = "policy_rule_long"
	WarnDaysLong       Code = "policy_days_long"
	WarnOnceOver       Code = "policy_once_over"
	WarnOnceLong       Code = "policy_once_long"
	WarnUnreachableAll Code = "policy_unreachable_all"
	WarnUnreachable    Code = "policy_unreachable"
	WarnPolicyMany     Code = "policy_warnings_more"
)

// Outcomes of operators' commands.
const (
	NothingDone    Code = "nothing_done"
	ReasonLong     Code = "reason_long"
	NotApplied     Code = "not_applied"
	NotAppliedYet  Code = "not_applied_yet"
	NotRecorded    Code = "not_recorded"
	NotRecordedYet Code = "not_recorded_yet"
	NotAwaited     Code = "not_awaited"
	NotKept        Code = "not_kept" // the latch does not have the shut either
	NotDurable     Code = "not_durable"
	ShutHangs      Code = "shut_hangs"
	ShutStarts     Code = "shut_starts"
	ShutLater      Code = "shut_later"      // the latch has the shut
	ShutUntilBoot  Code = "shut_until_boot" // the latch has the shut until the next boot
	ShutForgotten  Code = "shut_forgotten"  // the latch does not have the shut
	NotReopened    Code = "not_reopened"
	ShutAgain      Code = "shut_again"
	ReloadWaits    Code = "reload_waits"
	RecoveryBusy   Code = "recovery_busy"
	LatchUnkept    Code = "latch_unkept" // the journal cannot be replaced meanwhile
	EverythingShut Code = "everything_shut"
	TunnelAnew     Code = "tunnel_anew"  // a policy has other tunnel addresses
	StaysShut      Code = "stays_shut"   // an engineer under another name
	LatchUnread    Code = "latch_unread" // why everything is shut: the latch cannot be read
	ShutLost       Code = "shut_lost"    // why everything is shut: the journal is damaged
	FirstPolicy    Code = "first_policy"
)

// Errors of the admin socket's client.
const (
	NoGateway    Code = "no_gateway"
	SocketDenied Code = "socket_denied"
	NoAnswer     Code = "no_answer"
	NoAnswerYet  Code = "no_answer_yet" // and a command may still take effect
)
