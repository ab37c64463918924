package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
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
	open = 13 * time.Second
	// patience is how long silence has to last before it is believed.
	patience = 1200 * time.Millisecond
	// reply is the longest wait for an answer.
	reply = 3 * time.Second
	// latest is the greatest delay of a byte after the deadline: the kernel's timers end flows
	// within it.
	latest = time.Second
)

// scene is a step of the story.
type scene struct {
	prepare func(*story)
	heading string // {from} and {until} are the window's
	checks  []check
}

// check tries a promise. An error means that it is not kept.
type check func(*story) (observation string, err error)

var scenes = []scene{
	{func(s *story) { s.build() }, "The gateway starts; no window is open today", []check{starts}},
	{nil, "Sato, an engineer of Medisys, knocks: right key, listed address, too early", []check{
		silence("Sato", false), named("outside_window", engineerAddress)}},
	{(*story).approve, "The hospital approves a window, {from} to {until}", []check{admitted}},
	{nil, fmt.Sprintf("Sato works on %v, and looks around", listedService), []check{
		reached("the listed service, " + listedService.String() + ", answers through the tunnel"),
		refused("another port", otherService), refused("another host", otherHost)}},
	{nil, fmt.Sprintf("An outsider, %v, tries a stolen copy of Sato's key", outsiderAddress), []check{
		silence("the outsider", true), named("wrong_source", outsiderAddress), reached("Sato's own session goes on undisturbed: an answer")}},
	{(*story).holdStream, "Sato holds a stream open while the window closes at {until}", []check{
		lastByte("towards the hospital", func(s *story) []lab.Packet { return s.lanWire.Packets(lab.Incoming, to(listedService), withPayload) }),
		lastByte("back to Sato", func(s *story) []lab.Packet {
			return s.tunnelWire.Packets(lab.Incoming, lab.From(listedService.Addr()), withPayload)
		}),
		nobodyInside}},
	{func(s *story) { s.letGo() }, "", nil},
}

// record ends the story.
var record = []scene{{nil, "What happened is on record", []check{verified, recorded}}}

// story plays the scenes and counts failures.
type story struct {
	*stage
	out              *terminal
	begin            time.Time
	checks, failures int
	from, until      time.Time // the window, or the request
	asked            request
	forAll           string // the program, for other users
	letGo            func() // ends the stream that Sato holds
}

func (s *story) tell() {
	s.begin = time.Now()
	s.out.lines(s.out.style(bold, "Kidoban")+"  a hospital's gate for its vendors, on this machine, with real traffic", []string{"",
		"engineer 198.18.10.10 ---+",
		"                         internet --- 192.0.2.2 gateway --- 10.1.0.5 hospital",
		"outsider 198.51.100.66 --+                                  10.1.0.6"})
	all, alone := slices.Clone(scenes), lab.OtherUsers()
	if alone == nil {
		all = append(all, evening...)
	}
	for _, scene := range append(all, record...) {
		if scene.prepare != nil {
			scene.prepare(s)
		}
		if scene.heading == "" {
			continue
		}
		s.out.heading(strings.NewReplacer("{from}", clock(s.from), "{until}", clock(s.until)).Replace(scene.heading))
		for _, c := range scene.checks {
			s.try(c)
		}
	}
	if alone != nil {
		s.out.note("Requests are not shown, which take two people: " + alone.Error())
	}
}

