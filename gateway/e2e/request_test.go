package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// staff are the site's operators, by their users on the gateway.
var staff = map[string]uint32{"tanaka": 2001, "ito": 2002, "jimucho": 2003}

// employ lets medisys' targets be opened on request: tanaka records, ito and tanaka approve, jimucho
// ratifies. Users are made up: the kernel tells their numbers. more is YAML of on_request.
func (g *ground) employ(more ...string) {
	g.t.Helper()
	needRoot(g.t)
	for _, folder := range []string{g.folder, filepath.Dir(g.folder), filepath.Dir(program)} { // for other users
		g.check(os.Chmod(folder, 0o755))
	}
	g.operators = `operators:
  tanaka: {name: 田中, user: "2001", may: [record, approve, ratify]}
  ito: {name: 伊藤, user: "2002", may: [approve]}
  jimucho: {name: 事務長, user: "2003", may: [ratify, review]}
`
	g.onRequest = `    phone: 03-0000-0000
    on_request:
      targets: [ehr, ehr6, pacs]
      valid: {until: 2199-12-31}
      max_duration: 4h
      max_total: 8h
      emergency: {max_duration: 1h, ratify_within: 3d, ratifiers: [jimucho]}
`
	for _, line := range more {
		g.onRequest += "      " + line + "\n"
	}
}

// as runs a command as a user; empty: root.
func (g *ground) as(user string, args ...string) (out, complaint string, exit int) {
	g.t.Helper()
	var o, e bytes.Buffer
	command := g.command(user, args...)
	command.Stdout, command.Stderr = &o, &e
	if err := command.Run(); command.ProcessState == nil {
		g.t.Errorf("kidoban %v: %v", args, err)
	}
	return o.String(), e.String(), command.ProcessState.ExitCode()
}

func (g *ground) command(user string, args ...string) *exec.Cmd {
	command := exec.Command(program, args...)
	command.Env = append(g.environment(), "GORACE=atexit_sleep_ms=0")
	// The socket is root's, and its group's: here there is no group kidoban.
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: staff[user], Gid: 0}}
	return command
}

// mustAs runs a command that has to succeed.
func (g *ground) mustAs(user string, args ...string) string {
	g.t.Helper()
	out, complaint, exit := g.as(user, args...)
	if exit != exitYes {
		g.t.Fatalf("%s: kidoban %s: exit %d: %s%s", user, strings.Join(args, " "), exit, out, complaint)
	}
	return out
}

// refusedAs runs a command that has to fail, with a word in its complaint.
func (g *ground) refusedAs(user, word string, args ...string) {
	g.t.Helper()
	out, complaint, exit := g.as(user, args...)
	if exit == exitYes || !strings.Contains(complaint, word) {
		g.t.Errorf("%s: kidoban %s: exit %d, without %q: %s%s", user, strings.Join(args, " "), exit, word, out, complaint)
	}
}

// requested is a request as `kidoban requests ID` tells it.
func (g *ground) requested(id string) view.Request {
	g.t.Helper()
	var page struct{ Items []view.Request }
	g.check(json.Unmarshal([]byte(g.mustAs("tanaka", "requests", id, "--json")), &page))
	if len(page.Items) != 1 {
		g.t.Fatalf("there are %d requests %s", len(page.Items), id)
	}
	return page.Items[0]
}

// ask records a request of sato, and returns its id.
func (g *ground) request(user string, args ...string) (id string) {
	g.t.Helper()
	args = append([]string{"request", "medisys", "--engineers", "sato", "--targets", "ehr", "--purpose", "the database is slow", "--yes", "--json"}, args...)
	var answer struct{ Request view.Request }
	g.check(json.Unmarshal([]byte(g.mustAs(user, args...)), &answer))
	return answer.Request.ID
}

