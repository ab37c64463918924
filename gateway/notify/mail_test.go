package notify

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"

	"kidoban/gateway/journal"
	"kidoban/gateway/view"
)

// mailServer is a small server of RFC 5321. It keeps what it was told.
type mailServer struct {
	config   *tls.Config
	starttls bool              // it offers STARTTLS
	implicit bool              // it speaks TLS at once
	answers  map[string]string // to a command, in place of its own

	mu       sync.Mutex
	commands []string // as they came; those of AUTH too
	clear    []string // those that came without TLS
	message  string
}

func (m *mailServer) said(secure bool, line string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commands = append(m.commands, line)
	if !secure {
		m.clear = append(m.clear, line)
	}
}

func (m *mailServer) serve(c net.Conn) {
	defer c.Close()
	m.mu.Lock() // the test has changed the settings before
	starttls, secure, answers := m.starttls, m.implicit, m.answers
	m.mu.Unlock()
	if secure {
		c = tls.Server(c, m.config)
	}
	in := bufio.NewReader(c)
	say := func(lines string) { _, _ = io.WriteString(c, strings.ReplaceAll(lines, "\n", "\r\n")+"\r\n") }
	say("220 test")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		m.said(secure, line)
		word, _, _ := strings.Cut(line, " ")
		switch answer := answers[word]; {
		case answer != "":
			say(answer)
		case word == "EHLO" && starttls && !secure:
			say("250-test\n250 STARTTLS")
		case word == "EHLO":
			say("250-test\n250 AUTH PLAIN")
		case word == "STARTTLS":
			say("220 go on")
			c, secure = tls.Server(c, m.config), true
			in = bufio.NewReader(c)
		case word == "AUTH":
			say("235 welcome")
		case word == "DATA":
			say("354 go on")
			m.take(in)
			say("250 taken")
		case word == "QUIT":
			return // rudely: the message is taken
		default:
			say("250 yes")
		}
	}
}

func (m *mailServer) take(in *bufio.Reader) {
	var text strings.Builder
	for {
		line, err := in.ReadString('\n')
		if err != nil || line == ".\r\n" {
			break
		}
		text.WriteString(line)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.message = text.String()
}

// mailbox is a mail server, with the sender that trusts it.
func mailbox(t *testing.T, m *mailServer) Sender {
	t.Helper()
	s, https := receiver(t, nil)
	m.config = &tls.Config{Certificates: https.TLS.Certificates}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go m.serve(c)
		}
	}()
	s.Sink = view.Sink{Name: "mail", SMTP: l.Addr().String(), TLS: "required", From: "木戸 <gate@hosp.example>", To: []string{"a@hosp.example", "b@hosp.example"},
		CAFile: s.Sink.CAFile, Language: view.Japanese}
	return s
}