// try prints an observation, and counts it if it is a failure.
func (s *story) try(c check) {
	text, err := c(s)
	if s.ctx.Err() != nil {
		s.Fatalf("interrupted") // perhaps the interruption made the check fail
	}
	s.checks++
	if err != nil {
		s.failures++
		text += ": " + err.Error()
	}
	s.out.result(err == nil, text)
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

// starts starts the gateway. It gives engineer and outsider a client with the engineer's key.
func starts(s *story) (string, error) {
	s.writePolicy(support(time.Now()))
	took := s.startGateway()
	configuration, _, err := s.operator("client-config", "medisys/sato")
	if err != nil {
		s.Fatalf("%v", err)
	}
	key, ok := publicKey(configuration)
	if !ok {
		s.Fatalf("kidoban client-config names no PublicKey: %.300q", configuration)
	}
	s.sato, s.thief = s.client(s.engineer, key), s.client(s.outsider, key)
	return fmt.Sprintf("ready after %s, everything shut", milliseconds(took)), nil
}

// silence tries a handshake that must get no byte back. The thief tries only once.
func silence(name string, thief bool) check {
	return func(s *story) (string, error) {
		c, wire := s.sato, s.engineerWire
		if thief {
			c, wire = s.thief, s.outsiderWire
			defer func() { _ = c.Down() }() // otherwise WireGuard tries again by itself
		}
		wire.Forget()
		ctx, cancel := context.WithTimeout(s.ctx, patience)
		defer cancel()
		answer := c.Handshake(ctx)
		sent := bytesOf(wire.Packets(lab.Outgoing, lab.To(gatewayAddress.Addr())))
		back := bytesOf(wire.Packets(lab.Incoming, lab.From(gatewayAddress.Addr())))
		return fmt.Sprintf("silence: %s sent %d bytes to the gateway, %d bytes came back", name, sent, back),
			unless(answer != nil && sent > 0 && back == 0, "no such silence")
	}
}

// named waits until the list of refusals has the engineer's key with this reason and source.
func named(reason string, source netip.Addr) check {
	return func(s *story) (string, error) {
		type refusal struct{ Reason, Vendor, Engineer, Source string }
		ctx, cancel := context.WithTimeoutCause(s.ctx, 10*time.Second, errors.New("not within 10 s"))
		defer cancel()
		return fmt.Sprintf("`kidoban refusals` names medisys/sato from %v: %s", source, reason), lab.Wait(ctx, func() error {
			var refusals []refusal
			if err := s.ask(&refusals, "refusals"); err != nil {
				return err
			}
			if slices.Contains(refusals, refusal{reason, "medisys", "sato", source.String()}) {
				return nil
			}
			return fmt.Errorf("refusals are %+v", refusals)
		})
	}
}

// approve approves a window.
func (s *story) approve() {
	s.from = time.Now().Add(notice).Truncate(time.Second)
	s.until = s.from.Add(open)
	s.writePolicy(support(s.from), once(s.from, s.until))
	if _, _, err := s.operator("reload"); err != nil {
		s.Fatalf("%v", err)
	}
}

// admitted waits for the opening, and knocks until Sato is in.
func admitted(s *story) (string, error) {
	s.wait("it opens", s.from)
	s.engineerWire.Forget()
	ctx, cancel := context.WithDeadline(s.ctx, s.from.Add(5*time.Second))
	defer cancel()
	err := errors.New("no time was left")
	// Many attempts would exceed an engineer's share, and a busy machine answers slowly.
	for wait := 100 * time.Millisecond; err != nil && ctx.Err() == nil; wait = min(2*wait, time.Second) {
		attempt, stop := context.WithTimeout(ctx, wait)
		err = s.sato.Handshake(attempt)
		stop()
	}
	answer := s.engineerWire.Packets(lab.Incoming, lab.From(gatewayAddress.Addr()), lab.Protocol(17))
	if err != nil || len(answer) == 0 {
		return "Sato is admitted", errors.Join(errors.New("not within 5 s"), err)
	}
	after := answer[0].At.Sub(s.from)
	return fmt.Sprintf("Sato is admitted, %s after the opening", milliseconds(after)), unless(after >= 0, "too early")
}

// exchange sends a line to a service and waits until it comes back.
func (s *story) exchange(from *lab.Host, to netip.AddrPort, within time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(s.ctx, within)
	defer cancel()
	return from.Exchange(ctx, "tcp", to.String(), "good evening")
}

// reached tries the listed service.
func reached(text string) check {
	return func(s *story) (string, error) {
		took, err := s.exchange(s.engineer, listedService, reply)
		return text + " in " + milliseconds(took), err
	}
}

// refused tries a service that no window lists.
func refused(name string, service netip.AddrPort) check {
	return func(s *story) (string, error) {
		_, err := s.exchange(s.engineer, service, patience)
		arrived := s.lanWire.Packets(lab.Incoming, to(service))
		if _, err := s.exchange(s.hospital, service, reply); err != nil { // it is alive: silence is the gateway's doing
			s.Fatalf("the hospital's own %v does not answer: %v", service, err)
		}
		return fmt.Sprintf("%s, %v, is refused: %d packets reached the hospital", name, service, len(arrived)),
			unless(err != nil && len(arrived) == 0, "not refused")
	}
}

// holdStream begins to work on a stream, until it is let go.
func (s *story) holdStream() {
	s.tunnelWire, s.letGo = s.engineer.Capture("wg0"), func() {}
	ctx, cancel := context.WithTimeout(s.ctx, reply)
	defer cancel()
	stream, err := s.engineer.Dial(ctx, "tcp", listedService.String())
	if err != nil {
		return // then nothing passes, which the checks tell
	}
	var ends sync.WaitGroup
	s.letGo = func() { stream.Close(); ends.Wait() }
	s.Cleanup(s.letGo)
	ends.Go(func() {
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
}

// lastByte waits until the window is over, and checks when the last of a held stream's packets
// passed.
func lastByte(direction string, packets func(*story) []lab.Packet) check {
	return func(s *story) (string, error) {
		s.wait("it closes", s.until)
		s.pause(time.Until(s.until.Add(latest + patience)))
		passed := packets(s)
		if len(passed) == 0 {
			return "the stream " + direction, errors.New("nothing ever passed")
		}
		last := passed[len(passed)-1].At.Sub(s.until)
		when := milliseconds(last.Abs()) + " after"
		if last < 0 {
			when = milliseconds(last.Abs()) + " before"
		}
		return fmt.Sprintf("%s: the last of %d packets passed %s the closing", direction, len(passed), when),
			// A stream that stopped long before the end was not cut by the closing.
			unless(last > -latest && last <= latest, "not cut by the closing")
	}
}

func nobodyInside(s *story) (string, error) {
	var status struct{ Sessions, Grants []json.RawMessage }
	if err := s.ask(&status, "status"); err != nil {
		return "`kidoban status`", err
	}
	return fmt.Sprintf("`kidoban status` counts %d sessions, %d grants", len(status.Sessions), len(status.Grants)),
		unless(len(status.Sessions)+len(status.Grants) == 0, "somebody may still be inside")
}

func verified(s *story) (string, error) {
	_, code, err := s.operator("journal", "verify")
	return fmt.Sprintf("`kidoban journal verify`: exit code %d", code), errors.Join(err, unless(code == 0, "it is not intact"))
}

func recorded(s *story) (string, error) {
	list, _, err := s.operator("journal", "list", "--json")
	if err != nil {
		return "`kidoban journal list`", err
	}
	kinds, err := countKinds(list)
	var total int
	var each []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		total += kinds[kind]
		each = append(each, fmt.Sprintf("%s %d", kind, kinds[kind]))
	}
	return fmt.Sprintf("%d entries: %s", total, strings.Join(each, ", ")), errors.Join(err, unless(total > 0, "there is none"))
}

// unless gives an error if a condition does not hold.
func unless(holds bool, text string) error {
	if holds {
		return nil
	}
	return errors.New(text)
}

// wait counts down to an instant.
func (s *story) wait(what string, end time.Time) {
	for left := time.Until(end); left > 0; left = time.Until(end) {
		s.out.overwrite(fmt.Sprintf("     %s in %d s ", what, int(left.Seconds()+0.999)))
		s.pause(min(left, 200*time.Millisecond))
	}
	s.out.overwrite("")
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
	for line := range bytes.Lines(list) {
		var entry struct{ Kind string }
		if err := json.Unmarshal(line, &entry); err != nil || entry.Kind == "" {
			return nil, fmt.Errorf("a line is no entry with a kind: %.200q %v", line, err)
		}
		kinds[entry.Kind]++
	}
	return kinds, nil
}

var publicKeyLine = regexp.MustCompile(`(?m)^PublicKey *= *(\S+)$`)

// publicKey finds the peer's key in a client configuration, as wg(8) has it.
func publicKey(configuration []byte) (key lab.Key, ok bool) {
	found := publicKeyLine.FindSubmatch(configuration)
	if found == nil {
		return key, false
	}
	b, err := base64.StdEncoding.DecodeString(string(found[1]))
	if err != nil || len(b) != len(key) {
		return key, false
	}
	return lab.Key(b), true
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

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1000) }