// TestRequestsTakeTwoPeople: the kernel names them, and root is nobody.
func TestRequestsTakeTwoPeople(t *testing.T) {
	lab.Require(t)
	t.Parallel()
	g := newGround(t)
	g.employ()
	g.open([]string{nextYear("later", "ehr")}, []string{nextYear("later", "pacs")})
	client := g.client(g.medisys, sato, 4)
	g.refusedAs("", "Root", "request", "medisys", "--engineers", "sato", "--targets", "ehr", "--for", "1h", "--purpose", "a test", "--yes")
	g.refusedAs("ito", "record", "request", "medisys", "--engineers", "sato", "--targets", "ehr", "--for", "1h", "--purpose", "a test", "--yes")
	id := g.request("tanaka", "--for", "1h")
	g.refusedAs("tanaka", "tanaka", "approve", id, "--yes")
	g.refusedAs("", "Root", "approve", id, "--yes")
	g.refusedAs("jimucho", "approve", "approve", id, "--yes")
	g.refusedAs("ito", id, "approve", id, "--digest", strings.Repeat("0", 64), "--yes")
	if err := g.knock(client, patience); err == nil {
		t.Fatal("a request that nobody approved opened")
	}
	g.mustAs("ito", "approve", id, "--yes")
	g.mustEnter(client)
	g.serve()
	g.holds(g.reach(g.medisys, "tcp", netip.AddrPortFrom(ehr4, 22), eventually), "the requested service does not answer")
	if err := g.reach(g.medisys, "tcp", netip.AddrPortFrom(pacs4, 104), patience); err == nil {
		t.Error("a target that was not requested answers")
	}
	// Closing needs no right.
	g.mustAs("", "revoke", id, "--reason", "wrong server")
	if r := g.requested(id); r.State != policy.StageRevoked {
		t.Errorf("revoked, it is %s", r.State)
	}
	if err := g.knock(client, patience); err == nil {
		t.Error("a revoked request still opens")
	}
	for _, kind := range []journal.Kind{journal.Requested, journal.Approved, journal.Revoked} {
		if e := g.entries(kind); len(e) != 1 || e[0].Request != id {
			t.Errorf("entries of %s: %+v", kind, e)
		}
	}
}

// TestAnExtensionLosesNoByte: a stream that is held over the first end of a request goes on without
// a pause when it was extended before, and ends with the new end.
func TestAnExtensionLosesNoByte(t *testing.T) {
	lab.Require(t)
	t.Parallel()
	g := newGround(t)
	g.employ()
	g.serve()
	g.open([]string{nextYear("later", "ehr")}, []string{nextYear("later", "pacs")})
	client := g.client(g.medisys, sato, 4)
	id := g.request("tanaka", "--for", "12s")
	g.mustAs("ito", "approve", id, "--yes")
	g.mustEnter(client)
	first := g.requested(id).Until
	echoed := g.counting(netip.AddrPortFrom(ehr4, 22))
	lab.WaitFor(t, eventually, "the stream works", func() bool { return echoed() > 0 })
	g.mustAs("ito", "extend", id, "--for", "10s", "--yes")
	second := g.requested(id).Until
	if !second.After(first) {
		t.Fatalf("the end was %v and is %v", first, second)
	}
	until(first.Add(2 * time.Second))
	before := echoed()
	lab.WaitFor(t, eventually, "the stream goes on after the first end", func() bool { return echoed() > before })
	var reopened int
	for _, e := range g.entries(journal.WindowClosed) {
		if e.Request == id {
			reopened++
		}
	}
	if reopened > 0 {
		t.Errorf("the journal closed the request %d times before its end", reopened)
	}
	until(second.Add(time.Second))
	last := echoed()
	until(second.Add(2 * time.Second))
	if now := echoed(); now != last {
		t.Errorf("%d bytes came back after the end", now-last)
	}
}

