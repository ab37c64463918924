package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"

	"kidoban/config"
	"kidoban/gateway/syslog"
)

// alsoElsewhere has a logger send to the settings' syslog collector as well;
// where there is none, the handler is nil.
func alsoElsewhere(logger *slog.Logger, s config.Settings) (*slog.Logger, *syslog.Handler, error) {
	if s.SyslogAddress == "" {
		return logger, nil, nil
	}
	c := syslog.Config{Address: s.SyslogAddress, TLS: &tls.Config{MinVersion: tls.VersionTLS12}, Level: s.LogLevel,
		Failed: func(err error) {
			logger.Warn("the syslog collector is away; the log waits for it", "address", s.SyslogAddress, "err", err)
		}}
	if s.SyslogCAFile != "" {
		text, err := os.ReadFile(s.SyslogCAFile)
		if err != nil {
			return nil, nil, fmt.Errorf("KIDOBAN_SYSLOG_CA_FILE: %w", err)
		}
		c.TLS.RootCAs = x509.NewCertPool()
		if !c.TLS.RootCAs.AppendCertsFromPEM(text) {
			return nil, nil, fmt.Errorf("KIDOBAN_SYSLOG_CA_FILE: %s has no certificate: allowed are certificates in PEM", s.SyslogCAFile)
		}
	}
	h := syslog.New(c)
	return slog.New(slog.NewMultiHandler(logger.Handler(), h)), h, nil
}
