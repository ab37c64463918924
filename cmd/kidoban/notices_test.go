package main

import (
	"encoding/json"
	"strings"
	"testing"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/view"
)

// TestNotifyTest: a sink that is not there is answered with those that are, and a receiver that
// does not take the notice with the cause, without the URL's path.
func TestNotifyTest(t *testing.T) {
	sinks := view.Notify{Site: "Kido Hospital", Timezone: "Asia/Tokyo", Sinks: []view.Sink{
		{Name: "siem", Webhook: "https://127.0.0.1:9/hidden-path", Language: view.English}, {Name: "team", Webhook: "https://127.0.0.1:9/x", Language: view.Japanese}}}
	for _, c := range []struct {
		args   string
		body   view.Notify
		status int
		want   string
	}{
		{"notify-test sjem", sinks, terminal.No, "there is no sink sjem: allowed is siem, team; did you mean siem?"},
		{"notify-test mailbox", sinks, terminal.No, "there is no sink mailbox: allowed is siem, team\n"},
		{"notify-test siem", view.Notify{}, terminal.No, "has no sinks"},
		{"notify-test siem", sinks, terminal.Failed, "siem: 127.0.0.1:9 did not take the test notice: dial tcp 127.0.0.1:9: 127.0.0.1 is an address of this machine"},
	} {
		_, problems, status, _ := askedOf(t, map[string]answer{"GET /v1/notify": {body: c.body}}, strings.Fields(c.args)...)
		if status != c.status || !strings.Contains(problems, c.want) || strings.Contains(problems, "hidden-path") {
			t.Errorf("%s: status %d, %s; want %d, %s", c.args, status, problems, c.status, c.want)
		}
	}
	out, _, status, _ := askedOf(t, map[string]answer{"GET /v1/notify": {body: sinks}}, "notify-test", "siem", "--json")
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil || status != terminal.Failed || got["sink"] != "siem" || got["delivered"] != false || got["error"] == "" || got["to"] != "127.0.0.1:9" {
		t.Errorf("status %d, %s", status, out)
	}
}