// TestGrace: a stream that is held over the end of a request passes nothing after it, and goes on
// when the request is extended within its grace, and not after.
func TestGrace(t *testing.T) {
	lab.Require(t)
	t.Parallel()
	g := newGround(t)
	const grace = 20 * time.Second
	g.employ("grace: " + grace.String())
	g.serve()
	g.open([]string{nextYear("later", "ehr")}, []string{nextYear("later", "pacs")})
	client := g.client(g.medisys, sato, 4)
	id := g.request("tanaka", "--for", "9s")
	g.mustAs("ito", "approve", id, "--yes")
	g.mustEnter(client)
	echoed := g.counting(netip.AddrPortFrom(ehr4, 22))
	lab.WaitFor(t, eventually, "the stream works", func() bool { return echoed() > 0 })
	over := func() (at time.Time) {
		r := g.requested(id)
		until(r.Until.Add(time.Second))
		before := echoed()
		until(r.Until.Add(3 * time.Second))
		if now := echoed(); now != before {
			t.Errorf("%d bytes came back after the end", now-before)
		}
		if r = g.requested(id); r.State != policy.StageFrozen {
			t.Errorf("after the end it is %s", r.State)
		}
		return r.Until
	}
	over()
	before := echoed()
	g.mustAs("ito", "extend", id, "--for", "30s", "--yes")
	// A client sends for 15 s without an answer before it makes another handshake (whitepaper, section 6.2).
	lab.WaitFor(t, eventually+15*time.Second, "the stream goes on within the grace", func() bool { return echoed() > before })
	end := over()
	until(end.Add(grace + time.Second))
	if r := g.requested(id); r.State != policy.StageClosed {
		t.Errorf("after the grace it is %s", r.State)
	}
	g.refusedAs("ito", id, "extend", id, "--for", "1m", "--yes")
	before = echoed()
	again := g.request("tanaka", "--for", "1h")
	g.mustAs("ito", "approve", again, "--yes")
	g.mustEnter(client)
	g.holds(g.reach(g.medisys, "tcp", netip.AddrPortFrom(ehr4, 22), eventually), "a new connection does not come about")
	until(time.Now().Add(2 * time.Second))
	if now := echoed(); now != before {
		t.Errorf("%d bytes of the old stream came back under another request", now-before)
	}
	for _, kind := range []journal.Kind{journal.Frozen, journal.Resumed} {
		if len(g.entries(kind)) == 0 {
			t.Errorf("the journal has no entry of kind %s", kind)
		}
	}
}

// TestARequestIsRecordedOnce: its answer is lost with the process, and the client asks again.
func TestARequestIsRecordedOnce(t *testing.T) {
	lab.Require(t)
	t.Parallel()
	g := newGround(t)
	g.employ()
	g.open([]string{nextYear("later", "ehr")}, []string{nextYear("later", "pacs")})
	ask := func(user, hours string) (int, string) {
		status, r, _ := g.send(user, "one", "/v1/request", map[string]any{"vendor": "medisys", "engineers": []string{"sato"}, "targets": []string{"ehr"}, "for": hours, "purpose": "a test"})
		return status, r.ID
	}
	status, id := ask("tanaka", "1h")
	if status != http.StatusCreated {
		t.Fatalf("the first one: %d", status)
	}
	g.kill()
	g.startAsItIs()
	g.ready()
	if status, again := ask("tanaka", "1h"); status != http.StatusCreated || again != id {
		t.Errorf("again: %d %s, want %s", status, again, id)
	}
	if status, _ := ask("tanaka", "2h"); status != http.StatusUnprocessableEntity {
		t.Errorf("another body: %d", status)
	}
	if e := g.entries(journal.Requested); len(e) != 1 {
		t.Errorf("%d requests are recorded", len(e))
	}
}

// counting holds a stream to a service that sends everything back, and counts what came back. A byte
// that is lost or wrong ends the test.
func (g *ground) counting(to netip.AddrPort) func() int64 {
	g.t.Helper()
	c, err := g.medisys.Dial(g.within(eventually), "tcp", to.String())
	g.check(err)
	g.t.Cleanup(func() { c.Close() })
	var back atomic.Int64
	go func() {
		for n := uint64(0); ; n++ {
			line := binary.BigEndian.AppendUint64(nil, n)
			if _, err := c.Write(line); err != nil {
				return
			}
			time.Sleep(2 * time.Millisecond)
		}
	}()
	go func() {
		line := make([]byte, 8)
		for n := uint64(0); ; n++ {
			if _, err := io.ReadFull(c, line); err != nil {
				return
			}
			if got := binary.BigEndian.Uint64(line); got != n {
				g.t.Errorf("%d came back in place of %d", got, n)
				return
			}
			back.Add(8)
		}
	}()
	return back.Load
}

