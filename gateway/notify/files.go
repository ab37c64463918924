package notify

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"os/user"
	"strconv"
	"strings"

	"kidoban/gateway/durable"
	"kidoban/gateway/view"
)

// guard accepts files of the office's user too: the files with secrets may be that user's, also when
// root reads them.
func guard() durable.Guard {
	var g durable.Guard
	if u, err := user.Lookup(view.OfficeUser); err == nil {
		uid, _ := strconv.ParseUint(u.Uid, 10, 32)
		gid, _ := strconv.ParseUint(u.Gid, 10, 32)
		g.User, g.Group = uint32(uid), uint32(gid)
	}
	return g
}

// fileMost bounds a file of secrets or certificates, in bytes.
const fileMost = 1 << 20

func readFile(path string, loosest fs.FileMode) ([]byte, error) {
	f, err := guard().Open(path, loosest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, fileMost+1))
	if err == nil && len(text) > fileMost {
		err = fmt.Errorf("%s has more than %d bytes", path, fileMost)
	}
	return text, err
}

// Lengths of a secret in bytes, as Standard Webhooks has them.
const (
	secretLeast = 24
	secretMost  = 64
)

// secrets reads the secrets of a webhook: base64, one a line, two while one takes the place of
// the other. No error has a part of one.
func secrets(path string) (all [][]byte, err error) {
	text, err := readFile(path, 0o640)
	if err != nil {
		return nil, fmt.Errorf("secret_file: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(line, "whsec_"))
		if err != nil || len(secret) < secretLeast || len(secret) > secretMost {
			return nil, fmt.Errorf("secret_file: line %d of %s is no secret: allowed is base64 of %d to %d bytes, with whsec_ before it or not", len(all)+1, path, secretLeast, secretMost)
		}
		all = append(all, secret)
	}
	if len(all) == 0 || len(all) > 2 {
		return nil, fmt.Errorf("secret_file: %s has %d secrets: allowed is one, or two while one takes the place of the other", path, len(all))
	}
	return all, nil
}

// password reads the password of a mail server: the first line of a file.
func password(path string) (string, error) {
	text, err := readFile(path, 0o640)
	if err != nil {
		return "", fmt.Errorf("secret_file: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if line = strings.TrimRight(line, "\r"); line == "" {
		return "", fmt.Errorf("secret_file: the first line of %s is empty: allowed is the password", path)
	}
	return line, nil
}

// authorities reads a file of certificates; the system's if there is none.
func authorities(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	text, err := readFile(path, 0o644)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("ca_file: %s has no certificate: allowed are certificates in PEM", path)
	}
	return pool, nil
}
