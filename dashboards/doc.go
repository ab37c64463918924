// Package dashboards has three Grafana dashboards, the alert rules of Prometheus,
// and the configuration of both for a trial.
//
//	gate.go       the sessions and the refusals
//	vendor.go     one vendor: sessions, hours, engineers, contract
//	appliance.go  the machine: enforcement lag, journal, ruleset, clock, load
//	build.go      makes panels and places them on the grid
//	schema.go     the part of Grafana's classic dashboard schema that is used
//	words.yaml    the texts of panels, values of metrics and alerts
//	words.go      reads them
//	rules/        recording rules and alerts, with promtool's tests
//	grafana/      provisioning: datasource, folders
//	*.json, ja/   the dashboards as Grafana reads them, English and Japanese
//
// Every text is there in both languages. The JSON files are generated, and a test
// compares them with the source:
//
//	go test ./dashboards -run TestFiles -update
//
// The description of a panel is its question with the meaning of the answer.
// Every colour comes with a word: blue is normal, orange needs a look.
package dashboards
