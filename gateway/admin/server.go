package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"kidoban/gateway"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

const (
	// host is the Host of a request to the socket; localHost is what people
	// write for curl --unix-socket. A browser that was led here by a name of
	// its own says another (DNS rebinding).
	host      = "kidoban"
	localHost = "localhost"
	// bodyMost bounds a request's body, in bytes.
	bodyMost = 16 << 10
	// group may use the socket.
	group = "kidoban"
	// nobody is what the kernel says of a peer whose user is not mapped into
	// the gateway's user namespace (overflowuid): it may be anybody.
	nobody = 65534
)

// Problem is an error as RFC 9457 has it.
type Problem struct {
	Type   string   `json:"type"`
	Title  string   `json:"title"`
	Status int      `json:"status"`
	Detail string   `json:"detail"`
	Errors []string `json:"errors,omitempty"` // of a policy file, one each
}

func (p *Problem) Error() string { return p.Detail }

// Server serves operators.
type Server struct {
	Gateway *gateway.Gateway
	Key     policy.Key // the gateway's own public key
	Logger  *slog.Logger
}

// Listen makes the socket: in a folder of its own if that is missing, mode
// 0660, group kidoban where there is one. A socket that nobody serves any
// more is replaced; one that somebody serves is an error.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("%s is there and is no socket", path)
		}
		c, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			c.Close()
		}
		// Anything but a refusal may come from somebody who is only slow.
		if !errors.Is(err, unix.ECONNREFUSED) {
			return nil, fmt.Errorf("%s is served already: another gateway runs", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	// The socket is born closed to all but its owner.
	old := unix.Umask(0o177)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, err
	}
	if g, err := user.LookupGroup(group); err == nil {
		gid, _ := strconv.Atoi(g.Gid)
		if err := os.Chown(path, -1, gid); err != nil {
			l.Close()
			return nil, fmt.Errorf("give %s to group %s: %w", path, group, err)
		}
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

type peerKey struct{}

// peer is what the kernel says of who connected.
type peer struct {
	cred *unix.Ucred
	err  error
}

// lastAnswers bounds how long Serve waits for answers when the context has ended.
const lastAnswers = 2 * time.Second

// Serve answers until the context ends, and then what it was asked before.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: s.guard(s.routes()),
		// "OPTIONS *" is a request like others: it gets a problem.
		DisableGeneralOptionsHandler: true,

		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(s.Logger.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, credentials(c))
		},
	}
	Bound(server)
	answered := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(answered)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastAnswers)
		defer cancel()
		if server.Shutdown(last) != nil {
			server.Close()
		}
	})
	err := server.Serve(l) // returns as soon as the end begins
	if !stop() {
		<-answered
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func credentials(c net.Conn) peer {
	var p peer
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			p.cred, p.err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		})
	}
	p.err = errors.Join(p.err, err)
	return p
}

// actor names the user who asks, and for root the user who became root.
func (p peer) actor() (policy.Actor, error) {
	if p.err != nil {
		return policy.Actor{}, fmt.Errorf("the kernel does not say who asks: %w", p.err)
	}
	if p.cred.Uid == nobody {
		return policy.Actor{}, fmt.Errorf("uid %d is not mapped into the gateway's user namespace: it could be anybody", nobody)
	}
	name := userName(p.cred.Uid)
	if p.cred.Uid != 0 {
		return policy.Actor{ID: name, Via: "socket", Text: name}, nil
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/loginuid", p.cred.Pid))
	login, parseErr := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil || parseErr != nil || login == 1<<32-1 {
		return policy.Actor{Via: "socket", Text: name + " (no login)"}, nil
	}
	person := userName(uint32(login))
	return policy.Actor{ID: person, Via: "socket", Text: fmt.Sprintf("%s (login %s)", name, person)}, nil
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}

// guard refuses browsers and who cannot be named.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, header := range []string{"Origin", "Referer", "Sec-Fetch-Site"} {
			if len(r.Header.Values(header)) > 0 {
				write(w, problem(http.StatusForbidden, "a browser asks ("+header+"), which nobody needs here"))
				return
			}
		}
		if r.Host != host && r.Host != localHost {
			write(w, problem(http.StatusForbidden, fmt.Sprintf("the Host is %q: allowed is %q or %q", r.Host, host, localHost)))
			return
		}
		p, _ := r.Context().Value(peerKey{}).(peer)
		if _, err := p.actor(); err != nil {
			write(w, problem(http.StatusForbidden, err.Error()))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, bodyMost)
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

// zoneHeader names the site's time zone beside an answer, whose times carry
// their offset alone.
const zoneHeader = "Kidoban-Timezone"

// noPolicy answers a question about a policy where there is none.
func noPolicy(snap *view.Snapshot) error {
	if snap.Has(view.NoPolicy) {
		return errors.New(snap.Plan.Doubt) // it says so itself
	}
	return fmt.Errorf("there is no policy in force: %s", snap.Plan.Doubt)
}

