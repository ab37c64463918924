package witness

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kidoban/gateway/journal"
	"kidoban/gateway/view"
)

// fakeWitness is a witness as tlog-witness describes it, for one journal.
type fakeWitness struct {
	*httptest.Server
	name string
	key  ed25519.PrivateKey
	log  note.Verifier

	mu    sync.Mutex
	tree  tlog.Tree
	text  []byte // the newest checkpoint, cosigned
	asked int
	// Instead of the right answer.
	answer func(w http.ResponseWriter, r *http.Request) bool
}

func newFakeWitness(t *testing.T, logKey string) *fakeWitness {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeWitness{name: "witness.example/w1", key: key}
	if f.log, err = note.NewVerifier(logKey); err != nil {
		t.Fatal(err)
	}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fakeWitness) hash(kind byte) (uint32, []byte) {
	raw := append([]byte{kind}, f.key.Public().(ed25519.PublicKey)...)
	sum := sha256.Sum256(append([]byte(f.name+"\n"), raw...))
	return binary.BigEndian.Uint32(sum[:]), raw
}

func (f *fakeWitness) vkey(kind byte) string {
	hash, raw := f.hash(kind)
	return fmt.Sprintf("%s+%08x+%s", f.name, hash, base64.StdEncoding.EncodeToString(raw))
}

func (f *fakeWitness) setting() string { return f.URL + "/log+" + f.vkey(4) }

func (f *fakeWitness) cosign(text string, at time.Time) string {
	hash, _ := f.hash(4)
	raw := binary.BigEndian.AppendUint32(nil, hash)
	raw = binary.BigEndian.AppendUint64(raw, uint64(at.Unix()))
	raw = append(raw, ed25519.Sign(f.key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at.Unix(), text))...)
	return fmt.Sprintf("\u2014 %s %s\n", f.name, base64.StdEncoding.EncodeToString(raw))
}

func (f *fakeWitness) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.answer != nil && f.answer(w, r) {
		return
	}
	sum := sha256.Sum256([]byte(f.log.Name()))
	switch r.Method + " " + r.URL.Path {
	case "POST /log/add-checkpoint":
		f.asked++
		body, _ := io.ReadAll(r.Body)
		f.add(w, body)
	case "GET /log/" + hex.EncodeToString(sum[:]) + "/checkpoint":
		if f.text == nil {
			http.NotFound(w, r)
			return
		}
		w.Write(f.text)
	default:
		http.Error(w, "no such call", http.StatusMethodNotAllowed)
	}
}

// add is add-checkpoint.
func (f *fakeWitness) add(w http.ResponseWriter, body []byte) {
	head, checkpoint, _ := bytes.Cut(body, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	old, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "old "), 10, 64)
	if err != nil || lines[0] != fmt.Sprintf("old %d", old) || len(lines) > 64 {
		http.Error(w, "malformed", http.StatusBadRequest)
		return
	}
	var proof tlog.TreeProof
	for _, line := range lines[1:] {
		h, err := tlog.ParseHash(line)
		if err != nil {
			http.Error(w, "malformed", http.StatusBadRequest)
			return
		}
		proof = append(proof, h)
	}
	signed, err := note.Open(checkpoint, note.VerifierList(f.log))
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	parts := strings.Split(signed.Text, "\n")
	if parts[0] != f.log.Name() {
		http.Error(w, "unknown", http.StatusNotFound)
		return
	}
	size, _ := strconv.ParseInt(parts[1], 10, 64)
	root, _ := tlog.ParseHash(parts[2])
	switch {
	case old > size:
		http.Error(w, "old size", http.StatusBadRequest)
	case old != f.tree.N:
		w.Header().Set("Content-Type", "text/x.tlog.size")
		w.WriteHeader(http.StatusConflict)
		fmt.Fprintln(w, f.tree.N)
	case old == 0 && len(proof) > 0,
		old > 0 && old < size && tlog.CheckTree(proof, size, root, old, f.tree.Hash) != nil,
		old > 0 && old == size && (root != f.tree.Hash || len(proof) > 0):
		http.Error(w, "inconsistent", http.StatusUnprocessableEntity)
	default:
		f.tree = tlog.Tree{N: size, Hash: root}
		line := f.cosign(signed.Text, time.Now())
		f.text = append(checkpoint, line...)
		fmt.Fprintf(w, "\u2014 someone.else %s\n%s", base64.StdEncoding.EncodeToString(make([]byte, 76)), line)
	}
}

