package witness

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"kidoban/gateway/durable"
	"kidoban/gateway/journal"
	"kidoban/gateway/view"
)

const (
	// every is the longest time between two cosignatures.
	every = time.Hour
	// settleFor is the time from the end of a session to the request, so that the entries of its use
	// are in the journal, and sessions that end together take one request.
	settleFor = 3 * time.Second
	// retryFirst and retryMost bound the time to the next try after a failure, which doubles.
	retryFirst = 10 * time.Second
	retryMost  = 10 * time.Minute
	// openEvery is the time between two looks whether there is a journal.
	openEvery = 2 * time.Second
	// silentAfter is for how long no cosignature is a hint.
	silentAfter = 3 * time.Hour
)

// errNotOpen says that there is no journal with an entry, which the gateway tells itself.
var errNotOpen = errors.New("no journal is open")

// Refuses is the reason of an entry of kind mirrored that tells of a witness that refuses.
const Refuses = "witness_refuses"

// Stream gives entries as they are written; *store.Stream is one.
type Stream interface {
	Next(context.Context) ([]journal.Line, error)
}

// Config has the settings of a Client.
type Config struct {
	Setting         string // URL+NAME+HASH+KEY; empty: there is no witness
	Folder, KeyFile string // of the journal
	// Follow gives the entries that are to come. Its error says that no journal is open yet.
	Follow func() (Stream, error)
	Logger *slog.Logger
	// Doubt shuts the gateway until a recovery. The same doubt comes again with each answer of the
	// witness; its entry in the journal must have the message's text.
	Doubt func(context.Context, view.Message)
	// Note writes an entry of kind mirrored.
	Note func(context.Context, journal.Entry) error
}

// Client has a witness cosign the journal. It waits for the witness on its own goroutine alone. A
// nil Client has no witness.
type Client struct {
	cfg    Config
	caller caller
	settle time.Duration

	accepted tlog.Hash // root of the witness's checkpoint that operators accepted
	day      string    // of the newest entry about a cosignature, in UTC

	mu       sync.Mutex // guards the fields below
	cosigned time.Time
	silent   string       // why the last request got no answer; empty: it got one
	refuses  view.Message // empty: it does not
	began    time.Time
}

// New makes a client; nil without a setting.
func New(cfg Config) (*Client, error) {
	if cfg.Setting == "" {
		return nil, nil
	}
	place, err := Parse(cfg.Setting)
	if err != nil {
		return nil, err
	}
	return &Client{cfg: cfg, caller: newCaller(place), settle: settleFor, began: time.Now()}, nil
}

// Run asks the witness once a journal is open, at least hourly, and after the end of each session,
// until the context ends.
func (c *Client) Run(ctx context.Context) {
	if c == nil {
		return
	}
	ended := make(chan struct{}, 1)
	go c.follow(ctx, ended)
	for failures := 0; ; {
		wait := every
		switch err := c.ask(ctx); {
		case errors.Is(err, errNotOpen):
			wait = openEvery
		case err != nil:
			wait = min(retryFirst<<min(failures, 10), retryMost)
			failures++
		default:
			failures = 0
		}
		next := time.After(wait)
		select {
		case <-ctx.Done():
			return
		case <-next:
		case <-unless(failures > 0, ended): // a try that fails waits its time
			select {
			case <-ctx.Done():
				return
			case <-time.After(c.settle):
			}
		}
	}
}

// unless is the channel, or one that never gives anything.
func unless(not bool, c <-chan struct{}) <-chan struct{} {
	if not {
		return nil
	}
	return c
}

