package view

// Outcomes of operators' commands.
const (
	NothingDone    Code = "nothing_done"     // the loop did not take the command
	ReasonLong     Code = "reason_long"      // the reason has too many bytes
	NotApplied     Code = "not_applied"      // the kernel's ruleset is not set
	NotAppliedYet  Code = "not_applied_yet"  // nor refused
	NotRecorded    Code = "not_recorded"     // the entry is not on disk
	NotRecordedYet Code = "not_recorded_yet" // nor refused
	NotAwaited     Code = "not_awaited"      // the one who asked went away
	NotKept        Code = "not_kept"         // the latch does not have the shut either
	NotDurable     Code = "not_durable"      // in time
	ShutHangs      Code = "shut_hangs"       // the loop hangs
	ShutStarts     Code = "shut_starts"      // the gateway still starts
	ShutLater      Code = "shut_later"       // the latch has the shut
	ShutUntilBoot  Code = "shut_until_boot"  // the latch has the shut until the next boot
	ShutForgotten  Code = "shut_forgotten"   // the latch does not have the shut
	NotReopened    Code = "not_reopened"     // the journal is in doubt
	ShutAgain      Code = "shut_again"       // a shut overtook a reopening
	ReloadWaits    Code = "reload_waits"     // the policy file is being read
	RecoveryBusy   Code = "recovery_busy"    // another recovery is under way
	LatchUnkept    Code = "latch_unkept"     // the journal cannot be replaced meanwhile
	EverythingShut Code = "everything_shut"  // the journal was damaged
	TunnelAnew     Code = "tunnel_anew"      // a policy has other tunnel addresses
	StaysShut      Code = "stays_shut"       // an engineer under another name
	LatchUnread    Code = "latch_unread"     // why everything is shut: the latch cannot be read
	ShutLost       Code = "shut_lost"        // why everything is shut: the journal is damaged
)
