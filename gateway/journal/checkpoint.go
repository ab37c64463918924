package journal

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// maxSize bounds the size in a checkpoint: more than a disk holds, less than the limit of tlog's
// arithmetic.
const maxSize = 1 << 48

// maxCheckpoint bounds a checkpoint in bytes. Ours take 200; witnesses may add signatures.
const maxCheckpoint = 1 << 16

// key signs checkpoints. Its name is the journal's origin.
type key struct {
	signer   note.Signer
	verifier string // as note writes verifier keys
}

func (k *key) origin() string { return k.signer.Name() }

// sign gives the text of a signed checkpoint (https://c2sp.org/tlog-checkpoint).
func (k *key) sign(tree tlog.Tree) ([]byte, error) {
	return note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", k.origin(), tree.N, tree.Hash)}, k.signer)
}

// openCheckpoint verifies a signed checkpoint. Its origin must be the key's name. Other signatures
// are ignored.
func openCheckpoint(text []byte, verifierKey string) (tlog.Tree, error) {
	verifier, err := note.NewVerifier(verifierKey)
	if err != nil {
		return tlog.Tree{}, errBadVerifierKey
	}
	signed, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("the signature does not verify with the key %s: %w", verifier.Name(), err)
	}
	// note accepts base64 with unused bits that are not zero: the same signature in other bytes.
	for _, signature := range signed.Sigs {
		if _, err := base64.StdEncoding.Strict().DecodeString(signature.Base64); err != nil {
			return tlog.Tree{}, fmt.Errorf("its signature is not in canonical base64: %w", err)
		}
	}
	origin, tree, err := parseCheckpoint(signed.Text)
	if err != nil {
		return tlog.Tree{}, err
	}
	if origin != verifier.Name() {
		return tlog.Tree{}, fmt.Errorf("its origin is %q, its key's is %q", origin, verifier.Name())
	}
	return tree, nil
}

// signatureLength is the length of an Ed25519 signature in a note: base64 of 4 bytes of key hash
// and 64 of signature.
const signatureLength = 92

// findCheckpoint finds the one checkpoint of an origin in a text: a file, the output of `kidoban
// journal verify` as text or JSON, or a mail, in which lines may be indented, quoted or broken; else
// what somebody typed or scanned, in which nothing separates the parts. It verifies nothing.
func findCheckpoint(kept []byte, origin string) ([]byte, error) {
	var printed struct{ Checkpoint string }
	if json.Unmarshal(kept, &printed) == nil && printed.Checkpoint != "" {
		kept = []byte(printed.Checkpoint)
	}
	found := checkpointsIn(kept)
	if len(found) == 0 {
		found = typedCheckpoints(kept, origin)
	}
	switch {
	case len(found) == 0:
		return nil, errors.New("there is none: it is the five lines at the end of what `kidoban journal verify` prints, the fourth of them empty")
	case len(found) > 1:
		return nil, fmt.Errorf("there are %d in it: allowed is one", len(found))
	}
	return found[0], nil
}

// FindCheckpoint finds the one checkpoint in a text, also a mailed or typed one, verifies it with the
// journal's verifier key, and gives its tree. Other signatures are ignored.
func FindCheckpoint(kept []byte, verifierKey string) (tlog.Tree, error) {
	origin, _, _ := strings.Cut(verifierKey, "+")
	text, err := findCheckpoint(kept, origin)
	if err != nil {
		return tlog.Tree{}, err
	}
	return openCheckpoint(text, verifierKey)
}

// typedCheckpoints finds checkpoints that have lost their spaces and ends of lines.
func typedCheckpoints(kept []byte, origin string) (found [][]byte) {
	name := regexp.QuoteMeta(strings.Join(strings.Fields(origin), ""))
	typed := regexp.MustCompile(name + `(\d+)([A-Za-z0-9+/]{43}=)[-\x{2010}-\x{2015}\x{2212}]+` + name + `([A-Za-z0-9+/]{91}=)`)
	for _, part := range typed.FindAllSubmatch([]byte(strings.Join(strings.Fields(string(kept)), "")), -1) {
		found = append(found, fmt.Appendf(nil, "%s\n%s\n%s\n\n\u2014 %s %s\n", origin, part[1], part[2], origin, part[3]))
	}
	return found
}

