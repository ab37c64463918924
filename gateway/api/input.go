package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// bodyMost bounds a request's body, in bytes.
const bodyMost = 16 << 10

// order is the body of a command.
type order struct {
	Scope  policy.Scope `json:"scope"`
	Reason string       `json:"reason"`
}

// readOrder reads the body of a command that has these fields; a reload has none. A
// key that is there twice, in any case of its letters, is an error: only the last
// value would count.
func readOrder(body io.Reader, fields []string) (order, error) {
	var o order
	text, err := io.ReadAll(body)
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return o, err
	case err != nil:
		return o, invalid("the body cannot be read: %v", err)
	case len(text) == 0:
		return o, o.check(fields)
	case !utf8.Valid(text):
		return o, invalid("the body is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		return o, invalid(`the body is not {"scope": "...", "reason": "..."}: %v`, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return o, invalid("the body has more than one value")
	}
	var keys []string
	d = json.NewDecoder(bytes.NewReader(text))
	for i := 0; err == nil; i++ { // the tokens are {, key, value, key, value, }
		var token json.Token
		token, err = d.Token()
		if key, ok := token.(string); ok && i%2 == 1 {
			if slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, key) }) {
				return o, invalid("%q is there twice: allowed is once", key)
			}
			keys = append(keys, key)
		}
	}
	return o, o.check(fields) // the text is known to be JSON
}

// check compares an order with the fields of its command.
func (o order) check(fields []string) error {
	scope := slices.Contains(fields, "scope")
	switch {
	case len(fields) == 0 && o != order{}:
		return invalid("a reload has neither scope nor reason: it reads the policy file again, as a whole")
	case len(fields) == 0:
		return nil
	case scope && o.Scope == "":
		return invalid("no scope: allowed is vendor/engineer, vendor, or all")
	case !scope && o.Scope != "":
		return invalid("the scope %q: a recovery has none, it is about the whole gateway", o.Scope)
	case len(o.Scope) > nameMost:
		return invalid("the scope has %d bytes: allowed are %d", len(o.Scope), nameMost)
	}
	if err := Shows("the scope", string(o.Scope)); err != nil {
		return err
	}
	switch {
	case strings.TrimSpace(o.Reason) == "":
		return invalid("no reason: say why, it is kept in the journal")
	case len(o.Reason) > gateway.ReasonMax:
		return invalid("the reason has %d bytes: allowed are %d", len(o.Reason), gateway.ReasonMax)
	}
	return Shows("the reason", o.Reason)
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
