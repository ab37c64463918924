package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"kidoban/gateway/view"
)

// Format and Version name the format of a backup. A newer version is refused.
const (
	Format  = "kidoban-backup"
	Version = 1
)

// Names of the first and the last file of a backup.
const (
	headerName   = Format + ".json"
	manifestName = "manifest.json"
)

// Names in the archive of files and folders that have a place of their own on each machine.
const (
	policyName = "policy.yaml"
	keyName    = "private.key"
	stateDir   = "state"
	runDir     = "run"
	besideDir  = "beside"
	outsideDir = "outside"
	officeDir  = "office"
)

// maxFile is the largest size of a file in a backup, in bytes. A file of the journal has 16 MiB at most.
const maxFile = 64 << 20

// Header is the first file of a backup. Every version has these fields.
type Header struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	Program string `json:"program"` // the version of kidoban that wrote it
}

// Manifest is the last file of a backup.
type Manifest struct {
	Version int       `json:"version"`
	Program string    `json:"program"`
	Host    string    `json:"host"`
	Made    time.Time `json:"made"`
	Journal Journal   `json:"journal"`
	Files   []File    `json:"files"` // all others but the header, in order
}

// Journal is the journal of a backup.
type Journal struct {
	Key        string `json:"key"` // its verifier key
	Size       int64  `json:"size"`
	Checkpoint string `json:"checkpoint"` // signed
}

// File is a file of a backup.
type File struct {
	Name   string      `json:"name"`
	Size   int64       `json:"size"`
	Mode   fs.FileMode `json:"mode"` // permissions alone
	SHA256 string      `json:"sha256"`
}

func refuse(why view.Message) error { return &view.Error{Message: why} }

func broken(what string) error { return refuse(view.Say("backup_broken", view.Args{"cause": what})) }

// archive writes a backup.
type archive struct {
	sealed   io.WriteCloser
	tar      *tar.Writer
	manifest Manifest
}

func newArchive(w io.Writer, m Manifest, to []age.Recipient) (*archive, error) {
	sealed, err := age.Encrypt(w, to...)
	if err != nil {
		return nil, err
	}
	m.Version = Version
	a := &archive{sealed, tar.NewWriter(sealed), m}
	return a, a.json(headerName, Header{Format, Version, m.Program})
}

func (a *archive) json(name string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return a.entry(name, append(text, '\n'), 0o600)
}

func (a *archive) entry(name string, data []byte, mode fs.FileMode) error {
	err := a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: int64(mode.Perm()), ModTime: a.manifest.Made.Truncate(time.Second), Format: tar.FormatPAX})
	if err == nil {
		_, err = a.tar.Write(data)
	}
	return err
}

// add adds a file, and lists it in the manifest.
func (a *archive) add(name string, data []byte, mode fs.FileMode) error {
	if len(data) > maxFile {
		return fmt.Errorf("%s has %d bytes: allowed in a backup are %d", name, len(data), maxFile)
	}
	a.manifest.Files = append(a.manifest.Files, File{name, int64(len(data)), mode.Perm(), digest(data)})
	return a.entry(name, data, mode)
}

func (a *archive) close() error {
	if err := a.json(manifestName, a.manifest); err != nil {
		return err
	}
	return errors.Join(a.tar.Close(), a.sealed.Close())
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// unpack reads a backup into an empty folder, and compares every file with the manifest.
func unpack(r io.Reader, identities []age.Identity, into *os.Root) (m Manifest, err error) {
	opened, err := age.Decrypt(r, identities...)
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &none):
		return m, refuse(view.Say("backup_identity", nil))
	case err != nil:
		return m, broken(err.Error())
	}
	archive := tar.NewReader(opened)
	if err := readHeader(archive); err != nil {
		return m, err
	}
	files, m, err := unpackFiles(archive, into)
	if err != nil {
		return m, err
	}
	// age verifies the end of the file only when it is read up to there.
	if n, err := io.Copy(io.Discard, opened); err != nil {
		return m, broken(err.Error())
	} else if n > 0 {
		return m, broken("there is more behind its end")
	}
	if !slices.Equal(files, m.Files) {
		return m, broken(manifestName + " lists other files than those that are there")
	}
	return m, nil
}

