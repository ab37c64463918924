#compdef kidoban
# Generated from the commands of kidoban: `make generate` writes it anew.
local command=kidoban word
local -a offered
for word in "${(@)words[2,CURRENT-1]}"; do
	case "$command $word" in
	'kidoban run' | 'kidoban check' | 'kidoban diff' | 'kidoban explain' | 'kidoban calendar' | 'kidoban status' | 'kidoban sessions' | 'kidoban grants' | 'kidoban refusals' | 'kidoban request' | 'kidoban requests' | 'kidoban approve' | 'kidoban deny' | 'kidoban withdraw' | 'kidoban extend' | 'kidoban shorten' | 'kidoban revoke' | 'kidoban ratify' | 'kidoban review' | 'kidoban work-report' | 'kidoban report' | 'kidoban inspect' | 'kidoban inspect show' | 'kidoban inspect answer' | 'kidoban sample' | 'kidoban share' | 'kidoban share export' | 'kidoban share import' | 'kidoban incident' | 'kidoban incident open' | 'kidoban incident bundle' | 'kidoban incident sent' | 'kidoban incident close' | 'kidoban incident list' | 'kidoban verify-bundle' | 'kidoban close' | 'kidoban reopen' | 'kidoban reload' | 'kidoban recover' | 'kidoban client-config' | 'kidoban watch' | 'kidoban backup' | 'kidoban restore' | 'kidoban journal' | 'kidoban journal verify' | 'kidoban journal list' | 'kidoban journal copy' | 'kidoban journal prune' | 'kidoban journal key' | 'kidoban probe' | 'kidoban openapi' | 'kidoban office' | 'kidoban notify-test' | 'kidoban version') command+=" $word" ;;
	esac
