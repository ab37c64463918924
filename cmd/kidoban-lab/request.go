package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"kidoban/gateway/lab"
)

// The hospital's operators, by their numbers as users of the gateway. Nobody can be two of them, and
// root is none.
var operators = map[string]uint32{"tanaka": 2001, "ito": 2002}

// onRequest is the part of the policy that lets Medisys ask.
const onRequest = `    phone: 03-0000-0000
    on_request: {targets: [ehr], valid: {until: 2199-12-31}, max_duration: 4h}
`

// staff is the part of the policy that names the operators.
const staff = `operators:
  tanaka: {name: Tanaka, user: "2001", may: [record, approve]}
  ito: {name: Ito, user: "2002", may: [approve]}
`

// asked is how long the vendor asks for, and more by how much it is extended.
const asked, more = 8 * time.Second, time.Hour

// evening has the scenes of a request.
var evening = []scene{
	{(*story).ring, `Medisys rings: "the database is slow". Tanaka records a request; it opens nothing`, []check{
		silence("Sato", false), own}},
	{nil, "Ito sees what would open, and approves it", []check{approved, reached("the listed service answers through the tunnel")}},
	{(*story).holdStream, "The work takes longer. Ito extends it, while Sato's stream goes on", []check{extended}},
	{nil, "The work is done. Tanaka revokes the request", []check{revoked}},
}

// request is a request as the commands print it.
type request struct {
	ID, State string
	Until     time.Time
}

// as runs a kidoban command as an operator, and reads its answer. Opening takes a yes.
func (s *story) as(user string, args ...string) (r request, err error) {
	if args[0] != "revoke" {
		args = append(args, "--yes")
	}
	ctx, cancel := context.WithTimeout(s.ctx, 20*time.Second)
	defer cancel()
	cmd := s.gateway.Command(ctx, s.forAll, append(args, "--json")...)
	cmd.Env = s.environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: operators[user], Gid: 0}}
	output, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("kidoban %s: %w", args[0], err)
	}
	var answer struct{ Request request }
	return answer.Request, json.Unmarshal(output, &answer)
}

// share lets other users run the program, and reach the gateway's socket.
func (s *story) share() {
	program, err := os.ReadFile(s.executable)
	if err == nil {
		s.forAll = filepath.Join(s.folder, "kidoban")
		err = errors.Join(os.WriteFile(s.forAll, program, 0o755), os.Chmod(s.folder, 0o755))
	}
	if err != nil {
		s.Fatalf("a program for other users: %v", err)
	}
}

// ring records what the vendor asks for.
func (s *story) ring() {
	s.share()
	var err error
	if s.asked, err = s.as("tanaka", "request", "medisys", "--engineers", "sato", "--targets", "ehr", "--for", asked.String(), "--purpose", "the database is slow"); err != nil {
		s.Fatalf("%v", err)
	}
}

// own has Tanaka approve the request that Tanaka recorded, and root approve it. Both must be refused.
func own(s *story) (string, error) {
	_, mine := s.as("tanaka", "approve", s.asked.ID)
	_, roots := s.as("root", "approve", s.asked.ID)
	return "Tanaka may not approve it, and root may not", unless(mine != nil && roots != nil, "somebody may")
}

// approved approves, and knocks until Sato is in.
func approved(s *story) (string, error) {
	begin := time.Now()
	r, err := s.as("ito", "approve", s.asked.ID)
	if err != nil {
		return "Ito approves", err
	}
	s.asked, s.until = r, r.Until
	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
	defer cancel()
	err = lab.Wait(ctx, func() error {
		attempt, stop := context.WithTimeout(ctx, time.Second)
		defer stop()
		return s.sato.Handshake(attempt)
	})
	return fmt.Sprintf("Sato is admitted, %s after Ito said yes, until %s", milliseconds(time.Since(begin)), clock(s.until)), err
}

// extended extends while a stream is held, and waits for bytes after the first end.
func extended(s *story) (string, error) {
	if _, err := s.as("ito", "extend", s.asked.ID, "--for", more.String()); err != nil {
		return "Ito extends", err
	}
	s.wait("the first end", s.until)
	s.pause(time.Until(s.until.Add(patience)))
	after, gap := 0, time.Duration(0)
	packets := s.lanWire.Packets(lab.Incoming, to(listedService), withPayload, func(p lab.Packet) bool { return p.At.After(s.until.Add(-time.Second)) })
	for i, p := range packets {
		if p.At.After(s.until) {
			after++
		}
		if i > 0 {
			gap = max(gap, p.At.Sub(packets[i-1].At))
		}
	}
	return fmt.Sprintf("the stream goes on: %d packets after the first end, and no pause around it is longer than %s", after, milliseconds(gap)), unless(after > 0, "it stopped")
}

// revoked revokes, and looks for the last packet.
func revoked(s *story) (string, error) {
	begin := time.Now()
	if _, err := s.as("tanaka", "revoke", s.asked.ID, "--reason", "the work is done"); err != nil {
		return "Tanaka revokes", err
	}
	done := time.Now()
	s.pause(patience)
	packets := s.lanWire.Packets(lab.Incoming, to(listedService), withPayload)
	s.letGo()
	if len(packets) == 0 {
		return "the stream", errors.New("nothing ever passed")
	}
	last := packets[len(packets)-1].At
	return fmt.Sprintf("the last of %d packets passed %s after the command began", len(packets), milliseconds(last.Sub(begin))),
		unless(last.Before(done.Add(latest)), "it goes on")
}
