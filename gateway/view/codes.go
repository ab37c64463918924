package view

// Doubts.
const (
	Begins           Code = "starting"          // the loop has not turned yet
	Stops            Code = "stopping"          // the gateway was told to stop
	LoopStuck        Code = "loop_stuck"        // the loop does not turn
	LoopStuckInside  Code = "loop_stuck_inside" // the same, with open sessions
	ClockUnsettled   Code = "clock_unsettled"   // the machine has just booted
	ClockBack        Code = "clock_back"        // the wall clock went back
	JournalClosed    Code = "journal_closed"    // the journal does not open
	JournalLost      Code = "journal_lost"      // the same, and not all that is shut is known
	JournalUnwritten Code = "journal_unwritten" // the journal cannot be written
	NoPolicy         Code = "no_policy"         // no policy is in force, and why
	NoPolicyYet      Code = "no_policy_yet"     // no policy was ever loaded
	TunnelRefused    Code = "tunnel_refused"    // the tunnel did not take the plan
	TunnelFailed     Code = "tunnel_failed"     // the tunnel failed by itself
	TunnelUnbuilt    Code = "tunnel_unbuilt"    // a recovery could not build the tunnel
	RulesetWrong     Code = "ruleset_wrong"     // the ruleset cannot be set, or reads back wrong
	RulesetUnopened  Code = "ruleset_unopened"  // the same, after an opening
	RulesetUnknown   Code = "ruleset_unknown"   // the kernel does not answer
)

// Hints.
const (
	FileWrong         Code = "file_wrong"           // the policy file has errors
	FileChanged       Code = "file_changed"         // the policy file is not in force
	ClockUnsynced     Code = "clock_unsynchronized" // the kernel does not discipline the clock
	DiskSlow          Code = "disk_slow"            // new handshakes are refused
	KernelSlow        Code = "kernel_slow"          // the ruleset waits
	KernelSlowOut     Code = "kernel_slow_out"      // the same, and engineers are kept out
	Unanswered        Code = "unanswered"           // an engineer sends, and nothing comes back
	UnansweredRefused Code = "unanswered_refused"   // the same, and flows were refused
	SourcesHidden     Code = "sources_hidden"       // a NAT in front rewrites sources
	Excess            Code = "excess"               // an engineer is at the bound of flows
	ExcessOthers      Code = "excess_others"        // more engineers are
	NoRoute           Code = "no_route"             // to targets
	RouteAstrayOnly   Code = "route_astray_only"    // targets are reached by the default route alone
	RouteAstray       Code = "route_astray"         // no route to targets counts
	RouteUnnamed      Code = "route_unnamed"        // the route's interface is not named in the settings
	InsideMissing     Code = "inside_missing"       // the settings name an interface that is not there
	RoutesUnread      Code = "routes_unread"        // the routes cannot be read
	NoIPv6            Code = "no_ipv6"              // forwarding of IPv6 cannot be enabled
	Rewritten         Code = "rewritten"            // DNAT changes engineers' flows
	RewrittenBy       Code = "rewritten_by"         // the same, with the chains that may do it
	Sidetracked       Code = "sidetracked"          // flows leave by a wrong interface
	Unshown           Code = "unshown"              // wg show has no socket
)

// Parts of other messages.
const (
	DiskSilent    Code = "disk_silent"  // cause: the disk does not answer
	RoutePart     Code = "route_part"   // a part of the targets
	TargetsMore   Code = "targets_more" // some targets and a number of others
	RouteNotNamed Code = "route_not_named"
	RouteTold     Code = "route_told"
	RouteBeside   Code = "route_beside"
	RouteDefault  Code = "route_default"
)

// Details of an explanation.
const (
	SourcesListed   Code = "sources_listed"   // the sources that the engineer may come from
	OpenUntil       Code = "open_until"       // a window is open, until a time
	ContractOver    Code = "contract_over"    // since when
	TargetsOpen     Code = "targets_open"     // the targets that are open then
	TargetsNone     Code = "targets_none"     // none is
	NoFamily        Code = "no_family"        // the engineer has no tunnel address of the family
	ShutBy          Code = "shut_by"          // the operator, the time and the reason
	ShutAs          Code = "shut_as"          // the same, under an earlier name
	InsideElsewhere Code = "inside_elsewhere" // the open session has another source
)

// Output of the commands.
const (
	SayReady        Code = "say_ready"
	SayNotReady     Code = "say_not_ready"
	SayShut         Code = "say_shut"
	SayFileOK       Code = "say_file_ok"
	SayFileWrong    Code = "say_file_wrong"
	SayPolicy       Code = "say_policy"      // digest, time of loading, state of the file
	SayShutBy       Code = "say_shut_by"     // scope, actor, time, reason
	SayShutByKey    Code = "say_shut_by_key" // engineer and scope
	SayHint         Code = "say_hint"
	SayWarning      Code = "say_warning"
	SayMoreWarnings Code = "say_more_warnings"
	SayGrants       Code = "say_grants" // how many are open
	SayGrant        Code = "say_grant"  // one is open
	SayNoGrants     Code = "say_no_grants"
	SaySessions     Code = "say_sessions" // how many are inside
	SaySession      Code = "say_session"  // one is inside
	SayNoSessions   Code = "say_no_sessions"
	SayNobodyInside Code = "say_nobody_inside"
	SayNothingOpen  Code = "say_nothing_open"
	SayNoRefusals   Code = "say_no_refusals"
	SayAgo          Code = "say_ago"
	SaySummed       Code = "say_summed" // the meaning of the reason "summed"
	SayNamesMore    Code = "say_names_more"
	SayAdmit        Code = "say_admit"
	SayRefuse       Code = "say_refuse"
	SayAnySource    Code = "say_any_source"
	SayTunnel       Code = "say_tunnel" // no destination was asked about
	SayNoOpening    Code = "say_no_opening"

	LabelNow        Code = "label_now"
	LabelNextChange Code = "label_next_change"
	LabelPolicy     Code = "label_policy"
	LabelShut       Code = "label_shut"
	LabelEngineer   Code = "label_engineer"
	LabelSource     Code = "label_source"
	LabelSince      Code = "label_since"
	LabelUntil      Code = "label_until"
	LabelReceived   Code = "label_received"
	LabelSent       Code = "label_sent"
	LabelHandshake  Code = "label_handshake"
	LabelSession    Code = "label_session"
	LabelWindow     Code = "label_window"
	LabelBegin      Code = "label_begin" // of a grant
	LabelTargets    Code = "label_targets"
	LabelSources    Code = "label_sources"
	LabelLast       Code = "label_last"
	LabelFirst      Code = "label_first"
	LabelCount      Code = "label_count"
	LabelReason     Code = "label_reason"
	LabelWho        Code = "label_who"
	LabelTo         Code = "label_to"

	// Lines of an explanation.
	LabelOf          Code = "label_of"
	LabelFrom        Code = "label_from"
	LabelToward      Code = "label_toward"
	LabelAt          Code = "label_at"
	LabelGrant       Code = "label_grant"
	LabelEnd         Code = "label_end"
	LabelNextOpening Code = "label_next_opening"
)
