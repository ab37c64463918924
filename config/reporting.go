package config

import (
	"slices"
	"time"

	"kidoban/gateway/policy"
)

// Bounds of reporting.
const (
	maxRecipients = 50
	maxWithin     = 366 * 24 * time.Hour
)

// reporting reads the recipients of reports of incidents.
func (r *reader) reporting(v value) (all []policy.Recipient) {
	items := r.list(v)
	r.atMost(maxRecipients, len(items), v)
	for _, item := range items {
		x, name := r.recipient(item)
		if slices.ContainsFunc(all, func(o policy.Recipient) bool { return x.Name != "" && o.Name == x.Name }) {
			r.errorf(name, "is a recipient already: allowed is each once")
		}
		all = append(all, x)
	}
	return all
}

func (r *reader) recipient(v value) (x policy.Recipient, name value) {
	f := r.mapping(v, "name", "for?", "kind", "within?", "contact?", "consent?")
	if f == nil {
		return x, v
	}
	x = policy.Recipient{Name: r.display(f["name"]), For: []string{}, Kind: r.oneWord(f["kind"], "report", "copy"), Contact: r.display(f["contact"]),
		Consent: r.oneWord(f["consent"], "required") != ""}
	for _, item := range r.list(f["for"]) {
		word := r.oneWord(item, policy.ReportsFor()...)
		if word != "" && slices.Contains(x.For, word) {
			r.errorf(item, "is there already: allowed is each once")
		}
		x.For = append(x.For, word)
	}
	if f["within"].present() {
		x.Within, _ = read(&r.decoder, f["within"], parseDuration(maxWithin))
	}
	return x, f["name"]
}
