package gateway

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
	"kidoban/gateway/view"
)

// keyReading is the content of the private key's file. Every engineer's client names
// the key, so it must not change without a word.
type keyReading struct {
	private [32]byte
	public  policy.Key
	made    bool // just now
	err     error
}

func (g *Gateway) readKey() (k keyReading) {
	k.private, k.public, k.err = g.cfg.KeyFile.Load()
	return k
}

// readOrMakeKey makes a key if there is none, and tells it. It waits for the disk.
func (g *Gateway) readOrMakeKey() keyReading {
	k := g.readKey()
	if !errors.Is(k.err, fs.ErrNotExist) {
		return k
	}
	if err := g.cfg.KeyFile.Make(); err != nil {
		return keyReading{err: err}
	}
	if k = g.readKey(); k.err == nil {
		k.made = true
		g.cfg.Logger.Warn("a new private key is made: every engineer needs a new client configuration", "public_key", k.public.String())
	}
	return k
}

// takeKey uses a key, and records it if the journal names another or none.
// Another key than the journal's is a doubt, unless an operator accepts it.
func (l *loop) takeKey(k keyReading, accepted bool, actor policy.Actor) {
	if k.err == nil && !accepted && l.journal.identity != (policy.Key{}) && k.public != l.journal.identity {
		l.doubt(doubtKey, view.Say("key_changed", view.Args{"key": k.public, "recorded": l.journal.identity}))
		return
	}
	if k.err == nil {
		k.err = l.cfg.Tunnel.SetKey(k.private)
	}
	switch {
	case errors.Is(k.err, fs.ErrNotExist):
		l.doubt(doubtKey, view.Say("key_missing", view.Args{"cause": k.err}))
	case k.err != nil:
		l.doubt(doubtKey, view.Say("key_unread", view.Args{"cause": k.err}))
	default:
		l.trust(doubtKey)
		l.kernel.public = k.public
		l.recordKey(k.public, actor)
	}
}

// acceptKey uses a key that an operator accepts. The outcome warns of a new one, and
// of another than the journal had before.
func (l *loop) acceptKey(k keyReading, was policy.Key, actor policy.Actor, e *effect) {
	l.takeKey(k, true, actor)
	switch {
	case l.doubted(doubtKey):
	case k.made:
		e.note(func(out *Outcome) { out.warn(view.Say("key_made", view.Args{"key": k.public})) })
	case was != (policy.Key{}) && was != k.public:
		e.note(func(out *Outcome) { out.warn(view.Say("key_taken", view.Args{"key": k.public, "recorded": was})) })
	}
}

// recordKey records the gateway's key, unless the journal has it.
func (l *loop) recordKey(key policy.Key, actor policy.Actor) {
	if key == l.journal.identity {
		return
	}
	level := slog.LevelInfo
	if l.journal.identity != (policy.Key{}) {
		level = slog.LevelWarn
	}
	l.journal.identity = key
	l.record(journal.Entry{Kind: journal.Identity, Actor: actor.Text, Key: key.String()})
	l.cfg.Logger.Log(context.Background(), level, "the gateway's public key", store.EventAttr(journal.Identity), "public_key", key.String(), "actor", actor.Text)
}
