package notify

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"kidoban/gateway/journal"
	"kidoban/gateway/view"
)

// anywhere is a guard that refuses nothing: receivers of tests are on the loopback.
func anywhere(string, string, syscall.RawConn) error { return nil }

const (
	oldSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	newSecret = "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

// shut is the notice that tests send.
func shut(t *testing.T) Notice {
	return noticeOf(t, journal.Entry{Kind: journal.Shut, Scope: "medisys", Reason: "<!channel> drill & test", Actor: "tanaka", VendorName: "株式会社メディシス", Vendor: "medisys"},
		object{"scope": "medisys"})
}

// file writes a file into a folder that is the test's alone.
func file(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// receiver is a webhook by TLS, with the sender that trusts it.
func receiver(t *testing.T, serve http.HandlerFunc) (Sender, *httptest.Server) {
	t.Helper()
	server := httptest.NewUnstartedServer(serve)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return Sender{Site: "Kido Hospital", Guard: anywhere, Sink: view.Sink{Name: "siem", Webhook: server.URL + "/hidden-path?token=hidden-token", Language: view.English,
		CAFile: file(t, "ca.pem", string(authority), 0o644)}}, server
}

// TestSignature has the library of Standard Webhooks judge the signature.
func TestSignature(t *testing.T) {
	const id = "20261130T181900.000000000Z/7/siem"
	taken := 0
	for _, secrets := range [][]string{{oldSecret}, {newSecret}, {newSecret, oldSecret}} {
		s, _ := receiver(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			for _, secret := range []string{oldSecret, newSecret} {
				judge, err := standardwebhooks.NewWebhook(secret)
				if err != nil {
					t.Error(err)
				}
				want := strings.Contains(strings.Join(secrets, " "), secret)
				if err := judge.Verify(body, r.Header); (err == nil) != want {
					t.Errorf("signed with %d secrets: verified with another: %v", len(secrets), err)
				}
				if judge.Verify(append(body, ' '), r.Header) == nil {
					t.Error("another body verifies")
				}
			}
			var got struct {
				Type      string
				Timestamp time.Time
				Data      struct {
					Kind, Scope, Reason, Text, Site string
					Index                           int
					Event                           object
				}
			}
			if err := json.Unmarshal(body, &got); err != nil {
				t.Error(err)
			}
			if d := got.Data; got.Type != "shut" || !got.Timestamp.Equal(noon) || d.Kind != "shut" || d.Scope != "medisys" || d.Index != 7 ||
				!strings.HasPrefix(d.Text, "Kido Hospital: An operator closed") || d.Event["scope"] != "medisys" {
				t.Errorf("got %s", body)
			}
			if r.Header.Get("webhook-id") != id {
				t.Errorf("webhook-id is %q", r.Header.Get("webhook-id"))
			}
			taken++
		})
		s.Sink.SecretFile = file(t, "siem.secret", strings.Join(secrets, "\n")+"\n", 0o640)
		if err := s.Send(t.Context(), shut(t), id); err != nil {
			t.Error(err)
		}
	}
	if taken != 3 {
		t.Errorf("%d notices came", taken)
	}
}

// TestLongEvent: a policy's roster does not make the body long.
func TestLongEvent(t *testing.T) {
	n := noticeOf(t, journal.Entry{Kind: journal.PolicyLoaded, Digest: "d1"}, object{"roster": strings.Repeat("x", entryMost)})
	body, _, err := Sender{Sink: view.Sink{Webhook: "https://x", Language: view.English}}.body(n, "id", noon)
	if err != nil || len(body) > 1<<10 || !strings.Contains(string(body), `"digest":"d1"`) {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}

func TestTextFormats(t *testing.T) {
	for format, want := range map[string]string{
		"slack": `"text":"Kido Hospital: An operator closed access\nvendor: 株式会社メディシス (medisys)\nof: medisys\nby: tanaka\nreason: &lt;!channel&gt; drill &amp; test`,
		"teams": `"inlines":[{"text":"Kido Hospital: An operator closed access\nvendor: `,
		"ntfy":  "Kido Hospital: An operator closed access\nvendor: ",
	} {
		got := ""
		s, _ := receiver(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			got = string(body)
			if r.Header.Get("webhook-signature") != "" {
				t.Errorf("%s: it is signed", format)
			}
		})
		s.Sink.Format = format
		if err := s.Send(t.Context(), shut(t), "id"); err != nil || !strings.Contains(got, want) {
			t.Errorf("%s: %v, got %s", format, err, got)
		}
	}
}

// TestReceivers: whatever a receiver answers, a delivery ends, follows nothing, and its error
// repeats neither the address nor the receiver's words.
func TestReceivers(t *testing.T) {
	long := strings.Repeat("x", 10<<20)
	for name, c := range map[string]struct {
		serve http.HandlerFunc
		want  string // empty: it is delivered
	}{
		"200":             {func(http.ResponseWriter, *http.Request) {}, ""},
		"204":             {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, ""},
		"10 MB":           {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, long) }, ""},
		"an endless body": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(200); flush(w); <-r.Context().Done() }, ""},
		"500":             {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "hostile words", 500) }, "the receiver answers 500"},
		"404":             {http.NotFound, "the receiver answers 404"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
		}, "the receiver answers 307: redirects are not followed"},
		"to another": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusMovedPermanently)
		}, "the receiver answers 301: redirects are not followed"},
		"to a file": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, "the receiver answers 302: redirects are not followed"},
		"a long header":       {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", long[:1<<20]) }, "the receiver's answer is none of its protocol"},
		"another protocol":    {hijacked("220 hostile words hidden-token\r\n"), "the receiver's answer is none of its protocol"},
		"a broken connection": {hijacked(""), "the receiver's answer is none of its protocol"},
		"silence":             {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "no answer within 10s"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			s, _ := receiver(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				asked.Add(1)
				c.serve(w, r)
			})
			within := 30 * time.Second
			if name == "silence" || name == "an endless body" {
				within = time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			err := s.Send(ctx, shut(t), "id")
			if got := text(err); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if asked.Load() != 1 {
				t.Errorf("the receiver was asked %d times", asked.Load())
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

// hijacked answers with bytes, and closes.
func hijacked(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = io.WriteString(c, answer)
			c.Close()
		}
	}
}

func TestCertificates(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Sender, *httptest.Server)
		want   string
	}{
		"an unknown authority": {func(s *Sender, _ *httptest.Server) { s.Sink.CAFile = "" }, "the receiver's certificate is of an unknown authority"},
		"another name": {func(s *Sender, _ *httptest.Server) {
			s.Sink.Webhook = strings.Replace(s.Sink.Webhook, "127.0.0.1", "127.0.0.2", 1)
		}, ""}, // set below
		"no TLS": {func(s *Sender, _ *httptest.Server) {
			s.Sink.Webhook = strings.Replace(s.Sink.Webhook, "https", "http", 1)
		}, "the receiver answers 400"},
		"TLS 1.1": {func(_ *Sender, r *httptest.Server) {
			r.TLS.MinVersion, r.TLS.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		}, "the receiver does not take the connection by TLS, 1.2 or later"},
		"no certificates": {func(s *Sender, _ *httptest.Server) { s.Sink.CAFile = "/dev/null" }, "ca_file: /dev/null: "},
		"the right ones":  {func(*Sender, *httptest.Server) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			asked := false
			s, server := receiver(t, func(http.ResponseWriter, *http.Request) { asked = true })
			c.change(&s, server)
			got := text(s.Send(t.Context(), shut(t), "id"))
			if name == "another name" {
				if got == "" || asked {
					t.Errorf("got %q", got)
				}
				return
			}
			if !strings.HasPrefix(got, c.want) || (got == "") != (c.want == "") || asked != (got == "") {
				t.Errorf("got %q, want %q; asked: %v", got, c.want, asked)
			}
		})
	}
}

