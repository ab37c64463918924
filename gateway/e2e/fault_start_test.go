package e2e

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// TestFault87LostPrivateKey: the private key is lost for good. No other one comes in
// its place without an operator's word, and all places tell the new one.
func TestFault87LostPrivateKey(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	text := func(key lab.Key) string { return base64.StdEncoding.EncodeToString(key[:]) }
	g.open([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
	c := g.inside()
	g.kill()
	g.settings = append(g.settings, "KIDOBAN_PRIVATE_KEY_FILE="+g.keyFile()+".mistyped")
	g.startAsItIs()
	if err := g.shutInDoubt(g.keyFile() + ".mistyped"); err != nil {
		t.Error(err)
	}
	if key := g.status().PublicKey; key != nil {
		t.Errorf("status names a key in doubt: %v", key)
	}
	if _, err := os.Stat(g.keyFile() + ".mistyped"); !os.IsNotExist(err) {
		t.Errorf("a key was made, or %v", err)
	}
	if _, told, exit := g.operator("client-config", sato); exit != exitFailed || !strings.Contains(told, "no private key in use") {
		t.Errorf("client-config without a key: exit %d, %s", exit, told)
	}
	if _, told, exit := g.operator("reload"); exit != exitFailed || !strings.Contains(told, "cannot be read: no such file") {
		t.Errorf("reload without a key: exit %d, %s", exit, told)
	}
	out := g.must("recover", "--reason", "the disk was lost")
	g.ready()
	key := g.status().PublicKey.String()
	if key == text(g.publicKey) || !strings.Contains(out, "A NEW PRIVATE KEY") || !strings.Contains(out, key) {
		t.Errorf("recover says:\n%s\nwith the new key %s", out, key)
	}
	if g.enter(c, 1500*time.Millisecond) == nil {
		t.Error("sato entered with the old configuration")
	}
	if config := g.must("client-config", sato); !strings.Contains(config, "PublicKey = "+key) {
		t.Errorf("client-config has not the key %s:\n%s", key, config)
	}
	if list := g.must("journal", "list"); !strings.Contains(list, "key "+key) || !strings.Contains(list, "key "+text(g.publicKey)) {
		t.Errorf("journal list names not both keys:\n%s", list)
	}
	if all := g.entries(journal.Identity); len(all) != 2 || all[0].Key != text(g.publicKey) || all[1].Key != key || all[1].Actor == "gateway" {
		t.Errorf("the journal has the identities %+v", all)
	}
	if log := g.log(); !strings.Contains(log, "a new private key is made") {
		t.Error("the log does not tell of the new key")
	}
	// The next start takes it.
	g.kill()
	g.startAsItIs()
	g.ready()
	if code, _, err := g.get("/readyz"); err != nil || code != http.StatusOK {
		t.Errorf("/readyz: %d, %v", code, err)
	}
}

// TestFault88ColdSpare takes the state of one host to another, by the commands of
// docs/OPERATIONS.md. What was shut stays shut there, the journal goes on, and the
// clients need nothing new. Without the state the spare says that it knows nothing.
func TestFault88ColdSpare(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## A cold spare\n")
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1)
	if len(blocks) != 2 {
		t.Fatalf("the section about a spare has %d blocks of commands, want 2: one for each machine", len(blocks))
	}
	first, spare := newGround(t), newGround(t)
	spare.people, spare.privateKey, spare.publicKey = first.people, first.privateKey, first.publicKey
	root := t.TempDir()
	// on runs the commands of a block for a host. It keeps policies where the host has them.
	on := func(g *ground, block string) {
		t.Helper()
		etc := filepath.Join(g.folder, "etc")
		g.check(os.MkdirAll(etc, 0o700))
		if text, err := os.ReadFile(g.policyFile()); err == nil {
			g.write(filepath.Join(etc, "policy.yaml"), string(text))
		}
		places := strings.NewReplacer("/var/lib/kidoban", g.stateDir(), "/etc/kidoban", etc, "/root/", root+"/",
			"kidoban:kidoban", fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid()))
		for line := range strings.Lines(block) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
			line = strings.TrimSpace(line)
			switch args := strings.Fields(line); {
			case line == "":
			case line == "systemctl stop kidoban":
				g.stop()
			case line == "systemctl start kidoban":
				g.startAsItIs()
				g.ready()
			case args[0] == "kidoban":
				text, err := os.ReadFile(filepath.Join(etc, "policy.yaml"))
				g.check(err)
				g.write(g.policyFile(), string(text))
				g.must(args[1:]...)
			default:
				if out, err := exec.Command("sh", "-ec", places.Replace(line)).CombinedOutput(); err != nil {
					t.Fatalf("%s: %v\n%s", line, err, out)
				}
			}
		}
	}
	first.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "ehr, ehr6")})
	first.inside()
	first.must("close", "scanco", "--reason", "key stolen")

	// The spare was tried once, with a state of its own.
	spare.start()
	if !spare.hints("knows of no earlier close") {
		t.Errorf("hints of the spare with an empty folder: %q", spare.status().Hints)
	}
	if s := spare.status(); len(s.Shut.Vendors) > 0 {
		t.Fatalf("the spare knows %v to be shut before the copy", s.Shut.Vendors)
	}

	on(first, blocks[0][1])
	size := len(first.entries(""))
	on(spare, blocks[1][1])

	s := spare.status()
	if len(s.Shut.Vendors) != 1 || s.Shut.Vendors[0] != "scanco" {
		t.Errorf("shut on the spare: %+v", s.Shut)
	}
	if s.PublicKey == nil || *s.PublicKey != policy.Key(first.publicKey) {
		t.Errorf("the spare has the key %v, want %v", s.PublicKey, policy.Key(first.publicKey))
	}
	if out, _, exit := spare.operator("explain", tanaka, "--from", scanco4.String()); exit != exitNo || !strings.Contains(out, "vendor_shut") {
		t.Errorf("tanaka would be told: exit %d, %s", exit, out)
	}
	spare.inside()
	if c := spare.client(spare.scanco, tanaka, 4); spare.enter(c, 1500*time.Millisecond) == nil {
		t.Error("tanaka entered by the spare")
	}
	spare.must("journal", "verify")
	all := spare.entries("")
	if len(all) <= size || all[0].Kind != journal.Start || all[0].Reason != "first_start" {
		t.Errorf("the spare's journal has %d entries and begins with %+v, want the %d of the first host and more", len(all), all[0], size)
	}
	if keys := spare.entries(journal.Identity); len(keys) != 1 {
		t.Errorf("identities on the spare: %+v", keys)
	}
}