// checkpointsIn finds the checkpoints whose first four lines are whole.
func checkpointsIn(kept []byte) (found [][]byte) {
	lines := strings.Split(string(kept), "\n")
	for i := range lines {
		lines[i] = strings.Trim(lines[i], "> \t\r")
	}
	for i := 0; i+4 < len(lines); i++ {
		text := strings.Join(lines[i:i+3], "\n") + "\n"
		if _, _, err := parseCheckpoint(text); err != nil || lines[i+3] != "" {
			continue
		}
		var signatures strings.Builder
		words := strings.Fields(strings.Join(lines[i+4:], " "))
		for len(words) >= 3 && words[0] == "\u2014" {
			name, signature := words[1], words[2]
			for words = words[3:]; len(words) > 0 && len(signature) < signatureLength; words = words[1:] {
				signature += words[0]
			}
			fmt.Fprintf(&signatures, "\u2014 %s %s\n", name, signature)
		}
		if signatures.Len() > 0 {
			found = append(found, []byte(text+"\n"+signatures.String()))
		}
	}
	return found
}

var errBadVerifierKey = errors.New("not a verifier key: allowed is NAME+HASH+KEY, as `kidoban journal key` prints it")

// parseCheckpoint reads a checkpoint without looking at its signatures.
func parseCheckpoint(text string) (origin string, tree tlog.Tree, err error) {
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) < 4 || lines[0] == "" {
		return "", tlog.Tree{}, errors.New("not three lines: origin, size, root hash")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || size > maxSize || strconv.FormatInt(size, 10) != lines[1] {
		return "", tlog.Tree{}, fmt.Errorf("its size %q is not a number from 0 to %d", lines[1], int64(maxSize))
	}
	hash, err := tlog.ParseHash(lines[2])
	if err != nil {
		return "", tlog.Tree{}, fmt.Errorf("its root hash %q is not the base64 of 32 bytes", lines[2])
	}
	return lines[0], tlog.Tree{N: size, Hash: hash}, nil
}

// newKey makes a key with a name of its own. Nothing of the site is in it.
func newKey() (*key, string, error) {
	var id [8]byte
	rand.Read(id[:]) // never fails (crypto/rand)
	text, verifier, err := note.GenerateKey(rand.Reader, "kidoban/"+hex.EncodeToString(id[:]))
	if err != nil {
		return nil, "", err
	}
	signer, err := note.NewSigner(text)
	if err != nil {
		return nil, "", err
	}
	return &key{signer, verifier}, text + "\n", nil
}

// readKey reads a key file. Only its owner may be able to read it.
func readKey(disk storage, name string) (*key, error) {
	data, err := disk.readSecret(name, 4096)
	if err != nil {
		return nil, err
	}
	text := strings.TrimSpace(string(data))
	malformed := fmt.Errorf("%s: not a journal key: allowed is one line PRIVATE+KEY+NAME+HASH+KEY", name)
	signer, err := note.NewSigner(text)
	if err != nil {
		return nil, malformed
	}
	// NewSigner has checked everything, but does not give the public key.
	raw, err := base64.StdEncoding.DecodeString(strings.SplitN(text, "+", 5)[4])
	if err != nil || len(raw) != 1+ed25519.SeedSize {
		return nil, malformed
	}
	public := ed25519.NewKeyFromSeed(raw[1:]).Public().(ed25519.PublicKey)
	verifier, err := note.NewEd25519VerifierKey(signer.Name(), public)
	if err != nil {
		return nil, malformed
	}
	return &key{signer, verifier}, nil
}

// VerifierKey gives the public half of a key file, as one line for note and other tools
// (https://c2sp.org/signed-note).
func VerifierKey(keyFile string) (string, error) {
	k, err := readKey(diskFor(keyFile), keyFile)
	if err != nil {
		return "", err
	}
	return k.verifier, nil
}

// SignNote signs a text with the journal's key, as a note. A text that could be taken for a checkpoint
// is refused.
func SignNote(keyFile, text string) ([]byte, error) {
	k, err := readKey(diskFor(keyFile), keyFile)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(text, k.origin()) {
		return nil, errors.New("a note that begins as a checkpoint")
	}
	return note.Sign(&note.Note{Text: text}, k.signer)
}
