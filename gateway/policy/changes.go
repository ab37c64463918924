package policy

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kinds of a Change.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
)

// Change is one thing that differs between two policies.
type Change struct {
	Kind   string  `json:"kind"`             // added, removed or changed
	Thing  string  `json:"thing"`            // site, contact, timezone, tunnel, reopen_all, review, retention, calendar, zone, target, line, operator, notify, vendor, engineer, window or on_request
	Vendor string  `json:"vendor,omitempty"` // of an engineer, a window or on_request
	Name   string  `json:"name,omitempty"`   // empty for the first five things and on_request
	Fields []Field `json:"fields"`           // those that differ; of a thing that was added or removed, all that it has
	// Windows are the windows of the later policy that use a target or a calendar that changed, as
	// vendor/window, and vendor/on_request where it can be requested.
	Windows []string `json:"windows,omitempty"`
}

// FullName is vendor/name for an engineer or a window, the vendor for on_request, and else the name.
func (c Change) FullName() string {
	if c.Vendor == "" || c.Name == "" {
		return c.Vendor + c.Name
	}
	return c.Vendor + "/" + c.Name
}

// Field is a field of the policy file, with the values that only one of two policies has.
type Field struct {
	Name   string   `json:"field"`
	Before []string `json:"before"`
	After  []string `json:"after"`
}

// PresharedKey is the field of a preshared key, and Secret stands for the key.
const PresharedKey, Secret = "preshared_key", "(secret)"

// Changes lists the differences between two policies, sorted by kind, thing and name. The order of a
// list in the policy file is no difference.
func Changes(old, new *Policy) []Change {
	before, after := old.things(), new.things()
	var all []Change
	for id, was := range before {
		c := Change{Kind: Changed, Thing: id.thing, Vendor: id.vendor, Name: id.name}
		is, ok := after[id]
		if !ok {
			c.Kind = Removed
		}
		if c.Fields = differing(was, is); len(c.Fields) > 0 || !ok {
			all = append(all, c)
		}
	}
	for id, is := range after {
		if _, ok := before[id]; !ok {
			all = append(all, Change{Kind: Added, Thing: id.thing, Vendor: id.vendor, Name: id.name, Fields: differing(nil, is)})
		}
	}
	slices.SortFunc(all, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Thing, b.Thing), cmp.Compare(a.Vendor, b.Vendor), cmp.Compare(a.Name, b.Name))
	})
	new.nameWindows(all)
	return all
}

// id names one thing of a policy.
type id struct{ thing, vendor, name string }

// value is one field of a thing.
type value struct {
	field string
	list  []string
	of    func() []string // not nil: all that the vendor has, as this lists it
	key   [32]byte        // of a secret
}

func (v value) all() []string {
	if v.of != nil {
		return v.of()
	}
	return v.list
}

// differing compares the fields of one thing in two policies. Nil stands for a policy without it.
func differing(before, after []value) []Field {
	fields := []Field{}
	for i := range max(len(before), len(after)) {
		var was, is value
		if before != nil {
			was = before[i]
		}
		if after != nil {
			is = after[i]
		}
		if was.of != nil && is.of != nil {
			continue // the vendor has the difference, if there is one
		}
		f := Field{Name: cmp.Or(was.field, is.field), Before: minus(was.all(), is.all()), After: minus(is.all(), was.all())}
		if was.key != is.key {
			f.Before, f.After = was.list, is.list
		}
		if len(f.Before)+len(f.After) > 0 {
			fields = append(fields, f)
		}
	}
	return fields
}

// minus returns the elements of a that b does not have, never nil.
func minus(a, b []string) []string {
	left := []string{}
	known := make(map[string]bool, len(b))
	for _, x := range b {
		known[x] = true
	}
	for _, x := range a {
		if !known[x] {
			left = append(left, x)
		}
	}
	return left
}