// follow tells of the ends of sessions, and of a journal that is open now.
func (c *Client) follow(ctx context.Context, ended chan<- struct{}) {
	for ctx.Err() == nil {
		stream, err := c.cfg.Follow()
		for err == nil {
			var lines []journal.Line
			if lines, err = stream.Next(ctx); closes(lines) {
				select {
				case ended <- struct{}{}:
				default:
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func closes(lines []journal.Line) bool {
	for _, line := range lines {
		var e struct{ Kind journal.Kind }
		if json.Unmarshal(line.JSON, &e) == nil && e.Kind == journal.SessionClosed {
			return true
		}
	}
	return false
}

// ask gets one cosignature. The error says that another try may succeed soon.
func (c *Client) ask(ctx context.Context) error {
	var folder *journal.Folder
	key, err := journal.VerifierKey(c.cfg.KeyFile)
	if err == nil {
		folder, err = journal.OpenFolder(c.cfg.Folder, key)
	}
	if err == nil {
		err = durable.SyncFolder(c.cfg.Folder) // the tree that a witness has seen must outlive a power cut
	}
	if err != nil || folder.Tree.N == 0 {
		return errNotOpen
	}
	text, at, err := c.cosign(ctx, folder)
	var answer *refusal
	switch {
	case err == nil:
		return c.keep(ctx, folder, text, at)
	case errors.As(err, &answer) && !answer.silent():
		c.refused(ctx, folder, key, answer)
		return nil
	case ctx.Err() == nil:
		c.unanswered(err)
	}
	return err
}

// cosign sends the checkpoint, with a proof from the size that the witness cosigned last.
func (c *Client) cosign(ctx context.Context, folder *journal.Folder) (text []byte, at time.Time, err error) {
	var old int64
	if was, tree, err := folder.Witnessed(); err == nil && was != nil {
		last, err := c.caller.place.Cosigned(was)
		if same, _ := folder.Continues(tree); err == nil && same {
			old = tree.N
			c.note(last)
		}
	}
	for try := 0; ; try++ {
		var proof tlog.TreeProof
		if old > 0 {
			if proof, err = folder.Consistency(old); err != nil {
				return nil, time.Time{}, err
			}
		}
		text, at, err = c.caller.add(ctx, old, proof, folder.Checkpoint)
		var answer *refusal
		if try > 0 || !errors.As(err, &answer) || answer.status != http.StatusConflict || answer.size > folder.Tree.N {
			return text, at, err
		}
		old = answer.size // it knows better than our file
	}
}

// keep puts a cosigned checkpoint beside the journal's own.
func (c *Client) keep(ctx context.Context, folder *journal.Folder, text []byte, at time.Time) error {
	before := time.Time{}
	if was, _, err := folder.Witnessed(); err == nil && was != nil {
		before, _ = c.caller.place.Cosigned(was)
	}
	if err := durable.Replace(filepath.Join(c.cfg.Folder, journal.WitnessedFile), text, 0o600); err != nil {
		c.cfg.Logger.Error("the witness's cosignature could not be kept", "err", err)
		return err
	}
	c.mu.Lock()
	again := c.silent != "" || !c.refuses.Empty()
	c.silent, c.refuses = "", view.Message{}
	c.mu.Unlock()
	c.note(at)
	if again {
		c.cfg.Logger.Info("the witness cosigns again", "witness", c.caller.place.Name(), "size", folder.Tree.N)
	}
	today := time.Now().UTC().Format(time.DateOnly)
	if cmp.Or(c.day, before.Format(time.DateOnly)) == today {
		return nil
	}
	c.day = today
	name := c.caller.place.Name()
	event, _ := json.Marshal(map[string]any{"to": name, "size": folder.Tree.N, "witness": true})
	c.write(ctx, journal.Entry{Kind: journal.Mirrored, Count: folder.Tree.N, Text: name, Event: event})
	return nil
}

// write writes an entry. A journal that does not take it has its own alarm.
func (c *Client) write(ctx context.Context, e journal.Entry) {
	if err := c.cfg.Note(ctx, e); err != nil && ctx.Err() == nil {
		c.cfg.Logger.Warn("what the witness did is not in the journal", "err", err)
	}
}

// note takes note of a cosignature's time, which is the witness's; none is in the future.
func (c *Client) note(at time.Time) {
	if now := time.Now(); at.After(now) {
		at = now
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if at.After(c.cosigned) {
		c.cosigned = at
	}
}

func (c *Client) unanswered(err error) {
	c.mu.Lock()
	first := c.silent == ""
	c.silent = err.Error()
	c.mu.Unlock()
	if first {
		c.cfg.Logger.Warn("the witness does not answer; it is asked again", "witness", c.caller.place.Name(), "err", err)
	}
}

// refused finds out what an answer without a cosignature means. It is an alarm, and a doubt if a
// checkpoint proves it that only this gateway can have signed.
func (c *Client) refused(ctx context.Context, folder *journal.Folder, key string, answer *refusal) {
	name := c.caller.place.Name()
	var cause view.Message
	switch answer.status {
	case http.StatusNotFound:
		cause = view.Say("witness_unknown", nil)
	case http.StatusForbidden:
		cause = view.Say("witness_key", nil)
	case http.StatusConflict, http.StatusUnprocessableEntity:
		if tree, proven := c.proof(ctx, key); !proven {
			cause = view.Say("witness_size", view.Args{"size": max(answer.size, tree.N), "ours": folder.Tree.N})
		} else if c.accept(tree, key) {
			cause = view.Say("witness_accepted", view.Args{"size": tree.N})
		} else {
			cause = view.Say("witness_doubt", view.Args{"witness": name, "size": tree.N, "root": tree.Hash.String()})
			c.cfg.Doubt(ctx, cause)
		}
	default:
		cause = view.Say("witness_answer", view.Args{"cause": answer})
	}
	m := view.Say("witness_refuses", view.Args{"witness": name, "cause": cause})
	c.mu.Lock()
	first := c.refuses.Code == "" || cause.Code != c.refuses.Args["cause"].(view.Message).Code
	c.silent, c.refuses = "", m
	c.mu.Unlock()
	if first {
		c.cfg.Logger.Error("the witness refuses to cosign the journal", "witness", name, "err", cause.String())
		c.write(ctx, journal.Entry{Kind: journal.Mirrored, Reason: Refuses, Text: m.String()})
	}
}

// proof asks the witness for its newest checkpoint of this journal. It is a proof if it has the
// gateway's own signature, and the journal, as it is now, does not continue it.
func (c *Client) proof(ctx context.Context, key string) (tree tlog.Tree, proven bool) {
	origin, _, _ := strings.Cut(key, "+")
	text, err := c.caller.newest(ctx, origin)
	if err != nil {
		return tlog.Tree{}, false
	}
	if tree, err = journal.FindCheckpoint(text, key); err != nil {
		return tlog.Tree{}, false
	}
	folder, err := journal.OpenFolder(c.cfg.Folder, key)
	if err != nil {
		return tree, false
	}
	continues, err := folder.Continues(tree)
	return tree, err == nil && !continues
}

// accept reports whether an operator accepted that the journal does not continue a checkpoint: by a
// recovery after the doubt about it, or by one that began the journal anew after it.
func (c *Client) accept(tree tlog.Tree, key string) bool {
	if c.accepted == tree.Hash {
		return true
	}
	doubted := false
	for line, err := range journal.List(c.cfg.Folder, 0) {
		doubt := bytes.Contains(line.JSON, []byte(`"kind":"doubt"`)) && bytes.Contains(line.JSON, []byte(tree.Hash.String()))
		if err != nil || !doubt && !bytes.Contains(line.JSON, []byte(`"kind":"recovery"`)) {
			continue
		}
		doubted = doubted || doubt
		var e journal.Entry
		if doubt || json.Unmarshal(line.JSON, &e) != nil || e.Kind != journal.Recovery {
			continue
		}
		before, err := journal.FindCheckpoint([]byte(e.Text), key)
		if doubted || line.Index == 0 && err == nil && before.N >= tree.N {
			c.accepted = tree.Hash
			return true
		}
	}
	return false
}

// Status gives the witness's name, the time of its newest cosignature, and whether it refuses. An
// empty name: there is no witness.
func (c *Client) Status() (name string, cosigned time.Time, refuses bool) {
	if c == nil {
		return "", time.Time{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.caller.place.Name(), c.cosigned, !c.refuses.Empty()
}

// Hints names the settings that an operator should look at.
func (c *Client) Hints() []view.Hint {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	since := c.cosigned
	if since.IsZero() {
		since = c.began
	}
	switch age := time.Since(since); {
	case !c.refuses.Empty():
		return []view.Hint{{Message: c.refuses}}
	case c.silent != "" && age > silentAfter:
		return []view.Hint{{Message: view.Say("witness_silent", view.Args{"witness": c.caller.place.Name(), "age": age.Truncate(time.Minute), "cause": c.silent})}}
	}
	return nil
}
