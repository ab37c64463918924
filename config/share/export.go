package share

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"kidoban/config"
	"kidoban/gateway/policy"
)

// Story is what a person tells about the policy that is shared. Each may be empty.
type Story struct {
	Purpose   string // the purpose of the remote maintenance
	WentWrong string // a fault, or nearly one
	Clause    string // of the contract
}

// Shared is a shared policy.
type Shared struct {
	tree *config.Tree
	Map  Map
	// Larger says that the ranges of documents were too small for the addresses, and Shrunk that prefixes
	// around others became narrower.
	Larger, Shrunk bool
}

// Map tells what each thing and address is called in the shared policy. It stays at the site.
type Map struct {
	Names     map[string]string `json:"names"` // as vendors.medisys.engineers.sato
	Addresses map[string]string `json:"addresses"`
}

// exporter has the values that the rules need.
type exporter struct {
	Map       Map
	names     map[string]map[string]string // by kind, and of a vendor's things by vendor/kind
	addresses *addresses
	first     policy.Date // of all dates
	vendor    string
	zone      *time.Location
}

// Export makes the shared policy of the text of a policy file, which has been checked. The error is a
// LeakError if a word of the policy would be in it.
func Export(file string, text []byte, story Story, usage []Usage) (*Shared, error) {
	return export(file, text, story, usage, true)
}

func export(file string, text []byte, story Story, usage []Usage, guarded bool) (*Shared, error) {
	source, err := config.ReadTree(file, text)
	if err != nil {
		return nil, err
	}
	x := &exporter{Map: Map{Names: map[string]string{}, Addresses: map[string]string{}}, names: map[string]map[string]string{}}
	if x.zone = config.ZoneOf(text); x.zone == nil {
		x.zone = time.UTC
	}
	x.look(policyRules, source, "")
	if err := x.findAddresses(source); err != nil {
		return nil, err
	}
	shared := &config.Tree{Fields: []*config.Tree{{Name: "kidoban_share", Text: "1"}}}
	if s := story.tree(); len(s.Fields) > 0 {
		shared.Fields = append(shared.Fields, s)
	}
	if u := x.usage(usage); len(u.Fields) > 0 {
		shared.Fields = append(shared.Fields, u)
	}
	shared.Fields = append(shared.Fields, x.give(policyRules, source, "policy"))
	if guarded {
		if err := guardOf(source, text, x.Map.Addresses).check(shared); err != nil {
			return nil, err
		}
	}
	return &Shared{shared, x.Map, x.addresses.Larger, x.addresses.Shrunk}, nil
}

func (s Story) tree() *config.Tree {
	t := &config.Tree{Name: "story"}
	for _, f := range []*config.Tree{{Name: "purpose", Text: s.Purpose}, {Name: "went_wrong", Text: s.WentWrong}, {Name: "clause", Text: s.Clause}} {
		if f.Text != "" {
			t.Fields = append(t.Fields, f)
		}
	}
	return t
}

// Text is the file of the shared policy.
func (s *Shared) Text() []byte {
	return append([]byte("# A policy of Kidoban without names, keys, dates and addresses of its own.\n"), write(s.tree)...)
}

// Text is the file of the map.
func (m Map) Text() ([]byte, error) {
	text, err := json.MarshalIndent(m, "", "  ")
	return append(text, '\n'), err
}