// things lists every thing of the policy with its fields, always in the same order.
func (p *Policy) things() map[id][]value {
	all := map[id][]value{
		{thing: "site"}:     append([]value{text("name", p.Site)}, p.Inspection.values()...),
		{thing: "timezone"}: {text("name", p.Zone.String())},
		{thing: "tunnel"}:   {list("addresses", p.Tunnel.Addresses, netip.Prefix.String), text("endpoint", p.Tunnel.Endpoint)},
	}
	if p.Contact != "" {
		all[id{thing: "contact"}] = []value{text("text", p.Contact)}
	}
	for _, c := range p.Calendars {
		all[id{"calendar", "", c.Name}] = []value{text("country", c.Country), list("dates", c.Dates, DateRange.String)}
	}
	for _, z := range p.Zones {
		all[id{"zone", "", z.Name}] = []value{list("prefixes", z.Prefixes, Short)}
	}
	for _, t := range p.Targets {
		all[id{"target", "", t.Name}] = []value{text("address", Short(t.Prefix)), list("ports", t.Services, Service.String), text("role", t.Role), text("zone", t.Zone), text("masquerade", when(t.Masquerade, "true"))}
	}
	for _, l := range p.Lines {
		all[id{"line", "", l.Name}] = []value{text("interface", l.Interface), text("kind", string(l.Kind)), text("provider", l.Provider), text("plain", when(l.Plain, "true"))}
	}
	if p.Retention > 0 {
		all[id{thing: "retention"}] = []value{text("kept", p.Retention.String())}
	}
	if p.ReopenAll > 0 {
		all[id{thing: "reopen_all"}] = []value{text("approvals", strconv.Itoa(p.ReopenAll))}
	}
	if v := p.Review; v != nil {
		all[id{thing: "review"}] = []value{text("within", Elapsed(v.Within)), text("confirm_within", Elapsed(v.ConfirmWithin)), text("distinct", strconv.FormatBool(v.Distinct))}
	}
	for _, o := range p.Operators {
		all[id{"operator", "", o.Name}] = []value{text("name", o.DisplayName), text("user", o.User), list("may", o.Rights, plain), list("passkeys", o.Passkeys, plain)}
	}
	for _, s := range p.Sinks {
		all[id{"notify", "", s.Name}] = s.values()
	}
	for _, v := range p.Vendors {
		all[id{"vendor", "", v.Name}] = []value{text("name", v.DisplayName), text("phone", v.Phone), text("contract", date(v.ContractUntil)), list("certificates", v.Certificates, Certificate.String),
			list("under", v.Primes()[:min(len(v.Primes()), 1)], plain), text("consent", v.Consent.String()), list("sources", v.Sources, Short), text("line", v.line())}
		if v.OnRequest != nil {
			all[id{"on_request", v.Name, ""}] = v.OnRequest.values(len(v.Engineers))
		}
		for _, e := range v.Engineers {
			if e.Plain() {
				break // the sources tell it
			}
			all[id{"engineer", v.Name, e.Name}] = e.values()
		}
		for _, w := range v.Windows {
			all[id{"window", v.Name, w.Name}] = w.values()
		}
	}
	return all
}

func (e *Engineer) values() []value {
	sources := list("sources", e.Sources, Short)
	if slices.Equal(e.Sources, e.Vendor.Sources) {
		sources.of = sources.all
	}
	secret := text(PresharedKey, when(e.PresharedKey != [32]byte{}, Secret))
	secret.key = e.PresharedKey
	return []value{text("name", e.DisplayName), text("public_key", e.Key.String()), list("addresses", e.Addresses, netip.Addr.String), sources, secret}
}

func (w *Window) values() []value {
	var rule, at, duration, from, to, once value
	days := value{field: "days"}
	switch s := w.Schedule.(type) {
	case *Rule:
		rule, at, duration = text("rrule", s.Text), text("at", s.At.String()), text("duration", Elapsed(s.Duration))
	case *Days:
		for i, on := range s.Weekdays {
			if on {
				days.list = append(days.list, strings.ToLower(time.Weekday(i).String()[:3]))
			}
		}
		for _, c := range s.Calendars {
			days.list = append(days.list, c.Name)
		}
		from, to = text("from", s.From.String()), text("to", s.To.String())
	case *Once:
		once = text("once", s.From.String()+".."+s.Until.String())
	}
	return []value{rule, at, duration, days, from, to, once, validity(w.ValidFrom, w.ValidUntil), list("except", w.Except, func(c *Calendar) string { return c.Name }),
		list("targets", w.Targets, targetName), some(w.Engineers, len(w.Vendor.Engineers)), text("approved_by", w.ApprovedBy), text("ticket", w.Ticket), text("section", w.Section),
		text("grace", Elapsed(w.Grace))}
}

