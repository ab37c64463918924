package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// writer makes entries of all kinds, as a gateway may write them, at random.
type writer struct {
	*rand.Rand
	past *Past // of the entries so far
	at   time.Time
	next int64 // index
}

func newWriter(seed uint64) *writer {
	return &writer{rand.New(rand.NewPCG(seed, 0)), newPast(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), 0}
}

func (w *writer) key() policy.Key { return policy.Key{byte(1 + w.IntN(6))} }

func pick[T any](w *writer, all ...T) T { return all[w.IntN(len(all))] }

// entry makes the next entry.
func (w *writer) entry(t *testing.T) journal.Entry {
	t.Helper()
	w.at = w.at.Add(time.Duration(w.IntN(5000)) * time.Second)
	e := w.random()
	e.Version, e.Actor = journal.Version, pick(w, "gateway", "yamada", "tanaka")
	if e.Time = w.at; e.Kind == journal.Recovery && w.IntN(2) == 0 {
		e.From = w.at.Add(-time.Duration(w.IntN(1_000_000)) * time.Second)
		e.Time, w.at = e.From, e.From
	}
	return w.put(t, e)
}

// put gives an entry its place, and reads it as a start does.
func (w *writer) put(t *testing.T, e journal.Entry) journal.Entry {
	t.Helper()
	if e.Time.IsZero() {
		e.Time = w.at
	}
	line, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var read journal.Entry
	if err := json.Unmarshal(line, &read); err != nil {
		t.Fatal(err)
	}
	read.Index = w.next
	w.next++
	if err := w.past.apply(read); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return read
}

func (w *writer) random() journal.Entry {
	vendor, scope := pick(w, "medisys", "acme"), pick[policy.Scope](w, "all", "medisys", "acme", "medisys/sato", "acme/jones")
	who := journal.Entry{Vendor: vendor, Engineer: pick(w, "sato", "jones"), Source: pick(w, "203.0.113.10", "2001:db8::1"), Key: w.key().String(), Timestamp: fmt.Sprintf("%024x", w.Uint64()), SourcePort: 51820}
	opening := journal.Entry{Vendor: vendor, VendorName: "<&メ>", Grant: fmt.Sprint("g", w.IntN(4)), From: w.at, Until: w.at.Add(time.Hour), Targets: []string{"ehr"}}
	if request := w.request(); request != nil && w.IntN(2) == 0 {
		opening.Request = request.ID
	}
	session := opening
	session.Session, session.Grants, session.Grant = fmt.Sprint("s", w.IntN(4)), []string{opening.Grant}, ""
	of := func(kind journal.Kind, e journal.Entry) journal.Entry { e.Kind = kind; return e }
	event := func(kind journal.Kind, e policy.Event) journal.Entry {
		return EventEntry(kind, "yamada", "because", scope, e)
	}
	switch w.IntN(20) {
	case 0:
		return journal.Entry{Kind: journal.Start, Reason: pick(w, "", FirstStart)}
	case 1:
		return event(journal.Shut, policy.Shut{Scope: scope, Reason: pick(w, "lost laptop", "audit"), Keys: pick(w, nil, []policy.Key{w.key()}), Added: w.IntN(3) == 0})
	case 2:
		return event(journal.Reopened, policy.Reopened{Scope: scope, Reason: "over"})
	case 3:
		loaded := policy.PolicyLoaded{Digest: pick(w, "d1", "d2"), Added: w.IntN(4) == 0}
		for range w.IntN(4) {
			loaded.Roster = append(loaded.Roster, policy.Listed{Vendor: vendor, Engineer: pick(w, "sato", "jones"), Key: w.key()})
		}
		e := event(journal.PolicyLoaded, loaded)
		e.Digest = loaded.Digest
		return e
	case 4:
		return event(journal.Approved, policy.ReopenApproved{Scope: policy.All, By: pick(w, "yamada", "tanaka"), Login: "y"})
	case 5:
		return SwitchEntry(pick(w, "", "the file is there"))
	case 6:
		return journal.Entry{Kind: journal.Recovery, Reason: "clock"}
	case 7:
		return journal.Entry{Kind: journal.Identity, Key: w.key().String()}
	case 8, 9:
		return of(journal.Refused, who)
	case 10, 11:
		return of(journal.Admission, who)
	case 12:
		return of(journal.WindowOpened, opening)
	case 13:
		return of(journal.SessionOpened, session)
	case 14:
		opening.Reason = pick(w, windowClosed, "shut")
		return of(journal.WindowClosed, opening)
	case 15:
		return of(journal.SessionClosed, session)
	case 16:
		return journal.Entry{Kind: pick(w, journal.Used, journal.Trusted, journal.Doubt, journal.Drift, journal.Frozen, journal.Incident, journal.Mirrored, journal.Stop)}
	}
	return w.decision(vendor)
}

