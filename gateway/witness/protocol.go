package witness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"kidoban/gateway/journal"
)

// Place is a witness: where it is, and the key of its cosignatures.
type Place struct {
	URL string // prefix of its calls, without / at the end
	*journal.Witness
}

// Parse reads a setting URL+NAME+HASH+KEY.
func Parse(setting string) (Place, error) {
	address, vkey, _ := strings.Cut(setting, "+")
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return Place{}, errors.New("it does not begin with the witness's URL: allowed is https://HOST/PATH+NAME+HASH+KEY, without user, query or fragment")
	}
	w, err := journal.NewWitness(vkey)
	if err != nil {
		return Place{}, fmt.Errorf("behind the URL and +: %w", err)
	}
	return Place{strings.TrimRight(address, "/"), w}, nil
}

const (
	// patience bounds one request, from the name's resolution to the end of the answer.
	patience = 20 * time.Second
	// answerMost bounds an answer, in bytes: a checkpoint with many signatures.
	answerMost = 64 << 10
)

// refusal is an answer that is not a cosignature.
type refusal struct {
	status int
	size   int64 // of 409: the tree that the witness cosigned last
	text   string
}

func (r *refusal) Error() string { return fmt.Sprintf("HTTP status %d: %.100q", r.status, r.text) }

// silent reports whether an answer says nothing about the journal: another try may succeed.
func (r *refusal) silent() bool { return r.status >= 500 || r.status == http.StatusTooManyRequests }

// caller makes the requests.
type caller struct {
	place Place
	http  *http.Client
}

func newCaller(p Place) caller {
	return caller{p, &http.Client{
		Timeout:       patience,
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConns: 1, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// add asks for a cosignature of a checkpoint, and gives the checkpoint with it. proof is from the
// tree of size old, which the witness cosigned last. An answer without one is a *refusal.
func (c caller) add(ctx context.Context, old int64, proof tlog.TreeProof, checkpoint []byte) (cosigned []byte, at time.Time, err error) {
	var body bytes.Buffer
	fmt.Fprintf(&body, "old %d\n", old)
	for _, h := range proof {
		fmt.Fprintln(&body, h)
	}
	fmt.Fprintf(&body, "\n%s", checkpoint)
	status, answer, err := c.do(ctx, http.MethodPost, "/add-checkpoint", &body)
	if err != nil {
		return nil, time.Time{}, err
	}
	if status != http.StatusOK {
		r := &refusal{status: status, text: string(answer)}
		if status == http.StatusConflict {
			if r.size, err = strconv.ParseInt(strings.TrimSuffix(r.text, "\n"), 10, 48); err != nil || r.size < 0 {
				r.size, r.status = 0, http.StatusBadGateway // a proxy's 409, or nonsense
			}
		}
		return nil, time.Time{}, r
	}
	// Other signatures are not kept: they are not verified.
	for line := range bytes.Lines(answer) {
		with := append(bytes.Clone(checkpoint), line...)
		if at, err := c.place.Cosigned(with); err == nil {
			return with, at, nil
		}
	}
	return nil, time.Time{}, &refusal{status: status, text: string(answer)}
}

// newest asks for the newest checkpoint of a journal that the witness cosigned.
func (c caller) newest(ctx context.Context, origin string) ([]byte, error) {
	sum := sha256.Sum256([]byte(origin))
	status, answer, err := c.do(ctx, http.MethodGet, "/"+hex.EncodeToString(sum[:])+"/checkpoint", nil)
	if err == nil && status != http.StatusOK {
		err = &refusal{status: status, text: string(answer)}
	}
	return answer, err
}

func (c caller) do(ctx context.Context, method, path string, body io.Reader) (status int, answer []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, method, c.place.URL+path, body)
	if err != nil {
		return 0, nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(response.Body, answerMost))
	return response.StatusCode, answer, err
}