// site is a journal with its gateway's side of the witness.
type site struct {
	*Client
	t       *testing.T
	dir     string
	keyFile string
	key     string
	journal *journal.Journal
	log     bytes.Buffer

	doubts []view.Message
	noted  []journal.Entry
}

func newSite(t *testing.T) *site {
	state := t.TempDir()
	s := &site{t: t, dir: filepath.Join(state, "journal"), keyFile: filepath.Join(state, "journal.key")}
	s.open()
	s.add(3)
	var err error
	if s.key, err = journal.VerifierKey(s.keyFile); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) open() {
	s.t.Helper()
	var err error
	if s.journal, err = journal.Open(s.dir, s.keyFile); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.journal.Close() })
}

// watch begins anew with a witness, as a start of the gateway does.
func (s *site) watch(f *fakeWitness) *site {
	s.t.Helper()
	var err error
	s.Client, err = New(Config{Setting: f.setting(), Folder: s.dir, KeyFile: s.keyFile, Logger: slog.New(slog.NewTextHandler(&s.log, nil)),
		Follow: func() (Stream, error) { return nil, errors.New("none") },
		Doubt: func(_ context.Context, m view.Message) {
			s.doubts = append(s.doubts, m)
			s.append(journal.Entry{Kind: journal.Doubt, Text: m.String()})
		},
		Note: func(_ context.Context, e journal.Entry) error {
			s.noted = append(s.noted, e)
			return s.journal.Append(e)
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return s
}

func (s *site) append(e journal.Entry) {
	s.t.Helper()
	if err := s.journal.Append(e); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) add(count int) {
	for range count {
		s.append(journal.Entry{Kind: journal.Refused, Text: "filler"})
	}
}

// keeps copies the folder, and restore puts the copy in its place.
func (s *site) keeps() string {
	s.t.Helper()
	old := filepath.Join(s.t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(s.dir)); err != nil {
		s.t.Fatal(err)
	}
	return old
}

func (s *site) restore(old string) {
	s.t.Helper()
	s.journal.Close()
	if err := os.RemoveAll(s.dir); err != nil {
		s.t.Fatal(err)
	}
	if err := os.CopyFS(s.dir, os.DirFS(old)); err != nil {
		s.t.Fatal(err)
	}
	s.open()
}

// asks makes one request, and says what came of it.
func (s *site) asks(wantRefusal view.Code, wantDoubts int) {
	s.t.Helper()
	if err := s.ask(s.t.Context()); err != nil {
		s.t.Fatalf("ask: %v", err)
	}
	var got view.Code
	if hints := s.Hints(); len(hints) > 0 {
		got = hints[0].Message.Args["cause"].(view.Message).Code
	}
	if got != wantRefusal || len(s.doubts) != wantDoubts {
		s.t.Fatalf("refused for %q with %d doubts, want %q with %d\n%s", got, len(s.doubts), wantRefusal, wantDoubts, &s.log)
	}
	if _, _, refuses := s.Status(); refuses != (wantRefusal != "") {
		s.t.Fatalf("Status says refuses %v", refuses)
	}
}

func TestCosigned(t *testing.T) {
	s := newSite(t)
	f := newFakeWitness(t, s.key)
	s.watch(f)
	for _, more := range []int{0, 0, 1, 300, 0} {
		s.add(more)
		size := s.journal.Size()
		s.asks("", 0)
		text, err := os.ReadFile(filepath.Join(s.dir, journal.WitnessedFile))
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range []byte{1, 4} {
			w, err := journal.NewWitness(f.vkey(kind))
			if err != nil {
				t.Fatal(err)
			}
			if at, err := w.Cosigned(text); err != nil || time.Since(at) > time.Minute {
				t.Errorf("cosigned at %s, %v", at, err)
			}
		}
		if tree, err := journal.FindCheckpoint(text, s.key); err != nil || tree != f.tree || tree.N != size {
			t.Errorf("the kept checkpoint is of %d entries (%v), the witness's of %d, want %d", tree.N, err, f.tree.N, size)
		}
		if bytes.Contains(text, []byte("someone.else")) {
			t.Error("a signature of nobody's is kept")
		}
	}
	if len(s.noted) != 1 || s.noted[0].Kind != journal.Mirrored || s.noted[0].Count != 3 {
		t.Errorf("entries: %+v, want one of kind mirrored a day", s.noted)
	}
	if name, at, _ := s.Status(); name != f.name || time.Since(at) > time.Minute {
		t.Errorf("Status: %s, %s", name, at)
	}
	// A start knows of the cosignature, and asks from there.
	asked := f.asked
	s.watch(f).asks("", 0)
	if f.asked != asked+1 || len(s.noted) != 1 {
		t.Errorf("a start asked %d times, and wrote %d entries in all", f.asked-asked, len(s.noted))
	}
	// The file is gone: the witness says where it is.
	os.Remove(filepath.Join(s.dir, journal.WitnessedFile))
	s.watch(f).asks("", 0)
}

// TestRolledBack puts an old copy of the journal back: it is found out, also after the gateway has
// written on, and a recovery accepts it.
func TestRolledBack(t *testing.T) {
	for _, more := range []int{0, 2, 40} {
		t.Run(fmt.Sprint(more, " more"), func(t *testing.T) {
			s := newSite(t)
			f := newFakeWitness(t, s.key)
			s.watch(f).asks("", 0)
			old := s.keeps()
			s.add(20)
			s.asks("", 0)
			s.restore(old)
			s.add(more)
			s.watch(f).asks("witness_doubt", 1)
			s.asks("witness_doubt", 2)
			s.watch(f).asks("witness_doubt", 3) // a start does not forget
			s.append(journal.Entry{Kind: journal.Recovery, Actor: "suzuki", Reason: "restored", From: time.Now()})
			s.asks("witness_accepted", 3)
			s.watch(f).asks("witness_accepted", 3)
			refusals := 0
			for _, e := range s.noted {
				if e.Reason == Refuses {
					refusals++
				}
			}
			if refusals == 0 || refusals > 4 {
				t.Errorf("%d entries about refusals", refusals)
			}
		})
	}
}

// TestBegunAnew begins another journal by a recovery: the witness has the old one, and that is no doubt.
func TestBegunAnew(t *testing.T) {
	s := newSite(t)
	f := newFakeWitness(t, s.key)
	s.add(30)
	s.watch(f).asks("", 0)
	s.add(1)
	s.journal.Close()
	_, last, err := journal.Archive(s.dir, s.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	s.open()
	s.append(journal.Entry{Kind: journal.Recovery, Actor: "suzuki", From: time.Now(), Text: "begins anew after X; its last checkpoint:\n" + last + "\nwhat was wrong with it: y"})
	s.watch(f).asks("witness_accepted", 0)
}

// TestLyingWitness has a witness say what it likes: that is an alarm and never a doubt.
func TestLyingWitness(t *testing.T) {
	status := func(code int, body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodGet {
				return false
			}
			w.WriteHeader(code)
			io.WriteString(w, body)
			return true
		}
	}
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request) bool
		want   view.Code
	}{
		"a larger size":               {status(409, "1000000\n"), "witness_size"},
		"a smaller one, again":        {status(409, "1\n"), "witness_size"},
		"the same":                    {status(409, "3\n"), "witness_size"},
		"another past":                {status(422, "no"), "witness_size"},
		"unknown":                     {status(404, ""), "witness_unknown"},
		"not signed":                  {status(403, ""), "witness_key"},
		"malformed":                   {status(400, ""), "witness_answer"},
		"moved":                       {status(302, ""), "witness_answer"},
		"yes, and nothing":            {status(200, ""), "witness_answer"},
		"yes, and nonsense":           {status(200, strings.Repeat("\u2014 x y\n", 9999)), "witness_answer"},
		"a checkpoint of another log": {nil, "witness_size"},
		"its own checkpoint of ours":  {nil, "witness_size"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			f := newFakeWitness(t, s.key)
			s.watch(f).asks("", 0)
			s.add(2)
			f.answer = c.answer
			origin := f.log.Name()
			forged := fmt.Sprintf("%s\n%d\n%s\n", origin, 500, tlog.Hash{1})
			switch {
			case strings.HasPrefix(name, "a checkpoint of another"):
				skey, _, err := note.GenerateKey(nil, origin) // the same name, another key
				if err != nil {
					t.Fatal(err)
				}
				signer, _ := note.NewSigner(skey)
				f.text, _ = note.Sign(&note.Note{Text: forged}, signer)
			case strings.HasPrefix(name, "its own"):
				f.text = []byte(forged + "\n" + f.cosign(forged, time.Now()))
			}
			if c.answer == nil {
				f.answer = status(409, "500\n")
			}
			s.asks(c.want, 0)
			if !strings.Contains(s.log.String(), "level=ERROR") || s.noted[len(s.noted)-1].Reason != Refuses {
				t.Errorf("no alarm: %s", &s.log)
			}
			f.answer = nil
			s.asks("", 0)
		})
	}
}