// TestOutward: what leads back to the machine is refused, whatever its name; without the guard
// it is not.
func TestOutward(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:443": false, "127.8.8.8:443": false, "[::1]:443": false, "[::ffff:127.0.0.1]:443": false, "0.0.0.0:443": false, "[::]:443": false, "0.1.2.3:80": false,
		"169.254.169.254:80": false, "[fe80::1%eth0]:443": false, "[ff02::1]:443": false, "224.0.0.1:443": false, "nonsense": false,
		"10.1.9.9:443": true, "192.168.0.1:443": true, "172.16.0.1:443": true, "[fd00::1]:443": true, "203.0.113.1:443": true, "[2001:db8::1]:443": true,
	} {
		if err := Outward("tcp", address, nil); (err == nil) != want {
			t.Errorf("%s: got %v", address, err)
		}
	}
	var asked atomic.Int32
	s, server := receiver(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	port := server.URL[strings.LastIndexByte(server.URL, ':'):]
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::1]"} {
		s.Guard, s.Sink.Webhook = nil, "https://"+host+port
		if err := s.Send(t.Context(), shut(t), "id"); err == nil || !strings.Contains(err.Error(), "address of this machine") {
			t.Errorf("%s: got %v", host, err)
		}
	}
	if asked.Load() != 0 {
		t.Error("a connection to the machine itself was made")
	}
	s.Guard, s.Sink.Webhook = anywhere, server.URL
	if err := s.Send(t.Context(), shut(t), "id"); err != nil || asked.Load() != 1 {
		t.Errorf("without the guard: %v", err)
	}
}

