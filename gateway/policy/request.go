package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A request asks to open targets of a vendor once. Three things together say what it opens: the
// terms as they were shown to those who approved, the policy as it is now, and what the journal has.
// Nothing stores a request's state: it follows from the request's events, the clock and the policy,
// so it is right after a restart at any step.

// Terms are what a request asks for, as it is shown to those who decide. Names are resolved to keys
// and addresses. The fields are in the order of their JSON names (RFC 8785), and lists are sorted.
type Terms struct {
	Emergency bool            `json:"emergency"`
	Engineers []AskedEngineer `json:"engineers"`
	// For is how long it opens, in seconds, counted from the last approval; From and Until are then
	// the times if it were approved at once. Zero: it opens from From until Until.
	For     int64          `json:"for,omitempty"`
	From    time.Time      `json:"from"` // UTC, whole seconds
	ID      string         `json:"id"`
	Purpose string         `json:"purpose"`
	Site    string         `json:"site"`
	Source  *netip.Addr    `json:"source,omitempty"` // the only address to come from, in place of the engineers' own; nil: none
	Sources []netip.Prefix `json:"sources"`          // of all engineers
	Targets []AskedTarget  `json:"targets"`
	Ticket  string         `json:"ticket"`
	Until   time.Time      `json:"until"` // UTC, whole seconds
	Vendor  string         `json:"vendor"`
	Version int            `json:"version"` // 1, and one more with each extension
}

// AskedEngineer is an engineer with the key and sources that the policy had.
type AskedEngineer struct {
	Key     Key            `json:"key"`
	Name    string         `json:"name"`
	Sources []netip.Prefix `json:"sources"`
}

// AskedTarget is a target with the address and services that the policy had.
type AskedTarget struct {
	Name     string       `json:"name"`
	Prefix   netip.Prefix `json:"prefix"`
	Services []string     `json:"services"`
}

