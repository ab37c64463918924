package bundle

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kidoban/gateway/journal"
)

// filesMost bounds a bundle that is verified, which may come from anywhere.
const filesMost = 1 << 20

// Verified is what is proven of a bundle.
type Verified struct {
	Facts   Facts  `json:"facts"`
	Digest  string `json:"digest"` // hex SHA-256 of SHA256SUMS
	Signed  bool   `json:"signed"` // the journal's key signed all files; false: only entries and proofs are proven
	Entries int    `json:"entries"`
	Proofs  int    `json:"proofs"`
}

// Verify verifies a bundle with the journal's verifier key: every file against SHA256SUMS, that against
// its signature, the journal's files against the signed checkpoint, and each proof. It needs no gateway
// and no network.
func Verify(archive []byte, key string) (v Verified, err error) {
	files, err := unpack(archive)
	if err != nil {
		return v, err
	}
	if err := checkSums(files); err != nil {
		return v, err
	}
	v.Digest = digest(files[sums])
	if text, there := files[signature]; there {
		if err := checkSignature(text, files[sums], key); err != nil {
			return v, err
		}
		v.Signed = true
	}
	if err := json.Unmarshal(files[facts], &v.Facts); err != nil {
		return v, fmt.Errorf("%s: %w", facts, err)
	}
	if v.Facts.Version > factsVersion {
		return v, fmt.Errorf("%s has version %d: a newer kidoban made the bundle, and this one knows versions up to %d. Verify it with that one", facts, v.Facts.Version, factsVersion)
	}
	if err := checkJournal(files, key); err != nil {
		return v, err
	}
	hashes, err := readLeaves(files)
	if err != nil {
		return v, err
	}
	for _, index := range v.Facts.Entries {
		name := fmt.Sprintf("proofs/%d.tlog-proof", index)
		text, there := files[fmt.Sprintf("entries/%d.json", index)]
		if there {
			v.Entries++
		}
		if there && tlog.RecordHash(text) != hashes[index] {
			return v, fmt.Errorf("entry %d is not the one of %s", index, leaves)
		}
		if err := checkProof(files[name], index, hashes[index], key); err != nil {
			return v, fmt.Errorf("%s: %w", name, err)
		}
		v.Proofs++
	}
	return v, nil
}

func unpack(archive []byte) (map[string][]byte, error) {
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return nil, err
	}
	if len(z.File) > filesMost {
		return nil, fmt.Errorf("%d files: allowed are %d", len(z.File), filesMost)
	}
	files, left := map[string][]byte{}, int64(len(archive)) // Make compresses nothing
	for _, f := range z.File {
		if _, twice := files[f.Name]; twice || !filepath.IsLocal(f.Name) {
			return nil, fmt.Errorf("%.80q: is there twice, or is no name of a bundle's file", f.Name)
		}
		r, err := f.Open()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		text, err := io.ReadAll(io.LimitReader(r, left+1))
		if left -= int64(len(text)); err == nil && left < 0 {
			err = fmt.Errorf("the files have more bytes than the archive: it is no bundle")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		files[f.Name] = text
	}
	return repacked(archive, z, files)
}

// repacked refuses an archive that is not as Make packs it: then some of its bytes belong to no file.
func repacked(archive []byte, z *zip.Reader, files map[string][]byte) (map[string][]byte, error) {
	var all []file
	for _, f := range z.File {
		all = append(all, file{f.Name, files[f.Name]})
	}
	again, err := pack(all)
	if err == nil && !bytes.Equal(again, archive) {
		err = fmt.Errorf("the archive has other bytes than its files: it was changed, or packed anew by another program; unpack it, and compare it with sha256sum -c %s", sums)
	}
	return files, err
}

func checkSums(files map[string][]byte) error {
	list, there := files[sums]
	if !there {
		return fmt.Errorf("there is no %s", sums)
	}
	listed := map[string]bool{sums: true, signature: true}
	for line := range strings.Lines(string(list)) {
		sum, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		text, there := files[name]
		if !there || listed[name] || fmt.Sprintf("%x", sha256.Sum256(text)) != sum {
			return fmt.Errorf("%.80q is not as %s has it", name, sums)
		}
		listed[name] = true
	}
	for name := range files {
		if !listed[name] {
			return fmt.Errorf("%.80q is not in %s", name, sums)
		}
	}
	return nil
}

func checkSignature(text, list []byte, key string) error {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return err
	}
	n, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return fmt.Errorf("%s: %w", signature, err)
	}
	if n.Text != noteText(list) {
		return fmt.Errorf("%s: it signs another %s", signature, sums)
	}
	return nil
}

// checkJournal verifies the part of the journal, in a folder of its own.
func checkJournal(files map[string][]byte, key string) error {
	dir, err := os.MkdirTemp("", "kidoban-bundle-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var bundles []int64
	for name, text := range files {
		inside, ours := strings.CutPrefix(name, "journal/")
		if !ours {
			continue
		}
		path := filepath.Join(dir, filepath.FromSlash(inside))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return err
		}
		if n, ok := journal.BundleOf(inside); ok {
			bundles = append(bundles, n)
		}
	}
	folder, err := journal.OpenFolder(dir, key)
	if err != nil {
		return err
	}
	for _, first := range bundles {
		for _, err := range folder.Lines(first, first) {
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func readLeaves(files map[string][]byte) (map[int64]tlog.Hash, error) {
	hashes := map[int64]tlog.Hash{}
	for line := range strings.Lines(string(files[leaves])) {
		number, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		index, err := strconv.ParseInt(number, 10, 64)
		if err == nil {
			hashes[index], err = tlog.ParseHash(text)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", leaves, err)
		}
	}
	return hashes, nil
}

// checkProof verifies a proof of an entry by its hash.
func checkProof(text []byte, index int64, leaf tlog.Hash, key string) error {
	head, checkpoint, _ := strings.Cut(string(text), "\n\n")
	lines := strings.Split(head, "\n")
	if len(lines) < 2 || lines[0] != proofType || lines[1] != fmt.Sprintf("index %d", index) {
		return fmt.Errorf("not a proof of entry %d", index)
	}
	var proof tlog.RecordProof
	for _, line := range lines[2:] {
		h, err := tlog.ParseHash(line)
		if err != nil {
			return err
		}
		proof = append(proof, h)
	}
	tree, err := journal.FindCheckpoint([]byte(checkpoint), key)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(proof, tree.N, tree.Hash, index, leaf)
}
