package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"kidoban/gateway/view"
)

// Sender delivers notices to one sink.
type Sender struct {
	Sink view.Sink
	Site string // named in texts; may be empty
	// Guard is asked about each address before a connection; nil: Outward.
	Guard func(network, address string, c syscall.RawConn) error
}

// Send delivers a notice, within ten seconds. id names the notice to the receiver: the same
// for each attempt. The error says why the receiver has not taken it. It has no secret, and
// nothing of the address but host and port.
func (s Sender) Send(ctx context.Context, n Notice, id string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if s.Sink.Webhook == "" {
		return s.mail(ctx, n, id)
	}
	return s.post(ctx, n, id, time.Now())
}

// tlsConfig is that of every connection. The files are read anew for each: they may change.
func (s Sender) tlsConfig(host string) (*tls.Config, error) {
	roots, err := authorities(s.Sink.CAFile)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: host}, err
}

// errNoAnswer stands for every error that may repeat what the receiver sent.
var errNoAnswer = errors.New("the receiver's answer is none of its protocol")

// cause says why a connection failed. Errors that are not known here may have the URL, or
// words of the receiver, and are not repeated.
func cause(err error) error {
	var name *net.DNSError
	var op *net.OpError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("no answer within %s", patience)
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.As(err, &unknown):
		return errors.New("the receiver's certificate is of an unknown authority")
	case errors.As(err, &host):
		return errors.New("the receiver's certificate is for another name")
	case errors.As(err, &invalid):
		return errors.New("the receiver's certificate is not valid")
	case errors.As(err, &record), errors.As(err, &op) && op.Op == "remote error":
		return errors.New("the receiver does not take the connection by TLS, 1.2 or later")
	case errors.Is(err, errTooMuch):
		return errTooMuch
	case errors.As(err, &name):
		return fmt.Errorf("the name %s is not found", name.Name)
	case errors.As(err, &op) && op.Op == "dial":
		return op
	case errors.As(err, &op):
		return errors.New("the connection broke")
	}
	return errNoAnswer
}
