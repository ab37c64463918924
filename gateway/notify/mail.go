package notify

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"strconv"
	"strings"

	"github.com/wneessen/go-mail"
)

// mail delivers a notice to a mail server. The subject is a sentence of ours, and the names
// of the notice are in the body alone.
func (s Sender) mail(ctx context.Context, n Notice, id string) error {
	message, err := s.message(n, id)
	if err != nil {
		return err
	}
	var opened net.Conn // go-mail leaves it open where the beginning fails
	defer func() {
		if opened != nil {
			opened.Close()
		}
	}()
	client, err := s.mailClient(func(ctx context.Context, network, address string) (c net.Conn, err error) {
		c, err = s.dialBounded(ctx, network, address)
		opened = c
		return c, err
	})
	if err != nil {
		return err
	}
	server, err := client.DialToSMTPClientWithContext(ctx)
	if err == nil {
		if err = client.SendWithSMTPClient(server, message); err == nil {
			_ = client.CloseWithSMTPClient(server) // the server has the message
			return nil
		}
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return mailCause(err)
}

func (s Sender) message(n Notice, id string) (*mail.Msg, error) {
	m := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := m.From(s.Sink.From); err != nil {
		return nil, errors.New("from is no mail address")
	}
	if err := m.To(s.Sink.To...); err != nil {
		return nil, errors.New("to has no mail address")
	}
	m.Subject("Kidoban: " + n.Subject(s.Sink.Language))
	m.SetDate()
	// The same for each attempt, so that a mailbox can tell a second copy.
	sum := sha256.Sum256([]byte(id))
	m.SetMessageIDWithValue(hex.EncodeToString(sum[:16]) + "@kidoban")
	m.SetGenHeader("Auto-Submitted", "auto-generated") // no answer, no holiday notice (RFC 3834)
	m.SetBodyString(mail.TypeTextPlain, n.Text(s.Sink.Language, s.Site)+"\n")
	return m, nil
}

func (s Sender) mailClient(dial mail.DialContextFunc) (*mail.Client, error) {
	host, port, err := net.SplitHostPort(s.Sink.SMTP)
	if err != nil {
		return nil, errors.New("smtp is not host:port")
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, errors.New("smtp is not host:port")
	}
	config, err := s.tlsConfig(host)
	if err != nil {
		return nil, err
	}
	options := []mail.Option{mail.WithPort(number), mail.WithTimeout(patience), mail.WithTLSConfig(config), mail.WithoutNoop()}
	switch s.Sink.TLS {
	case "none":
		options = append(options, mail.WithTLSPolicy(mail.NoTLS), mail.WithDialContextFunc(dial))
	case "implicit":
		options = append(options, mail.WithSSL(), mail.WithDialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			secure := tls.Client(c, config)
			if err := secure.HandshakeContext(ctx); err != nil {
				c.Close()
				return nil, err
			}
			return secure, nil
		}))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory), mail.WithDialContextFunc(dial))
	}
	if s.Sink.User == "" {
		return mail.NewClient(host, options...)
	}
	if s.Sink.TLS == "none" {
		return nil, errors.New("a password is not sent without TLS: allowed is tls: required or implicit")
	}
	secret, err := password(s.Sink.SecretFile)
	if err != nil {
		return nil, err
	}
	// What a server offers decides; go-mail sends PLAIN and LOGIN over TLS alone.
	options = append(options, mail.WithUsername(s.Sink.User), mail.WithPassword(secret),
		mail.WithOpportunisticSMTPAuth(mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthPlain, mail.SMTPAuthLogin))
	return mail.NewClient(host, options...)
}

// mailCause says why a mail server has not taken a message. It repeats the number of an
// answer and not its words, which are the server's.
func mailCause(err error) error {
	var answer *textproto.Error
	var send *mail.SendError
	switch {
	case errors.As(err, &answer):
		return fmt.Errorf("the mail server answers %d", answer.Code)
	case errors.As(err, &send) && send.ErrorCode() != 0:
		return fmt.Errorf("the mail server answers %d", send.ErrorCode())
	case strings.Contains(err.Error(), "does not support STARTTLS"): // go-mail has no type for it
		return errNoStartTLS
	}
	return cause(err)
}

// errNoStartTLS: a server, or somebody on the way, offers no encryption.
var errNoStartTLS = errors.New("the mail server offers no STARTTLS, and nothing is sent without: tls: implicit is the other way to encrypt")
