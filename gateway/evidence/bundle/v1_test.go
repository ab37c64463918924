package bundle

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "make the bundle of version 1 where it is not there")

// TestBundleOfVersion1: every later version verifies it. -update made it, which makes it only where it is
// not there.
func TestBundleOfVersion1(t *testing.T) {
	const file, keyFile = "testdata/v1/bundle.zip", "testdata/v1/key"
	if _, err := os.Stat(file); *update && os.IsNotExist(err) {
		in, key, _ := night(t)
		for path, text := range map[string][]byte{file: make1(t, in).Archive, keyFile: []byte(key + "\n")} {
			if err := os.MkdirAll("testdata/v1", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	v, err := Verify(text, strings.TrimSpace(string(key)))
	if err != nil || !v.Signed || v.Entries < 5 || v.Proofs != v.Entries || v.Facts.Version != 1 {
		t.Errorf("signed %t, %d entries, %d proofs, version %d, %v", v.Signed, v.Entries, v.Proofs, v.Facts.Version, err)
	}
}

// TestBundleOfANewerVersion is refused by name, although its files and its signature are right.
func TestBundleOfANewerVersion(t *testing.T) {
	in, key, _ := night(t)
	all, err := unpack(make1(t, in).Archive)
	if err != nil {
		t.Fatal(err)
	}
	all[facts] = bytes.Replace(all[facts], []byte(`"version": 1`), []byte(`"version": 2`), 1)
	delete(all, sums)
	delete(all, signature)
	var list bytes.Buffer
	var files []file
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&list, "%s  %s\n", digest(all[name]), name)
		files = append(files, file{name, all[name]})
	}
	signed, err := in.Sign(noteText(list.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	archive, err := pack(append(files, file{sums, list.Bytes()}, file{signature, signed}))
	if err != nil {
		t.Fatal(err)
	}
	const want = "facts.json has version 2: a newer kidoban made the bundle, and this one knows versions up to 1"
	if _, err := Verify(archive, key); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("verified as %v, want %s", err, want)
	}
}
