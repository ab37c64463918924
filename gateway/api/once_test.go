package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// TestOnce: the same key and body of the same actor at the same path get the same answer, and the
// command is done once.
func TestOnce(t *testing.T) {
	s := serve(t)
	var done atomic.Int64
	running, go_on := make(chan struct{}), make(chan struct{})
	routes["/v1/test"] = command(func(asked) error { return nil }, func(r request, a asked) (int64, error) {
		if r.key == "" != (r.header.Get(KeyHeader) == "") || r.key != "" && (len(r.key) != 64 || len(r.digest) != 64) {
			t.Errorf("the route gets the key %q and the digest %q", r.key, r.digest)
		}
		switch a.Vendor {
		case "slow":
			close(running)
			<-go_on
		case "missing":
			return 0, problem(http.StatusNotFound, "no. %d", done.Add(1))
		case "panics":
			done.Add(1)
			panic(http.ErrAbortHandler)
		}
		return done.Add(1), nil
	}).with(http.StatusCreated)
	routes["/v1/test2"] = routes["/v1/test"]
	defer delete(routes, "/v1/test")
	defer delete(routes, "/v1/test2")
	send := func(path, actor, key, vendor string) (int, string) {
		headers := []string{"Test-Actor: " + actor}
		if key != "" {
			headers = append(headers, KeyHeader+": "+key)
		}
		r, p := s.raw(requestText("POST", path, fmt.Sprintf(`{"vendor": %q}`, vendor), headers...))
		return r.StatusCode, p.Detail
	}
	for i, test := range []struct {
		path, actor, key, vendor string
		status                   int
		detail                   string
		done                     int64 // by then
	}{
		{"/v1/test", "sato", "", "a", 201, "", 1},
		{"/v1/test", "sato", "", "a", 201, "", 2},
		{"/v1/test", "sato", "k", "a", 201, "", 3},
		{"/v1/test", "sato", "k", "a", 201, "", 3},
		{"/v1/test", "mori", "k", "a", 201, "", 4},
		{"/v1/test2", "sato", "k", "a", 201, "", 5},
		{"/v1/test", "sato", "k", "b", 422, "another body", 5},
		{"/v1/test", "sato", "k", "a", 201, "", 5},
		{"/v1/test", "sato", "m", "missing", 404, "no. 6", 6},
		{"/v1/test", "sato", "m", "missing", 404, "no. 7", 7},
		{"/v1/test", "sato", "m", "a", 201, "", 8},
		{"/v1/test", "sato", "m", "missing", 422, "another body", 8},
		{"/v1/test", "sato", strings.Repeat("x", 64), "a", 201, "", 9},
		{"/v1/test", "sato", strings.Repeat("x", 65), "a", 400, "allowed are 1 to 64 printable characters of ASCII", 9},
		{"/v1/test", "sato", "é", "a", 400, "allowed are 1 to 64", 9},
		{"/v1/test", "sato", "two\r\n" + KeyHeader + ": keys", "a", 400, "is there 2 times", 9},
	} {
		status, detail := send(test.path, test.actor, test.key, test.vendor)
		if status != test.status || !strings.Contains(detail, test.detail) || done.Load() != test.done {
			t.Errorf("%d: %s: %d %q, done %d times; want %+v", i, test.key, status, detail, done.Load(), test)
		}
	}
	slow := make(chan int)
	go func() {
		status, _ := send("/v1/test", "sato", "slow", "slow")
		slow <- status
	}()
	<-running
	if status, detail := send("/v1/test", "sato", "slow", "slow"); status != 409 || !strings.Contains(detail, "still being done") {
		t.Errorf("while it is being done: %d %q", status, detail)
	}
	if status, _ := send("/v1/test", "sato", "slow", "other"); status != 422 {
		t.Errorf("another body while it is being done: %d", status)
	}
	close(go_on)
	if status := <-slow; status != 201 {
		t.Errorf("the slow one: %d", status)
	}
	if status, _ := send("/v1/test", "sato", "slow", "slow"); status != 201 || done.Load() != 10 {
		t.Errorf("the slow one again: %d, done %d times", status, done.Load())
	}
	for range 2 { // a command that broke is not remembered as one that runs
		r, err := http.NewRequest("POST", s.server.URL+"/v1/test", strings.NewReader(`{"vendor": "panics"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(KeyHeader, "p")
		if response, err := http.DefaultClient.Do(r); err == nil {
			response.Body.Close()
			t.Errorf("a panic answers %d", response.StatusCode)
		}
	}
	if done.Load() != 12 {
		t.Errorf("done %d times", done.Load())
	}
}

// TestOnceForRealCommands: a close that is sent twice with a key is one close.
func TestOnceForRealCommands(t *testing.T) {
	s := serve(t)
	text := requestText("POST", "/v1/close", `{"scope": "medisys/sato", "reason": "drill"}`, KeyHeader+": 7")
	for range 3 {
		if r, _ := s.raw(text); r.StatusCode != 200 || r.Header.Get(ZoneHeader) == "" {
			t.Errorf("%d %v", r.StatusCode, r.Header)
		}
	}
	if shut := get[view.Status](s, "/v1/status", nil).Shut.Records; len(shut) != 1 || len(shut[0].Again) != 0 {
		t.Errorf("shut: %+v", shut)
	}
}

// TestAnswersAreBounded in number, bytes and age.
func TestAnswersAreBounded(t *testing.T) {
	var a memory
	begun := time.Now()
	do := func(i, bytes int, at time.Time) bool {
		mine, _, err := a.begin(fmt.Sprint(i), "d", at)
		if err != nil {
			t.Fatal(err)
		}
		if mine == nil {
			return false
		}
		a.end(mine, &reply{200, "application/json", make([]byte, bytes)})
		return true
	}
	for i := range answersMost + 10 {
		do(i, 10, begun)
	}
	if len(a.byKey) != answersMost || len(a.order) != answersMost || a.bytes != 10*answersMost {
		t.Errorf("%d, %d answers of %d bytes", len(a.byKey), len(a.order), a.bytes)
	}
	if do(20, 10, begun.Add(rememberedTime-1)) || !do(5, 10, begun) {
		t.Error("the oldest are not those that are forgotten")
	}
	if !do(20, 10, begun.Add(rememberedTime)) {
		t.Error("an answer is remembered after its time")
	}
	for i := range 40 {
		do(-i-1, 1<<20, begun.Add(rememberedTime))
	}
	if a.bytes > answersBytes || len(a.byKey) != 16 {
		t.Errorf("%d answers of %d bytes", len(a.byKey), a.bytes)
	}
	if do(99, answersBytes+1, begun); len(a.byKey) != 0 || a.bytes != 0 {
		t.Errorf("after a huge one: %d answers of %d bytes", len(a.byKey), a.bytes)
	}
}

// TestKeysOfTwoActorsDoNotMeet: not even those of two persons without an ID.
func TestKeysOfTwoActorsDoNotMeet(t *testing.T) {
	met := map[string]string{}
	for _, actor := range []policy.Actor{{ID: "sato"}, {ID: "mori"}, {Text: "root (login sato)"}, {Text: "root (login mori)"}} {
		for _, path := range []string{"/v1/close", "/v1/reopen"} {
			for _, key := range []string{"1", "2"} {
				what, _ := json.Marshal([]any{actor, path, key})
				hash := idempotencyHash(actor, path, key)
				if met[hash] != "" {
					t.Errorf("%s and %s have one hash", what, met[hash])
				}
				met[hash] = string(what)
			}
		}
	}
	if a, b := (policy.Actor{ID: "sato", Via: "socket", Text: "sato"}), (policy.Actor{ID: "sato", Via: "office", Text: "佐藤"}); idempotencyHash(a, "/", "1") != idempotencyHash(b, "/", "1") {
		t.Error("one person has two hashes")
	}
}
