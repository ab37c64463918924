package gateway

import (
	"errors"
	"testing"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// TestFault113ReopeningEverythingTakesSeveral: with reopen_all no single operator reopens
// everything: not by asking twice, by a name that is no operator any more, after a restart, or as
// root. Without it one does.
func TestFault113ReopeningEverythingTakesSeveral(t *testing.T) {
	login := func(id string) policy.Actor { return policy.Actor{ID: id, Via: "socket", Text: id} }
	site := func(approvals int, names ...string) *policy.Policy {
		p := oneHour()
		p.ReopenAll, p.Digest = approvals, p.Digest+string(rune('0'+approvals))
		for _, name := range names {
			o := &policy.Operator{Name: name, User: name, Rights: []policy.Right{policy.MayApprove}}
			if name == "clerk" {
				o.Rights = []policy.Right{policy.MayRecord}
			}
			p.Operators, p.Digest = append(p.Operators, o), p.Digest+name
		}
		return p
	}
	two := func() *policy.Policy { return site(2, "clerk", "sasaki", "tanaka") }
	for _, c := range []struct {
		name   string
		p      *policy.Policy
		do     func(w *world, reopen func(login string) string)
		opened bool
	}{
		{"two operators", two(), func(_ *world, reopen func(string) string) { reopen("tanaka"); reopen("sasaki") }, true},
		{"one", two(), func(_ *world, reopen func(string) string) { reopen("tanaka") }, false},
		{"one twice", two(), func(_ *world, reopen func(string) string) { reopen("tanaka"); reopen("tanaka") }, false},
		{"one, and the guard is off", site(0, "clerk", "sasaki", "tanaka"), func(_ *world, reopen func(string) string) { reopen("tanaka") }, true},
		{"root", two(), func(_ *world, reopen func(string) string) { reopen("tanaka"); reopen("") }, false},
		{"somebody else", two(), func(_ *world, reopen func(string) string) { reopen("tanaka"); reopen("mallory") }, false},
		{"an operator who may not approve", two(), func(_ *world, reopen func(string) string) { reopen("tanaka"); reopen("clerk") }, false},
		{"a restart in between", two(), func(w *world, reopen func(string) string) { reopen("tanaka"); w.crash(); w.start(); reopen("sasaki") }, true},
		{"one, a restart, and the same", two(), func(w *world, reopen func(string) string) { reopen("tanaka"); w.crash(); w.start(); reopen("tanaka") }, false},
		{"closed again in between", two(), func(w *world, reopen func(string) string) {
			reopen("tanaka")
			w.shut(policy.All)
			reopen("sasaki")
		}, false},
		{"closed again after a restart", two(), func(w *world, reopen func(string) string) {
			reopen("tanaka")
			w.crash()
			w.start()
			w.shut(policy.All)
			w.crash()
			w.start()
			reopen("sasaki")
		}, false},
		{"the first is no operator any more", two(), func(w *world, reopen func(string) string) {
			reopen("tanaka")
			w.reload(site(2, "clerk", "sasaki", "suzuki"))
			reopen("sasaki")
		}, false},
		{"the first is no operator any more, and a third", two(), func(w *world, reopen func(string) string) {
			reopen("tanaka")
			w.reload(site(2, "clerk", "sasaki", "suzuki"))
			reopen("sasaki")
			reopen("suzuki")
		}, true},
		{"the first has another operator's name now", two(), func(w *world, reopen func(string) string) {
			reopen("tanaka")
			p := site(2, "clerk", "sasaki", "tanaka")
			p.Operators[1].User, p.Operators[2].User, p.Digest = "tanaka", "sasaki", p.Digest+"swapped"
			w.reload(p)
			reopen("tanaka")
		}, false},
		{"approvals of before do not count for the next close", two(), func(w *world, reopen func(string) string) {
			reopen("tanaka")
			reopen("sasaki")
			w.shut(policy.All)
			reopen("sasaki")
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, c.p, func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.start()
				w.shut(policy.All)
				c.do(w, func(id string) string {
					out, err := w.gateway.Do(t.Context(), login(id), policy.Reopened{Scope: policy.All, Reason: "a test"})
					var refused *policy.RefusedError
					switch {
					case errors.As(err, &refused):
						return refused.Code
					case err != nil:
						t.Errorf("%s: %v", id, err)
					case !out.Recorded:
						t.Errorf("%s: not recorded", id)
					}
					return ""
				})
				_, shut := w.gateway.Snapshot().Plan.Shut(policy.All)
				same(t, "opened", !shut, c.opened)
			})
		})
	}
}

// TestReopenAllIsAnswered: what the first operator, root and somebody else hear, and what is
// recorded.
func TestReopenAllIsAnswered(t *testing.T) {
	p := oneHour()
	p.ReopenAll = 2
	p.Operators = []*policy.Operator{{Name: "clerk", User: "c", Rights: []policy.Right{policy.MayRecord}}, {Name: "sasaki", User: "s", Rights: []policy.Right{policy.MayApprove}}}
	simulate(t, p, func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.shut(policy.All)
		event := policy.Reopened{Scope: policy.All, Reason: "a test"}
		for id, code := range map[string]string{"": "no_operator", "mallory": "no_operator", "c": "operator_may_not"} {
			var refused *policy.RefusedError
			if _, err := w.gateway.Do(t.Context(), policy.Actor{ID: id}, event); !errors.As(err, &refused) || refused.Code != code {
				t.Errorf("%q: %v, want %s", id, err, code)
			}
		}
		out, err := w.gateway.Do(t.Context(), policy.Actor{ID: "s", Text: "s"}, event)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "shut", out.Shut, []string{"all"})
		same(t, "recorded", out.Recorded, true)
		if len(out.WarningMessages) != 1 || out.WarningMessages[0].Code != "reopen_more" || out.WarningMessages[0].Args["left"] != 1 {
			t.Errorf("warned: %+v", out.WarningMessages)
		}
		for _, e := range w.durable() {
			if e.Kind == journal.Approved {
				same(t, "scope", e.Scope, "all")
				same(t, "event", string(e.Event), `{"scope":"all","by":"sasaki","login":"s"}`)
			}
		}
		same(t, "approvals recorded", len(w.told(journal.Approved)), 1)
		same(t, "reopenings recorded", len(w.told(journal.Reopened)), 0)
	})
}
