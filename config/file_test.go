package config

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/durable"
	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// TestPolicyFileOfManyKeys: of more preshared-key files than are looked at each
// time every one is looked at in the end.
func TestPolicyFileOfManyKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := &File{}
	for i := range 1 + 2*keysALook + 1 {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, nil, 0o640); err != nil {
			t.Fatal(err)
		}
		f.files = append(f.files, dated{path, stampOf(path)})
	}
	const looks = 3
	for _, i := range []int{1, 2, keysALook, keysALook + 1, 2 * keysALook, 2*keysALook + 1} {
		for range looks {
			if !f.unchanged() {
				t.Fatalf("before %d goes: something changed", i)
			}
		}
		if err := os.Remove(f.files[i].path); err != nil {
			t.Fatal(err)
		}
		seen := false
		for range looks {
			seen = seen || !f.unchanged()
		}
		if !seen {
			t.Errorf("key %d of %d is gone, and that was not seen in %d looks", i, len(f.files)-1, looks)
		}
		f.files[i].was = stampOf(f.files[i].path)
	}
}

// TestPolicyFileIsLookedAt: whatever changes of what a restart would find is
// seen at the next look, and so is its end; else nothing is read again.
func TestPolicyFileIsLookedAt(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../cmd/kidoban/testdata/site.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const suzuki = "      suzuki:\n"
	if !strings.Contains(string(text), suzuki) {
		t.Fatalf("the policy has no %q", suzuki)
	}
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(in(name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	psk := func() string {
		key, _ := lab.NewKey()
		return base64.StdEncoding.EncodeToString(key[:]) + "\n"
	}
	good, key := strings.Replace(string(text), suzuki, suzuki+"        preshared_key_file: suzuki.psk\n", 1), psk()
	write("policy.yaml", good)
	write("suzuki.psk", key)
	var own []netip.Addr
	f := &File{Path: in("policy.yaml"), Guard: durable.Guard{Within: []string{durable.Real(dir)}}, Addresses: func() ([]netip.Addr, error) { return own, nil }}
	elsewhere := filepath.Join(t.TempDir(), "suzuki.psk")
	look := func() (digest, complaint string) {
		t.Helper()
		var err error
		if digest, err = f.Check(); err != nil {
			complaint = err.Error()
		}
		return digest, complaint
	}
	digest, complaint := look()
	if digest == "" || complaint != "" {
		t.Fatalf("of a good file: digest %q, %s", digest, complaint)
	}
	for _, x := range []struct {
		what      string
		do, undo  func()
		complaint string // empty: it is another policy
	}{
		{"the policy is edited", func() { write("policy.yaml", good+"# a remark\n") }, func() { write("policy.yaml", good) }, ""},
		{"the policy goes", func() { must(os.Rename(in("policy.yaml"), in("moved"))) }, func() { must(os.Rename(in("moved"), in("policy.yaml"))) },
			"no such file"},
		{"everybody may write the policy", func() { must(os.Chmod(in("policy.yaml"), 0o666)) }, func() { must(os.Chmod(in("policy.yaml"), 0o640)) },
			"has mode 0666"},
		{"everybody may write the policy's folder", func() { must(os.Chmod(dir, 0o777)) }, func() { must(os.Chmod(dir, 0o755)) },
			"policy.yaml: lies in " + dir + ", which has mode 0777"},
		{"the preshared key goes", func() { must(os.Rename(in("suzuki.psk"), in("moved"))) }, func() { must(os.Rename(in("moved"), in("suzuki.psk"))) },
			`"suzuki.psk" cannot be read: no such file`},
		{"the preshared key lies where the gateway cannot read", func() {
			must(os.Rename(in("suzuki.psk"), elsewhere))
			must(os.Symlink(elsewhere, in("suzuki.psk")))
		}, func() { must(os.Rename(elsewhere, in("suzuki.psk"))) }, `"suzuki.psk" lies in ` + durable.Real(filepath.Dir(elsewhere)) + ", where the gateway cannot read: allowed is a file beneath " + durable.Real(dir)},
		{"everybody may read the preshared key", func() { must(os.Chmod(in("suzuki.psk"), 0o644)) }, func() { must(os.Chmod(in("suzuki.psk"), 0o640)) },
			`"suzuki.psk" has mode 0644`},
		{"the preshared key is another, of the same age", func() {
			old, err := os.Stat(in("suzuki.psk"))
			must(err)
			write("new", psk())
			must(os.Chtimes(in("new"), time.Time{}, old.ModTime()))
			must(os.Rename(in("new"), in("suzuki.psk")))
		}, func() { write("new", key); must(os.Rename(in("new"), in("suzuki.psk"))) }, ""},
		{"the host gets a target's address", func() { own = []netip.Addr{netip.MustParseAddr("10.1.2.3")} }, func() { own = nil },
			"10.1.2.0/28 contains the gateway's own address 10.1.2.3"},
	} {
		before := &f.files[0]
		if again, complaint := look(); again != digest || complaint != "" {
			t.Errorf("before %s: digest %q, %s", x.what, again, complaint)
		}
		if &f.files[0] != before {
			t.Errorf("before %s: the file was read again, and nothing had changed", x.what)
		}
		x.do()
		other, complaint := look()
		if x.complaint == "" && (other == digest || complaint != "") || !strings.Contains(complaint, x.complaint) {
			t.Errorf("%s: digest %q, want another than %q, complaint %q, want %q", x.what, other, digest, complaint, x.complaint)
		}
		changed := &f.files[0]
		if look(); &f.files[0] != changed {
			t.Errorf("%s: the file was read again, and nothing had changed since", x.what)
		}
		x.undo()
		if again, complaint := look(); again != digest || complaint != "" {
			t.Errorf("no more %s: digest %q, want %q; %s", x.what, again, digest, complaint)
		}
	}
}

// TestFault103PresharedKeysAreCompared: exactly while their files are as they were
// loaded, and else by the names of the files.
func TestFault103PresharedKeysAreCompared(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../cmd/kidoban/testdata/site.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(in(name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	load := func(name string) *policy.Policy {
		t.Helper()
		write("policy.yaml", strings.Replace(string(text), "      suzuki:\n", "      suzuki:\n"+name, 1))
		p, _, err := LoadPolicy(in("policy.yaml"), Host{})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	const old, other = "        preshared_key_file: suzuki.psk\n", "        preshared_key_file: other.psk\n"
	for _, name := range []string{"suzuki.psk", "other.psk"} {
		key, _ := lab.NewKey()
		write(name, base64.StdEncoding.EncodeToString(key[:])+"\n")
	}
	for _, c := range []struct {
		name           string
		inForce, other string
		do             func() // before the comparison
		exact          bool
		want           int // changes
	}{
		{"the same", old, old, nil, true, 0},
		{"no key", old, "", nil, true, 1},
		{"a key", "", old, nil, true, 1},
		{"another file", old, other, nil, true, 1},
		{"another key in the file", old, old, func() { write("suzuki.psk", strings.Repeat("A", 42)+"E=\n") }, false, 0},
		{"another file, and the first is gone", old, other, func() {
			if err := os.Remove(in("suzuki.psk")); err != nil {
				t.Fatal(err)
			}
		}, false, 1},
	} {
		before, after := load(c.inForce), load(c.other)
		if c.do != nil {
			c.do()
		}
		inForce, same, exact, err := Comparable(before.Text, before.Digest, dir, durable.Guard{}, after)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if changes := policy.Changes(inForce, same); exact != c.exact || len(changes) != c.want {
			t.Errorf("%s: exact %t, want %t; changes %v, want %d", c.name, exact, c.exact, changes, c.want)
		}
	}
}
