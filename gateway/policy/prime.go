package policy

// A vendor may work under another one, its prime. Both have engineers, windows and a contract of their
// own. What closes the prime closes the vendors under it.

// MostPrimes bounds the vendors between a subcontractor and the first prime, that one included.
const MostPrimes = 3

// Consent is the site's consent to a subcontractor.
type Consent struct {
	By       string // a post or a person
	Date     Date   // it was given
	Until    Date   // the last local date, inclusive
	Document string // where it is; may be empty
}

// Certificate is a certificate that a vendor showed, as of ISO/IEC 27001. It is for people: nothing opens or
// closes by it.
type Certificate struct {
	Kind   string
	Number string // may be empty
	Until  Date   // the last local date, inclusive
}

// String is as in "ISO/IEC 27001 IS 1234 until 2027-03-31".
func (c Certificate) String() string {
	if c.Number != "" {
		return c.Kind + " " + c.Number + " until " + c.Until.String()
	}
	return c.Kind + " until " + c.Until.String()
}

// Primes lists the names of the vendors that this one works under, the nearest first.
func (v *Vendor) Primes() (names []string) {
	for prime := v.Under; prime != nil; prime = prime.Under {
		names = append(names, prime.Name)
	}
	return names
}

// within reports whether the vendor has a name, or works under the vendor with that name.
func (v *Vendor) within(name string) bool {
	for ; v != nil; v = v.Under {
		if v.Name == name {
			return true
		}
	}
	return false
}

// LastDay is the last local date, inclusive, on which anything of the vendor may be open: the first end
// among its contract, the site's consent, and those of the vendors it works under. Zero: there is no end.
func (v *Vendor) LastDay() (last Date) {
	bound := func(d Date) {
		if !d.IsZero() && (last.IsZero() || d.Compare(last) < 0) {
			last = d
		}
	}
	for ; v != nil; v = v.Under {
		bound(v.ContractUntil)
		if v.Consent != nil {
			bound(v.Consent.Until)
		}
	}
	return last
}

// Targets lists what windows of the vendor and requests may open; a target may come twice.
func (v *Vendor) Targets() (all []*Target) {
	for _, w := range v.Windows {
		all = append(all, w.Targets...)
	}
	if v.OnRequest != nil {
		all = append(all, v.OnRequest.Targets...)
	}
	return all
}

// String is as in "by Mayor on 2026-04-01, until 2027-03-31, document 12-3"; empty for nil.
func (c *Consent) String() string {
	if c == nil {
		return ""
	}
	text := "by " + c.By + " on " + c.Date.String() + ", until " + c.Until.String()
	if c.Document != "" {
		text += ", document " + c.Document
	}
	return text
}