func (s *Server) routes() http.Handler {
	routes := table{}
	get := func(path string, f func(*view.Snapshot, url.Values) (any, error), parameters ...string) {
		routes[path] = route{http.MethodGet, func(w http.ResponseWriter, r *http.Request) {
			query, err := queryOf(r, parameters)
			snap := s.Gateway.Snapshot()
			if p := snap.Plan.Policy; p != nil {
				w.Header().Set(zoneHeader, p.Zone.String())
			}
			var answer any
			if err == nil {
				answer, err = f(snap, query)
			}
			respond(w, answer, err)
		}}
	}
	get("/v1/status", func(snap *view.Snapshot, _ url.Values) (any, error) { return snap.StatusAt(s.Gateway.Now()), nil })
	get("/v1/sessions", func(snap *view.Snapshot, _ url.Values) (any, error) {
		return snap.StatusAt(s.Gateway.Now()).Sessions, nil
	})
	get("/v1/grants", func(snap *view.Snapshot, _ url.Values) (any, error) { return snap.GrantsAt(s.Gateway.Now()), nil })
	get("/v1/refusals", func(snap *view.Snapshot, _ url.Values) (any, error) { return snap.RefusalsLocal(), nil })
	get("/v1/explain", func(snap *view.Snapshot, q url.Values) (any, error) {
		return Explain(snap, Question{q.Get("engineer"), q.Get("from"), q.Get("to"), q.Get("at")}, s.Gateway.Now())
	}, "engineer", "from", "to", "at")
	get("/v1/calendar", func(snap *view.Snapshot, q url.Values) (any, error) {
		if snap.Plan.Policy == nil {
			return nil, noPolicy(snap)
		}
		return Calendar(snap.Plan.Policy, q.Get("from"), q.Get("until"), s.Gateway.Now())
	}, "from", "until")
	get("/v1/client-config", func(snap *view.Snapshot, q url.Values) (any, error) {
		if snap.Plan.Policy == nil {
			return nil, noPolicy(snap)
		}
		text, err := ClientConfig(snap.Plan.Policy, q.Get("engineer"), s.Key, q.Get("mtu"))
		return map[string]string{"config": text}, err
	}, "engineer", "mtu")
	post := func(path string, f func(ctx context.Context, actor policy.Actor, o order) (gateway.Outcome, error)) {
		routes[path] = route{http.MethodPost, func(w http.ResponseWriter, r *http.Request) {
			p, _ := r.Context().Value(peerKey{}).(peer)
			actor, err := p.actor()
			if err == nil {
				_, err = queryOf(r, nil)
			}
			var o order
			if err == nil {
				o, err = readOrder(r.Body)
			}
			var out gateway.Outcome
			if err == nil {
				// The command takes effect whether or not its client waits.
				out, err = f(context.WithoutCancel(r.Context()), actor, o)
			}
			respond(w, out, err)
		}}
	}
	post("/v1/close", func(ctx context.Context, actor policy.Actor, o order) (gateway.Outcome, error) {
		if err := o.complete(true); err != nil {
			return gateway.Outcome{}, err
		}
		return s.Gateway.Do(ctx, actor, policy.Shut{Scope: o.Scope, Reason: o.Reason})
	})
	post("/v1/reopen", func(ctx context.Context, actor policy.Actor, o order) (gateway.Outcome, error) {
		if err := o.complete(true); err != nil {
			return gateway.Outcome{}, err
		}
		return s.Gateway.Do(ctx, actor, policy.Reopened{Scope: o.Scope, Reason: o.Reason})
	})
	post("/v1/reload", func(ctx context.Context, actor policy.Actor, o order) (gateway.Outcome, error) {
		if o != (order{}) {
			return gateway.Outcome{}, invalid("a reload has neither scope nor reason: it reads the policy file again, as a whole")
		}
		return s.Gateway.Reload(ctx, actor)
	})
	post("/v1/recover", func(ctx context.Context, actor policy.Actor, o order) (gateway.Outcome, error) {
		if err := o.complete(false); err != nil {
			return gateway.Outcome{}, err
		}
		return s.Gateway.Recover(ctx, actor, o.Reason)
	})
	return routes
}

// table is every path that there is. Paths are taken as they are: nothing is
// cleaned or redirected, and whatever is not listed gets a problem.
type table map[string]route

type route struct {
	method string
	serve  http.HandlerFunc
}

func (t table) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch there, ok := t[r.URL.Path]; {
	case !ok:
		write(w, problem(http.StatusNotFound, fmt.Sprintf("%s is not there: allowed is %s", r.URL.Path, strings.Join(slices.Sorted(maps.Keys(t)), ", "))))
	case r.Method != there.method && (r.Method != http.MethodHead || there.method != http.MethodGet):
		w.Header().Set("Allow", there.method)
		write(w, problem(http.StatusMethodNotAllowed, fmt.Sprintf("%s %s: allowed is %s", r.Method, r.URL.Path, there.method)))
	default:
		there.serve(w, r)
	}
}

