package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"kidoban/cmd/kidoban/audit"
	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/admin"
	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

var update = flag.Bool("update", false, "rewrite golden texts and the generated parts of documents")

// TestScripts runs the real program against testdata/*.txtar. Each script
// stands in an empty folder with testdata/site.yaml as its policy file, a
// state directory that does not exist yet, and nobody on the admin socket.
func TestScripts(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "kidoban")); err != nil {
		t.Fatal(err)
	}
	site, err := os.ReadFile("testdata/site.yaml")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                "testdata",
		UpdateScripts:      *update,
		RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("TZ", "Asia/Tokyo")
			e.Setenv("GORACE", "atexit_sleep_ms=0") // under the race detector each command would take a second longer
			e.Setenv("KIDOBAN_POLICY_FILE", filepath.Join(e.WorkDir, "policy.yaml"))
			e.Setenv("KIDOBAN_STATE_DIR", filepath.Join(e.WorkDir, "state"))
			e.Setenv("KIDOBAN_ADMIN_SOCKET", filepath.Join(e.WorkDir, "admin.sock"))
			if _, err := os.Stat(filepath.Join(e.WorkDir, "policy.yaml")); err == nil {
				return nil // the script brings its own
			}
			return os.WriteFile(filepath.Join(e.WorkDir, "policy.yaml"), site, 0o640)
		},
		// In a network of our own it may be changed.
		Condition: func(name string) (bool, error) {
			if name != "lab" {
				return false, fmt.Errorf("%q is not a condition: allowed is lab", name)
			}
			return lab.Available() == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "isjson": isJSON, "record": record, "replace": replace, "shorten": shorten,
		},
	})
}

// exits STATUS PROGRAM ARGS...: runs a program that must end with the status.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		ts.Fatalf("usage: exits STATUS PROGRAM ARGS...: %v", err)
	}
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%s: %v", args[1], err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// isjson FILE...: each file is one JSON value a line, and nothing else.
func isJSON(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args {
		text := []byte(ts.ReadFile(name))
		if len(text) == 0 {
			ts.Fatalf("%s is empty", name)
		}
		for line := range bytes.Lines(text) {
			if !json.Valid(line) {
				ts.Fatalf("%s: not JSON: %s", name, line)
			}
		}
	}
}

// record STATE: appends the story of one evening to the journal of a state
// directory, at times that do not depend on the clock.
func record(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: record STATE")
	}
	state := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(state, 0o700))
	j, err := journal.Open(audit.Place(state))
	ts.Check(err)
	defer j.Close()
	// A story that is told again happens a day later.
	start := time.Date(2030, 12, 8, 12, 59, 50, 0, time.UTC).AddDate(0, 0, int(j.Size()/11))
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	const grant, session, source = "medisys/sato/patch@20301208T130000Z", "SESSION1", "203.0.113.10"
	until := at(4*3600 + 10)
	shut, err := json.Marshal(policy.Shut{Scope: "scanco", Reason: "phone call"})
	ts.Check(err)
	ts.Check(j.Append(
		journal.Entry{Kind: journal.Start, Time: at(0), Actor: "gateway", Text: "v1"},
		// The site's zone is not the machine's.
		journal.Entry{Kind: journal.PolicyText, Time: at(0), Actor: "gateway", Text: "timezone: Europe/Berlin\n",
			Digest: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"},
		journal.Entry{Kind: journal.PolicyLoaded, Time: at(0), Actor: "gateway", Digest: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"},
		journal.Entry{Kind: journal.WindowOpened, Time: at(1), Actor: "gateway", Vendor: "medisys", Engineer: "sato", Window: "patch", Grant: grant,
			From: at(10), Until: until, Targets: []string{"ehr-db"}, Text: "approved by Head of IT CHG-2"},
		journal.Entry{Kind: journal.Refused, Time: at(5), Actor: "gateway", Vendor: "medisys", Engineer: "sato", Source: "192.0.2.1",
			Reason: policy.WrongSource.String(), Count: 3, First: at(2), Last: at(5)},
		journal.Entry{Kind: journal.SessionOpened, Time: at(60), Actor: "gateway", Vendor: "medisys", Engineer: "sato", Session: session,
			Source: source, From: at(60), Until: until, Grants: []string{grant}},
		journal.Entry{Kind: journal.Shut, Time: at(90), Actor: "root (login tanaka)", Scope: "scanco", Reason: "phone call", Event: shut},
		// What a terminal would obey must not reach one.
		journal.Entry{Kind: journal.Drift, Time: at(95), Actor: "gateway", Text: "a rule\x1b[2Jwas added"},
		journal.Entry{Kind: journal.SessionClosed, Time: until, Actor: "gateway", Vendor: "medisys", Engineer: "sato", Session: session,
			Source: source, From: at(60), Reason: "window_closed", ReceivedBytes: 1000, TransmittedBytes: 2000},
		journal.Entry{Kind: journal.WindowClosed, Time: until, Actor: "gateway", Vendor: "medisys", Engineer: "sato", Window: "patch", Grant: grant,
			From: at(10), Until: until, Reason: "window_closed"},
		journal.Entry{Kind: journal.Stop, Time: until, Actor: "gateway"},
	))
}

// replace FILE OLD NEW: changes a file in place, keeping its length, as a
// person who covers tracks would.
func replace(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 || len(args[1]) != len(args[2]) {
		ts.Fatalf("usage: replace FILE OLD NEW, where OLD and NEW have the same length")
	}
	name := ts.MkAbs(args[0])
	text, err := os.ReadFile(name)
	ts.Check(err)
	changed := bytes.Replace(text, []byte(args[1]), []byte(args[2]), 1)
	if bytes.Equal(changed, text) {
		ts.Fatalf("%s has no %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(name, changed, 0o600))
}

// shorten FILE BYTES: cuts bytes off a file's end.
func shorten(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: shorten FILE BYTES")
	}
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	name := ts.MkAbs(args[0])
	info, err := os.Stat(name)
	ts.Check(err)
	ts.Check(os.Truncate(name, info.Size()-n))
}

// TestFault82WhatIsNotUTF8IsNotSent: what the gateway would refuse, or record as
// something else, does not leave the command.
func TestFault82WhatIsNotUTF8IsNotSent(t *testing.T) {
	environ := []string{"KIDOBAN_ADMIN_SOCKET=" + t.TempDir() + "/admin.sock", "KIDOBAN_POLICY_FILE=testdata/site.yaml"}
	for _, args := range [][]string{
		{"close", "medisys", "--reason", "caf\xe9"}, {"close", "--all", "--reason", "caf\xe9"}, {"reopen", "medisys", "--reason", "a\u202eb"}, {"recover", "--reason", "\xff"},
		{"close", "medi\xffsys", "--reason", "a"}, {"explain", "medisys/sato", "--at", "9999-12-31T23:59:59Z"}, {"calendar", "--from", "1999-01-01"}, {"calendar", "--until", "2200-01-01"},
	} {
		var out, complaint bytes.Buffer
		if exit := run(args, environ, &out, &complaint); exit != terminal.Usage || !strings.Contains(complaint.String(), "allowed is") || strings.Contains(complaint.String(), admin.ErrNoGateway.Error()+" at") {
			t.Errorf("kidoban %q: exit %d, %s%s, want %d and what is allowed", args, exit, &out, &complaint, terminal.Usage)
		}
	}
}
