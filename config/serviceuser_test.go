package config

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kidoban/gateway/view"
)

// TestFault90MetricsForEverybody: metrics name vendors and engineers, so an address
// that the Internet may reach is told.
func TestFault90MetricsForEverybody(t *testing.T) {
	for address, want := range map[string]view.Code{
		"127.0.0.1:9586": "", "[::1]:9586": "", "10.1.255.2:9586": "", "192.168.1.2:9586": "", "[fd00::1]:9586": "", "localhost:9586": "", "gate.hospital.example:9586": "",
		"0.0.0.0:9586": "metrics_everywhere", "[::]:9586": "metrics_everywhere",
		"203.0.113.1:9586": "metrics_public", "[2001:db8::1]:9586": "metrics_public",
	} {
		s, err := FromEnvironment([]string{"KIDOBAN_METRICS_ADDRESS=" + address})
		if err != nil {
			t.Fatal(err)
		}
		var got view.Code
		for _, w := range s.Warnings() {
			got += w.Code
		}
		if got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}

// TestFault91CheckByRoot: root reads every file, and the service's user does not. A
// check by root names each file that would keep the gateway shut.
func TestFault91CheckByRoot(t *testing.T) {
	const user, group = 64123, 64124 // of nobody
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	in := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	for _, folder := range []string{state, in("closed"), in("grouped")} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(state, user, group); err != nil {
		t.Skipf("only root has other users: %v", err)
	}
	for above := dir; above != "/"; above = filepath.Dir(above) { // tests' own folders may be closed
		if info, err := os.Stat(above); err != nil || info.Mode().Perm()&0o001 == 0 {
			if err := os.Chmod(above, info.Mode().Perm()|0o011); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, mode := range map[string]os.FileMode{"good.yaml": 0o644, "closed/psk": 0o644, "root.psk": 0o600, "grouped/psk": 0o640} {
		if err := os.WriteFile(in(name), []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(in("closed"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(in("grouped/psk"), 0, group); err != nil {
		t.Fatal(err)
	}
	s := Settings{MetricsAddress: "127.0.0.1:9586", StateDir: state, PrivateKeyFile: in("none")}
	var got []string
	for _, w := range s.Doubtful([]string{in("good.yaml"), in("closed/psk"), in("root.psk"), in("grouped/psk"), in("absent")}) {
		got = append(got, strings.ReplaceAll(w.String(), dir+"/", ""))
	}
	want := []string{
		fmt.Sprintf("closed/psk: user %d, who runs the gateway, cannot read it: closed has mode 0700, owner root, group root", user),
		fmt.Sprintf("root.psk: user %d, who runs the gateway, cannot read it: root.psk has mode 0600, owner root, group root", user),
	}
	if !slices.Equal(got, want) {
		t.Errorf("warnings\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// This process is still root.
	if _, err := os.ReadFile(in("root.psk")); err != nil {
		t.Error(err)
	}
	// A start would miss the private key, where there is a journal.
	if err := os.Mkdir(filepath.Join(state, "journal"), 0o700); err != nil {
		t.Fatal(err)
	}
	if all := s.Doubtful(nil); len(all) != 1 || all[0].Code != "key_missing" || !strings.Contains(all[0].String(), in("none")) {
		t.Errorf("without the private key: %v", all)
	}
	// So it does where the key has its usual place, in the service's own folder.
	s.PrivateKeyFile = filepath.Join(state, "private.key")
	if err := os.Chmod(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if all := s.Doubtful(nil); len(all) != 1 || all[0].Code != "key_missing" {
		t.Errorf("without the private key in the state folder: %v", all)
	}
	// Nor does it take a key that root copied there, or one that others can read.
	key := []byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{64}, 32)))
	if err := os.WriteFile(s.PrivateKeyFile, key, 0o600); err != nil {
		t.Fatal(err)
	}
	if all := s.Doubtful(nil); len(all) != 1 || all[0].Code != "file_unread" || !strings.Contains(all[0].String(), "private.key has mode 0600, owner root") {
		t.Errorf("with a private key of root: %v", all)
	}
	if err := os.Chown(s.PrivateKeyFile, user, group); err != nil {
		t.Fatal(err)
	}
	if all := s.Doubtful(nil); len(all) != 0 {
		t.Errorf("with a private key of the service: %v", all)
	}
	if err := os.Chmod(s.PrivateKeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if all := s.Doubtful(nil); len(all) != 1 || all[0].Code != "key_unread" || !strings.Contains(all[0].String(), "mode 0644") {
		t.Errorf("with a private key that others can read: %v", all)
	}
	// Where root runs the gateway, no file is one that it cannot read.
	if err := os.Chown(state, 0, 0); err != nil {
		t.Fatal(err)
	}
	if all := s.Doubtful([]string{in("root.psk")}); slices.ContainsFunc(all, func(m view.Message) bool { return m.Code == "file_unread" }) {
		t.Errorf("where root runs the gateway: %v", all)
	}
}
