package config

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDefaults(t *testing.T) {
	got, err := FromEnvironment([]string{"PATH=/bin", "KIDOBANX=1"})
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{
		PolicyFile:       "/etc/kidoban/policy.yaml",
		StateDir:         "/var/lib/kidoban",
		Interface:        "kido0",
		ListenPort:       51820,
		PrivateKeyFile:   "/var/lib/kidoban/private.key",
		MetricsAddress:   "127.0.0.1:9586",
		MetricsEngineers: 1000,
		AdminSocket:      "/run/kidoban/admin.sock",
		OfficeStateDir:   "/var/lib/kidoban-office",
		LogLevel:         slog.LevelInfo,
		LogFormat:        "text",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEverySettingIsRead(t *testing.T) {
	environ := []string{
		"KIDOBAN_POLICY_FILE=/p", "KIDOBAN_STATE_DIR=/s", "KIDOBAN_INTERFACE=wg-maint.0", "KIDOBAN_LISTEN_PORT=1",
		"KIDOBAN_METRICS_ADDRESS=[::1]:9", "KIDOBAN_ADMIN_SOCKET=/a", "KIDOBAN_OFFICE_SOCKET=/o", "KIDOBAN_OFFICE_STATE_DIR=/os", "KIDOBAN_MASQUERADE=true", "KIDOBAN_FORWARD_OTHERS=true",
		"KIDOBAN_LOG_LEVEL=debug", "KIDOBAN_LOG_FORMAT=json", "KIDOBAN_METRICS_ENGINEERS=7",
		"KIDOBAN_SYSLOG_ADDRESS=logs.example.jp:6514", "KIDOBAN_SYSLOG_CA_FILE=/ca", "KIDOBAN_WITNESS=https://w.example/log+w.example+83268c7f+BAcOFRwjKjE4P0ZNVFtiaXB3foWMk5qhqK+2vcTL0tng",
		"KIDOBAN_INSIDE_INTERFACES=eth1,br-lan.7",
	}
	want := Settings{
		PolicyFile: "/p", StateDir: "/s", Interface: "wg-maint.0", ListenPort: 1, PrivateKeyFile: "/s/private.key",
		MetricsAddress: "[::1]:9", AdminSocket: "/a", OfficeSocket: "/o", OfficeStateDir: "/os", Masquerade: true, ForwardOthers: true, LogLevel: slog.LevelDebug, LogFormat: "json",
		MetricsEngineers: 7, SyslogAddress: "logs.example.jp:6514", SyslogCAFile: "/ca",
		Witness:          "https://w.example/log+w.example+83268c7f+BAcOFRwjKjE4P0ZNVFtiaXB3foWMk5qhqK+2vcTL0tng",
		InsideInterfaces: []string{"eth1", "br-lan.7"},
	}
	got, err := FromEnvironment(environ)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got, err = FromEnvironment(append(environ, "KIDOBAN_PRIVATE_KEY_FILE=/k"))
	if err != nil || got.PrivateKeyFile != "/k" {
		t.Errorf("private key file %q, error %v; want /k", got.PrivateKeyFile, err)
	}
}

func TestWrongSettings(t *testing.T) {
	const (
		port  = ` is no port: allowed is 1 to 65535`
		iface = ` is no name for an interface: allowed are 1 to 15 letters, digits, '_', '.' and '-', beginning with a letter, and not all, default or lo`
		host  = ` is not host:port: allowed is a DNS name or an address, IPv6 in brackets, and a port from 1 to 65535, as in gate.example.jp:51820 or [2001:db8::1]:51820`
	)
	for _, test := range []struct{ pair, want string }{
		{"KIDOBAN_POLICY=/p", "KIDOBAN_POLICY: unknown setting: allowed is KIDOBAN_ADMIN_SOCKET, KIDOBAN_FORWARD_OTHERS, KIDOBAN_INSIDE_INTERFACES, KIDOBAN_INTERFACE, KIDOBAN_LISTEN_PORT, KIDOBAN_LOG_FORMAT, KIDOBAN_LOG_LEVEL, KIDOBAN_MASQUERADE, KIDOBAN_METRICS_ADDRESS, KIDOBAN_METRICS_ENGINEERS, KIDOBAN_OFFICE_SOCKET, KIDOBAN_OFFICE_STATE_DIR, KIDOBAN_POLICY_FILE, KIDOBAN_PRIVATE_KEY_FILE, KIDOBAN_SHUT_FILE, KIDOBAN_STATE_DIR, KIDOBAN_SYSLOG_ADDRESS, KIDOBAN_SYSLOG_CA_FILE, KIDOBAN_WITNESS"},
		{"KIDOBAN_LISTENPORT=1", "KIDOBAN_LISTENPORT: unknown setting: allowed is KIDOBAN_ADMIN_SOCKET, KIDOBAN_FORWARD_OTHERS, KIDOBAN_INSIDE_INTERFACES, KIDOBAN_INTERFACE, KIDOBAN_LISTEN_PORT, KIDOBAN_LOG_FORMAT, KIDOBAN_LOG_LEVEL, KIDOBAN_MASQUERADE, KIDOBAN_METRICS_ADDRESS, KIDOBAN_METRICS_ENGINEERS, KIDOBAN_OFFICE_SOCKET, KIDOBAN_OFFICE_STATE_DIR, KIDOBAN_POLICY_FILE, KIDOBAN_PRIVATE_KEY_FILE, KIDOBAN_SHUT_FILE, KIDOBAN_STATE_DIR, KIDOBAN_SYSLOG_ADDRESS, KIDOBAN_SYSLOG_CA_FILE, KIDOBAN_WITNESS; did you mean KIDOBAN_LISTEN_PORT?"},
		{"KIDOBAN_SHUT_FILE=run/shut", `KIDOBAN_SHUT_FILE: "run/shut" is no path of a shut file: allowed is one that begins with /, without .., . and // in it, and without / at its end, as /run/kidoban-shut`},
		{"KIDOBAN_SHUT_FILE=/run/../shut", `KIDOBAN_SHUT_FILE: "/run/../shut" is no path of a shut file: allowed is one that begins with /, without .., . and // in it, and without / at its end, as /run/kidoban-shut`},
		{"KIDOBAN_SHUT_FILE=/", `KIDOBAN_SHUT_FILE: "/" is no path of a shut file: allowed is one that begins with /, without .., . and // in it, and without / at its end, as /run/kidoban-shut`},
		{"KIDOBAN_STATE_DIR=", "KIDOBAN_STATE_DIR: is empty: give a value or unset it"},
		{"KIDOBAN_STATE_DIR=a\x1b[2J", `KIDOBAN_STATE_DIR: "a\x1b[2J" has characters that do not show: allowed is a path without them`},
		{"KIDOBAN_ADMIN_SOCKET=/" + strings.Repeat("a", 107), `KIDOBAN_ADMIN_SOCKET: "/` + strings.Repeat("a", 79) + `"... has 108 bytes: allowed for a socket are 107`},
		{"KIDOBAN_INTERFACE=sixteencharslong", `KIDOBAN_INTERFACE: "sixteencharslong"` + iface},
		{"KIDOBAN_INTERFACE=a/b", `KIDOBAN_INTERFACE: "a/b"` + iface},
		{"KIDOBAN_INTERFACE=..", `KIDOBAN_INTERFACE: ".."` + iface},
		{"KIDOBAN_INTERFACE=all", `KIDOBAN_INTERFACE: "all"` + iface},
		{"KIDOBAN_INSIDE_INTERFACES=eth1,,lo,eth1, eth2,eth1", strings.Join([]string{
			`KIDOBAN_INSIDE_INTERFACES: ""` + iface, `KIDOBAN_INSIDE_INTERFACES: "lo"` + iface,
			`KIDOBAN_INSIDE_INTERFACES: "eth1" is named more than once: allowed is once`, `KIDOBAN_INSIDE_INTERFACES: " eth2"` + iface,
			`KIDOBAN_INSIDE_INTERFACES: "eth1" is named more than once: allowed is once`}, "\n")},
		{"KIDOBAN_INSIDE_INTERFACES=eth1,kido0", `KIDOBAN_INSIDE_INTERFACES: "kido0" is the tunnel's own interface (KIDOBAN_INTERFACE): allowed are others, which lead to targets`},
		{"KIDOBAN_LISTEN_PORT=0", `KIDOBAN_LISTEN_PORT: "0"` + port},
		{"KIDOBAN_LISTEN_PORT=65536", `KIDOBAN_LISTEN_PORT: "65536"` + port},
		{"KIDOBAN_LISTEN_PORT=-1", `KIDOBAN_LISTEN_PORT: "-1"` + port},
		{"KIDOBAN_LISTEN_PORT=+1", `KIDOBAN_LISTEN_PORT: "+1"` + port},
		{"KIDOBAN_METRICS_ADDRESS=9586", `KIDOBAN_METRICS_ADDRESS: "9586"` + host},
		{"KIDOBAN_METRICS_ADDRESS=:9586", `KIDOBAN_METRICS_ADDRESS: ":9586"` + host},
		{"KIDOBAN_METRICS_ADDRESS=127.0.0.1:0", `KIDOBAN_METRICS_ADDRESS: "127.0.0.1:0"` + host},
		{"KIDOBAN_METRICS_ADDRESS=127.0.0.256:1", `KIDOBAN_METRICS_ADDRESS: "127.0.0.256:1"` + host},
		{"KIDOBAN_METRICS_ENGINEERS=-1", `KIDOBAN_METRICS_ENGINEERS: "-1" is no number of engineers: allowed is 0 to 100000`},
		{"KIDOBAN_METRICS_ENGINEERS=100001", `KIDOBAN_METRICS_ENGINEERS: "100001" is no number of engineers: allowed is 0 to 100000`},
		{"KIDOBAN_WITNESS=w.example+key", `KIDOBAN_WITNESS: "w.example+key": it does not begin with the witness's URL: allowed is https://HOST/PATH+NAME+HASH+KEY, without user, query or fragment`},
		{"KIDOBAN_WITNESS=https://w.example/+key", `KIDOBAN_WITNESS: "https://w.example/+key": behind the URL and +: not the verifier key of a witness: allowed is NAME+HASH+KEY with an Ed25519 key`},
		{"KIDOBAN_SYSLOG_ADDRESS=collector", `KIDOBAN_SYSLOG_ADDRESS: "collector"` + host},
		{"KIDOBAN_MASQUERADE=1", `KIDOBAN_MASQUERADE: "1" is not allowed: allowed is true or false`},
		{"KIDOBAN_FORWARD_OTHERS=yes", `KIDOBAN_FORWARD_OTHERS: "yes" is not allowed: allowed is true or false`},
		{"KIDOBAN_LOG_LEVEL=INFO+1", `KIDOBAN_LOG_LEVEL: "INFO+1" is not allowed: allowed is debug, info, warn or error; did you mean info?`},
		{"KIDOBAN_LOG_FORMAT=xml", `KIDOBAN_LOG_FORMAT: "xml" is not allowed: allowed is text or json`},
	} {
		_, err := FromEnvironment([]string{test.pair})
		if err == nil || err.Error() != test.want {
			t.Errorf("%s: error %v\nwant %s", test.pair, err, test.want)
		}
	}
}

func TestAllWrongSettingsAtOnce(t *testing.T) {
	s, err := FromEnvironment([]string{"KIDOBAN_LISTEN_PORT=x", "KIDOBAN_STATE_DIR=", "KIDOBAN_LOG_LEVEL=loud", "KIDOBAN_\x1b[31m=1"})
	if err == nil {
		t.Fatal("no error")
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != 4 {
		t.Errorf("%d lines, want 4:\n%v", n, err)
	}
	if strings.Contains(err.Error(), "\x1b") {
		t.Errorf("an escape sequence passes through: %q", err)
	}
	if diff := cmp.Diff(Settings{}, s); diff != "" {
		t.Errorf("settings %+v with an error", s)
	}
}

func TestEverySettingHasMeaningAndCheck(t *testing.T) {
	fields := reflect.VisibleFields(reflect.TypeFor[Settings]())
	if len(fields) != len(settingChecks) {
		t.Errorf("%d settings, %d checks", len(fields), len(settingChecks))
	}
	for _, field := range fields {
		if field.Tag.Get("meaning") == "" || settingChecks[field.Tag.Get("env")] == nil {
			t.Errorf("%s has no meaning or no check", field.Name)
		}
	}
}

// loadOrMake is what a first start does.
func loadOrMake(path string) ([32]byte, error) {
	if err := (KeyFile{Path: path}).Make(); err != nil {
		return [32]byte{}, err
	}
	key, _, err := (KeyFile{Path: path}).Load()
	return key, err
}

func TestPrivateKeyIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "private.key")
	if _, _, err := (KeyFile{Path: path}).Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent, not to be made: error %v", err)
	}
	first, err := loadOrMake(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := loadOrMake(path)
	if err != nil || again != first {
		t.Errorf("the second time gives another key, or error %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, error %v; want 0600", info.Mode(), err)
	}
	if first[0]&7 != 0 || first[31]&0xc0 != 0x40 {
		t.Errorf("the key is not clamped: %x ... %x", first[0], first[31])
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files in the directory, error %v; want the key alone", len(entries), err)
	}
	text, err := os.ReadFile(path)
	if err != nil || len(text) != 45 || text[44] != '\n' {
		t.Errorf("the file has %d bytes, error %v; want 44 characters and a newline", len(text), err)
	}
}

// Programs that start at the same time must end up with one identity.
func TestPrivateKeyMadeAtTheSameTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "private.key")
	keys := make(chan [32]byte)
	const programs = 8
	for range programs {
		go func() {
			key, err := loadOrMake(path)
			if err != nil {
				t.Error(err)
			}
			keys <- key
		}()
	}
	first := <-keys
	for range programs - 1 {
		if key := <-keys; key != first {
			t.Error("two programs have two keys")
		}
	}
}

