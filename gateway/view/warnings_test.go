package view

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFault106WarningsAreSummedUp: many warnings of one kind are one line, which names
// their places.
func TestFault106WarningsAreSummedUp(t *testing.T) {
	var all []Message
	at := func(code Code, line int, where string) {
		all = append(all, Say(code, Args{"file": "policy.yaml", "line": line, "column": 3, "where": where}))
	}
	for i := range 26 {
		at("policy_vendor_closed", 10*i+10, fmt.Sprint("vendors.v", i))
		if i < 3 {
			at("policy_window_always", 10*i+15, fmt.Sprint("vendors.v", i, ".windows.w"))
		}
	}
	for range 5 {
		all = append(all, Say("everything_shut", Args{"journal": "j"})) // has no place
	}
	for _, line := range []int{7, 7, 8, 8, 9} { // two of a list stand in one line
		at("policy_days_long", line, "vendors.v0.sources")
	}
	want := []string{
		"policy.yaml:10:3: vendors.v0: has no window: nobody of this vendor can enter; also at vendors.v1:20, vendors.v2:30, vendors.v3:40, vendors.v4:50, vendors.v5:60, vendors.v6:70, " +
			"vendors.v7:80, vendors.v8:90, vendors.v9:100, vendors.v10:110, vendors.v11:120, vendors.v12:130 and 13 more",
		"policy.yaml:15:3: vendors.v0.windows.w: is all day, every day",
		"policy.yaml:25:3: vendors.v1.windows.w: is all day, every day",
		"policy.yaml:35:3: vendors.v2.windows.w: is all day, every day",
	}
	for range 5 {
		want = append(want, Say("everything_shut", Args{"journal": "j"}).String())
	}
	want = append(want, Say("policy_days_long", Args{"file": "policy.yaml", "line": 7, "column": 3, "where": "vendors.v0.sources"}).String()+"; also at vendors.v0.sources:8, vendors.v0.sources:9")
	summed := Summed(all)
	if diff := cmp.Diff(want, Texts(summed)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := summed[0].In(Japanese); got[len(got)-len("vendors.v12:130 ほか 13 件"):] != "vendors.v12:130 ほか 13 件" {
		t.Errorf("in Japanese: %s", got)
	}
}