// values are the fields of the file. of is how many engineers the vendor has.
func (o *OnRequest) values(of int) []value {
	declared, within, ratifiers := "", "", []*Operator(nil)
	if e := o.Emergency; e != nil {
		declared, within, ratifiers = Elapsed(e.MaxDuration), Elapsed(e.RatifyWithin), e.Ratifiers
	}
	return []value{list("targets", o.Targets, targetName), text("section", o.Section), some(o.Engineers, of), validity(o.ValidFrom, o.ValidUntil),
		text("approvals", strconv.Itoa(o.Approvals)), list("approvers", o.Approvers, operatorName), text("self_approval", when(o.SelfApproval, "true")),
		text("max_duration", Elapsed(o.MaxDuration)), text("max_total", Elapsed(o.MaxTotal)), text("ahead", Elapsed(o.Ahead)),
		text("undecided", Elapsed(o.Undecided)), text("grace", Elapsed(o.Grace)), list("one_time_source.within", o.OneTimeSource, Short),
		text("emergency.max_duration", declared), text("emergency.ratify_within", within), list("emergency.ratifiers", ratifiers, operatorName)}
}

func (s *Sink) values() []value {
	return []value{text("webhook", s.Webhook), text("format", s.Format), text("smtp", s.SMTP), text("tls", s.TLS), text("from", s.From), list("to", s.To, plain),
		text("user", s.User), text("secret_file", s.SecretFile), text("ca_file", s.CAFile), list("kinds", s.Kinds, plain), text("language", s.Language)}
}

func validity(from, until Date) value {
	return text("valid", when(!from.IsZero() || !until.IsZero(), date(from)+".."+date(until)))
}

// some are engineers of a vendor that has so many.
func some(engineers []*Engineer, of int) value {
	if len(engineers) > 0 && engineers[0].Plain() {
		return value{field: "engineers"} // the vendor's sources
	}
	name := func(e *Engineer) string { return e.Name }
	if len(engineers) != of {
		return list("engineers", engineers, name)
	}
	return value{field: "engineers", of: func() []string { return list("", engineers, name).list }}
}

func targetName(t *Target) string { return t.Name }

func operatorName(o *Operator) string { return o.Name }

func plain[T ~string](text T) string { return string(text) }

func text(field, text string) value {
	if text == "" {
		return value{field: field}
	}
	return value{field: field, list: []string{text}}
}

func list[T any](field string, all []T, text func(T) string) value {
	v := value{field: field, list: make([]string, len(all))}
	for i, x := range all {
		v.list[i] = text(x)
	}
	return v
}

func when(is bool, text string) string {
	if is {
		return text
	}
	return ""
}

func date(d Date) string { return when(!d.IsZero(), d.String()) }

// Elapsed writes a duration as the policy file has it: "4h", "1h30m", "24h", and from 2 days on "7d" or
// "2d12h". Zero is the empty text.
func Elapsed(d time.Duration) string {
	days := ""
	if n := d / (24 * time.Hour); n >= 2 {
		days = strconv.Itoa(int(n)) + "d"
		d -= n * 24 * time.Hour
	}
	if d == 0 {
		return days
	}
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return days + text
}

// nameWindows fills Windows of changes that lead to p.
func (p *Policy) nameWindows(changes []Change) {
	used := map[id]*Change{}
	for i, c := range changes {
		if c.Kind == Changed && (c.Thing == "target" || c.Thing == "calendar") {
			used[id{c.Thing, "", c.Name}] = &changes[i]
		}
	}
	if len(used) == 0 {
		return
	}
	uses := func(window, thing, name string) {
		if c := used[id{thing, "", name}]; c != nil && !slices.Contains(c.Windows, window) {
			c.Windows = append(c.Windows, window)
		}
	}
	for _, v := range p.Vendors {
		for _, w := range v.Windows {
			for _, t := range w.Targets {
				uses(w.String(), "target", t.Name)
			}
			for _, c := range w.Except {
				uses(w.String(), "calendar", c.Name)
			}
			if days, ok := w.Schedule.(*Days); ok {
				for _, c := range days.Calendars {
					uses(w.String(), "calendar", c.Name)
				}
			}
		}
		if v.OnRequest != nil {
			for _, t := range v.OnRequest.Targets {
				uses(v.Name+"/on_request", "target", t.Name)
			}
		}
	}
}
