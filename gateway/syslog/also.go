package syslog

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
)

// Also has a logger send to a collector as well, which shows a certificate of an
// authority in a file, or of the system's if that is empty. The handler is nil
// without an address.
func Also(logger *slog.Logger, address, caFile string, level slog.Level) (*slog.Logger, *Handler, error) {
	if address == "" {
		return logger, nil, nil
	}
	c := Config{Address: address, TLS: &tls.Config{MinVersion: tls.VersionTLS12}, Level: level,
		Failed: func(err error) {
			logger.Warn("the syslog collector is away; the log waits for it", "address", address, "err", err)
		}}
	if caFile != "" {
		text, err := os.ReadFile(caFile)
		if err != nil {
			return nil, nil, fmt.Errorf("KIDOBAN_SYSLOG_CA_FILE: %w", err)
		}
		c.TLS.RootCAs = x509.NewCertPool()
		if !c.TLS.RootCAs.AppendCertsFromPEM(text) {
			return nil, nil, fmt.Errorf("KIDOBAN_SYSLOG_CA_FILE: %s has no certificate: allowed are certificates in PEM", caFile)
		}
	}
	h := New(c)
	return slog.New(slog.NewMultiHandler(logger.Handler(), h)), h, nil
}
