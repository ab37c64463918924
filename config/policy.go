package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"kidoban/gateway/durable"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// Host is the machine that a policy is for. It is empty if the policy is checked elsewhere.
type Host struct {
	Key           *policy.Key   // the gateway's own public key, which no engineer may have; nil: not known
	Guard         durable.Guard // opens the files
	Interface     string        // the tunnel's, which no line may have; empty: not known
	Inside        []string      // KIDOBAN_INSIDE_INTERFACES, which no plain line may have
	ForwardOthers bool          // KIDOBAN_FORWARD_OTHERS
	Addresses     []netip.Addr  // its own, without the tunnel's; no target may have one: a policy must not open the gateway itself
	// Opens is called with the path of each preshared-key file before it is read. It may be nil.
	Opens func(path string)
	// Sealed leaves preshared-key files closed: the name of a file stands for its key.
	Sealed bool
	past   bool // the policy was in force once: what a mistake is only by today's date is none
}

// LoadPolicy reads, checks and resolves the policy file for a host. The error is an Errors with all
// mistakes. Warnings come with and without an error.
func LoadPolicy(path string, host Host) (*policy.Policy, []view.Message, error) {
	text, err := readPolicyFile(host.Guard, path)
	if err != nil {
		return nil, nil, Errors{{File: path, What: err.Error(), cause: err}}
	}
	return ParsePolicy(path, text, filepath.Dir(path), host, time.Now())
}

// Comparable reads the text of a policy in force, so that it can be compared with another policy.
// digest is that of the policy in force, and dir the folder of its file. exact is false if preshared
// keys are not as they were loaded. Then both results have the name of a file in place of each key.
func Comparable(text, digest, dir string, guard durable.Guard, other *policy.Policy) (inForce, same *policy.Policy, exact bool, err error) {
	const name = "the policy in force"
	now := time.Now()
	sealed := func(text string) (*policy.Policy, error) {
		p, _, err := ParsePolicy(name, []byte(text), dir, Host{Sealed: true}, now)
		return p, err
	}
	inForce, _, err = ParsePolicy(name, []byte(text), dir, Host{Guard: guard}, now)
	if err == nil && inForce.Digest == digest {
		// A draft may lie in another folder. A reload reads it in dir, with the files of its sinks.
		if moved, err := sealed(other.Text); err == nil {
			there := *other
			there.Sinks = moved.Sinks
			other = &there
		}
		return inForce, other, true, nil
	}
	if inForce, err = sealed(text); err == nil {
		same, err = sealed(other.Text)
	}
	return inForce, same, false, err
}

func readPolicyFile(guard durable.Guard, path string) ([]byte, error) {
	f, err := guard.Open(path, 0o777)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// One byte more than allowed: ParsePolicy reports a file that is too large.
	text, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", cause(err))
	}
	return text, nil
}

// ParsePolicy checks and resolves the text of a policy file. name is the file's name in messages.
// Preshared-key files are relative to dir. Warnings depend on the date now. See LoadPolicy for the
// results.
func ParsePolicy(name string, text []byte, dir string, host Host, now time.Time) (*policy.Policy, []view.Message, error) {
	r := &reader{
		decoder: decoder{file: name},
		policy:  &policy.Policy{Zone: time.UTC, Text: string(text)},
		dir:     dir,
		host:    host,
		now:     now,
		names: names{
			keys:      map[policy.Key]*policy.Engineer{},
			addresses: map[netip.Addr]*policy.Engineer{},
			doubtful:  map[*policy.Engineer]bool{},
			users:     map[string]*policy.Operator{},
			passkeys:  map[string]*policy.Operator{},
		},
		windowAt:   map[*policy.Window]value{},
		maybePlain: map[*policy.Line]bool{},
		digest:     sha256.New(),
	}
	r.digestPart("kidoban policy 1")
	r.digestPart(string(text))
	if root := r.parse(text); root != nil {
		r.root(value{node: root, at: place{1, 1}, key: place{1, 1}})
	}
	if !r.zoned { // without a time zone nothing is known to be over
		r.warnings = slices.DeleteFunc(r.warnings, func(w view.Message) bool { return w.Args["date"] != nil || w.Code == "policy_once_over" })
	}
	sortByPlace(r.errors, r.warnings)
	if r.more > 0 {
		r.errors = append(r.errors, &Error{File: name, What: fmt.Sprintf("%d more mistakes are not listed: mend these first", r.more)})
	}
	if r.moreWarnings > 0 {
		r.warnings = append(r.warnings, view.Say("policy_warnings_more", view.Args{"file": name, "line": 1, "column": 1, "where": "the file", "count": r.moreWarnings}))
	}
	if len(r.errors) > 0 {
		return nil, r.warnings, r.errors
	}
	r.policy.Digest = hex.EncodeToString(r.digest.Sum(nil))
	return r.policy, r.warnings, nil
}

