package config

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"kidoban/gateway/durable"
	"kidoban/gateway/policy"
)

// KeyFile is the file of the gateway's private key. Only users whom the guard trusts may replace it.
type KeyFile struct {
	Path  string
	Guard durable.Guard
}

// Load reads the private key as `wg genkey` writes it, from a regular file of mode 0600 or 0400,
// and clamps it (RFC 7748, section 5). It gives the public key too.
func (f KeyFile) Load() (private [32]byte, public policy.Key, err error) {
	private, err = readKeyFile(f.Guard, f.Path, 0o600)
	if err == nil && private == [32]byte{} {
		err = errors.New("is all zeros: allowed is what `wg genkey` writes")
	}
	if err != nil {
		return [32]byte{}, policy.Key{}, fmt.Errorf("private key %q: %w", f.Path, err)
	}
	clamp(&private)
	return private, publicKey(private), nil
}

// Make puts a new private key on disk, unless there is a file. Of two programs that do so at once,
// both get the same key.
func (f KeyFile) Make() error {
	if _, err := os.Stat(f.Path); !errors.Is(err, fs.ErrNotExist) {
		return nil // Load reports its faults
	}
	if err := makePrivateKey(f.Path); err != nil {
		return fmt.Errorf("private key %q: cannot be made: %w", f.Path, err)
	}
	return nil
}

// public gives the public key; nil: the file cannot be read.
func (f KeyFile) public() *policy.Key {
	if _, key, err := f.Load(); err == nil {
		return &key
	}
	return nil
}

// publicKey is the public key that belongs to a private key.
func publicKey(private [32]byte) policy.Key {
	k, err := ecdh.X25519().NewPrivateKey(private[:])
	if err != nil {
		panic(err) // 32 bytes are always a key
	}
	return policy.Key(k.PublicKey().Bytes())
}

// clamp makes 32 bytes a scalar (RFC 7748, section 5).
func clamp(key *[32]byte) {
	key[0] &= 248
	key[31] = key[31]&127 | 64
}

// makePrivateKey writes a new key, unless there is one by now.
func makePrivateKey(path string) error {
	var key [32]byte
	rand.Read(key[:]) // never fails
	clamp(&key)
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	if err := (durable.Guard{}).Folder(folder); err != nil {
		return fmt.Errorf("its folder %w", err)
	}
	return durable.Create(path, []byte(base64.StdEncoding.EncodeToString(key[:])+"\n"))
}

// readKeyFile reads the base64 of 32 bytes from a regular file with a mode not looser than loosest.
// Errors do not repeat the content.
func readKeyFile(guard durable.Guard, path string, loosest fs.FileMode) (key [32]byte, err error) {
	f, err := guard.Open(path, loosest)
	if err != nil {
		return key, err
	}
	defer f.Close()
	const length = 44 // characters of base64
	text, err := io.ReadAll(io.LimitReader(f, length+3))
	if err != nil {
		return key, cause(err)
	}
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	raw, err := base64.StdEncoding.Strict().AppendDecode(nil, text)
	if err != nil || len(text) != length || len(raw) != len(key) {
		return key, errors.New("is not a key: allowed is the base64 of 32 bytes, 44 characters on one line")
	}
	return [32]byte(raw), nil
}

// cause strips the path from a system error: our messages have it already, escaped.
func cause(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}
