package view

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kidoban/gateway/policy"
)

// TestFault103ChangesInWords: each change on a line, in both languages, also at the
// other end of the socket.
func TestFault103ChangesInWords(t *testing.T) {
	noon := time.Date(2030, 12, 9, 3, 0, 0, 0, time.UTC)
	changes := []policy.Change{
		{Kind: "added", Thing: "engineer", Vendor: "medisys", Name: "ueda", Fields: []policy.Field{{Name: "addresses", After: []string{"10.99.0.4"}}, {Name: "preshared_key", After: []string{"(secret)"}}}},
		{Kind: "changed", Thing: "engineer", Vendor: "medisys", Name: "sato", Fields: []policy.Field{{Name: "preshared_key", Before: []string{"(secret)"}, After: []string{"(secret)"}}}},
		{Kind: "changed", Thing: "target", Name: "pacs", Fields: []policy.Field{{Name: "ports", After: []string{"tcp/22"}}, {Name: "masquerade", Before: []string{"true"}}},
			Windows: []string{"a/1", "a/2", "a/3", "a/4", "a/5", "a/6", "a/7"}},
		{Kind: "changed", Thing: "window", Vendor: "medisys", Name: "night", Fields: []policy.Field{{Name: "to", Before: []string{"17:30"}, After: []string{"18:00"}}, {Name: "targets", Before: []string{"ehr"}, After: []string{"pacs", "ris"}}}},
		{Kind: "changed", Thing: "on_request", Vendor: "medisys", Fields: []policy.Field{{Name: "max_duration", Before: []string{"4h"}, After: []string{"2d"}}}},
		{Kind: "added", Thing: "operator", Name: "tanaka", Fields: []policy.Field{{Name: "may", After: []string{"record", "approve"}}}},
		{Kind: "removed", Thing: "notify", Name: "siem"},
		{Kind: "removed", Thing: "reopen_all"},
		{Kind: "removed", Thing: "window", Vendor: "medisys", Name: "day", Fields: []policy.Field{{Name: "to", Before: []string{"17:30"}}}},
	}
	reach := []policy.Reach{{Engineer: "medisys/sato", Targets: []string{"pacs tcp/104 icmp"}, Sources: []string{"203.0.113.1"}, Until: noon}}
	all := append(Changes(changes), append(Moved("closed_now", reach, time.UTC), Moved("opened_now", reach, time.FixedZone("JST", 9*3600))...)...)
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	var came []Message
	if err := json.Unmarshal(text, &came); err != nil {
		t.Fatal(err)
	}
	for l, want := range map[Language][]string{
		English: {
			"added engineer medisys/ueda: addresses 10.99.0.4; preshared_key (secret)",
			"changed engineer medisys/sato: preshared_key replaced",
			"changed target pacs: ports + tcp/22; masquerade - true; used by the windows a/1, a/2, a/3, a/4, a/5, a/6 and 1 more",
			"changed window medisys/night: to 17:30 -> 18:00; targets ehr -> pacs, ris",
			"changed on_request of medisys: max_duration 4h -> 2d",
			"added operator tanaka: may record, approve",
			"removed notify siem",
			"removed reopen_all",
			"removed window medisys/day",
			"closed now: medisys/sato: pacs tcp/104 icmp; from 203.0.113.1",
			"opened now: medisys/sato: pacs tcp/104 icmp; from 203.0.113.1, until 2030-12-09 12:00:00 JST",
		},
		Japanese: {
			"追加: 作業者 medisys/ueda（addresses: 10.99.0.4; preshared_key: (secret)）",
			"変更: 作業者 medisys/sato（preshared_key: 交換）",
			"変更: 接続先 pacs（ports: tcp/22 を追加; masquerade: true を削除）。使用する許可時間帯: a/1, a/2, a/3, a/4, a/5, a/6 ほか 1 件",
			"変更: 許可時間帯 medisys/night（to: 17:30 → 18:00; targets: ehr → pacs, ris）",
			"変更: 業者 medisys の on_request（max_duration: 4h → 2d）",
			"追加: 運用者 tanaka（may: record, approve）",
			"削除: 通知先 siem",
			"削除: reopen_all",
			"削除: 許可時間帯 medisys/day",
			"閉じた許可: medisys/sato: pacs tcp/104 icmp; 接続元 203.0.113.1",
			"開いた許可: medisys/sato: pacs tcp/104 icmp; 接続元 203.0.113.1（2030-12-09 12:00:00 JST まで）",
		},
	} {
		var got []string
		for _, m := range came {
			got = append(got, m.In(l))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", l, diff)
		}
	}
}

// TestFault103ManyChangesAreSummedUp: the answer is bounded.
func TestFault103ManyChangesAreSummedUp(t *testing.T) {
	var changes []policy.Change
	for _, kind := range []string{"added", "removed"} {
		for _, thing := range []string{"engineer", "vendor", "window"} {
			for v := range 26 {
				vendor := fmt.Sprint(kind, v)
				if thing == "vendor" {
					changes = append(changes, policy.Change{Kind: kind, Thing: thing, Name: vendor})
					continue
				}
				for n := range 3 {
					changes = append(changes, policy.Change{Kind: kind, Thing: thing, Vendor: vendor, Name: fmt.Sprint(n)})
				}
			}
		}
	}
	got := Changes(changes)
	if len(got) != 52 || got[0].String() != "added vendor added0, with engineers: 3, windows: 3" || got[51].String() != "removed vendor removed25, with engineers: 3, windows: 3" {
		t.Errorf("26 vendors for 26 others: %d lines: %s", len(got), strings.Join(Texts(got), "\n"))
	}
	reach := []policy.Reach{}
	for i := range 100 {
		changes = append(changes, policy.Change{Kind: "changed", Thing: "target", Name: fmt.Sprint(i)})
		reach = append(reach, policy.Reach{Engineer: fmt.Sprint("medisys/", i), Targets: []string{"pacs"}})
	}
	if got := Changes(changes); len(got) != changesMost+1 || got[changesMost].String() != "and 92 more changes; --json has all" {
		t.Errorf("and 100 targets: %d lines, the last: %s", len(got), got[len(got)-1])
	}
	if got := Moved("closed_now", reach, time.UTC); len(got) != movedMost+1 || got[movedMost].String() != "and 80 more engineers; --json has all" {
		t.Errorf("100 engineers: %d lines, the last: %s", len(got), got[len(got)-1])
	}
}