func TestFault51LoosePrivateKeyIsRefused(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct {
		name string
		text string
		mode fs.FileMode
		want string
	}{
		{"group", testPSK + "\n", 0o640, "has mode 0640: allowed is 0600 or stricter (chmod 0600)"},
		{"all", testPSK, 0o604, "has mode 0604: allowed is 0600 or stricter (chmod 0600)"},
		{"empty", "", 0o600, "is not a key: allowed is the base64 of 32 bytes, 44 characters on one line"},
		{"two-lines", testPSK + "\n\n", 0o600, "is not a key: allowed is the base64 of 32 bytes, 44 characters on one line"},
		{"trailing-bits", strings.TrimSuffix(testPSK, "8=") + "9=", 0o600, "is not a key: allowed is the base64 of 32 bytes, 44 characters on one line"},
		{"zero", strings.Repeat("A", 43) + "=\n", 0o600, "is all zeros: allowed is what `wg genkey` writes"},
	} {
		path := filepath.Join(dir, test.name)
		if err := os.WriteFile(path, []byte(test.text), test.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, test.mode); err != nil {
			t.Fatal(err)
		}
		key, err := loadOrMake(path)
		if want := `private key "` + path + `": ` + test.want; err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", test.name, err, want)
		}
		if key != [32]byte{} {
			t.Errorf("%s: a key comes with the error", test.name)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != test.text {
			t.Errorf("%s: the file was touched: %q, %v", test.name, after, err)
		}
	}
	if _, err := loadOrMake(dir); err == nil || !strings.HasSuffix(err.Error(), "is not a regular file (d---------)") {
		t.Errorf("directory: error %v", err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadOrMake(pipe); err == nil || !strings.HasSuffix(err.Error(), "is not a regular file (p---------)") {
		t.Errorf("pipe: error %v", err)
	}
	strict := filepath.Join(dir, "strict")
	if err := os.WriteFile(strict, []byte(testPSK), 0o400); err != nil {
		t.Fatal(err)
	}
	if _, _, err := (KeyFile{Path: strict}).Load(); err != nil {
		t.Errorf("mode 0400 without a newline: error %v", err)
	}
}

// The vectors are those of RFC 7748, section 6.1.
func TestPublicKey(t *testing.T) {
	private := mustKey("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=")
	if got, want := publicKey(private).String(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="; got != want {
		t.Errorf("public key %s, want %s", got, want)
	}
}

// What we write, wg reads; what wg writes, we read, and both see the same
// public key.
func TestKeysOfWG(t *testing.T) {
	if _, err := exec.LookPath("wg"); err != nil {
		t.Skip("wg is not installed")
	}
	path := filepath.Join(t.TempDir(), "private.key")
	check := func() {
		t.Helper()
		key, err := loadOrMake(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		command := exec.Command("wg", "pubkey")
		command.Stdin = f
		out, err := command.Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := publicKey(key).String(), strings.TrimSpace(string(out)); got != want {
			t.Errorf("public key %s, wg says %s", got, want)
		}
	}
	check()
	text, err := exec.Command("wg", "genkey").Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	check()
}