// reader resolves the values that the decoder reads.
type reader struct {
	decoder
	policy *policy.Policy
	dir    string
	host   Host
	now    time.Time
	digest hash.Hash

	names
	underlings []underling
	windowAt   map[*policy.Window]value
	zonesRead  bool                  // every zone is known
	maybePlain map[*policy.Line]bool // it could not be read whether they are plain
	targetOf   *policy.TargetTable   // see targetAt

	zoned   bool // the time zone is known
	settled bool // every operator, with every right, is known
	reach   int  // see maxReach
	ahead   int  // see maxAhead
}

// names is everything read so far, also with mistakes, so that references to it are no further mistakes.
type names struct {
	calendars map[string]*policy.Calendar
	targets   map[string]*policy.Target
	byLine    map[string]*policy.Line
	keys      map[policy.Key]*policy.Engineer
	addresses map[netip.Addr]*policy.Engineer
	listed    []vendorSource
	placed    []placedTarget
	doubtful  map[*policy.Engineer]bool // some addresses could not be read
	byName    map[string]*policy.Operator
	users     map[string]*policy.Operator
	passkeys  map[string]*policy.Operator
}

// digestPart adds a part behind its length, so that parts cannot be shifted into each other.
func (r *reader) digestPart(part string) {
	fmt.Fprintf(r.digest, "%d:%s", len(part), part)
}

func (r *reader) root(v value) {
	unread := r.told() > 0
	f := r.mapping(v, "version", "site", "contact?", "timezone", "tunnel", "calendars?", "zones?", "targets", "lines?", "operators?", "reopen_all?", "vendors", "notify?", "review?", "retention?", "reporting?")
	strange := r.strange
	if version, ok := r.text(f["version"]); ok && version != "1" {
		r.errorf(f["version"], "version %s is not known: allowed is 1; a newer kidoban may know it", quote(version))
	}
	p := r.policy
	tier := r.site(f["site"])
	if p.Contact = r.display(f["contact"]); p.Contact == exampleContact {
		r.warn(f["contact"], "policy_contact_example", nil)
	}
	r.timezone(f["timezone"])
	p.Tunnel = r.tunnel(f["tunnel"])
	if p.Calendars, r.calendars = named(&r.decoder, f["calendars"], r.calendar); !f["calendars"].present() && !strange {
		r.calendars = map[string]*policy.Calendar{}
	}
	r.zones(f["zones"])
	p.Targets, r.targets = named(&r.decoder, f["targets"], r.target)
	r.lines(f["lines"], strange || unread)
	r.operators(f["operators"], strange || unread)
	r.reopenAll(f["reopen_all"])
	var vendors map[string]*policy.Vendor
	p.Vendors, vendors = named(&r.decoder, f["vendors"], r.vendor)
	r.subcontractors(vendors)
	p.Sinks, _ = named(&r.decoder, f["notify"], r.sink)
	r.atMost(maxSinks, len(p.Sinks), f["notify"])
	p.Review = r.review(f["review"])
	p.Retention = r.retention(f["retention"])
	p.Reporting = r.reporting(f["reporting"])
	r.checkRecorders(f["operators"])
	r.checkTier(tier)
	r.warnShared()
	r.warnMasquerade()
	r.checkBridges()
}