// look gives every thing its name, and finds the first date.
func (x *exporter) look(r rule, t *config.Tree, path string) {
	if t == nil {
		return
	}
	switch r.kind {
	case mapping:
		for _, f := range t.Fields {
			x.look(r.fields[f.Name], f, join(path, f.Name))
		}
	case listed:
		for _, item := range t.Items {
			x.look(*r.item, item, path)
		}
	case names:
		for i, f := range t.Fields {
			x.call(r.of, f, i, join(path, f.Name))
			x.look(with(r.fields), f, join(path, f.Name))
		}
	case month:
		x.date(t.Text)
	case moment:
		for _, f := range t.Fields {
			x.date(f.Text)
		}
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// date notes a date, of which the first one counts.
func (x *exporter) date(text string) {
	if w, ok := policy.ParseTime(text); ok && (x.first.IsZero() || w.Local.Date.Compare(x.first) < 0) {
		x.first = w.Local.Date
	}
}

// call gives a thing its name, by the kind and its place in the file.
func (x *exporter) call(of string, t *config.Tree, n int, path string) {
	called := fmt.Sprintf("%s-%d", of, n+1)
	switch of {
	case "vendor":
		x.vendor, called = t.Name, "vendor-"+letters(n)
	case "zone":
		if zoneNames[t.Name] {
			called = t.Name
		}
	case "target":
		role := "target"
		if f := t.Field("role"); f != nil && roles[f.Text] {
			role = f.Text
		}
		called = fmt.Sprintf("%s-%d", role, x.count(role))
	}
	scope := x.scope(of)
	if x.names[scope] == nil {
		x.names[scope] = map[string]string{}
	}
	x.names[scope][t.Name] = called
	x.Map.Names[path] = called
}

// count is how many targets with a role have a name, with the one that gets one now.
func (x *exporter) count(role string) int {
	n := 1
	for _, called := range x.names["target"] {
		if before, _, _ := strings.Cut(called, "-"); before == role || strings.HasPrefix(called, role+"-") {
			n++
		}
	}
	return n
}

// scope is where names of a kind are unique.
func (x *exporter) scope(of string) string {
	if of == "engineer" || of == "window" {
		return x.vendor + "/" + of
	}
	return of
}

// letters counts a to z, aa, ab and so on.
func letters(n int) string {
	if n < 26 {
		return string(rune('a' + n))
	}
	return letters(n/26-1) + letters(n%26)
}

// findAddresses maps every address of the policy.
func (x *exporter) findAddresses(source *config.Tree) (err error) {
	var found, tunnels []netip.Prefix
	walk(policyRules, source, func(r rule, t *config.Tree) {
		switch r.kind {
		case address:
			if p, ok := prefix(t.Text); ok {
				found = append(found, p)
			}
		case inside:
			if p, err := netip.ParsePrefix(t.Text); err == nil {
				found = append(found, p.Masked(), netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
				tunnels = append(tunnels, p.Masked())
			}
		}
	})
	x.addresses, err = mapAddresses(found, tunnels)
	return err
}

func prefix(text string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(text)
	return p, err == nil
}

// give makes the shared part of a value; nil: it is left out.
func (x *exporter) give(r rule, t *config.Tree, called string) *config.Tree {
	to := &config.Tree{Name: called}
	switch r.kind {
	case dropped:
		return nil
	case mapping:
		for _, f := range t.Fields {
			if shared := x.give(r.fields[f.Name], f, f.Name); shared != nil {
				to.Fields = append(to.Fields, shared)
			}
		}
		to.Fields = slices.DeleteFunc(to.Fields, func(f *config.Tree) bool { return f.Name == "role" && !roles[f.Text] })
	case names:
		for _, f := range t.Fields {
			if r.of == "vendor" {
				x.vendor = f.Name
			}
			to.Fields = append(to.Fields, x.give(with(r.fields), f, x.names[x.scope(r.of)][f.Name]))
		}
	case listed:
		for _, item := range t.Items {
			to.Items = append(to.Items, x.give(*r.item, item, ""))
		}
	case moment:
		return x.moment(t, called)
	default:
		to.Text = x.value(r, t.Text)
	}
	return to
}

// value makes the shared text of one value.
func (x *exporter) value(r rule, text string) string {
	switch r.kind {
	case left:
		if r.pattern.MatchString(text) {
			return text
		}
	case post:
		if posts[text] {
			return text
		}
	case month:
		if d, err := policy.ParseDate(text); err == nil {
			return x.months(d)
		}
	case name:
		if called := x.names[x.scope(r.of)][text]; called != "" {
			return called
		}
	case day:
		if called := x.names["calendar"][text]; called != "" {
			return called
		}
		if slices.Contains(weekdays, text) {
			return text
		}
	case address:
		if p, ok := prefix(text); ok {
			return x.noted(text, policy.Short(x.addresses.of(p)))
		}
	case inside:
		if p, err := netip.ParsePrefix(text); err == nil {
			own := x.addresses.of(netip.PrefixFrom(p.Addr(), p.Addr().BitLen())).Addr()
			return x.noted(text, netip.PrefixFrom(own, x.addresses.of(p.Masked()).Bits()).String())
		}
	}
	return config.Replace
}

var weekdays = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

func (x *exporter) noted(was, is string) string {
	x.Map.Addresses[was] = is
	return is
}

// months writes a date as the months since the first one.
func (x *exporter) months(d policy.Date) string {
	return fmt.Sprintf("month+%d", (d.Year-x.first.Year)*12+int(d.Month)-int(x.first.Month))
}

// moment writes the field once: its month, time of day and length.
func (x *exporter) moment(t *config.Tree, called string) *config.Tree {
	from, until := t.Field("from"), t.Field("until")
	if from == nil || until == nil {
		return nil
	}
	begin, ok := policy.ParseTime(from.Text)
	end, ok2 := policy.ParseTime(until.Text)
	if !ok || !ok2 {
		return nil
	}
	local := begin.In(x.zone)
	return &config.Tree{Name: called, Fields: []*config.Tree{
		{Name: "month", Text: x.months(local.Date)}, {Name: "at", Text: local.Time.String()},
		{Name: "lasts", Text: policy.Elapsed(end.At(x.zone).Sub(begin.At(x.zone)).Truncate(time.Minute))}}}
}

// walk calls f for every value of a tree that has a rule.
func walk(r rule, t *config.Tree, f func(rule, *config.Tree)) {
	if t == nil {
		return
	}
	switch r.kind {
	case mapping, names:
		for _, field := range t.Fields {
			of := with(r.fields)
			if r.kind == mapping {
				of = r.fields[field.Name]
			}
			walk(of, field, f)
		}
	case listed:
		for _, item := range t.Items {
			walk(*r.item, item, f)
		}
	case dropped:
	default:
		f(r, t)
	}
}

// Usage is how much a vendor used the gateway in a month.
type Usage struct {
	Vendor   string `json:"vendor"`
	Sessions int    `json:"sessions"`
	Seconds  int64  `json:"used_seconds"`
}

// reportVersion is the newest version of reports that is read.
const reportVersion = 1

// UsageOf reads the sums of a report's JSON.
func UsageOf(report []byte) ([]Usage, error) {
	var r struct {
		Version int     `json:"version"`
		Vendors []Usage `json:"vendors"`
	}
	err := json.Unmarshal(report, &r)
	if err == nil && r.Version > reportVersion {
		err = fmt.Errorf("the report has version %d: a newer kidoban made it, and this one knows versions up to %d", r.Version, reportVersion)
	}
	return r.Vendors, err
}

// usage writes sums of the policy's vendors as ranges.
func (x *exporter) usage(all []Usage) *config.Tree {
	t := &config.Tree{Name: "usage"}
	sums := map[string]Usage{}
	for _, u := range all {
		if called := x.names["vendor"][u.Vendor]; called != "" {
			s := sums[called]
			sums[called] = Usage{Sessions: s.Sessions + u.Sessions, Seconds: s.Seconds + u.Seconds}
		}
	}
	for _, called := range slices.Sorted(maps.Keys(sums)) {
		t.Fields = append(t.Fields, &config.Tree{Name: called, Fields: []*config.Tree{
			{Name: "sessions", Text: bucket(int64(sums[called].Sessions))}, {Name: "hours", Text: bucket((sums[called].Seconds + 3599) / 3600)}}})
	}
	return t
}

// bucket is the range in which a number lies.
func bucket(n int64) string {
	first := int64(0)
	for _, last := range []int64{0, 3, 10, 30, 100} {
		if n <= last {
			if first == last {
				return fmt.Sprint(last)
			}
			return fmt.Sprintf("%d-%d", first, last)
		}
		first = last + 1
	}
	return "over 100"
}