// queryOf reads a query strictly: a parameter that is not known, or there
// twice, would otherwise be a question other than the one that was meant.
func queryOf(r *http.Request, known []string) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("the query cannot be read: %v", err)
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		switch {
		case len(known) == 0:
			return nil, invalid("the parameter %q: %s has none", name, r.URL.Path)
		case !slices.Contains(known, name):
			return nil, invalid("there is no parameter %q: allowed is %s", name, strings.Join(known, ", "))
		case len(query[name]) > 1:
			return nil, invalid("the parameter %q is there %d times: allowed is once", name, len(query[name]))
		}
		if err := Shows(fmt.Sprintf("the parameter %q", name), query.Get(name)); err != nil {
			return nil, err
		}
	}
	return query, nil
}

// order is the body of a command.
type order struct {
	Scope  policy.Scope `json:"scope"`
	Reason string       `json:"reason"`
}

// readOrder reads the body of a command; a reload has none.
func readOrder(body io.Reader) (order, error) {
	var o order
	text, err := io.ReadAll(body)
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return o, err
	case err != nil:
		return o, invalid("the body cannot be read: %v", err)
	case len(text) == 0:
		return o, nil
	case !utf8.Valid(text):
		return o, invalid("the body is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		return o, invalid(`the body is not {"scope": "...", "reason": "..."}: %v`, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return o, invalid("the body has more than one value")
	}
	return o, twice(text)
}

// twice refuses an order with a key that is there twice, whatever its case, of
// which only the last would count. Its values are no objects.
func twice(text []byte) error {
	var seen []string
	d := json.NewDecoder(bytes.NewReader(text))
	for {
		token, err := d.Token()
		if err != nil {
			return nil // its end: it has been read once
		}
		key, ok := token.(string)
		if !ok {
			continue
		}
		if slices.ContainsFunc(seen, func(s string) bool { return strings.EqualFold(s, key) }) {
			return invalid("%q is there twice: allowed is once", key)
		}
		seen = append(seen, key)
		if _, err := d.Token(); err != nil {
			return nil
		}
	}
}

func (o order) complete(scope bool) error {
	switch {
	case scope && o.Scope == "":
		return invalid("no scope: allowed is vendor/engineer, vendor, or all")
	case !scope && o.Scope != "":
		return invalid("the scope %q: a recovery has none, it is about the whole gateway", o.Scope)
	}
	if len(o.Scope) > nameMost {
		return invalid("the scope has %d bytes: allowed are %d", len(o.Scope), nameMost)
	}
	if err := Shows("the scope", string(o.Scope)); err != nil {
		return err
	}
	if strings.TrimSpace(o.Reason) == "" {
		return invalid("no reason: say why, it is kept in the journal")
	}
	if len(o.Reason) > gateway.ReasonMax {
		return invalid("the reason has %d bytes: allowed are %d", len(o.Reason), gateway.ReasonMax)
	}
	return Shows("the reason", o.Reason)
}

// Shows refuses a text that is not UTF-8 or has characters that do not show, and
// says whose it is. Where JSON had something else than UTF-8, half of a surrogate
// pair for one, U+FFFD stands in its place: that is not what was meant either.
func Shows(whose, text string) error {
	for _, r := range text {
		if r == utf8.RuneError {
			return invalid("%s has a part that is not UTF-8, or was not: allowed is printable text", whose)
		}
		// The full-width space of Japanese text shows, in its way.
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return invalid("%s has the character %q, which does not show: allowed is printable text", whose, r)
		}
	}
	return nil
}

func respond(w http.ResponseWriter, answer any, err error) {
	if err != nil {
		write(w, problemOf(err))
		return
	}
	text, err := encoded(answer)
	if err != nil { // before the status is sent, which says that all is well
		write(w, problem(http.StatusInternalServerError, fmt.Sprintf("the answer cannot be written as JSON: %v", err)))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text) // an error means that the client went away
}

// problemOf finds the status that tells a client what to do about an error.
func problemOf(err error) *Problem {
	var missing *policy.NoMatchError
	var input *InputError
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return problem(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is too large: allowed are %d bytes", large.Limit))
	case errors.As(err, &missing):
		return problem(http.StatusNotFound, err.Error())
	case errors.As(err, &input):
		return problem(http.StatusBadRequest, err.Error())
	}
	p := problem(http.StatusConflict, err.Error())
	var several interface{ Unwrap() []error }
	if errors.As(err, &several) {
		for _, e := range several.Unwrap() {
			p.Errors = append(p.Errors, strings.Split(e.Error(), "\n")...)
		}
	}
	return p
}

func problem(status int, detail string) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail}
}

func write(w http.ResponseWriter, p *Problem) {
	text, err := encoded(p)
	if err != nil {
		panic(err) // texts and a number are always JSON
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_, _ = w.Write(text) // an error means that the client went away
}

func encoded(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}