// Canonical is the JSON of the terms after RFC 8785.
func (t Terms) Canonical() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(t); err != nil {
		panic(err) // our own types
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Digest names the terms: the SHA-256 of Canonical, in hex. Whoever approves states the digest of
// what was shown.
func (t Terms) Digest() string {
	sum := sha256.Sum256(t.Canonical())
	return hex.EncodeToString(sum[:])
}

// Sign is what an operator signed, for a change of a request or for a decision about it.
type Sign struct {
	By     string    `json:"by"`              // the operator's name
	Login  string    `json:"login,omitempty"` // as Requested.Login
	At     time.Time `json:"at"`
	Via    string    `json:"via,omitempty"` // the way by which it came, as Actor.Via
	Reason string    `json:"reason,omitempty"`
}

// same reports whether two signs are of one person. A policy may give a person another name, and a
// name to another person; the login tells.
func (s Sign) same(other Sign) bool {
	return s.By == other.By || s.Login != "" && s.Login == other.Login
}

// own reports whether a sign is of the person who recorded the request.
func (r *Request) own(s Sign) bool { return s.same(Sign{By: r.By, Login: r.Login}) }

// Request is a request with all that was decided about it. It is immutable.
type Request struct {
	Requested
	At        time.Time `json:"at"` // when it was recorded
	Approvals []Sign    `json:"approvals"`
	Ends      []End     `json:"ends"`
	Denied    *Sign     `json:"denied"`
	Withdrawn *Sign     `json:"withdrawn"`
	Ratified  *Sign     `json:"ratified"`
	Reports   []Sign    `json:"reports"`
	Reviews   []Sign    `json:"reviews"`
	Opened    bool      `json:"opened"`         // a grant of it has been open
	Over      bool      `json:"over"`           // and was closed at its end
	Ended     time.Time `json:"ended,omitzero"` // the end of the first grant that was closed at its end; zero: none was
}

// End is a later or an earlier end of a request.
type End struct {
	Version   int       `json:"version"` // of the terms with this end; 0: it is a shortening
	Until     time.Time `json:"until"`
	Needed    int       `json:"needed,omitempty"` // as Requested.Needed
	Asked     *Sign     `json:"asked"`            // who asked for it; nil: an approver came first
	Approvals []Sign    `json:"approvals"`        // of an extension
	Shortened *Sign     `json:"shortened"`        // nil: it is an extension
}

// Scope is the scope whose Shut revokes a request.
func (r *Request) Scope() Scope { return RequestScope(r.ID) }

// RequestScope is the scope whose Shut revokes the request with an id.
func RequestScope(id string) Scope { return Scope(id) }

// IsRequest reports whether the scope is one request.
func (s Scope) IsRequest() bool { return strings.HasPrefix(string(s), RequestMark) }

// RequestOf is the scope of the request that a grant is of; empty: it is of a window.
func RequestOf(grant string) Scope {
	i := strings.LastIndexByte(grant, '/')
	id, _, _ := strings.Cut(grant[i+1:], "@")
	if scope := Scope(id); scope.IsRequest() {
		return scope
	}
	return ""
}

// RequestMark begins every id of a request, and no name.
const RequestMark = "~"

// Current are the terms of the newest version, with the end that this version asks for.
func (r *Request) Current() Terms {
	all := r.Versions()
	return all[len(all)-1]
}

// version are the terms of an extension: the first terms with another end, which is fixed.
func (r *Request) version(e End) Terms {
	t := r.Terms
	t.Version, t.Until, t.For = e.Version, e.Until.UTC(), 0
	return t
}

// Versions are the terms of all versions, the first one first.
func (r *Request) Versions() []Terms {
	all := []Terms{r.Terms}
	for _, e := range r.Ends {
		if e.Shortened == nil {
			all = append(all, r.version(e))
		}
	}
	return all
}

// Extending is the newest extension, or nil.
func (r *Request) Extending() *End {
	for i := len(r.Ends) - 1; i >= 0; i-- {
		if r.Ends[i].Shortened == nil {
			return &r.Ends[i]
		}
	}
	return nil
}

// Requests lists the requests, the oldest first.
func (s *State) Requests() []*Request {
	return slices.SortedFunc(maps.Values(s.requests), func(a, b *Request) int {
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
}

// Request finds a request, or returns nil.
func (s *State) Request(id string) *Request { return s.requests[id] }

// Repeated finds the request that an actor made with an idempotency key, by the key's hash, not
// longer than a day ago, or returns nil.
func (s *State) Repeated(hash string, now time.Time) *Request {
	for _, r := range s.requests {
		if hash != "" && r.Idempotency == hash && now.Sub(r.At) < 24*time.Hour {
			return r
		}
	}
	return nil
}

// NoteGrant takes note that a grant of a request opened, or that one was closed at its end; a zero end:
// it was not closed so. Both are in the journal, so that a request that was over stays so whatever
// later policies say, unless it is extended.
func (s *State) NoteGrant(id string, end time.Time) {
	over := !end.IsZero()
	if r := s.requests[id]; r != nil && (!r.Opened || r.Over != over) {
		s.change(id, func(r *Request) {
			if r.Opened, r.Over = true, over; r.Ended.IsZero() {
				r.Ended = end
			}
		})
	}
}

// DropRequests forgets all requests, with their revocations: another journal began without them.
func (s *State) DropRequests() {
	s.requests = nil
	s.shut = maps.Clone(s.shut)
	maps.DeleteFunc(s.shut, func(scope Scope, _ ShutRecord) bool { return scope.IsRequest() })
	s.reindex(time.Time{})
}

// Unfinished lists the requests that are open, or may open.
func (s *State) Unfinished(now time.Time) []*Request {
	return slices.DeleteFunc(s.Requests(), func(r *Request) bool {
		return !slices.Contains([]Stage{Undecided, Scheduled, StageOpen, StageFrozen}, s.Stands(r, now).Stage)
	})
}

// Take puts requests of another state into a state without a policy.
func (s *State) Take(requests []*Request) {
	for _, r := range requests {
		s.put(r)
	}
}

// TakeRequests takes the requests that another state has, as the journal tells them. Revocations
// stay.
func (s *State) TakeRequests(at time.Time, from *State) {
	s.requests = from.requests
	s.reindex(at)
}

// keptFor is how long a request that is over stays in the state. The journal has it for ever.
const keptFor = 400 * 24 * time.Hour

// forget drops requests that have been over for long. Emergencies stay until they are ratified.
func (s *State) forget(at time.Time) {
	maps.DeleteFunc(s.requests, func(id string, r *Request) bool {
		old := at.Sub(r.last()) > keptFor && (!r.Emergency || r.Ratified != nil)
		if _, revoked := s.shut[RequestScope(id)]; old && revoked {
			s.shut = maps.Clone(s.shut)
			delete(s.shut, RequestScope(id))
		}
		return old
	})
}

// last is the latest end that a request may have, by whatever policy.
func (r *Request) last() time.Time {
	last := r.Until
	for _, e := range r.Ends {
		last = latest(last, e.Until)
	}
	for _, a := range r.Approvals {
		last = latest(last, a.At.Add(time.Duration(r.For)*time.Second))
	}
	return last
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// history reports whether a scope is a request that ended long ago: its revocation closes nothing
// any more.
func (s *State) history(scope Scope) bool {
	r := s.requests[string(scope)]
	return scope.IsRequest() && r != nil && s.at.Sub(r.last()) > stays
}

// change replaces a request by a copy that f has changed.
func (s *State) change(id string, f func(*Request)) {
	r := *s.requests[id]
	f(&r)
	s.put(&r)
}

// put stores a request.
func (s *State) put(r *Request) {
	requests := make(map[string]*Request, len(s.requests)+1)
	maps.Copy(requests, s.requests)
	requests[r.ID] = r
	s.requests = requests
}

// reindex works out which windows requests open. The window of a request that did not change stays
// the same, with what is known of it.
func (s *State) reindex(at time.Time) {
	if s.policy == nil {
		return
	}
	known := map[*Window]windowCursor{}
	for i, w := range s.index.windows[s.index.listed:] {
		known[w] = s.windows[s.index.listed+i]
	}
	opens := map[*Request]*Window{}
	var windows []*Window
	for _, r := range s.Requests() {
		_, revoked := s.shut[r.Scope()]
		if revoked || r.Denied != nil || r.Withdrawn != nil {
			continue
		}
		w, same := s.opens[r]
		if !same || s.policy != s.opensBy {
			w = r.allowed(s.policy).approved()
		}
		opens[r] = w
		if w != nil && at.Sub(w.Schedule.(exactly).Until) < stays {
			windows = append(windows, w)
		}
	}
	windows, s.bridges = s.policy.unbridged(windows)
	cursors := slices.Clip(s.windows[:s.index.listed])
	for _, w := range windows {
		cursors = append(cursors, known[w])
	}
	s.opens, s.opensBy = opens, s.policy
	s.index, s.windows = s.index.with(windows), cursors
}

// stays is how long after its end a request's window stays in the plan: longer than any grace.
const stays = 48 * time.Hour
