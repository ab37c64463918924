package gateway

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// identities are the public keys that the journal names, in order.
func (w *world) identities() (keys []string) {
	synctest.Wait() // a command does not wait for this entry
	for _, e := range w.durable() {
		if e.Kind == journal.Identity {
			keys = append(keys, e.Actor+" "+e.Key)
		}
	}
	return keys
}

// TestFault87TheKeyIsLost: the gateway's private key is gone, or another, at a start
// after the first. Nobody enters, and the gateway says so and how to go on.
func TestFault87TheKeyIsLost(t *testing.T) {
	key, other, made := policy.Key{255}, policy.Key{253}, policy.Key{254} // fakeKey makes the last
	loose := errors.New("has mode 0644: allowed is 0600 or stricter (chmod 0600)")
	lost := func(w *world) { w.key = policy.Key{} }
	for _, c := range []struct {
		name      string
		lose      func(*world) // before the second start
		doubt     string       // then; empty: none
		cure      func(*world) // before the way out
		recover   bool         // the way out is recover; else reload
		problem   string       // of the way out
		warning   string       // in its answer
		use       policy.Key   // zero: the doubt stays
		recorded  []string
		unrelated bool // the journal does not name the key at the second start
	}{
		{name: "as before", lose: func(*world) {}, use: key, recorded: []string{"gateway " + key.String()}},
		{name: "put back, reload", lose: lost, doubt: `private key "/key"`, cure: func(w *world) { w.key = key }, use: key, recorded: []string{"gateway " + key.String()}},
		{name: "put back, recover", lose: lost, doubt: `private key "/key"`, cure: func(w *world) { w.key = key }, recover: true, use: key, recorded: []string{"gateway " + key.String()}},
		{name: "lost, reload", lose: lost, doubt: "the journal shows that there was a key"},
		{name: "lost, recover", lose: lost, doubt: "the journal shows that there was a key", recover: true, use: made,
			warning: "A NEW PRIVATE KEY: nobody gets in with the old configuration. Its public key is " + made.String(), recorded: []string{"gateway " + key.String(), "yamada " + made.String()}},
		{name: "lost, and none can be made", lose: func(w *world) { w.key, w.keyMakes = policy.Key{}, errFault }, doubt: `private key "/key"`, recover: true, problem: errFault.Error()},
		{name: "another put back, reload", lose: lost, doubt: `private key "/key"`, cure: func(w *world) { w.key = other }},
		{name: "another", lose: func(w *world) { w.key = other }, doubt: "its public key is " + other.String() + ", and the journal has " + key.String()},
		{name: "another, recover", lose: func(w *world) { w.key = other }, doubt: other.String(), recover: true, use: other,
			warning: "ANOTHER PRIVATE KEY THAN BEFORE: its public key is " + other.String() + ", before it was " + key.String(), recorded: []string{"gateway " + key.String(), "yamada " + other.String()}},
		{name: "readable by others, reload", lose: func(w *world) { w.keyError = loose }, doubt: "has mode 0644", cure: func(w *world) { w.keyError = nil }, use: key, recorded: []string{"gateway " + key.String()}},
		{name: "readable by others, recover", lose: func(w *world) { w.keyError = loose }, doubt: "has mode 0644", recover: true, problem: "has mode 0644"},
		{name: "an old journal", unrelated: true, lose: func(*world) {}, use: key, recorded: []string{"gateway " + key.String()}},
		{name: "an old journal and another key", unrelated: true, lose: func(w *world) { w.key = other }, use: other, recorded: []string{"gateway " + other.String()}},
		{name: "an old journal and no key", unrelated: true, lose: lost, doubt: `private key "/key"`, recover: true, use: made, warning: "A NEW PRIVATE KEY", recorded: []string{"yamada " + made.String()}},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.start()
				same(t, "recorded at the first start", w.identities(), []string{"gateway " + key.String()})
				w.at("01:00:01")
				if err := w.stop(); err != nil {
					t.Fatal(err)
				}
				w.do(func() {
					if c.unrelated {
						disk := w.disk
						w.disk = nil
						for _, e := range disk {
							if e.Kind != journal.Identity {
								w.disk = append(w.disk, e)
							}
						}
					}
					c.lose(w)
				})
				w.start()
				if doubt := w.notReady(); (doubt == "") != (c.doubt == "") || !strings.Contains(doubt, c.doubt) {
					t.Errorf("doubt %q, want %q", doubt, c.doubt)
				}
				if c.doubt != "" {
					same(t, "open in doubt", w.open(), []string{})
					same(t, "key in doubt", w.tunnel.key, [32]byte{})
					w.do(func() {
						if c.cure != nil {
							c.cure(w)
						}
					})
					var out Outcome
					var err error
					if c.recover {
						out, err = w.gateway.Recover(t.Context(), yamada, "a test")
					} else {
						out, err = w.gateway.Reload(t.Context(), yamada)
					}
					if err != nil || !strings.Contains(out.Problem, c.problem) || (c.use != policy.Key{}) != (out.Problem == "") {
						t.Errorf("%v, problem %q, want %q", err, out.Problem, c.problem)
					}
					if warnings := strings.Join(out.Warnings, "\n"); !strings.Contains(warnings, c.warning) || (c.warning == "") != (warnings == "") {
						t.Errorf("warnings %q, want %q", warnings, c.warning)
					}
				}
				w.at("01:00:10")
				if c.use == (policy.Key{}) {
					same(t, "open", w.open(), []string{})
					if w.notReady() == "" {
						t.Error("ready without its key")
					}
					// The journal goes on naming the key: the next start takes no other.
					same(t, "recorded", w.identities(), []string{"gateway " + key.String()})
					if err := w.stop(); err != nil {
						t.Fatal(err)
					}
					w.do(func() { w.key, w.keyError = other, nil })
					w.start()
					if doubt := w.notReady(); !strings.Contains(doubt, "the journal has "+key.String()) {
						t.Errorf("doubt of another key %q", doubt)
					}
					return
				}
				same(t, "doubt", w.notReady(), "")
				same(t, "open", w.open(), []string{"acme/brown/night"})
				same(t, "in use", w.tunnel.key, [32]byte(c.use))
				same(t, "told", *w.gateway.Snapshot().StatusAt(w.wall()).PublicKey, c.use)
				same(t, "recorded", w.identities(), c.recorded)
				// The next start has no doubt.
				if err := w.stop(); err != nil {
					t.Fatal(err)
				}
				w.start()
				same(t, "doubt after a restart", w.notReady(), "")
				same(t, "recorded after a restart", w.identities(), c.recorded)
			})
		})
	}
}

