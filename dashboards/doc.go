// Package dashboards holds what operators look at: three Grafana dashboards,
// the rules by which Prometheus wakes them, and what brings both up for a
// trial.
//
//	gate.go       who is inside, until when; who tried and failed, and why
//	vendor.go     one vendor: sessions, hours, engineers, contract
//	appliance.go  the machine: enforcement lag, journal, ruleset, clock, load
//	build.go      panels from a few words each, laid out on the grid
//	schema.go     the part of Grafana's classic dashboard schema that is used
//	print.go      a dashboard's questions and answers as text
//	reasons.go    the gateway's words, and the alerts', in both languages
//	rules/        recording rules and alerts, with promtool's tests
//	grafana/      provisioning: datasource, folders
//	*.json, ja/   the dashboards as Grafana reads them, English and Japanese
//
// Title, description and name of every panel are written once, in both
// languages side by side, so that the sets cannot drift apart. The JSON files
// are generated and held against the source by a test:
//
//	go test ./dashboards -run TestFiles -update
//
// A panel answers a question, and its description is that question with what
// the answer means. Nothing rests on colour alone: blue is as it should be,
// orange wants a look, and every such value says so in words too.
package dashboards