// TestNoProxy: the environment does not choose who reads the notices.
func TestNoProxy(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		t.Setenv(name, "http://192.0.2.1:3128")
	}
	asked := false
	s, _ := receiver(t, func(http.ResponseWriter, *http.Request) { asked = true })
	if err := s.Send(t.Context(), shut(t), "id"); err != nil || !asked {
		t.Errorf("%v", err)
	}
}

// TestSecretFiles: a file that is wrong is told of, and no error has a part of it.
func TestSecretFiles(t *testing.T) {
	const hidden = "aGlkZGVuIGhpZGRlbiBoaWRkZW4gaGlkZGVu"
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"one":               {hidden, 0o640, ""},
		"two, and blanks":   {"whsec_" + hidden + "\r\n\n  " + hidden + "\n", 0o600, ""},
		"three":             {hidden + "\n" + hidden + "\n" + hidden + "\n", 0o640, "has 3 secrets"},
		"none":              {"\n", 0o640, "has 0 secrets"},
		"not base64":        {hidden + "*", 0o640, "line 1 of"},
		"too short":         {hidden + "\n" + hidden[:20], 0o640, "line 2 of"},
		"too long":          {strings.Repeat(hidden, 3), 0o640, "line 1 of"},
		"for all to read":   {hidden, 0o644, "secret_file:"},
		"more than a file":  {strings.Repeat(hidden, 1<<20), 0o640, "has more than"},
		"one, not in UTF-8": {"\xff" + hidden, 0o640, "line 1 of"},
	} {
		all, err := secrets(file(t, "siem.secret", c.text, c.mode))
		if !strings.Contains(text(err), c.want) || (err == nil) != (c.want == "") || (err == nil) != (len(all) > 0) {
			t.Errorf("%s: got %d, %v, want %q", name, len(all), err, c.want)
		}
		if strings.Contains(text(err), hidden[:12]) {
			t.Errorf("%s: the error has the secret: %v", name, err)
		}
	}
	if _, err := secrets("/nowhere/siem.secret"); !strings.Contains(text(err), "/nowhere") {
		t.Errorf("a missing file: %v", err)
	}
}