// TestANewJournalKnowsTheOldKey: journal and key are damaged at once. The recovery that
// begins a new journal still tells of another key, and does not forget the old one.
func TestANewJournalKnowsTheOldKey(t *testing.T) {
	key, other := policy.Key{255}, policy.Key{253}
	for _, unreadable := range []bool{false, true} {
		t.Run(fmt.Sprint("unreadable ", unreadable), func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.start()
				w.at("00:00:30")
				if err := w.stop(); err != nil {
					t.Fatal(err)
				}
				w.do(func() {
					w.damage, w.key = errFault, other
					if unreadable {
						w.keyError = errFault
					}
				})
				w.start()
				out, err := w.gateway.Recover(t.Context(), yamada, "a test")
				if err != nil {
					t.Fatal(err)
				}
				if unreadable {
					same(t, "recorded", w.identities(), []string{"yamada " + key.String()})
					w.do(func() { w.keyError = nil })
					if out, err = w.gateway.Reload(t.Context(), yamada); err != nil || !strings.Contains(out.Problem, "the journal has "+key.String()) {
						t.Errorf("%v, problem %q", err, out.Problem)
					}
					return
				}
				if warnings := strings.Join(out.Warnings, "\n"); !strings.Contains(warnings, "before it was "+key.String()) {
					t.Errorf("warnings %q", warnings)
				}
				same(t, "recorded", w.identities(), []string{"yamada " + other.String()})
			})
		})
	}
}

// TestANewJournalNamesTheKey: so that a change after it does not go unnoticed.
func TestANewJournalNamesTheKey(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.start()
		if err := w.stop(); err != nil {
			t.Fatal(err)
		}
		w.do(func() { w.damage = errFault })
		w.start()
		if _, err := w.gateway.Recover(t.Context(), yamada, "a test"); err != nil {
			t.Fatal(err)
		}
		w.at("00:00:30")
		same(t, "doubt", w.notReady(), "")
		same(t, "recorded", w.identities(), []string{"yamada " + policy.Key{255}.String()})
	})
}