// TestSilentWitness has a witness that is away or hangs: the request ends with its context, and
// nothing else waits.
func TestSilentWitness(t *testing.T) {
	s := newSite(t)
	f := newFakeWitness(t, s.key)
	s.watch(f)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s.caller.place.URL = "http://" + silent.Addr().String()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := s.ask(ctx); err == nil || time.Since(began) > patience {
		t.Errorf("a witness that hangs: %v after %s", err, time.Since(began))
	}
	s.caller.http.Timeout = 50 * time.Millisecond
	if err := s.ask(t.Context()); err == nil {
		t.Error("a witness that hangs: no error")
	}
	s.caller.place.URL = f.URL
	f.Close()
	if err := s.ask(t.Context()); err == nil {
		t.Error("a witness that is away: no error")
	}
	for range 3 {
		_ = s.ask(t.Context())
	}
	if n := strings.Count(s.log.String(), "does not answer"); n != 1 {
		t.Errorf("%d lines about one silence:\n%s", n, &s.log)
	}
	if s.Hints() != nil {
		t.Error("a hint at once")
	}
	s.began = s.began.Add(-4 * time.Hour)
	if hints := s.Hints(); len(hints) != 1 || hints[0].Message.Code != "witness_silent" {
		t.Errorf("after four hours: %v", hints)
	}
}

