package journal

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// FuzzBundle reads arbitrary bytes as a bundle: what it takes for entries,
// written again, is how the bytes begin.
func FuzzBundle(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0})
	f.Add([]byte{0, 0})
	f.Add([]byte("\x00\x02{}\x00\x01x"))
	f.Add([]byte("\xff\xffshort"))
	f.Add(appendEntry(nil, bytes.Repeat([]byte("x"), MaxEntry)))
	f.Fuzz(func(t *testing.T, data []byte) {
		var written []byte
		rest := data
		for {
			line, after, err := nextEntry(rest)
			if err != nil {
				break
			}
			written, rest = appendEntry(written, line), after
		}
		if !bytes.Equal(written, data[:len(data)-len(rest)]) {
			t.Errorf("%q was read as %q", data, written)
		}
		if len(rest) >= 2 && len(rest)-2 >= int(rest[0])<<8|int(rest[1]) {
			t.Errorf("the entry at %d is whole, yet was not read", len(data)-len(rest))
		}
	})
}

// FuzzCheckpoint reads arbitrary text as a checkpoint. Only what the key
// signed verifies; what parses is written in one way only.
func FuzzCheckpoint(f *testing.F) {
	k, _, err := newKey()
	if err != nil {
		f.Fatal(err)
	}
	signed, err := k.sign((&edge{}).tree())
	if err != nil {
		f.Fatal(err)
	}
	const hash = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
	f.Add(string(signed))
	f.Add("example.com/behind-the-sofa\n20852163\n" + hash + "\n\n— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n")
	for _, size := range []string{"0", "00", "-1", "+1", " 1", "9223372036854775807", "9223372036854775808", "281474976710656", "281474976710657"} {
		f.Add("kidoban/0\n" + size + "\n" + hash + "\n")
	}
	f.Add("\n1\n" + hash + "\n")
	f.Add("kidoban/0\n1\n" + hash[:43] + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := openCheckpoint([]byte(text), k.verifier); err == nil && text != string(signed) {
			t.Errorf("verified, but never signed: %q", text)
		}
		origin, tree, err := parseCheckpoint(text)
		if err != nil {
			return
		}
		lines := strings.SplitN(text, "\n", 4)
		if tree.N < 0 || tree.N > maxSize || lines[0] != origin || lines[1] != fmt.Sprint(tree.N) {
			t.Errorf("%q was read as %q, %d", text, origin, tree.N)
		}
	})
}

// FuzzFolder puts arbitrary bytes where a bundle or tile should be. Within
// the checkpoint anything else than what was signed is damage; beyond it, it
// is no hindrance.
func FuzzFolder(f *testing.F) {
	base := newMemDisk()
	h := &history{}
	j, err := open(base, memDir, memKey)
	if err != nil {
		f.Fatal(err)
	}
	verifier := j.key.verifier
	for range 3 {
		if err := h.append(j, 1); err != nil {
			f.Fatal(err)
		}
	}
	j.Close()
	signed := base.tree(memDir)
	read := func(d *memDisk, name string) []byte {
		data, _ := d.readFile(filepath.Join(memDir, name), maxBundle)
		return data
	}
	places := append([]string{"tile/entries/000.p/9", "tile/entries/000", "tile/entries/001", "tile/0/000.p/9", "tile/1/000.p/1", "tile/nonsense"}, signed...)
	bundle := read(base, "tile/entries/000.p/3")
	for i := range places {
		f.Add(uint8(i), []byte{})
		f.Add(uint8(i), bundle)
		f.Add(uint8(i), append(bytes.Clone(bundle), bundle...))
		f.Add(uint8(i), read(base, places[i]))
	}
	f.Fuzz(func(t *testing.T, place uint8, data []byte) {
		if len(data) > maxBundle {
			return
		}
		name := places[int(place)%len(places)]
		d := base.clone()
		put(t, d, name, data)
		lost := false
		for _, err := range readDamaged(d, memDir, memKey) {
			lost = err != nil
		}
		if want := slices.Contains(signed, name) && !strings.HasPrefix(name, "tile/0/") && !bytes.Equal(data, read(base, name)); lost != want {
			t.Errorf("%s changed: something is lost: %t, want %t", name, lost, want)
		}
		_, err := verifyDir(d, memDir, verifier, nil, false)
		if slices.Contains(signed, name) && !bytes.Equal(data, read(base, name)) {
			var damage *DamageError
			if !errors.As(err, &damage) || damage.Entry < 0 || damage.Entry > 3 {
				t.Errorf("%s changed: VerifyDir: %v, want a DamageError", name, err)
			}
			if _, err := open(d, memDir, memKey); !errors.As(err, &damage) {
				t.Errorf("%s changed: Open: %v, want a DamageError", name, err)
			}
			return
		}
		if err != nil {
			t.Errorf("%s beyond the checkpoint: VerifyDir: %v", name, err)
		}
		j, err := open(d, memDir, memKey)
		if err != nil {
			t.Fatalf("%s beyond the checkpoint: Open: %v", name, err)
		}
		if err := j.Append(Entry{Kind: Stop}); err != nil {
			t.Fatal(err)
		}
		j.Close()
		if report, err := verifyDir(d, memDir, verifier, nil, false); err != nil || report.Size < 4 {
			t.Errorf("%s beyond the checkpoint: then %d entries, %v", name, report.Size, err)
		}
	})
}
