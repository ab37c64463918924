package api

import (
	"net/http"

	"kidoban/gateway"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
	"kidoban/gateway/view"
)

// officeStreams bounds the streams of the office: one for each sink.
const officeStreams = 32

// Office serves the process that delivers notices. Its routes read, and take its reports: the
// office decides about nothing.
func Office(g *gateway.Gateway, entries *store.Feed, reports *Reports, who func(*http.Request) (policy.Actor, error)) *Handler {
	return &Handler{Gateway: g, Who: who, Entries: entries, Reports: reports, table: officeRoutes(), streamsMost: officeStreams}
}

// officeRoutes are all paths of the office's socket.
func officeRoutes() map[string]route {
	return map[string]route{
		"/v1/status":          routes["/v1/status"],
		"/v1/requests":        routes["/v1/requests"],
		"/v1/events":          routes["/v1/events"],
		"/v1/office/notify":   routes["/v1/notify"],
		"/v1/office/notified": command(checkNotified, takeReport).upTo(longMost),
	}
}

// settings says where notices go.
func settings(r request, p *policy.Policy) (view.Notify, error) { return r.Reports.settings(p), nil }

func takeReport(r request, n view.Notified) (struct{}, error) {
	r.Reports.take(n)
	return struct{}{}, nil
}

// Bounds of a report.
const (
	sinksMost = 64   // names; a policy that was just loaded may have others
	causeMost = 1000 // bytes of an error
)

// checkNotified refuses a report that is too large, or counts below zero.
func checkNotified(n view.Notified) error {
	if n.Sinks == nil {
		return invalid(`no sinks: allowed is {"sinks": {"name": {"cursor": 0, "delivered": 0, "failed": 0, "skipped": 0}}}`)
	}
	if len(n.Sinks) > sinksMost {
		return invalid("the report has %d sinks: allowed are %d", len(n.Sinks), sinksMost)
	}
	for name, s := range n.Sinks {
		switch {
		case name == "" || len(name) > 63:
			return invalid("the sink's name has %d bytes: allowed is 1 to 63", len(name))
		case s.Cursor < 0 || s.Delivered < 0 || s.Failed < 0 || s.Skipped < 0:
			return invalid("the sink %q has a number below 0: allowed is 0 or more", name)
		case len(s.LastError) > causeMost:
			return invalid("the last_error of %q has %d bytes: allowed are %d", name, len(s.LastError), causeMost)
		}
	}
	return nil
}
