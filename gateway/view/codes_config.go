package view

// Warnings of a policy file. Each has the arguments file, line, column and
// where (the keys that lead to the place, as in vendors.medisys.sources).
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
