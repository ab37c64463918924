package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"kidoban/gateway/api"
)

// eventServer serves entries as the api does, and cuts streams at any byte.
type eventServer struct {
	mu      sync.Mutex
	random  *rand.Rand
	journal string
	size    int
	deaf    bool // it does not look at the last index
	fails   int  // so many times it answers fail
	fail    int
}

func (s *eventServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	refuse := func(status int) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"status": %d, "detail": "no"}`, status)
	}
	if s.fails > 0 {
		s.fails--
		refuse(s.fail)
		return
	}
	after := s.size - 1
	if last := r.Header.Get(api.LastEventHeader); last != "" {
		after, _ = strconv.Atoi(last)
	}
	switch {
	case after >= s.size:
		refuse(http.StatusConflict)
		return
	case s.deaf:
		after = -1
	}
	w.Header().Set(api.JournalHeader, s.journal)
	w.Header().Set(api.AfterHeader, strconv.Itoa(after))
	w.Header().Set(api.ZoneHeader, "Asia/Tokyo")
	var text strings.Builder
	for i := after + 1; i < s.size; i++ {
		if s.random.IntN(3) == 0 {
			text.WriteString(": beat\n\n")
		}
		fmt.Fprintf(&text, "id: %d\nevent: shut\ndata: {\"index\":%d,\"of\":%q}\n\n", i, i, s.journal)
	}
	whole := text.String()
	w.WriteHeader(http.StatusOK)
	fmt.Fprint(w, whole[:s.random.IntN(len(whole)+1)])
	if s.random.IntN(2) == 0 {
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler) // the connection is cut
	}
}

// following serves events on a socket.
func following(t *testing.T, s *eventServer) Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "admin.sock")
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, s, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return Client{Socket: socket, retry: 1}
}

var errSeen = errors.New("seen")

func again(error) error { return nil }

// TestFollowJoinsStreams: at whatever byte streams are cut, a follower has every entry once. It
// would not if the server did not resume by the index.
func TestFollowJoinsStreams(t *testing.T) {
	const size = 300
	for _, deaf := range []bool{false, true} {
		c := following(t, &eventServer{random: rand.New(rand.NewPCG(1, 2)), journal: "a", size: size, deaf: deaf, fails: 3, fail: 503})
		var got []string
		var want []string
		for i := range size {
			want = append(want, fmt.Sprintf(`{"index":%d,"of":"a"}`, i))
		}
		err := c.Follow(t.Context(), &Place{Index: -1}, []string{"shut"}, func(e Event) error {
			if e.Kind != "shut" || e.Journal != "a" || e.Zone.String() != "Asia/Tokyo" || !strings.HasPrefix(string(e.JSON), fmt.Sprintf(`{"index":%d,`, e.Index)) {
				t.Errorf("%+v", e)
			}
			if got = append(got, string(e.JSON)); e.Index == size-1 || len(got) > 10*size {
				return errSeen
			}
			return nil
		}, again)
		if !errors.Is(err, errSeen) || slices.Equal(got, want) == deaf {
			t.Errorf("deaf %t: %v, %d entries of %d", deaf, err, len(got), size)
		}
	}
}

// TestFollowGoesOnInAnotherJournal: where another journal has begun, shorter or longer than the
// one before, Follow goes on with its first entry.
func TestFollowGoesOnInAnotherJournal(t *testing.T) {
	for _, size := range []int{3, 50} {
		c := following(t, &eventServer{random: rand.New(rand.NewPCG(1, 2)), journal: "b", size: size})
		first := -1
		err := c.Follow(t.Context(), &Place{"a", 20}, nil, func(e Event) error {
			if first < 0 {
				first = int(e.Index)
			}
			if e.Journal != "b" {
				t.Errorf("%+v", e)
			}
			if e.Index == int64(size-1) {
				return errSeen
			}
			return nil
		}, again)
		if !errors.Is(err, errSeen) || first != 0 {
			t.Errorf("%d entries: %v, and the first is %d", size, err, first)
		}
	}
}

// TestFollowEnds with what its caller says, with its context, and where asking again does not help.
func TestFollowEnds(t *testing.T) {
	s := &eventServer{random: rand.New(rand.NewPCG(1, 2)), journal: "a", size: 5}
	c := following(t, s)
	none := func(Event) error { return nil }
	for status, told := range map[int]bool{400: false, 403: false, 429: true, 500: true, 503: true} {
		s.fails, s.fail = 1, status
		heard := error(nil)
		err := c.Follow(t.Context(), nil, nil, none, func(err error) error {
			if heard = err; err != nil {
				return errSeen
			}
			return nil
		})
		var p *api.Problem
		if told && (!errors.Is(err, errSeen) || !errors.As(heard, &p)) || !told && !errors.As(err, &p) || p.Status != status {
			t.Errorf("%d: %v, lost: %v", status, err, heard)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.Follow(ctx, nil, nil, none, func(err error) error {
		if err != nil {
			cancel()
		}
		return nil
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("with its context: %v", err)
	}
	err := Client{Socket: "/nonexistent/admin.sock"}.Follow(t.Context(), nil, nil, none, func(err error) error { return err })
	if !errors.Is(err, ErrNoGateway) {
		t.Errorf("without a gateway: %v", err)
	}
}
