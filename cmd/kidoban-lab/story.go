package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"kidoban/gateway/lab"
)

const (
	// notice is how long before its opening the window is approved: time to try once more.
	notice = 6 * time.Second
	// open is how long the window stays open.
	open = 12 * time.Second
	// patience is how long silence has to last before it is believed.
	patience = 1200 * time.Millisecond
	// latest is the greatest delay of a byte after the deadline: the kernel's timers end flows
	// within it.
	latest = time.Second
)

// story runs the steps and counts failures.
type story struct {
	*stage
	out      *terminal
	begin    time.Time
	checks   int
	failures int

	from, until time.Time // the window
}

// check prints an observation and counts it if it is a failure.
func (s *story) check(good bool, format string, args ...any) {
	if s.ctx.Err() != nil {
		s.Fatalf("interrupted") // which made it fail, perhaps
	}
	s.checks++
	if !good {
		s.failures++
	}
	s.out.result(good, fmt.Sprintf(format, args...))
}

// works prints an observation that is a failure with an error.
func (s *story) works(err error, format string, args ...any) {
	if err != nil {
		format, args = format+": %v", append(args, err)
	}
	s.check(err == nil, format, args...)
}

func (s *story) tell() {
	s.begin = time.Now()
	s.out.title("Kidoban", "a hospital's gate for its vendors, on this machine, with real traffic")
	s.out.picture(`engineer 203.0.113.10 ---+
                         internet --- 192.0.2.2 gateway --- 10.1.0.5 hospital
outsider 198.51.100.66 --+                                  10.1.0.6`)
	s.raise()
	s.tooEarly()
	s.opening()
	s.targets()
	s.stolenKey()
	s.closing()
	s.journal()
}

func (s *story) verdict() int {
	took := time.Since(s.begin).Round(time.Second)
	fmt.Fprintln(s.out.w)
	if s.failures > 0 {
		s.out.result(false, fmt.Sprintf("%d of %d checks did not come out as promised (%v)", s.failures, s.checks, took))
		return 1
	}
	s.out.result(true, fmt.Sprintf("all %d checks came out as promised (%v)", s.checks, took))
	return 0
}

// raise starts the gateway and gives the engineer a client configuration.
func (s *story) raise() {
	s.out.heading("The gateway starts; no window is open today")
	folder, err := os.MkdirTemp("", "kidoban-lab-")
	if err != nil {
		s.Fatalf("a folder for the gateway: %v", err)
	}
	s.folder = folder
	s.Cleanup(func() { os.RemoveAll(folder) })
	s.build()
	s.writePolicy(support(time.Now()))
	s.check(true, "ready after %s, everything shut", milliseconds(s.startGateway()))

	configuration, _, err := s.operator("client-config", "medisys/sato")
	if err != nil {
		s.Fatalf("%v", err)
	}
	key, ok := publicKey(configuration)
	if !ok {
		s.Fatalf("kidoban client-config names no PublicKey: %.300q", configuration)
	}
	s.sato = s.client(s.engineer, key)
	s.thief = s.client(s.outsider, key)
}

// tooEarly has the engineer knock before any window.
func (s *story) tooEarly() {
	s.out.heading("Sato, an engineer of Medisys, knocks: right key, listed address, too early")
	s.knock("Sato", s.sato, s.engineerWire)
	s.named("outside_window", engineerAddress)
}

// knock tries a handshake that must get no byte back.
func (s *story) knock(who string, c *lab.Client, wire *lab.Capture) {
	wire.Forget()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	err := c.Handshake(ctx)
	sent := wire.Packets(lab.Outgoing, lab.To(gatewayAddress.Addr()))
	back := wire.Packets(lab.Incoming, lab.From(gatewayAddress.Addr()))
	s.check(err != nil && len(sent) > 0 && len(back) == 0,
		"silence: %s sent %d bytes to the gateway, %d bytes came back", who, bytesOf(sent), bytesOf(back))
}

// named waits until the list of refusals has the engineer's key with this reason and source.
func (s *story) named(reason string, source netip.Addr) {
	type refusal struct {
		Reason   string `json:"reason"`
		Vendor   string `json:"vendor"`
		Engineer string `json:"engineer"`
		Source   string `json:"source"`
	}
	ctx, cancel := context.WithTimeoutCause(s.ctx, 10*time.Second, errors.New("not within 10 s"))
	defer cancel()
	err := lab.Wait(ctx, func() error {
		var refusals []refusal
		if err := s.ask(&refusals, "refusals"); err != nil {
			return err
		}
		if slices.ContainsFunc(refusals, func(r refusal) bool {
			return r.Reason == reason && r.Vendor == "medisys" && r.Engineer == "sato" && r.Source == source.String()
		}) {
			return nil
		}
		return fmt.Errorf("refusals are %+v", refusals)
	})
	s.works(err, "`kidoban refusals` names medisys/sato from %v: %s", source, reason)
}

