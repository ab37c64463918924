// Package dashboards has three Grafana dashboards, the alert rules of Prometheus,
// and the configuration of both for a trial. It has files and their tests only.
//
// The tests make the dashboards, in both languages: gate_test.go, vendor_test.go and
// appliance_test.go have the panels, words.yaml the texts, and build_test.go places the
// panels on the grid. The JSON files are generated, and a test compares them with the
// source:
//
//	go test ./dashboards -run TestFiles -update
//
// grafana/ and rules/ are for Grafana and Prometheus as they are.
//
// The description of a panel is its question with the meaning of the answer.
// Every colour comes with a word: blue is normal, orange needs a look.
package dashboards