// entries is a Stream of a test.
type entries chan []journal.Line

func (e entries) Next(ctx context.Context) ([]journal.Line, error) {
	select {
	case lines := <-e:
		return lines, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestRunAsks has Run ask at the start, and after the end of a session.
func TestRunAsks(t *testing.T) {
	s := newSite(t)
	f := newFakeWitness(t, s.key)
	s.watch(f)
	feed := make(entries)
	s.cfg.Follow = func() (Stream, error) { return feed, nil }
	s.settle = 0
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	asked := func(n int) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
			f.mu.Lock()
			got := f.asked
			f.mu.Unlock()
			if got >= n {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("asked %d times, want %d", got, n)
			}
		}
	}
	asked(1)
	line := func(e journal.Entry) []journal.Line {
		text, _ := json.Marshal(e)
		return []journal.Line{{JSON: text}}
	}
	feed <- line(journal.Entry{Kind: journal.SessionClosed})
	asked(2)
	feed <- line(journal.Entry{Kind: journal.SessionClosed})
	asked(3)
	cancel()
	<-done
}

func TestParse(t *testing.T) {
	s := newSite(t)
	f := newFakeWitness(t, s.key)
	vkey := f.vkey(4)
	if p, err := Parse("https://w.example/a/b/+" + vkey); err != nil || p.URL != "https://w.example/a/b" || p.Name() != f.name {
		t.Errorf("%+v, %v", p, err)
	}
	for _, wrong := range []string{"", vkey, "https://w.example", "https://w.example+", "w.example/a+" + vkey, "ftp://w.example+" + vkey, "https://u:p@w.example+" + vkey,
		"https://w.example?x=1+" + vkey, "https://w.example/+" + vkey[:len(vkey)-4], "https://w.example/+" + strings.Replace(vkey, "+", "+0", 1), "https://w.example/+x" + vkey,
		"https://w.example/+" + s.key[:len(s.key)-2]} {
		if _, err := Parse(wrong); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
	if c, err := New(Config{}); c != nil || err != nil {
		t.Errorf("without a setting: %v, %v", c, err)
	}
	var none *Client
	none.Run(t.Context())
	if name, _, _ := none.Status(); name != "" || none.Hints() != nil {
		t.Error("a witness where none is set")
	}
}