// opening approves a window and sees it open on time.
func (s *story) opening() {
	s.from = time.Now().Add(notice).Truncate(time.Second)
	s.until = s.from.Add(open)
	s.out.heading("The hospital approves a window, %s to %s", clock(s.from), clock(s.until))
	s.writePolicy(support(s.from), once(s.from, s.until))
	if _, _, err := s.operator("reload"); err != nil {
		s.Fatalf("%v", err)
	}
	for left := time.Until(s.from); left > 0 && s.ctx.Err() == nil; left = time.Until(s.from) {
		s.out.countdown("it opens", left)
		s.pause(min(left, 200*time.Millisecond))
	}
	s.out.countdownOver()

	s.engineerWire.Forget()
	ctx, cancel := context.WithDeadline(s.ctx, s.from.Add(5*time.Second))
	defer cancel()
	var err error
	// Few attempts first, because many exceed an engineer's share and a busy machine answers
	// slowly.
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		attempt, stop := context.WithTimeout(ctx, wait)
		err = s.sato.Handshake(attempt)
		stop()
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		s.check(false, "Sato is admitted: %v", err)
		return
	}
	answer := s.engineerWire.Packets(lab.Incoming, lab.From(gatewayAddress.Addr()), lab.Protocol(17))
	if len(answer) == 0 {
		s.Fatalf("a handshake without an answer on the wire")
	}
	s.check(!answer[0].At.Before(s.from), "Sato is admitted, %s after the opening", milliseconds(answer[0].At.Sub(s.from)))
}

// targets tries listed and unlisted targets.
func (s *story) targets() {
	s.out.heading("Sato works on %v, and looks around", listedService)
	s.lanWire.Forget()
	reach := func(to netip.AddrPort, within time.Duration) (time.Duration, error) {
		ctx, cancel := context.WithTimeout(s.ctx, within)
		defer cancel()
		return s.engineer.Exchange(ctx, "tcp", to.String(), "good evening")
	}
	took, err := reach(listedService, 3*time.Second)
	s.works(err, "the listed service, %v, answers through the tunnel in %s", listedService, milliseconds(took))
	unlisted := []struct {
		name string
		to   netip.AddrPort
	}{{"another port", otherService}, {"another host", otherHost}}
	errs := make([]error, len(unlisted))
	var tries sync.WaitGroup
	for i, u := range unlisted {
		tries.Go(func() { _, errs[i] = reach(u.to, patience) })
	}
	tries.Wait()
	for i, u := range unlisted {
		arrived := s.lanWire.Packets(lab.Incoming, to(u.to))
		s.check(errs[i] != nil && len(arrived) == 0,
			"%s, %v, is refused: %d packets reached the hospital", u.name, u.to, len(arrived))
		// It is alive: silence is the gateway's doing.
		ctx, cancel := context.WithTimeout(s.ctx, 3*time.Second)
		if _, err := s.hospital.Exchange(ctx, "tcp", u.to.String(), "hello"); err != nil {
			s.Fatalf("the hospital's own %v does not answer: %v", u.to, err)
		}
		cancel()
	}
}

// stolenKey has the outsider try the engineer's key while the window is open.
func (s *story) stolenKey() {
	s.out.heading("An outsider, %v, tries a stolen copy of Sato's key", outsiderAddress)
	s.knock("the outsider", s.thief, s.outsiderWire)
	if err := s.thief.Down(); err != nil {
		s.Fatalf("the outsider's WireGuard: %v", err)
	}
	s.named("wrong_source", outsiderAddress)
	ctx, cancel := context.WithTimeout(s.ctx, 3*time.Second)
	defer cancel()
	_, err := s.engineer.Exchange(ctx, "tcp", listedService.String(), "still here")
	s.works(err, "Sato's own session goes on undisturbed")
}

