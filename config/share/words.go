package share

import "strings"

// roles are the roles of targets that a shared policy names; another one is told as target.
var roles = listOf(`ehr his emr pacs ris lis rehab pharmacy meal nursing dental reception appointment billing claims dialysis endoscopy
	payroll accounting hr residents tax welfare pension school library mynumber lgwan tax-declaration
	firewall router switch hypervisor backup storage nas db database app web mail dns ad file print camera hvac elevator bas plc scada
	monitoring jump proxy vpn erp mes robot`)

// zoneNames are the names of zones that a shared policy keeps.
var zoneNames = listOf("mynumber lgwan internet medical dmz office ot guest backup management")

// posts are the posts whose approval a shared policy names.
var posts = map[string]bool{}

func init() {
	for _, p := range strings.Fields(`市長 副市長 町長 副町長 村長 副村長 院長 副院長 事務長 事務部長 総務部長 総務課長 情報システム部長 情報システム課長 情報システム室長
		情報政策課長 情報推進課長 情報管理課長 デジタル推進課長 DX推進課長 医療情報部長 医療情報課長 医療情報室長 医療情報管理室長 医事課長 企画管理者 システム管理者
		情報セキュリティ責任者 統括情報セキュリティ責任者 最高情報セキュリティ責任者 部長 課長 室長 係長 CISO CIO CTO CEO Mayor Director`) {
		posts[p] = true
	}
	for _, p := range []string{"Head of IT", "IT manager", "Head of department", "Head of administration", "Deputy CISO"} {
		posts[p] = true
	}
}

// language are the words of the policy file and of a shared policy, which tell nothing.
var language = listOf(`version site contact timezone tunnel addresses address endpoint calendars calendar country dates zones zone prefixes targets
	target ports masquerade role operators operator user record approve ratify review reopen_all reopen approvals vendors vendor name under
	consent date until document contract certificates kind number sources source engineers engineer public_key public windows window rrule days
	from duration once valid except approved_by approved ticket grace on_request request approvers approver self_approval self
	max_duration max_total total ahead undecided one_time_source time within emergency ratify_within ratifiers notify webhook true false
	lines line interface leased virtual provider plain phone preshared_key_file preshared confirm_within confirm distinct icmp daily weekly monthly yearly freq interval byday bymonth
	bymonthday bysetpos replace month lasts story purpose went_wrong went wrong clause usage sessions hours over kidoban_share kidoban policy`)

func listOf(words string) map[string]bool {
	all := map[string]bool{}
	for _, w := range strings.Fields(words) {
		all[w] = true
	}
	return all
}