done
case "$command|${words[CURRENT-1]}|${words[CURRENT]}" in
'kidoban'*'|--lang|'*) offered=('auto' 'en' 'ja') ;;
'kidoban|'*'|-'*) offered=('--help' '--lang') ;;
'kidoban|'*) offered=('run:Run the gateway; SIGHUP reads the policy file again, SIGTERM and SIGINT end it.' 'check:Check a policy file: errors, warnings, what it opens in the next 30 days.' 'diff:Compare two policy files, or one with the policy in force: what changes, opens and closes.' 'explain:Say whether an engineer may enter, and why or why not.' 'calendar:Show who can enter when, to what.' 'status:Show how the gateway stands.' 'sessions:Show who is inside.' 'grants:Show what is open.' 'refusals:Show who was refused, and why.' 'request:Record what a vendor asks for. It opens nothing until it is approved, but for an --emergency.' 'requests:Show the requests, or one of them in full.' 'approve:Approve a request, after a look at what it would open.' 'deny:Refuse a request for good.' 'withdraw:Take a request back before it is approved.' 'extend:Give an approved request a later end: the one that was asked for, if none is given.' 'shorten:Give an approved request an earlier end.' 'revoke:End an approved request now, for good.' 'ratify:Sign an emergency afterwards, or what its recorder approved.' 'review:Sign sessions, or a vendor'\''s month: checked against the plan, or confirmed by the officer in charge.' 'work-report:Record what a vendor says of its work.' 'report:Write the month of maintenance, for people to check, sign and keep: HTML, CSV, XLSX, JSON.' 'inspect:The self-inspection: controls that guidelines ask for, answered from the record and by persons.' 'sample:Draw sessions of a month, for an auditor to look into: a draw that anybody can repeat.' 'share:Share a policy without what is the site'\''s own, or begin with a shared one.' 'incident:Incidents: open, bundle what the journal proves, say what was sent, close.' 'verify-bundle:Verify a bundle of an incident, without a gateway.' 'close:Cut an engineer, a vendor or everything now, and keep it shut over restarts.' 'reopen:Take a close back.' 'reload:Read the policy file again.' 'recover:Lead out of doubt: accept the clock, begin a broken journal anew, rebuild the tunnel. Every session ends.' 'client-config:Print what an engineer pastes into a WireGuard client.' 'watch:Follow what the gateway does: one line for each entry of the journal, until Ctrl-C.' 'backup:Write policy, keys, journal and closes into one encrypted file; the gateway may run.' 'restore:Put a backup back, while the gateway is stopped.' 'journal:Verify or list the journal, or print its verifier key.' 'probe:Try on this machine, in networks of its own, whether the gate keeps its promises with the policy in force.' 'openapi:Print the OpenAPI document of the admin socket.' 'office:Deliver notices to the sinks of the policy: a process beside run.' 'notify-test:Send a test notice to a sink of the policy, now and from here.' 'version:Print the version.') ;;
'kidoban run|'*'|-'*) offered=('--help' '--lang') ;;
'kidoban check|'*'|-'*) offered=('--help' '--lang' '--json') ;;
'kidoban diff|'*'|-'*) offered=('--help' '--lang' '--json') ;;
'kidoban explain|'*'|-'*) offered=('--help' '--lang' '--json' '--from' '--line' '--to' '--at') ;;
'kidoban calendar|'*'|-'*) offered=('--help' '--lang' '--json' '--from' '--until' '--vendor' '--engineer') ;;
'kidoban status|'*'|-'*) offered=('--help' '--lang' '--json') ;;
'kidoban sessions|'*'|-'*) offered=('--help' '--lang' '--json') ;;
'kidoban grants|'*'|-'*) offered=('--help' '--lang' '--json') ;;
'kidoban refusals|'*'|-'*) offered=('--help' '--lang' '--json') ;;
'kidoban request|'*'|-'*) offered=('--help' '--lang' '--json' '--yes' '--engineers' '--targets' '--for' '--until' '--from' '--purpose' '--ticket' '--source' '--emergency') ;;
'kidoban requests|'*'|-'*) offered=('--help' '--lang' '--json' '--state' '--vendor') ;;
'kidoban approve|'*'|-'*) offered=('--help' '--lang' '--json' '--yes' '--digest') ;;
'kidoban deny|'*'|-'*) offered=('--help' '--lang' '--json' '--reason') ;;
'kidoban withdraw|'*'|-'*) offered=('--help' '--lang' '--json' '--reason') ;;
'kidoban extend|'*'|-'*) offered=('--help' '--lang' '--json' '--yes' '--digest' '--for' '--until' '--reason') ;;
'kidoban shorten|'*'|-'*) offered=('--help' '--lang' '--json' '--until' '--reason') ;;
'kidoban revoke|'*'|-'*) offered=('--help' '--lang' '--json' '--reason') ;;
'kidoban ratify|'*'|-'*) offered=('--help' '--lang' '--json' '--yes' '--digest' '--finding') ;;
'kidoban review'*'|--as|'*) offered=('checked' 'confirmed') ;;
'kidoban review|'*'|-'*) offered=('--help' '--lang' '--json' '--yes' '--month' '--vendor' '--as' '--for' '--note' '--explain') ;;
'kidoban work-report'*'|--personal-data|'*) offered=('yes' 'no') ;;
'kidoban work-report|'*'|-'*) offered=('--help' '--lang' '--json' '--sessions' '--from' '--until' '--text' '--targets' '--personal-data' '--files' '--present') ;;
'kidoban report|'*'|-'*) offered=('--help' '--lang' '--json' '--month' '--vendor' '--journal' '--key' '--witness' '--out') ;;
'kidoban inspect|'*'|-'*) offered=('--help' '--lang') ;;
'kidoban inspect|'*) offered=('show:Answer the controls that guidelines ask for: here, as forms, as OSCAL. The word show may be left out.' 'answer:Record the answer of a person to a control.') ;;
'kidoban inspect show'*'|--order|'*) offered=('cl-r7' 'mic' 'nist' 'catalogue') ;;
'kidoban inspect show|'*'|-'*) offered=('--help' '--lang' '--json' '--journal' '--key' '--witness' '--order' '--vendor' '--tier' '--out' '--oscal') ;;
'kidoban inspect answer|'*'|-'*) offered=('--help' '--lang' '--json' '--text' '--target-date' '--until' '--for' '--vendor') ;;
'kidoban sample|'*'|-'*) offered=('--help' '--lang' '--json' '--month' '--vendor' '--journal' '--key' '--witness' '--n' '--seed') ;;
'kidoban share|'*'|-'*) offered=('--help' '--lang') ;;
'kidoban share|'*) offered=('export:Write a policy without names, keys, dates and addresses of its own, which can be shown to others.' 'import:Make a template for a policy of a shared one: REPLACE stands wherever a site writes its own.') ;;
'kidoban share export|'*'|-'*) offered=('--help' '--lang' '--map' '--story' '--report' '--out') ;;
'kidoban share import|'*'|-'*) offered=('--help' '--lang' '--out') ;;
'kidoban incident|'*'|-'*) offered=('--help' '--lang') ;;
'kidoban incident|'*) offered=('open:Open an incident; its id is printed.' 'bundle:Make the file that goes to those who must know: what the journal says of a span of time, with proofs.' 'sent:Record that a report or a bundle went to somebody.' 'close:Close an incident.' 'list:List the incidents, and what was sent.') ;;
'kidoban incident open|'*'|-'*) offered=('--help' '--lang' '--json' '--reason' '--exercise') ;;
'kidoban incident bundle'*'|--redact|'*) offered=('people' 'none') ;;
'kidoban incident bundle|'*'|-'*) offered=('--help' '--lang' '--json' '--from' '--until' '--out' '--redact' '--journal' '--key' '--witness') ;;
'kidoban incident sent|'*'|-'*) offered=('--help' '--lang' '--json' '--id' '--at' '--how') ;;
'kidoban incident close|'*'|-'*) offered=('--help' '--lang' '--json' '--reason') ;;
'kidoban incident list|'*'|-'*) offered=('--help' '--lang' '--json') ;;
'kidoban verify-bundle|'*'|-'*) offered=('--help' '--lang' '--json' '--key') ;;
'kidoban close|'*'|-'*) offered=('--help' '--lang' '--json' '--all' '--reason') ;;
'kidoban reopen|'*'|-'*) offered=('--help' '--lang' '--json' '--all' '--reason') ;;
'kidoban reload|'*'|-'*) offered=('--help' '--lang' '--json') ;;
'kidoban recover|'*'|-'*) offered=('--help' '--lang' '--json' '--reason') ;;
'kidoban client-config|'*'|-'*) offered=('--help' '--lang' '--json' '--mtu') ;;
'kidoban watch|'*'|-'*) offered=('--help' '--lang' '--json' '--kinds') ;;
'kidoban backup|'*'|-'*) offered=('--help' '--lang' '--json' '--out' '--to' '--recipients-file') ;;
'kidoban restore|'*'|-'*) offered=('--help' '--lang' '--json' '--yes' '--from' '--identity' '--dry-run' '--roll-back-journal' '--reason' '--continue') ;;
'kidoban journal|'*'|-'*) offered=('--help' '--lang') ;;
'kidoban journal|'*) offered=('verify:Verify the journal, or a copy of it.' 'list:List the entries.' 'copy:Bring a copy of the journal elsewhere up to date; it verifies also if this is interrupted.' 'prune:Take old entries out of the journal, while the gateway is stopped.' 'key:Print the verifier key, with which anyone can verify a copy.') ;;
'kidoban journal verify|'*'|-'*) offered=('--help' '--lang' '--json' '--key' '--since' '--witness') ;;
'kidoban journal list|'*'|-'*) offered=('--help' '--lang' '--json' '--since' '--until' '--kind' '--vendor') ;;
'kidoban journal copy|'*'|-'*) offered=('--help' '--lang' '--json' '--journal' '--key') ;;
'kidoban journal prune|'*'|-'*) offered=('--help' '--lang' '--json' '--yes' '--before' '--to' '--delete') ;;
'kidoban journal key|'*'|-'*) offered=('--help' '--lang' '--json') ;;
'kidoban probe|'*'|-'*) offered=('--help' '--lang' '--json' '--policy') ;;
'kidoban openapi|'*'|-'*) offered=('--help' '--lang') ;;
'kidoban office|'*'|-'*) offered=('--help' '--lang') ;;
'kidoban notify-test|'*'|-'*) offered=('--help' '--lang' '--json') ;;
'kidoban version|'*'|-'*) offered=('--help' '--lang' '--json') ;;
esac
if (( ${#offered} )); then
	_describe kidoban offered
else
	_files
fi