// closing holds a stream over the end of the window.
func (s *story) closing() {
	s.out.heading("Sato holds a stream open while the window closes at %s", clock(s.until))
	inside := s.engineer.Capture("wg0")
	ctx, cancel := context.WithTimeout(s.ctx, 3*time.Second)
	defer cancel()
	stream, err := s.engineer.Dial(ctx, "tcp", listedService.String())
	if err != nil {
		s.check(false, "a stream to %v: %v", listedService, err)
		return
	}
	var ends sync.WaitGroup
	ends.Go(func() { // until the stream is closed below, or breaks
		line := []byte(strings.Repeat("work ", 20))
		for _, err := stream.Write(line); err == nil; _, err = stream.Write(line) {
			time.Sleep(time.Millisecond)
		}
	})
	ends.Go(func() {
		buffer := make([]byte, 1<<16)
		for _, err := stream.Read(buffer); err == nil; _, err = stream.Read(buffer) {
		}
	})
	over := s.until.Add(latest + patience)
	for left := time.Until(over); left > 0 && s.ctx.Err() == nil; left = time.Until(over) {
		if untilClosing := time.Until(s.until); untilClosing > 0 {
			s.out.countdown("it closes", untilClosing)
		}
		s.pause(min(left, 200*time.Millisecond))
	}
	s.out.countdownOver()
	s.lastByte("towards the hospital", s.lanWire.Packets(lab.Incoming, to(listedService), withPayload))
	s.lastByte("back to Sato", inside.Packets(lab.Incoming, lab.From(listedService.Addr()), withPayload))
	stream.Close()
	ends.Wait()

	var status struct {
		Sessions []json.RawMessage `json:"sessions"`
		Grants   []json.RawMessage `json:"grants"`
	}
	if err := s.ask(&status, "status"); err != nil {
		s.Fatalf("%v", err)
	}
	s.check(len(status.Sessions) == 0 && len(status.Grants) == 0,
		"`kidoban status` counts %d sessions, %d grants", len(status.Sessions), len(status.Grants))
}

// lastByte checks when the last of a held stream's packets passed.
func (s *story) lastByte(direction string, packets []lab.Packet) {
	if len(packets) == 0 {
		s.check(false, "the stream %s: nothing ever passed", direction)
		return
	}
	last := packets[len(packets)-1].At.Sub(s.until)
	when := milliseconds(last) + " after"
	if last < 0 {
		when = milliseconds(-last) + " before"
	}
	// A stream that stopped long before the end was not cut by the closing.
	s.check(last > -latest && last <= latest,
		"%s: the last of %d packets passed %s the closing", direction, len(packets), when)
}

// journal asks for the record of all this.
func (s *story) journal() {
	s.out.heading("What happened is on record")
	_, code, err := s.operator("journal", "verify")
	switch {
	case err != nil:
		s.check(false, "%v", err)
	default:
		s.check(code == 0, "`kidoban journal verify`: exit code %d", code)
	}
	list, _, err := s.operator("journal", "list", "--json")
	if err != nil {
		s.check(false, "%v", err)
		return
	}
	kinds, err := countKinds(list)
	if err != nil {
		s.check(false, "`kidoban journal list --json`: %v", err)
		return
	}
	var total int
	var each []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		total += kinds[kind]
		each = append(each, fmt.Sprintf("%s %d", kind, kinds[kind]))
	}
	s.check(total > 0, "%d entries: %s", total, strings.Join(each, ", "))
}

// pause waits, unless the demo is interrupted.
func (s *story) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.ctx.Done():
		s.Fatalf("interrupted")
	}
}

// countKinds counts the entries of a journal by kind.
func countKinds(list []byte) (map[string]int, error) {
	kinds := map[string]int{}
	for entries := json.NewDecoder(bytes.NewReader(list)); ; {
		var entry struct {
			Kind string `json:"kind"`
		}
		switch err := entries.Decode(&entry); {
		case err == io.EOF:
			return kinds, nil
		case err != nil:
			return nil, fmt.Errorf("a line is no entry: %w", err)
		case entry.Kind == "":
			return nil, errors.New("an entry without a kind")
		}
		kinds[entry.Kind]++
	}
}

// publicKey finds the peer's key in a client configuration as wg(8) has it.
func publicKey(configuration []byte) (key lab.Key, ok bool) {
	for line := range strings.Lines(string(configuration)) {
		name, value, found := strings.Cut(line, "=")
		if !found || strings.TrimSpace(name) != "PublicKey" {
			continue
		}
		b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(value))
		if err != nil || len(b) != len(key) {
			return lab.Key{}, false
		}
		return lab.Key(b), true
	}
	return lab.Key{}, false
}

func to(a netip.AddrPort) func(lab.Packet) bool {
	return func(p lab.Packet) bool { return p.Destination == a }
}

func withPayload(p lab.Packet) bool { return len(p.Payload) > 0 }

func bytesOf(packets []lab.Packet) (n int) {
	for _, p := range packets {
		n += p.Length
	}
	return n
}

// clock is a time of day at the site.
func clock(t time.Time) string { return t.In(zone).Format(time.TimeOnly) }

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