// request is one of the requests that there are, or nil.
func (w *writer) request() *policy.Request {
	all := w.past.State.Requests()
	if len(all) == 0 {
		return nil
	}
	return pick(w, all...)
}

// decision records a request, or decides about one.
func (w *writer) decision(vendor string) journal.Entry {
	r := w.request()
	if r == nil || w.IntN(4) == 0 {
		terms := policy.Terms{ID: fmt.Sprint("~", w.next), Version: 1, Vendor: vendor, Purpose: "<update>", Emergency: w.IntN(3) == 0, From: w.at, Until: w.at.Add(time.Hour).Truncate(time.Second), For: int64(w.IntN(2) * 3600),
			Engineers: []policy.AskedEngineer{{Key: w.key(), Name: "sato", Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}}, Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")},
			Targets: []policy.AskedTarget{{Name: "ehr", Prefix: netip.MustParsePrefix("10.0.0.0/24"), Services: []string{"tcp/443"}}}}
		if w.IntN(3) == 0 {
			one := netip.MustParseAddr("198.51.100.7")
			terms.Source = &one
		}
		return RequestEntry("yamada", policy.Requested{Terms: terms, By: "yamada", Login: pick(w, "", "y"), Needed: w.IntN(3), RatifyBy: w.at.Add(time.Hour), Idempotency: pick(w, "", fmt.Sprint(w.next)), Given: pick(w, time.Time{}, w.at)}, terms)
	}
	if w.IntN(6) == 0 {
		return ShutEntries("yamada", policy.Shut{Scope: r.Scope(), Reason: "stop"}, w.past.State)[0]
	}
	d := policy.Verdict{Verb: pick(w, policy.Verbs()...), ID: r.ID, By: pick(w, "yamada", "tanaka", "suzuki"), Login: pick(w, "", "y", "t"), Via: "socket", Digest: r.Terms.Digest(), Reason: "so", Until: r.Until.Add(time.Duration(w.IntN(5)) * time.Hour), Given: w.at}
	if d.Verb == policy.Extend {
		d.Digest = r.Next(d.Until).Digest()
	}
	return RequestEntry("yamada", d, r.Terms)
}

// state makes the entries of a state, several even if it is short.
func (w *writer) state(t *testing.T, parts int) (all []journal.Entry) {
	t.Helper()
	whole, err := w.past.entries(w.next)
	if err != nil || len(whole) != 1 {
		t.Fatalf("%d entries, %v", len(whole), err)
	}
	text := []rune(whole[0].Text)
	for n := range parts {
		e := whole[0]
		if parts > 1 {
			e.Text, e.Part, e.Parts = string(text[len(text)*n/parts:len(text)*(n+1)/parts]), n+1, parts
		}
		all = append(all, e)
	}
	return all
}

// samePast compares what a state of two pasts would have, and with deep, which is slow, all that is in
// memory.
func samePast(full, fast *Past, deep bool) string {
	a, err := full.entries(1)
	b, other := fast.entries(1)
	if diff := cmp.Diff(a, b); diff != "" || err != nil || other != nil || !deep {
		return diff
	}
	readingOnly := cmp.FilterPath(func(p cmp.Path) bool {
		return slices.Contains([]string{"begun", "lacks", "parts", "opened", "place"}, strings.TrimPrefix(p.Last().String(), "."))
	}, cmp.Ignore())
	return cmp.Diff(full, fast, readingOnly, cmp.Exporter(func(reflect.Type) bool { return true }), cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}))
}

