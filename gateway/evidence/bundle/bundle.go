// Package bundle makes the file that goes to those who must know of an incident: what the journal says
// of a span of time, and what proves it. A bundle is checked without a gateway, by Verify or by any
// tool for transparency logs. It is pure: the same journal and span give the same bytes.
//
//	bundle.go   the files and the archive
//	facts.go    what happened, as JSON, tables and pages
//	verify.go   whether a bundle is what was signed
package bundle

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"kidoban/gateway/evidence"
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// Names of files in a bundle.
const (
	sums      = "SHA256SUMS"
	signature = sums + ".sig" // a note that names the digest of SHA256SUMS
	facts     = "facts.json"
	leaves    = "leaves.txt" // of each cited entry its index and its hash in the tree
	proofType = "c2sp.org/tlog-proof@v1"
	noteTitle = "kidoban-evidence-bundle/v1"
)

// Input is what a bundle is made of.
type Input struct {
	Folder *journal.Folder
	Record *evidence.Record // of the same journal
	Origin string
	// From and Until are the span; Until is not in it.
	From, Until time.Time
	Incident    *evidence.Incident // nil: of no incident
	Recipients  []policy.Recipient
	Version     string // of the program
	// Redact replaces who did it by numbers, leaves out free text, policies and entries.
	Redact bool
	// Sign signs a text with the journal's key; nil: this machine has no key.
	Sign func(text string) ([]byte, error)
}

// Made is a bundle.
type Made struct {
	Archive []byte // ZIP
	Digest  string // hex SHA-256 of SHA256SUMS
	Entries int    // that are cited
	Signed  bool
}

// file is a file of a bundle.
type file struct {
	name string
	text []byte
}

// Make makes a bundle.
func Make(in Input) (Made, error) {
	cited, err := in.lines()
	if err != nil {
		return Made{}, err
	}
	files, err := in.proofs(cited)
	if err != nil {
		return Made{}, err
	}
	told, err := in.tell(cited)
	if err != nil {
		return Made{}, err
	}
	files = append(files, told...)
	from, to := int64(0), int64(-1)
	if len(cited) > 0 {
		from, to = cited[0].index, cited[len(cited)-1].index
	}
	for name, text := range in.Folder.Part(from, to, !in.Redact) {
		files = append(files, file{"journal/" + name, text})
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	var list bytes.Buffer
	for _, f := range files {
		fmt.Fprintf(&list, "%x  %s\n", sha256.Sum256(f.text), f.name)
	}
	made := Made{Digest: digest(list.Bytes()), Entries: len(cited)}
	files = append(files, file{sums, list.Bytes()})
	if in.Sign != nil {
		note, err := in.Sign(noteText(list.Bytes()))
		if err != nil {
			return Made{}, err
		}
		files, made.Signed = append(files, file{signature, note}), true
	}
	made.Archive, err = pack(files)
	return made, err
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func noteText(list []byte) string { return noteTitle + "\n" + digest(list) + "\n" }

// pack makes a ZIP archive, without times and compression, so that the same files are the same bytes.
func pack(files []file) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		w, err := z.CreateHeader(&zip.FileHeader{Name: f.name, Method: zip.Store})
		if err == nil {
			_, err = w.Write(f.text)
		}
		if err != nil {
			return nil, err
		}
	}
	err := z.Close()
	return b.Bytes(), err
}

// cited is an entry of the span.
type cited struct {
	index int64
	json  []byte
	journal.Entry
}

// lines reads the entries of the span.
func (in Input) lines() (all []cited, err error) {
	last := min(in.Record.Entries.To, in.Folder.Tree.N-1)
	for line, err := range in.Folder.Lines(0, last) {
		if err != nil {
			return nil, err
		}
		c := cited{index: line.Index, json: line.JSON}
		if json.Unmarshal(line.JSON, &c.Entry) != nil || c.Time.Before(in.From) || !c.Time.Before(in.Until) {
			continue
		}
		all = append(all, c)
	}
	return all, nil
}

// proofs makes a proof of each entry (https://c2sp.org/tlog-proof).
func (in Input) proofs(all []cited) (files []file, err error) {
	cosigned, witnessed, _ := in.Folder.Witnessed()
	if same, err := in.Folder.Continues(witnessed); err != nil || !same {
		witnessed.N = 0
	}
	var list bytes.Buffer
	for _, c := range all {
		size, checkpoint := in.Folder.Tree.N, in.Folder.Checkpoint
		if c.index < witnessed.N {
			size, checkpoint = witnessed.N, cosigned
		}
		proof, err := in.Folder.Inclusion(size, c.index)
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		fmt.Fprintf(&b, "%s\nindex %d\n", proofType, c.index)
		for _, h := range proof {
			fmt.Fprintln(&b, h)
		}
		fmt.Fprintf(&b, "\n%s", checkpoint)
		files = append(files, file{fmt.Sprintf("proofs/%d.tlog-proof", c.index), b.Bytes()})
		fmt.Fprintf(&list, "%d %s\n", c.index, tlog.RecordHash(c.json))
		if !in.Redact {
			files = append(files, file{fmt.Sprintf("entries/%d.json", c.index), c.json})
		}
	}
	return append(files, file{leaves, list.Bytes()}), nil
}
