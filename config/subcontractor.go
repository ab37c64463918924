package config

import (
	"strings"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// maxCertificates bounds the certificates of a vendor.
const maxCertificates = 50

// underling is a vendor under another one, with the places of what the file says of it.
type underling struct {
	vendor          *policy.Vendor
	name            string // of its prime
	under, contract value
}

// contract reads the field contract.
func (r *reader) contract(v *policy.Vendor, at value) map[string]value {
	f := r.mapping(at, "until", "certificates?")
	if until, ok := read(&r.decoder, f["until"], parseDate); ok {
		v.ContractUntil = until
		switch {
		case until.Compare(r.today()) < 0:
			r.warn(f["until"], "policy_contract_ended", view.Args{"date": until.String()})
		case until.Compare(r.today().AddDays(30)) <= 0:
			r.warn(f["until"], "policy_contract_ending", view.Args{"date": until.String()})
		}
	}
	items := r.list(f["certificates"])
	r.atMost(maxCertificates, len(items), f["certificates"])
	for _, item := range items {
		v.Certificates = append(v.Certificates, r.certificate(item))
	}
	return f
}

func (r *reader) certificate(v value) policy.Certificate {
	f := r.mapping(v, "kind", "number?", "until")
	c := policy.Certificate{Kind: r.display(f["kind"]), Number: r.display(f["number"])}
	var ok bool
	if c.Until, ok = read(&r.decoder, f["until"], parseDate); ok && c.Until.Compare(r.today()) < 0 {
		r.warn(f["until"], "policy_certificate_ended", view.Args{"date": c.Until.String()})
	}
	return c
}

// today is the local date on which the policy is read.
func (r *reader) today() policy.Date { return policy.DateOf(r.now.In(r.policy.Zone)) }

// subcontractor reads under and consent of a vendor with the fields f.
func (r *reader) subcontractor(v *policy.Vendor, f, contract map[string]value) {
	under, consent := f["under"], f["consent"]
	switch {
	case consent.present() && !under.present():
		r.errorf(consent.named(), "belongs to under: this vendor works for the site itself")
	case under.present() && !consent.present():
		r.errorf(under, "works under another vendor without the site's consent: allowed is with consent: {by: WHO, date: 2026-12-01, until: 2027-03-31, document: WHERE}")
	}
	v.Consent = r.consent(consent)
	if name, ok := r.text(under); ok {
		r.underlings = append(r.underlings, underling{v, name, under, contract["until"]})
	}
}

func (r *reader) consent(v value) *policy.Consent {
	f := r.mapping(v, "by", "date", "until", "document?")
	if f == nil {
		return nil
	}
	c := &policy.Consent{By: r.display(f["by"]), Document: r.display(f["document"])}
	date, ok := read(&r.decoder, f["date"], parseDate)
	if c.Date = date; ok && r.zoned && !r.host.past && date.Compare(r.today()) > 0 {
		r.errorf(f["date"], "%v is later than today: allowed is the date on which the consent was given", date)
	}
	until, ok2 := read(&r.decoder, f["until"], parseDate)
	c.Until = until
	switch {
	case !ok2:
	case ok && until.Compare(date) < 0:
		r.errorf(f["until"], "%v is before its date %v", until, date)
	case until.Compare(r.today()) < 0:
		r.warn(f["until"], "policy_consent_ended", view.Args{"date": until.String()})
	case until.Compare(r.today().AddDays(30)) <= 0:
		r.warn(f["until"], "policy_consent_ending", view.Args{"date": until.String()})
	}
	return c
}

// subcontractors resolves the prime of each vendor.
func (r *reader) subcontractors(vendors map[string]*policy.Vendor) {
	var known []underling
	for _, u := range r.underlings {
		prime := vendors[u.name]
		switch {
		case u.name == u.vendor.Name:
			r.errorf(u.under, "is this vendor itself: allowed is another vendor, or none")
		case prime != nil && leadsTo(prime, u.vendor):
			r.errorf(u.under, "%s works under %s: allowed is a prime that does not", shown(u.name), shown(u.vendor.Name))
		case prime != nil:
			u.vendor.Under = prime
			known = append(known, u)
		case !mayBe(vendors, u.name):
			r.unknown(u.under, u.name, "there is no vendor "+quote(u.name), func() []string { return namesOf(vendors) })
		}
	}
	for _, u := range known {
		r.checkUnder(u)
	}
}

// leadsTo reports whether a vendor works under another one.
func leadsTo(v, other *policy.Vendor) bool {
	for ; v != nil; v = v.Under {
		if v == other {
			return true
		}
	}
	return false
}

// checkUnder compares a vendor with its prime, which bounds it.
func (r *reader) checkUnder(u underling) {
	v, prime := u.vendor, u.vendor.Under
	if n := len(v.Primes()); n > policy.MostPrimes {
		r.errorf(u.under, "is %d vendors away from the site, %s: allowed are %d", n, strings.Join(v.Primes(), " under "), policy.MostPrimes)
	}
	if last := prime.LastDay(); u.contract.present() && !last.IsZero() && v.ContractUntil.Compare(last) > 0 {
		r.errorf(u.contract, "%v is later than %v, the last day of %s, under which it works: allowed is up to then", v.ContractUntil, last, shown(prime.Name))
	}
	if wider := r.wider(v); len(wider) > 0 {
		r.errorf(u.under, "the vendor opens %s, which %s does not: allowed are targets of its windows and on_request", oneOf(wider), shown(prime.Name))
	}
}

// wider lists the targets that a vendor opens and its prime does not.
func (r *reader) wider(v *policy.Vendor) (names []string) {
	known := map[*policy.Target]bool{}
	for _, t := range v.Under.Targets() {
		known[t] = true
	}
	for _, t := range v.Targets() {
		if !known[t] {
			names = append(names, shown(t.Name))
		}
		known[t] = true
	}
	return names
}
