package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"kidoban/gateway"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// shows reports whether a text is UTF-8 of which every character shows.
func shows(text string) bool {
	if !utf8.ValidString(text) {
		return false
	}
	for _, r := range text {
		if r == utf8.RuneError || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return false
		}
	}
	return true
}

// sameAsJSON holds that a value is what comes back of its JSON.
func sameAsJSON(t *testing.T, v any) {
	t.Helper()
	text, err := encoded(v)
	if err != nil {
		t.Fatalf("%+v is no JSON: %v", v, err)
	}
	if !utf8.Valid(text) {
		t.Fatalf("%q is not UTF-8", text)
	}
	back := reflect.New(reflect.TypeOf(v))
	if err := json.Unmarshal(text, back.Interface()); err != nil {
		t.Fatalf("%s does not come back: %v", text, err)
	}
	again, err := encoded(back.Elem().Interface())
	if err != nil || !bytes.Equal(text, again) {
		t.Fatalf("%s comes back as %s, %v", text, again, err)
	}
}

// isRefusal holds that an error is one for who asked, told in text.
func isRefusal(t *testing.T, err error) {
	t.Helper()
	var p *Problem
	if !errors.As(err, &p) || p.Status != http.StatusBadRequest && p.Status != http.StatusNotFound {
		t.Fatalf("%T: %v, want bad input, or that nothing matches", err, err)
	}
	if !utf8.ValidString(err.Error()) || len(err.Error()) > 4000 {
		t.Fatalf("the error is no text, or long: %.300q", err)
	}
}

// FuzzOrder: whatever the body of a command is, it is refused in words, or it is
// text that shows, within its bounds, and means the same wherever it is read.
func FuzzOrder(f *testing.F) {
	for _, body := range []string{
		"", "{}", `{"scope": "medisys/sato", "reason": "phone call"}`, `{"reason": "電話　確認中 😀"}`, `{"scope": "all", "reason": "\ud83d\ude00"}`,
		`{"scope": "all", "reason": "\ud800"}`, "{\"scope\": \"all\", \"reason\": \"\xff\"}", `{"scope": "a", "Scope": "b", "reason": "c"}`,
		`{"scope": "a", "reason": "b", "more": 1}`, `{"scope": 1}`, `{"scope": null, "reason": null}`, `[]`, `{} {}`, `{"reason": "\u202e\u0000"}`, `{"reason": "\ufffd"}`, `{"ſcope": "a", "reason": "b"}`,
	} {
		f.Add([]byte(body), true)
		f.Add([]byte(body), false)
	}
	f.Fuzz(func(t *testing.T, body []byte, scope bool) {
		o, err := bodyOf[order](body)
		if err == nil {
			err = o.check(scope)
		}
		if err != nil {
			isRefusal(t, err)
			return
		}
		if !shows(o.Reason) || !shows(string(o.Scope)) {
			t.Fatalf("%q was taken as %q, which does not show", body, o)
		}
		if len(o.Reason) > gateway.ReasonMax || len(o.Scope) > nameMost {
			t.Fatalf("%q was taken, with %d and %d bytes", body, len(o.Scope), len(o.Reason))
		}
		if (o.Scope != "") != scope {
			t.Fatalf("%q was taken with the scope %q", body, o.Scope)
		}
		sameAsJSON(t, o)
	})
}

// FuzzQuestion: whatever is asked about engineers, times and destinations, with
// a policy and without, it is refused in words, or the answer is JSON that
// comes back the same.
func FuzzQuestion(f *testing.F) {
	for _, q := range [][4]string{
		{"medisys/sato", "", "", ""}, {"medisys/sato", "203.0.113.10", "10.1.0.5:tcp/22", "2026-12-01T20:00"}, {"medisys/mori", "::ffff:192.0.2.1", "[2001:db8::5]:udp/53", "2020-01-01"},
		{"medisys", "", "10.1.0.5:icmp", "9999-12-31T23:59:59Z"}, {"medisys/nobody", "fe80::1%eth0", "10.1.0.5:tcp/0", "0000-01-01T00:00:00Z"},
		{"a/\xff", "\x00", "[::]:icmp", "2199-12-31T23:59:59+09:00"}, {"/", ":", ":", "-"}, {"a/b\u202e", "0.0.0.0", "::ffff:1.2.3.4:tcp/65535", "2000-01-01 00:00"},
		{"medisys/sato", "", "", "2026-12-01T20:00:00.999999999-23:59"}, {"medisys/sato", "", "", "2200-01-01T00:00:00+24:00"},
	} {
		f.Add(q[0], q[1], q[2], q[3], "2026-12-01", "1340")
		f.Add(q[0], q[1], q[2], "", q[3], "+1280")
	}
	now := time.Date(2026, 12, 1, 3, 0, 0, 0, time.UTC)
	p := hospital()
	with, err := view.Offline(p, now)
	if err != nil {
		f.Fatal(err)
	}
	without := &view.Snapshot{Plan: policy.NewState().Plan(now).Doubted("there is no policy in force")}
	f.Fuzz(func(t *testing.T, engineer, from, to, at, until, mtu string) {
		for _, s := range []*view.Snapshot{with, without} {
			x, err := explain(s, url.Values{"engineer": {engineer}, "from": {from}, "to": {to}, "at": {at}}, now)
			if err != nil {
				isRefusal(t, err)
				continue
			}
			if !shows(x.Engineer) || !shows(x.Source) {
				t.Fatalf("the answer is about %q from %q", x.Engineer, x.Source)
			}
			sameAsJSON(t, x)
		}
		if openings, err := Calendar(p, url.Values{"from": {at}, "until": {until}}, now); err != nil {
			isRefusal(t, err)
		} else {
			sameAsJSON(t, openings)
		}
		if text, err := clientConfig(p, url.Values{"engineer": {engineer}, "mtu": {mtu}}, policy.Key{9}); err != nil {
			isRefusal(t, err)
		} else {
			sameAsJSON(t, text)
		}
	})
}
