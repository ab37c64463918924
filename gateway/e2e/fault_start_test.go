package e2e

import (
	"encoding/base64"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
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