func TestMail(t *testing.T) {
	for name, prepare := range map[string]func(*mailServer, *Sender){
		"by STARTTLS":     func(m *mailServer, _ *Sender) { m.starttls = true },
		"by implicit TLS": func(m *mailServer, s *Sender) { m.implicit, s.Sink.TLS = true, "implicit" },
		"in clear":        func(_ *mailServer, s *Sender) { s.Sink.TLS = "none" },
		"with a password": func(m *mailServer, s *Sender) {
			m.starttls, s.Sink.User, s.Sink.SecretFile = true, "gate", file(t, "mail.secret", "hidden-password\n", 0o600)
		},
		"with a password, implicit": func(m *mailServer, s *Sender) {
			m.implicit, s.Sink.TLS, s.Sink.User, s.Sink.SecretFile = true, "implicit", "gate", file(t, "mail.secret", "hidden-password\n", 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := &mailServer{}
			s := mailbox(t, m)
			m.mu.Lock()
			prepare(m, &s)
			m.mu.Unlock()
			if err := s.Send(t.Context(), shut(t), "id"); err != nil {
				t.Fatal(err)
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			got, err := mail.ReadMessage(strings.NewReader(m.message))
			if err != nil {
				t.Fatal(err)
			}
			subject, err := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject"))
			if err != nil || subject != "Kidoban: 運用者がアクセスを遮断しました" {
				t.Errorf("Subject: %q, %v", subject, err)
			}
			body, err := io.ReadAll(quotedprintable.NewReader(got.Body))
			if err != nil || !strings.Contains(string(body), "業者: 株式会社メディシス (medisys)") {
				t.Errorf("%v, %s", err, body)
			}
			if got.Header.Get("Auto-Submitted") != "auto-generated" || got.Header.Get("Message-Id") == "" {
				t.Errorf("the header is %v", got.Header)
			}
			if all := strings.Join(m.commands, "\n"); !strings.Contains(all, "RCPT TO:<b@hosp.example>") {
				t.Errorf("got %s", all)
			}
			secret := base64.StdEncoding.EncodeToString([]byte("\x00gate\x00hidden-password"))
			if sent := strings.Contains(strings.Join(m.commands, "\n"), secret); sent != (s.Sink.User != "") {
				t.Errorf("the password was sent: %v", sent)
			}
			if clear := strings.Join(m.clear, "\n"); strings.Contains(clear, "MAIL FROM") != (s.Sink.TLS == "none") || strings.Contains(clear, secret) {
				t.Errorf("in clear went: %s", clear)
			}
		})
	}
}

// TestStrippedSTARTTLS: where somebody on the way takes the offer out, nothing is sent; without
// the guard (tls: none) it is.
func TestStrippedSTARTTLS(t *testing.T) {
	for setting, sent := range map[string]bool{"": false, "required": false, "none": true} {
		m := &mailServer{}
		s := mailbox(t, m)
		s.Sink.TLS = setting
		err := s.Send(t.Context(), shut(t), "id")
		m.mu.Lock()
		if (err == nil) != sent || (m.message != "") != sent || strings.Contains(strings.Join(m.commands, "\n"), "MAIL") != sent {
			t.Errorf("tls: %q: %v, and the server heard %q", setting, err, m.commands)
		}
		if !sent && !strings.Contains(text(err), "offers no STARTTLS") {
			t.Errorf("tls: %q: %v", setting, err)
		}
		m.mu.Unlock()
	}
	s := Sender{Guard: anywhere, Sink: view.Sink{SMTP: "127.0.0.1:1", TLS: "none", User: "gate", SecretFile: "/nowhere", From: "a@b.example", To: []string{"a@b.example"}}}
	if err := s.Send(t.Context(), shut(t), "id"); !strings.Contains(text(err), "a password is not sent without TLS") {
		t.Errorf("a password in clear: %v", err)
	}
}

// TestMailCauses: an error has the number of an answer, and no words of the server, which may
// repeat the password.
func TestMailCauses(t *testing.T) {
	for want, change := range map[string]func(*mailServer, *Sender){
		"the mail server answers 535": func(m *mailServer, _ *Sender) { m.answers = map[string]string{"AUTH": "535 hidden-password is wrong"} },
		"the mail server answers 550": func(m *mailServer, _ *Sender) { m.answers = map[string]string{"RCPT": "550 hidden-password"} },
		"the mail server answers 451": func(m *mailServer, _ *Sender) { m.answers = map[string]string{"DATA": "451 hidden-password"} },
		"the server sends too much": func(m *mailServer, _ *Sender) {
			m.answers = map[string]string{"EHLO": strings.Repeat("250-x\n", answerMost)}
		},
		"the receiver's certificate is of an unknown authority": func(_ *mailServer, s *Sender) { s.Sink.CAFile = "" },
		"from is no mail address":                               func(_ *mailServer, s *Sender) { s.Sink.From = "a@b.example>\r\nBcc: <c@d.example" },
		"to has no mail address":                                func(_ *mailServer, s *Sender) { s.Sink.To = []string{"a@b.example\r\nBcc: c@d.example"} },
		"smtp is not host:port":                                 func(_ *mailServer, s *Sender) { s.Sink.SMTP = "mail" },
		"is an address of this machine":                         func(_ *mailServer, s *Sender) { s.Guard = nil },
	} {
		m := &mailServer{starttls: true}
		s := mailbox(t, m)
		s.Sink.User, s.Sink.SecretFile = "gate", file(t, "mail.secret", "hidden-password\n", 0o600)
		m.mu.Lock()
		change(m, &s)
		m.mu.Unlock()
		if err := s.Send(t.Context(), shut(t), "id"); !strings.Contains(text(err), want) || strings.Contains(text(err), "hidden") {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestNoHeaderFromNames: whatever is in the names and texts of an entry, the header has the
// same fields.
func TestNoHeaderFromNames(t *testing.T) {
	const hostile = "x\r\nBcc: evil@d.example\r\n\r\n.\r\nQUIT\r\n=?utf-8?q?=0D=0ABcc:_evil@d.example?="
	n := noticeOf(t, journal.Entry{Kind: journal.Shut, Scope: hostile, Reason: hostile, Actor: hostile, Vendor: hostile, VendorName: hostile, Text: hostile}, nil)
	n.Entry = nil
	m := &mailServer{starttls: true}
	s := mailbox(t, m)
	s.Site = hostile
	if err := s.Send(t.Context(), n, "id\r\nBcc: evil@d.example"); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	got, err := mail.ReadMessage(strings.NewReader(m.message))
	if err != nil {
		t.Fatal(err)
	}
	if got.Header.Get("Bcc") != "" || len(got.Header) != 9 {
		t.Errorf("the header has %d fields: %v", len(got.Header), got.Header)
	}
	if strings.Contains(fmt.Sprint(m.commands), "evil") {
		t.Errorf("the server heard %q", m.commands)
	}
	// Without visible the body itself gets lines of the name.
	if body := n.Text(view.English, s.Site); strings.Contains(body, "\nBcc") || strings.Count(body, "\n") != 6 {
		t.Errorf("got\n%s", body)
	}
}
