package api

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
)

type asked struct {
	Vendor    string   `json:"vendor"`
	Engineers []string `json:"engineers"`
	Emergency bool     `json:"emergency"`
	For       *struct {
		Hours int    `json:"hours"`
		Note  string `json:"note"`
	} `json:"for"`
}

// TestBodies: a body means one thing, at every depth of it.
func TestBodies(t *testing.T) {
	for _, test := range []struct{ text, wrong string }{
		{``, ""},
		{`{}`, ""},
		{`{"vendor": "medisys", "engineers": ["sato", "mori"], "emergency": true, "for": {"hours": 4, "note": "a"}}`, ""},
		{`{"engineers": ["sato", "sato"], "for": {"note": "for"}}`, ""},
		{`{"vendor": "a", "VENDOR": "b"}`, `"VENDOR" is there twice: allowed is once`},
		{`{"for": {"hours": 4, "Hours": 5}}`, `"Hours" is there twice`},
		{`{"for": {"hours": 4}, "vendor": "a", "For": null}`, `"For" is there twice`},
		{`{"for": {"minutes": 4}}`, `unknown field "minutes"`},
		{`{"engineers": ["sato"]} {}`, "more than one value"},
		{`{"engineers": ["a\u200bb"]}`, `the engineers has the character '\u200b', which does not show`},
		{`{"for": {"note": "\ud800"}}`, "the note has a part that is not UTF-8"},
		{"{\"vendor\": \"\xff\"}", "the body is not UTF-8"},
		{`{"engineers": "sato"}`, `the body is not {"vendor": "...", "engineers": ["..."], "emergency": true, "for": {"hours": 0, "note": "..."}}: `},
		{`[]`, "the body is not {"},
		{strings.Repeat("[", 100), "the body is not {"},
	} {
		_, err := bodyOf[asked]([]byte(test.text))
		if test.wrong == "" && err != nil || test.wrong != "" && (err == nil || !strings.Contains(err.Error(), test.wrong)) {
			t.Errorf("%s: %v, want %q", test.text, err, test.wrong)
		}
	}
	deep := strings.Repeat(`{"a": `, depthMost+1) + "1" + strings.Repeat("}", depthMost+1)
	if _, err := bodyOf[map[string]any]([]byte(deep)); err == nil || !strings.Contains(err.Error(), "allowed are 8") {
		t.Errorf("%s: %v", deep, err)
	}
}

// TestPages: pages have every item once, newest first, while others come and go.
func TestPages(t *testing.T) {
	key := func(n int) string { return fmt.Sprintf("%06d", n) }
	all, next := []int{}, 0
	more := func(n int) {
		for range n {
			all = append(all, next)
			next++
		}
	}
	more(173)
	q, got := url.Values{"limit": {"20"}}, []int(nil)
	for {
		page, err := pageOf(q, all, key)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, page.Items...)
		if page.Next == "" {
			break
		}
		q.Set("cursor", page.Next)
		more(7)
		all = slices.DeleteFunc(all, func(n int) bool { return n == got[len(got)-1] }) // the item of the cursor
	}
	want := make([]int, 173)
	for i := range want {
		want[i] = 172 - i
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	for _, n := range []int{0, 1, 50, 51} {
		page, err := pageOf(nil, all[:n], key)
		if err != nil || page.Items == nil || len(page.Items) != min(n, limitDefault) || (page.Next == "") != (n <= limitDefault) {
			t.Errorf("of %d: %+v, %v", n, page, err)
		}
	}
	for _, q := range []url.Values{{"limit": {"0"}}, {"limit": {"501"}}, {"limit": {"x"}}, {"limit": {"-1"}}, {"cursor": {"!"}}} {
		if _, err := pageOf(q, all, key); err == nil || !strings.Contains(err.Error(), "allowed is ") {
			t.Errorf("%v: %v", q, err)
		}
	}
}

// TestRoutesOfTheirOwn: a route has its own type of body, bound of it, and status.
func TestRoutesOfTheirOwn(t *testing.T) {
	check := func(a asked) error {
		if a.Vendor == "" {
			return invalid("no vendor")
		}
		return nil
	}
	routes["/v1/test"] = command(check, func(_ request, a asked) (asked, error) { return a, nil }).upTo(longMost).with(http.StatusCreated)
	defer delete(routes, "/v1/test")
	s := serve(t)
	long := strings.Repeat("x", bodyMost)
	for _, test := range []struct {
		body   string
		status int
		detail string
	}{
		{`{"vendor": "` + long + `"}`, 201, ""},
		{`{"vendor": "` + strings.Repeat(long, 4) + `"}`, 413, "the body is too large: allowed are 65536 bytes"},
		{`{}`, 400, "no vendor"},
		{`{"vendor": "a", "scope": "all"}`, 400, `unknown field "scope"`},
	} {
		if r, p := s.raw(requestText("POST", "/v1/test", test.body)); r.StatusCode != test.status || p.Detail != test.detail && !strings.Contains(p.Detail, cmp.Or(test.detail, "-")) {
			t.Errorf("%.40s: %d %q, want %d %q", test.body, r.StatusCode, p.Detail, test.status, test.detail)
		}
	}
}
