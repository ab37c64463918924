package api

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"kidoban/gateway"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// queryOf reads a query strictly: an unknown or repeated parameter is an error,
// because the answer would be to another question.
func queryOf(r *http.Request, known []string) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("the query cannot be read: %v", err)
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		switch {
		case len(known) == 0:
			return nil, invalid("the parameter %q: %s has none", name, r.URL.Path)
		case !slices.Contains(known, name):
			return nil, invalid("there is no parameter %q: allowed is %s", name, strings.Join(known, ", "))
		case len(query[name]) > 1:
			return nil, invalid("the parameter %q is there %d times: allowed is once", name, len(query[name]))
		}
		if err := Shows(fmt.Sprintf("the parameter %q", name), query.Get(name)); err != nil {
			return nil, err
		}
	}
	return query, nil
}

// order is the body of a close, of a reopening, and of a recovery, which has no scope.
type order struct {
	Scope  policy.Scope `json:"scope,omitempty"` // vendor/engineer, vendor, or all; a recovery has none
	Reason string       `json:"reason"`          // kept in the journal
}

// check refuses an order without a reason, or without a scope where scope says that it has one.
func (o order) check(scope bool) error {
	switch {
	case scope && o.Scope == "":
		return invalid("no scope: allowed is vendor/engineer, vendor, or all")
	case !scope && o.Scope != "":
		return invalid("the scope %q: a recovery has none, it is about the whole gateway", o.Scope)
	case len(o.Scope) > nameMost:
		return invalid("the scope has %d bytes: allowed are %d", len(o.Scope), nameMost)
	case strings.TrimSpace(o.Reason) == "":
		return invalid("no reason: say why, it is kept in the journal")
	case len(o.Reason) > gateway.ReasonMax:
		return invalid("the reason has %d bytes: allowed are %d", len(o.Reason), gateway.ReasonMax)
	}
	return nil
}

func checkScoped(o order) error { return o.check(true) }

func checkReason(o order) error { return o.check(false) }

// checkReload refuses an order that says something.
func checkReload(o order) error {
	if o != (order{}) {
		return invalid("a reload has neither scope nor reason: it reads the policy file again, as a whole")
	}
	return nil
}

// Shows refuses a text that is not UTF-8 or has invisible characters. The
// decoder of JSON has put U+FFFD where it found half of a surrogate pair, so
// U+FFFD is refused too. The error begins with the text's name.
func Shows(name, text string) error {
	for _, r := range text {
		if r == utf8.RuneError {
			return invalid("%s has a part that is not UTF-8, or was not: allowed is printable text", name)
		}
		// The full-width space of Japanese text is in none of these.
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return invalid("%s has the character %q, which does not show: allowed is printable text", name, r)
		}
	}
	return nil
}

// nameMost is how long vendor/engineer may be: two names of up to 63 characters.
const nameMost = 63 + 1 + 63

// engineerOf finds an engineer. Without a policy it checks the form of the name
// and returns nil.
func engineerOf(p *policy.Policy, name string) (*policy.Engineer, error) {
	if p != nil {
		if e := p.Engineer(name); e != nil {
			return e, nil
		}
	}
	vendor, engineer, _ := strings.Cut(name, "/")
	if vendor == "" || engineer == "" || len(name) > nameMost {
		near := ""
		if p != nil && len(name) <= nameMost {
			near = p.Nearest(name)
		}
		if !strings.Contains(near, "/") {
			return nil, invalid("%.200q is not an engineer: allowed is vendor/engineer", name)
		}
		wrong := problem(http.StatusBadRequest, "%.200q is not an engineer: allowed is vendor/engineer%v", name, didYouMean(near))
		wrong.Suggestion = near
		return nil, wrong
	}
	if err := Shows("the engineer", name); err != nil || p == nil {
		return nil, err
	}
	near, v := p.Nearest(name), p.Vendor(vendor)
	if v == nil {
		return nil, noVendor(p, vendor, near)
	}
	var names []string
	for _, e := range v.Engineers {
		names = append(names, e.String())
	}
	return nil, noMatch(view.Say("no_engineer", view.Args{"engineer": name, "vendor": vendor, "names": view.Few(names, mostNamed), "near": didYouMean(near)}), near)
}

// mostNamed bounds the names that a problem lists.
const mostNamed = 16

// vendorOf finds a vendor.
func vendorOf(p *policy.Policy, name string) (*policy.Vendor, error) {
	if v := p.Vendor(name); v != nil {
		return v, nil
	}
	if err := Shows("the vendor", name); err != nil {
		return nil, err
	}
	near, _, _ := strings.Cut(p.Nearest(name), "/")
	return nil, noVendor(p, name, near)
}

func noVendor(p *policy.Policy, name, near string) error {
	var names []string
	for _, v := range p.Vendors {
		names = append(names, v.Name)
	}
	return noMatch(view.Say("no_vendor", view.Args{"vendor": fmt.Sprintf("%.200s", name), "names": view.Few(names, mostNamed), "near": didYouMean(near)}), near)
}

// A policy may name dates of these years. Times of other years do not fit into
// JSON, or overflow.
const firstYear, lastYear = 2000, 2199

// ParseTime is policy.ParseTime; a date alone is its 00:00. An empty text means
// the fallback.
func ParseTime(text string, zone *time.Location, fallback time.Time) (time.Time, error) {
	if text == "" {
		return fallback, nil
	}
	w, ok := policy.ParseTime(text)
	if !ok {
		return time.Time{}, invalid("%v", policy.NotATime(text, zone))
	}
	t := w.At(zone).In(zone) // JSON does not take every offset
	if t.Year() < firstYear || t.Year() > lastYear {
		return t, invalid("%q is in the year %d in %s: allowed is %d to %d", text, t.Year(), zone, firstYear, lastYear)
	}
	return t, nil
}

// parseAddr reads an address without a zone.
func parseAddr(text string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(text)
	return addr.Unmap(), err == nil && addr.Zone() == ""
}

// parseDestination reads ADDR:tcp/22, [ADDR]:udp/53 or ADDR:icmp.
func parseDestination(text string) (netip.AddrPort, uint8, error) {
	i := max(strings.LastIndexByte(text, ':'), 0)
	addr, ok := parseAddr(strings.TrimSuffix(strings.TrimPrefix(text[:i], "["), "]"))
	name, number, _ := strings.Cut(text[i:], "/")
	port, err := strconv.ParseUint(number, 10, 16)
	switch {
	case !ok:
	case text[i:] == ":icmp" && addr.Is4():
		return netip.AddrPortFrom(addr, 0), policy.ICMP, nil
	case text[i:] == ":icmp":
		return netip.AddrPortFrom(addr, 0), policy.ICMPv6, nil
	case err != nil || port == 0:
	case name == ":tcp":
		return netip.AddrPortFrom(addr, uint16(port)), policy.TCP, nil
	case name == ":udp":
		return netip.AddrPortFrom(addr, uint16(port)), policy.UDP, nil
	}
	return netip.AddrPort{}, 0, invalid("--to: %q is not a destination: allowed is ADDR:tcp/PORT, ADDR:udp/PORT or ADDR:icmp, as in 10.1.0.5:tcp/22 or [2001:db8::5]:tcp/22", text)
}
