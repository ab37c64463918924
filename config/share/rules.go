package share

import "regexp"

// kind is how a value is shared.
type kind uint8

const (
	dropped  kind = iota // it is left out
	left                 // it stays; pattern says how it looks
	replaced             // REPLACE
	post                 // it stays if it is a known post, else REPLACE
	month                // a date: months after the first one
	moment               // the field once: month, time of day and length
	address              // an address or a prefix, mapped
	inside               // an address with the length of its network, mapped
	name                 // a name, given anew
	day                  // a weekday, or the name of a calendar
	listed               // each item by the rule item
	mapping              // each field by its rule
	names                // as mapping, with names of kind of as keys
)

// rule is how one field of the policy file is shared.
type rule struct {
	kind    kind
	of      string // of name and names
	pattern *regexp.Regexp
	fields  map[string]rule
	item    *rule
}

var (
	flag     = word(`true|false`)
	count    = word(`\d{1,3}`)
	duration = word(`(\d{1,4}d)?(\d{1,5}h)?(\d{1,6}m)?(\d{1,7}s)?`)
	clock    = word(`\d\d:\d\d(:\d\d)?`)
	service  = word(`icmp|(tcp|udp)/\d{1,5}(-\d{1,5})?`)
	right    = word(`record|approve|ratify|review`)
	country  = word(`[A-Z]{2}`)
	zone     = word(`UTC|[A-Z][A-Za-z]+(/[A-Z][A-Za-z_+-]+)+`)
	rrule    = word(`(?i)((^|;)(FREQ|INTERVAL|WKST|BYDAY|BYMONTH|BYMONTHDAY|BYYEARDAY|BYSETPOS|BYHOUR|BYMINUTE|BYSECOND)=` +
		`(DAILY|WEEKLY|MONTHLY|YEARLY|[0-9,+-]+|[0-9+-]*(SU|MO|TU|WE|TH|FR|SA)(,[0-9+-]*(SU|MO|TU|WE|TH|FR|SA))*))+`)
)

func word(pattern string) rule {
	return rule{kind: left, pattern: regexp.MustCompile(`^(` + pattern + `)$`)}
}

func all(item rule) rule { return rule{kind: listed, item: &item} }

func ref(of string) rule { return all(rule{kind: name, of: of}) }

func with(fields map[string]rule) rule { return rule{kind: mapping, fields: fields} }

func each(of string, fields map[string]rule) rule {
	return rule{kind: names, of: of, fields: fields}
}

// policyRules has a rule for every field that is shared.
var policyRules = with(map[string]rule{
	"version":    word(`1`),
	"site":       {kind: replaced},
	"timezone":   zone,
	"tunnel":     with(map[string]rule{"addresses": all(rule{kind: inside}), "endpoint": {kind: replaced}}),
	"calendars":  each("calendar", map[string]rule{"country": country, "dates": all(rule{kind: replaced})}),
	"zones":      each("zone", map[string]rule{"prefixes": all(rule{kind: address})}),
	"targets":    each("target", map[string]rule{"address": {kind: address}, "ports": all(service), "masquerade": flag, "role": word(`[a-z0-9-]+`)}),
	"lines":      each("line", map[string]rule{"interface": {kind: replaced}, "kind": word(`leased|ip-vpn|virtual|internet`), "plain": flag}),
	"operators":  each("operator", map[string]rule{"user": {kind: replaced}, "may": all(right)}),
	"reopen_all": with(map[string]rule{"approvals": count}),
	"review":     with(map[string]rule{"within": duration, "confirm_within": duration, "distinct": flag}),
	"vendors": each("vendor", map[string]rule{
		"under":   {kind: name, of: "vendor"},
		"consent": with(map[string]rule{"by": {kind: replaced}, "date": {kind: month}, "until": {kind: month}}),
		"contract": with(map[string]rule{"until": {kind: month}, "certificates": all(with(map[string]rule{
			"kind": {kind: replaced}, "until": {kind: month}}))}),
		"sources": all(rule{kind: address}),
		"line":    {kind: name, of: "line"},
		"engineers": each("engineer", map[string]rule{"public_key": {kind: replaced}, "addresses": all(rule{kind: address}),
			"sources": all(rule{kind: address})}),
		"windows": each("window", map[string]rule{
			"rrule": rrule, "at": clock, "duration": duration, "days": all(rule{kind: day}), "from": clock, "to": clock, "once": {kind: moment},
			"valid": valid, "except": ref("calendar"), "targets": ref("target"), "engineers": ref("engineer"),
			"approved_by": {kind: post}, "grace": duration}),
		"on_request": with(map[string]rule{
			"targets": ref("target"), "engineers": ref("engineer"), "valid": valid, "approvals": count, "approvers": ref("operator"),
			"self_approval": flag, "max_duration": duration, "max_total": duration, "ahead": duration, "undecided": duration, "grace": duration,
			"one_time_source": with(map[string]rule{"within": all(rule{kind: address})}),
			"emergency":       with(map[string]rule{"max_duration": duration, "ratify_within": duration, "ratifiers": ref("operator")})}),
	}),
})

var valid = with(map[string]rule{"from": {kind: month}, "until": {kind: month}})
