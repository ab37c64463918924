# Generated from the commands of kidoban: `make generate` writes it anew.
_kidoban() {
	local command=kidoban word offered=
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		case "$command $word" in
		'kidoban run' | 'kidoban check' | 'kidoban diff' | 'kidoban explain' | 'kidoban calendar' | 'kidoban status' | 'kidoban sessions' | 'kidoban grants' | 'kidoban refusals' | 'kidoban request' | 'kidoban requests' | 'kidoban approve' | 'kidoban deny' | 'kidoban withdraw' | 'kidoban extend' | 'kidoban shorten' | 'kidoban revoke' | 'kidoban ratify' | 'kidoban review' | 'kidoban work-report' | 'kidoban report' | 'kidoban inspect' | 'kidoban inspect show' | 'kidoban inspect answer' | 'kidoban sample' | 'kidoban share' | 'kidoban share export' | 'kidoban share import' | 'kidoban incident' | 'kidoban incident open' | 'kidoban incident bundle' | 'kidoban incident sent' | 'kidoban incident close' | 'kidoban incident list' | 'kidoban verify-bundle' | 'kidoban close' | 'kidoban reopen' | 'kidoban reload' | 'kidoban recover' | 'kidoban client-config' | 'kidoban watch' | 'kidoban backup' | 'kidoban restore' | 'kidoban journal' | 'kidoban journal verify' | 'kidoban journal list' | 'kidoban journal copy' | 'kidoban journal prune' | 'kidoban journal key' | 'kidoban probe' | 'kidoban openapi' | 'kidoban office' | 'kidoban notify-test' | 'kidoban version') command+=" $word" ;;
		esac
	done
	word=${COMP_WORDS[COMP_CWORD]}
	case "$command|${COMP_WORDS[COMP_CWORD-1]}|$word" in
	'kidoban'*'|--lang|'*) offered='auto en ja' ;;
	'kidoban|'*'|-'*) offered='--help --lang' ;;
	'kidoban|'*) offered='run check diff explain calendar status sessions grants refusals request requests approve deny withdraw extend shorten revoke ratify review work-report report inspect sample share incident verify-bundle close reopen reload recover client-config watch backup restore journal probe openapi office notify-test version' ;;
	'kidoban run|'*'|-'*) offered='--help --lang' ;;
	'kidoban check|'*'|-'*) offered='--help --lang --json' ;;
	'kidoban diff|'*'|-'*) offered='--help --lang --json' ;;
	'kidoban explain|'*'|-'*) offered='--help --lang --json --from --line --to --at' ;;
	'kidoban calendar|'*'|-'*) offered='--help --lang --json --from --until --vendor --engineer' ;;
	'kidoban status|'*'|-'*) offered='--help --lang --json' ;;
	'kidoban sessions|'*'|-'*) offered='--help --lang --json' ;;
	'kidoban grants|'*'|-'*) offered='--help --lang --json' ;;
	'kidoban refusals|'*'|-'*) offered='--help --lang --json' ;;
	'kidoban request|'*'|-'*) offered='--help --lang --json --yes --engineers --targets --for --until --from --purpose --ticket --source --emergency' ;;
	'kidoban requests|'*'|-'*) offered='--help --lang --json --state --vendor' ;;
	'kidoban approve|'*'|-'*) offered='--help --lang --json --yes --digest' ;;
	'kidoban deny|'*'|-'*) offered='--help --lang --json --reason' ;;
	'kidoban withdraw|'*'|-'*) offered='--help --lang --json --reason' ;;
	'kidoban extend|'*'|-'*) offered='--help --lang --json --yes --digest --for --until --reason' ;;
	'kidoban shorten|'*'|-'*) offered='--help --lang --json --until --reason' ;;
	'kidoban revoke|'*'|-'*) offered='--help --lang --json --reason' ;;
	'kidoban ratify|'*'|-'*) offered='--help --lang --json --yes --digest --finding' ;;
	'kidoban review'*'|--as|'*) offered='checked confirmed' ;;
	'kidoban review|'*'|-'*) offered='--help --lang --json --yes --month --vendor --as --for --note --explain' ;;
	'kidoban work-report'*'|--personal-data|'*) offered='yes no' ;;
	'kidoban work-report|'*'|-'*) offered='--help --lang --json --sessions --from --until --text --targets --personal-data --files --present' ;;
	'kidoban report|'*'|-'*) offered='--help --lang --json --month --vendor --journal --key --witness --out' ;;
	'kidoban inspect|'*'|-'*) offered='--help --lang' ;;
	'kidoban inspect|'*) offered='show answer' ;;
	'kidoban inspect show'*'|--order|'*) offered='cl-r7 mic nist catalogue' ;;
	'kidoban inspect show|'*'|-'*) offered='--help --lang --json --journal --key --witness --order --vendor --tier --out --oscal' ;;
	'kidoban inspect answer|'*'|-'*) offered='--help --lang --json --text --target-date --until --for --vendor' ;;
	'kidoban sample|'*'|-'*) offered='--help --lang --json --month --vendor --journal --key --witness --n --seed' ;;
	'kidoban share|'*'|-'*) offered='--help --lang' ;;
	'kidoban share|'*) offered='export import' ;;
	'kidoban share export|'*'|-'*) offered='--help --lang --map --story --report --out' ;;
	'kidoban share import|'*'|-'*) offered='--help --lang --out' ;;
	'kidoban incident|'*'|-'*) offered='--help --lang' ;;
	'kidoban incident|'*) offered='open bundle sent close list' ;;
	'kidoban incident open|'*'|-'*) offered='--help --lang --json --reason --exercise' ;;
	'kidoban incident bundle'*'|--redact|'*) offered='people none' ;;
	'kidoban incident bundle|'*'|-'*) offered='--help --lang --json --from --until --out --redact --journal --key --witness' ;;
	'kidoban incident sent|'*'|-'*) offered='--help --lang --json --id --at --how' ;;
	'kidoban incident close|'*'|-'*) offered='--help --lang --json --reason' ;;
	'kidoban incident list|'*'|-'*) offered='--help --lang --json' ;;
	'kidoban verify-bundle|'*'|-'*) offered='--help --lang --json --key' ;;
	'kidoban close|'*'|-'*) offered='--help --lang --json --all --reason' ;;
	'kidoban reopen|'*'|-'*) offered='--help --lang --json --all --reason' ;;
	'kidoban reload|'*'|-'*) offered='--help --lang --json' ;;
	'kidoban recover|'*'|-'*) offered='--help --lang --json --reason' ;;
	'kidoban client-config|'*'|-'*) offered='--help --lang --json --mtu' ;;
	'kidoban watch|'*'|-'*) offered='--help --lang --json --kinds' ;;
	'kidoban backup|'*'|-'*) offered='--help --lang --json --out --to --recipients-file' ;;
	'kidoban restore|'*'|-'*) offered='--help --lang --json --yes --from --identity --dry-run --roll-back-journal --reason --continue' ;;
	'kidoban journal|'*'|-'*) offered='--help --lang' ;;
	'kidoban journal|'*) offered='verify list copy prune key' ;;
	'kidoban journal verify|'*'|-'*) offered='--help --lang --json --key --since --witness' ;;
	'kidoban journal list|'*'|-'*) offered='--help --lang --json --since --until --kind --vendor' ;;
	'kidoban journal copy|'*'|-'*) offered='--help --lang --json --journal --key' ;;
	'kidoban journal prune|'*'|-'*) offered='--help --lang --json --yes --before --to --delete' ;;
	'kidoban journal key|'*'|-'*) offered='--help --lang --json' ;;
	'kidoban probe|'*'|-'*) offered='--help --lang --json --policy' ;;
	'kidoban openapi|'*'|-'*) offered='--help --lang' ;;
	'kidoban office|'*'|-'*) offered='--help --lang' ;;
	'kidoban notify-test|'*'|-'*) offered='--help --lang --json' ;;
	'kidoban version|'*'|-'*) offered='--help --lang --json' ;;
	esac
	COMPREPLY=($(compgen -W "$offered" -- "$word"))
}
complete -o default -F _kidoban kidoban
