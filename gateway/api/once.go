package api

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"kidoban/gateway/policy"
)

// KeyHeader lets a client send a command again that it got no answer to: the same actor, path, key
// and body get the answer of the first time, and the command is not done again. A key is up to
// 64 printable characters of ASCII.
const KeyHeader = "Idempotency-Key"

// Bounds of the answers that are remembered. The oldest are forgotten first.
const (
	keyMost        = 64 // bytes
	answersMost    = 1000
	answersBytes   = 16 << 20
	rememberedTime = 24 * time.Hour
)

// keyOf gives the key of a command, or an empty text.
func keyOf(header http.Header) (string, error) {
	keys := header.Values(KeyHeader)
	switch {
	case len(keys) == 0:
		return "", nil
	case len(keys) > 1:
		return "", invalid("the header %s is there %d times: allowed is once", KeyHeader, len(keys))
	case keys[0] == "" || len(keys[0]) > keyMost || strings.ContainsFunc(keys[0], func(r rune) bool { return r < ' ' || r > '~' }):
		return "", invalid("the header %s is %.100q: allowed are 1 to %d printable characters of ASCII", KeyHeader, keys[0], keyMost)
	}
	return keys[0], nil
}

// idempotencyHash is the hex SHA-256 of who sends a command, where to, and its key. Keys of two
// actors never meet.
func idempotencyHash(actor policy.Actor, path, key string) string {
	return digestOf([]byte(cmp.Or(actor.ID, actor.Text) + "\x00" + path + "\x00" + key))
}

func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// memory has the answers to commands with a key, within bounds.
type memory struct {
	mu    sync.Mutex
	byKey map[string]*remembered
	order []*remembered // the oldest first
	bytes int           // of all replies
}

// remembered is a command with a key.
type remembered struct {
	key, digest string // idempotencyHash, and that of the body
	at          time.Time
	reply       *reply // nil: it is being done
}

// once does a command, or gives the answer of the first time if its key is known. A problem is
// not remembered: what stood in the way may be over when the command comes again.
func (a *memory) once(key, digest string, do func() reply) (reply, error) {
	mine, earlier, err := a.begin(key, digest, time.Now())
	switch {
	case err != nil:
		return reply{}, err
	case earlier != nil:
		return *earlier, nil
	}
	var got *reply // nil: do panics
	defer func() { a.end(mine, got) }()
	r := do()
	got = &r
	return r, nil
}

// begin remembers a command, or gives the earlier reply to it.
func (a *memory) begin(key, digest string, now time.Time) (mine *remembered, earlier *reply, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.order) > 0 && now.Sub(a.order[0].at) >= rememberedTime {
		a.forget(a.order[0])
	}
	if known := a.byKey[key]; known != nil {
		switch {
		case known.digest != digest:
			return nil, nil, otherBody()
		case known.reply == nil:
			return nil, nil, problem(http.StatusConflict, "the same command with this %s is still being done: ask again later", KeyHeader)
		}
		return nil, known.reply, nil
	}
	for len(a.order) >= answersMost {
		a.forget(a.order[0])
	}
	if a.byKey == nil {
		a.byKey = map[string]*remembered{}
	}
	mine = &remembered{key: key, digest: digest, at: now}
	a.byKey[key] = mine
	a.order = append(a.order, mine)
	return mine, nil, nil
}

// otherBody refuses a key that was there with another body.
func otherBody() error {
	return problem(http.StatusUnprocessableEntity, "this %s was there with another body: give another command another key", KeyHeader)
}

// end notes the reply.
func (a *memory) end(mine *remembered, got *reply) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byKey[mine.key] != mine {
		return // forgotten meanwhile
	}
	if got == nil || got.status/100 != 2 {
		a.forget(mine)
		return
	}
	mine.reply = got
	for a.bytes += len(got.text); a.bytes > answersBytes; {
		a.forget(a.order[0])
	}
}

// forget forgets a command. The lock is held.
func (a *memory) forget(r *remembered) {
	delete(a.byKey, r.key)
	a.order = slices.DeleteFunc(a.order, func(o *remembered) bool { return o == r })
	if r.reply != nil {
		a.bytes -= len(r.reply.text)
	}
}
