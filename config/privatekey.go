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

// LoadPrivateKey reads the gateway's private key as `wg genkey` writes it, from a regular file of
// mode 0600 or 0400 that only trusted users can replace, and clamps it (RFC 7748, section 5).
//
// If there is no file and create is true, it makes a key and puts it on disk. Of two programs that
// do so at once, both get the same key.
func LoadPrivateKey(path string, create bool) (key [32]byte, err error) {
	key, err = readPrivateKey(durable.Guard{}, path)
	if create && errors.Is(err, fs.ErrNotExist) {
		if err := makePrivateKey(path); err != nil {
			return [32]byte{}, fmt.Errorf("private key %s: cannot be made: %w", quote(path), err)
		}
		key, err = readPrivateKey(durable.Guard{}, path)
	}
	if err != nil {
		return [32]byte{}, noPrivateKey(path, err)
	}
	return key, nil
}

// LoadPublicKey is the public half of the gateway's private key on disk.
func LoadPublicKey(guard durable.Guard, path string) (policy.Key, error) {
	private, err := readPrivateKey(guard, path)
	if err != nil {
		return policy.Key{}, noPrivateKey(path, err)
	}
	return PublicKey(private), nil
}

func noPrivateKey(path string, err error) error {
	return fmt.Errorf("private key %s: %w", quote(path), err)
}

func readPrivateKey(guard durable.Guard, path string) (key [32]byte, err error) {
	key, err = readKeyFile(guard, path, 0o600)
	if err == nil && key == [32]byte{} {
		return key, errors.New("is all zeros: allowed is what `wg genkey` writes")
	}
	clamp(&key)
	return key, err
}

// PublicKey is the public key that belongs to a private key.
func PublicKey(private [32]byte) policy.Key {
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