// eveningID stands in README for the id that the gateway gives.
const eveningID = "7k2m9x"

var (
	eveningLine = regexp.MustCompile(`^(kidoban .*?)\s*# (\w+)`)
	givenID     = regexp.MustCompile(`Recorded: ~([2-9a-z]{6})`)
)

// TestTheEveningOfREADME runs every command of the evening as README has it, on a terminal, as the
// operator whom its comment names first.
func TestTheEveningOfREADME(t *testing.T) {
	lab.Require(t)
	t.Parallel()
	g := newGround(t)
	g.employ()
	g.serve()
	text := g.policyText([]string{nextYear("later", "ehr")}, []string{nextYear("later", "pacs")})
	g.write(g.policyFile(), strings.NewReplacer("  ehr: {", "  ehr-db: {", "[ehr, ehr6, pacs]", "[ehr-db, ehr6, pacs]", "[ehr]", "[ehr-db]").Replace(text))
	g.start()
	g.ready()
	page, err := os.ReadFile("../../README.md")
	g.check(err)
	_, evening, found := strings.Cut(string(page), "\n## One evening\n")
	_, evening, _ = strings.Cut(evening, "```sh\n")
	evening, _, _ = strings.Cut(evening, "```")
	if !found {
		t.Fatal("README has no evening")
	}
	client := g.client(g.medisys, sato, 4)
	id := ""
	for line := range strings.Lines(evening) {
		m := eveningLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("%q is no command of an operator", line)
		}
		words := shellWords(t, strings.ReplaceAll(m[1], eveningID, id))
		out := g.onTerminal(m[2], words[1:]...)
		switch words[1] {
		case "request":
			m := givenID.FindStringSubmatch(out)
			if m == nil {
				t.Fatalf("no id in %q", out)
			}
			id = m[1]
		case "approve":
			g.mustEnter(client)
			g.holds(g.reach(g.medisys, "tcp", netip.AddrPortFrom(ehr4, 22), eventually), "the database does not answer")
			g.onRecord(sato)
		}
	}
	if r := g.requested(id); r.State != policy.StageRevoked || len(r.Versions) != 2 {
		t.Errorf("at the end of the evening it is %s, in %d versions", r.State, len(r.Versions))
	}
	if err := g.knock(client, patience); err == nil {
		t.Error("the evening is over, and sato is admitted")
	}
}

// onTerminal runs a command on a terminal, and answers yes to its question.
func (g *ground) onTerminal(user string, args ...string) (shown string) {
	g.t.Helper()
	if _, known := staff[user]; !known {
		g.t.Fatalf("%q is no operator", user)
	}
	command := g.command(user, args...)
	command.Env = append(command.Env, "TERM=xterm", "COLUMNS=100", "LANG=C.UTF-8")
	command.SysProcAttr.Setsid, command.SysProcAttr.Setctty = true, true
	terminal, err := pty.StartWithAttrs(command, nil, command.SysProcAttr)
	g.check(err)
	defer terminal.Close()
	var b strings.Builder
	asked := false
	buffer := make([]byte, 4096)
	for {
		n, err := terminal.Read(buffer)
		b.Write(buffer[:n])
		if !asked && strings.Contains(b.String(), "[y/N]") {
			asked = true
			_, _ = terminal.WriteString("y\n")
		}
		if err != nil { // the other end is closed
			break
		}
	}
	if err := command.Wait(); err != nil {
		g.t.Fatalf("%s: kidoban %s: %v\n%s", user, strings.Join(args, " "), err, b.String())
	}
	g.t.Logf("%s$ kidoban %s\n%s", user, strings.Join(args, " "), b.String())
	return b.String()
}

// shellWords splits a line of sh without variables.
func shellWords(t *testing.T, line string) (words []string) {
	t.Helper()
	out, err := exec.Command("sh", "-c", `printf '%s\n' `+line).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}