func (r *reader) timezone(v value) {
	zone, ok := read(&r.decoder, v, func(text string) (*time.Location, error) {
		zone, err := time.LoadLocation(text)
		if err != nil || zone == time.Local {
			err = fmt.Errorf("%s is no time zone: allowed is a name of the IANA time zone database, as in Asia/Tokyo", quote(text))
		}
		return zone, err
	})
	if r.zoned = ok; ok {
		r.policy.Zone = zone
	}
}

// ZoneOf gives the time zone in a policy's text, even if the rest is wrong, or nil.
func ZoneOf(text []byte) *time.Location {
	r := &reader{policy: &policy.Policy{}}
	if root := r.parse(text); root != nil {
		fields, _ := r.pairs(value{node: root})
		for _, e := range fields {
			if e.name == "timezone" {
				r.timezone(e.value)
			}
		}
	}
	return r.policy.Zone
}

var weekdays = map[string]time.Weekday{
	"sun": time.Sunday, "mon": time.Monday, "tue": time.Tuesday, "wed": time.Wednesday,
	"thu": time.Thursday, "fri": time.Friday, "sat": time.Saturday,
}

func (r *reader) calendar(e entry) *policy.Calendar {
	unread := &policy.Calendar{Name: e.name}
	if _, taken := weekdays[e.name]; taken {
		r.errorf(e.named(), "a calendar cannot have the name of a weekday: both stand in the same lists")
	}
	before := r.told()
	f := r.mapping(e.value, "country?", "dates?")
	if f == nil || len(f) == 0 && r.told() > before {
		return unread
	}
	if len(f) == 0 {
		r.errorf(e.named(), "is empty: allowed is country (as in JP), dates or both")
		return unread
	}
	country, ok := r.visible(f["country"])
	if !ok && f["country"].present() {
		return unread
	}
	var dates []policy.DateRange
	for _, item := range r.list(f["dates"]) {
		if dr, ok := read(&r.decoder, item, parseDateRange); ok {
			dates = append(dates, dr)
		}
	}
	c, err := policy.NewCalendar(e.name, country, dates)
	if err != nil {
		at := e.named()
		if f["country"].present() {
			at = f["country"]
		}
		r.errorf(at, "%v", err)
		return unread
	}
	return c
}

// parseDateRange reads "2026-12-31" or "2026-12-29..2027-01-03".
func parseDateRange(text string) (policy.DateRange, error) {
	firstText, lastText, isRange := strings.Cut(text, "..")
	if !isRange {
		lastText = firstText
	}
	first, err1 := parseDate(firstText)
	last, err2 := parseDate(lastText)
	if err1 != nil || err2 != nil {
		return policy.DateRange{}, fmt.Errorf("%s is neither a date nor a range of dates: allowed is as in 2026-12-31 or 2026-12-29..2027-01-03, from 2000 to 2199", quote(text))
	}
	if last.Compare(first) < 0 {
		return policy.DateRange{}, fmt.Errorf("%s ends before it begins", quote(text))
	}
	return policy.DateRange{First: first, Last: last}, nil
}

// parseDate reads YYYY-MM-DD in years that a policy can mean.
func parseDate(text string) (policy.Date, error) {
	d, err := policy.ParseDate(text)
	if err != nil || d.Year < 2000 || d.Year > 2199 {
		return policy.Date{}, fmt.Errorf("%s is no date: allowed is YYYY-MM-DD, a day that exists, from 2000 to 2199", quote(text))
	}
	return d, nil
}