// replayed is the past of entries.
func replayed(t *testing.T, entries []journal.Entry) *Past {
	t.Helper()
	past, err := Read(func(yield func(journal.Entry, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return past
}

// TestAStartFromAStateKnowsTheSame: at every point at which a journal may end, and whatever is in it.
func TestAStartFromAStateKnowsTheSame(t *testing.T) {
	for seed := range uint64(2000) {
		w := newWriter(seed)
		var entries []journal.Entry
		var states [][2]int // where the states begin and end
		for range 10 + w.IntN(20) {
			entries = append(entries, w.entry(t))
			if w.IntN(6) > 0 {
				continue
			}
			begin := len(entries)
			parts := w.state(t, 1+w.IntN(3))
			lost := 0
			if w.IntN(3) == 0 { // a crash left the first ones only
				lost = w.IntN(len(parts))
			}
			for _, e := range parts[:len(parts)-lost] {
				entries = append(entries, w.put(t, e))
			}
			if lost == 0 {
				states = append(states, [2]int{begin, len(entries)})
			}
		}
		for _, s := range states {
			end := s[1] + w.IntN(len(entries)-s[1]+1)
			full, fast := replayed(t, entries[:end]), replayed(t, entries[s[0]:end])
			if diff := samePast(full, fast, seed%200 == 0); diff != "" {
				t.Fatalf("seed %d, entries %d to %d:\n%s", seed, s[0], end, diff)
			}
		}
	}
}

// shortPlace is a journal that is long from 40 entries on, and has a state every 10.
func shortPlace(t *testing.T) OnDisk {
	state := t.TempDir()
	return OnDisk{Folder: filepath.Join(state, "journal"), KeyFile: filepath.Join(state, "journal.key"), Latch: ShutFile{Lasting: filepath.Join(state, "shut.json")},
		Logger: slog.New(slog.DiscardHandler), wholeBelow: 40, stateEvery: 10}
}

func openedOn(t *testing.T, place OnDisk) *signedJournal {
	t.Helper()
	j, err := place.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j.(*signedJournal)
}

func read(t *testing.T, j Journal) (past *Past, entries int) {
	t.Helper()
	past, err := Read(func(yield func(journal.Entry, error) bool) {
		for e, err := range j.Replay() {
			entries++
			if !yield(e, err) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return past, entries
}

// TestStatesOnDisk: a journal that ends anywhere, as after a crash, is read from its newest whole
// state, and that says what reading all says.
func TestStatesOnDisk(t *testing.T) {
	place := shortPlace(t)
	w := newWriter(7)
	fast := 0
	for n := range 90 {
		j := openedOn(t, place)
		past, count := read(t, j)
		j.place.wholeBelow = 1 << 40
		full, all := read(t, j)
		j.place.wholeBelow = 40
		if diff := samePast(full, past, true); diff != "" {
			t.Fatalf("with %d entries:\n%s", all, diff)
		}
		if count < all {
			fast++
		}
		if count > 40 {
			t.Errorf("%d entries were read of %d", count, all)
		}
		j.begin(past)
		e := w.entry(t)
		w.past = past // the journal's times and states are its own
		if err := j.Append(e); err != nil {
			t.Fatal(err)
		}
		w.past, _ = read(t, j)
		if n%7 == 3 { // a crash in a state that takes several entries
			w.next = j.Size()
			parts := w.state(t, 3)
			if err := j.Journal.Append(parts[:1+w.IntN(2)]...); err != nil {
				t.Fatal(err)
			}
		}
		j.Close()
	}
	if fast < 40 {
		t.Errorf("%d starts of 90 were from a state", fast)
	}
}

// TestAStateAtTheStop is the last entry, so that the next start reads nothing else.
func TestAStateAtTheStop(t *testing.T) {
	place := shortPlace(t)
	place.wholeBelow, place.stateEvery = 1, 0
	j := openedOn(t, place)
	past, _ := read(t, j)
	j.begin(past)
	for _, kind := range []journal.Kind{journal.Start, journal.Drift, journal.Stop} {
		if err := j.Append(journal.Entry{Kind: kind}); err != nil {
			t.Fatal(err)
		}
	}
	j.Close()
	if _, count := read(t, openedOn(t, place)); count != 1 {
		t.Errorf("%d entries were read, of 4", count)
	}
}

// TestALongState takes several entries: 10,000 engineers.
func TestALongState(t *testing.T) {
	past := newPast()
	var roster []policy.Listed
	for n := range 10_000 {
		key := policy.Key{byte(n), byte(n >> 8), 1}
		roster = append(roster, policy.Listed{Vendor: fmt.Sprint("vendor", n/10), Engineer: fmt.Sprint("engineer", n), Key: key})
		past.Listed[key], past.Seen[key], past.Timestamps[key] = time.Unix(int64(n), 0).UTC(), time.Unix(int64(n), 7).UTC(), [12]byte{byte(n)}
		past.Attempts[fmt.Sprintf("vendor%d/engineer%d", n/10, n)] = netip.MustParseAddr("203.0.113.10")
	}
	if err := past.State.Apply(time.Unix(1, 0).UTC(), "gateway", policy.PolicyLoaded{Digest: "d", Roster: roster}); err != nil {
		t.Fatal(err)
	}
	past.SetBack = []int64{3, 4}
	began := time.Now()
	entries, err := past.entries(9)
	if err != nil {
		t.Fatal(err)
	}
	made := time.Since(began)
	length := 0
	for i := range entries {
		entries[i].Index = int64(9 + i)
		length += len(entries[i].Text)
	}
	fast := replayed(t, entries)
	t.Logf("%d entries, %d bytes, made in %v, read in %v", len(entries), length, made, time.Since(began)-made)
	if diff := samePast(past, fast, false); diff != "" {
		t.Error(diff)
	}
}

// TestStatesOfOtherVersions are passed over.
func TestStatesOfOtherVersions(t *testing.T) {
	place := shortPlace(t)
	place.wholeBelow = 1
	j := openedOn(t, place)
	past, _ := read(t, j)
	j.begin(past)
	if err := j.Append(journal.Entry{Kind: journal.Start, Reason: FirstStart}, journal.Entry{Kind: journal.Stop}); err != nil {
		t.Fatal(err)
	}
	size := j.Size()
	if err := j.Journal.Append(journal.Entry{Kind: journal.State, Count: size, Event: []byte(`{"version":99}`), Text: "{}"}, journal.Entry{Kind: journal.Drift}); err != nil {
		t.Fatal(err)
	}
	j.Close()
	if past, count := read(t, openedOn(t, place)); count != 3 || past.Began.IsZero() {
		t.Errorf("%d entries were read, and the gateway began at %v", count, past.Began)
	}
}

// TestFaultsInTheRest: a changed entry that a start did not read is found afterwards. The recorder
// tells the loop, and the next start reads all before anything opens, until the file is mended.
func TestFaultsInTheRest(t *testing.T) {
	place := shortPlace(t)
	j := openedOn(t, place)
	past, _ := read(t, j)
	j.begin(past)
	for range 400 {
		if err := j.Append(journal.Entry{Kind: journal.Drift}); err != nil {
			t.Fatal(err)
		}
	}
	j.Close()
	bundle := filepath.Join(place.Folder, "tile", "entries", "000")
	good, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Replace(good, []byte("drift"), []byte("drink"), 1)
	for _, c := range []struct {
		name  string
		data  []byte
		opens bool
		fault string
	}{
		{"an entry is another", bad, true, "does not verify from entry 0 on"},
		{"the next start", bad, false, "does not verify from entry 0 on"},
		{"the file is mended", good, true, ""},
		{"and stays so", good, true, ""},
	} {
		if err := os.WriteFile(bundle, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		s := New(place, nil, place.Logger)
		_, err := s.Open()
		switch {
		case !c.opens:
			if err == nil || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		case err != nil:
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if c.fault != "" {
			a := <-s.Acks()
			if a.Err == nil || !strings.Contains(a.Err.Error(), c.fault) || !s.Current(a) || s.Settle(a) != nil {
				t.Errorf("%s: %v", c.name, a.Err)
			}
		} else if j := s.journal.(*signedJournal); j.unread {
			if err, found := <-j.Faults(); found {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		s.Add(Record{Entries: []journal.Entry{{Kind: journal.Drift}}})
		if a := <-s.Acks(); a.Err != nil {
			t.Errorf("%s: afterwards it takes nothing: %v", c.name, a.Err)
		}
		<-s.Quit()
		s.Close()
	}
}