// readHeader reads the first file. It is checked first: a newer version may have changed all the others.
func readHeader(archive *tar.Reader) error {
	first, err := archive.Next()
	if err != nil || first.Name != headerName || first.Typeflag != tar.TypeReg {
		return refuse(view.Say("backup_none", view.Args{"name": headerName}))
	}
	text, err := contents(archive, first)
	if err != nil {
		return err
	}
	var h Header
	if err := json.Unmarshal(text, &h); err != nil || h.Format != Format || h.Version < 1 {
		return refuse(view.Say("backup_none", view.Args{"name": headerName}))
	}
	if h.Version > Version {
		return refuse(view.Say("backup_newer", view.Args{"version": h.Version, "program": fmt.Sprintf("%.40q", h.Program), "known": Version}))
	}
	return nil
}

// unpackFiles reads all files up to the manifest, which is the last.
func unpackFiles(archive *tar.Reader, into *os.Root) (files []File, m Manifest, err error) {
	seen := map[string]bool{}
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil, m, broken("it ends without " + manifestName)
		}
		if err != nil {
			return nil, m, broken(err.Error())
		}
		if err := checkName(h); err != nil {
			return nil, m, err
		}
		if seen[h.Name] {
			return nil, m, broken(fmt.Sprintf("%.80q is there twice", h.Name))
		}
		seen[h.Name] = true
		data, err := contents(archive, h)
		if err != nil {
			return nil, m, err
		}
		if h.Name == manifestName {
			if err := json.Unmarshal(data, &m); err != nil {
				return nil, m, broken(fmt.Sprintf("%s: %v", manifestName, err))
			}
			if _, err := archive.Next(); !errors.Is(err, io.EOF) {
				return nil, m, broken("there is more behind " + manifestName)
			}
			return files, m, nil
		}
		if err := keep(into, h.Name, data); err != nil {
			return nil, m, err
		}
		files = append(files, File{h.Name, int64(len(data)), fs.FileMode(h.Mode).Perm(), digest(data)})
	}
}

// checkName allows regular files below the names of this format.
func checkName(h *tar.Header) error {
	top, rest, below := strings.Cut(h.Name, "/")
	directly, _, _ := strings.Cut(rest, "/")
	switch {
	case h.Typeflag != tar.TypeReg:
		return broken(fmt.Sprintf("%.80q is no regular file", h.Name))
	case slices.ContainsFunc(slices.Collect(maps.Keys(h.PAXRecords)), func(key string) bool { return strings.HasPrefix(key, "GNU.sparse.") }):
		return broken(fmt.Sprintf("%.80q is sparse: its few bytes would fill the disk", h.Name))
	case !fs.ValidPath(h.Name), strings.ContainsFunc(h.Name, func(r rune) bool { return r < ' ' || r == '\\' || r == 0x7f }):
		return broken(fmt.Sprintf("%.80q is no path inside a backup", h.Name))
	case top == stateDir && (directly == stage || directly == pending):
		return broken(fmt.Sprintf("%.80q has the name of a restore under way", h.Name))
	case below && slices.Contains([]string{stateDir, runDir, besideDir, outsideDir, officeDir}, top),
		!below && slices.Contains([]string{policyName, keyName, manifestName}, top):
		return nil
	}
	return broken(fmt.Sprintf("%.80q is no file of a backup", h.Name))
}

func contents(archive *tar.Reader, h *tar.Header) ([]byte, error) {
	if h.Size > maxFile && h.Name != manifestName || h.Size > 16*maxFile {
		return nil, broken(fmt.Sprintf("%.80q has %d bytes, allowed are %d", h.Name, h.Size, maxFile))
	}
	data, err := io.ReadAll(archive)
	if err != nil {
		return nil, broken(fmt.Sprintf("%.80q: %v", h.Name, err))
	}
	return data, nil
}

// keep writes an unpacked file. It is synced by commit.
func keep(into *os.Root, name string, data []byte) error {
	if err := into.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := into.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, bytes.NewReader(data))
	return errors.Join(err, f.Close())
}
