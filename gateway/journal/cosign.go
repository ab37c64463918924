package journal

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// WitnessedFile is the file in a journal's folder with the newest checkpoint that a witness
// cosigned. Copies take it along.
const WitnessedFile = "checkpoint.witnessed"

// Types of keys in verifier keys (https://c2sp.org/signed-note).
const (
	ed25519Key     = 1
	cosignatureKey = 4
)

// Witness is the name and the public key of a witness, which verify its cosignatures
// (https://c2sp.org/tlog-cosignature, version 1). It is a note.Verifier.
type Witness struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

var errBadWitness = errors.New("not the verifier key of a witness: allowed is NAME+HASH+KEY with an Ed25519 key")

// NewWitness reads the verifier key of a witness. Its type is that of cosignatures or of plain
// Ed25519 keys; cosignatures name the key alike.
func NewWitness(vkey string) (*Witness, error) {
	name, rest, _ := strings.Cut(vkey, "+")
	hash, key64, _ := strings.Cut(rest, "+")
	id, err := strconv.ParseUint(hash, 16, 32)
	raw, err64 := base64.StdEncoding.Strict().DecodeString(key64)
	if err != nil || err64 != nil || len(hash) != 8 || name == "" || strings.ContainsFunc(name, notInName) ||
		len(raw) != 1+ed25519.PublicKeySize || raw[0] != ed25519Key && raw[0] != cosignatureKey || keyHash(name, raw) != uint32(id) {
		return nil, errBadWitness
	}
	raw[0] = cosignatureKey
	return &Witness{name, keyHash(name, raw), raw[1:]}, nil
}

func notInName(r rune) bool { return r <= ' ' || r == 0x7f }

func keyHash(name string, raw []byte) uint32 {
	sum := sha256.Sum256(append([]byte(name+"\n"), raw...))
	return binary.BigEndian.Uint32(sum[:])
}

// Name is the name in the witness's signatures.
func (w *Witness) Name() string { return w.name }

// KeyHash implements note.Verifier.
func (w *Witness) KeyHash() uint32 { return w.hash }

// Verify implements note.Verifier.
func (w *Witness) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	at := binary.BigEndian.Uint64(sig)
	return at <= 1<<62 && ed25519.Verify(w.key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, msg), sig[8:])
}

// Cosigned gives the time at which the witness cosigned a checkpoint, or an error if it did not.
func (w *Witness) Cosigned(checkpoint []byte) (time.Time, error) {
	signed, err := note.Open(checkpoint, note.VerifierList(w))
	if err != nil {
		return time.Time{}, fmt.Errorf("no cosignature of %s: %w", w.name, err)
	}
	at, err := timeOf(signed.Sigs[0])
	return at, err
}

func timeOf(s note.Signature) (time.Time, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(s.Base64)
	if err != nil || len(raw) != 4+8+ed25519.SignatureSize {
		return time.Time{}, errors.New("not a cosignature")
	}
	return time.Unix(int64(binary.BigEndian.Uint64(raw[4:])), 0).UTC(), nil
}

// Cosignature is what a signature line of a checkpoint says. Nothing verifies it.
type Cosignature struct {
	Name string    `json:"name"`
	At   time.Time `json:"at"`
}

// CosignaturesOf lists the signatures of a checkpoint that look like cosignatures.
func CosignaturesOf(checkpoint []byte) (all []Cosignature) {
	var unverified *note.UnverifiedNoteError
	if _, err := note.Open(checkpoint, note.VerifierList()); !errors.As(err, &unverified) {
		return nil
	}
	for _, s := range unverified.Note.UnverifiedSigs {
		if at, err := timeOf(s); err == nil {
			all = append(all, Cosignature{s.Name, at})
		}
	}
	return all
}
