package config

import (
	"time"

	"kidoban/gateway/policy"
)

// Bounds of a review.
const maxReview = 366 * 24 * time.Hour

// review reads how sessions are reviewed. It gives nil without the field.
func (r *reader) review(v value) *policy.ReviewRules {
	if !v.present() {
		return nil
	}
	way := (*policy.Policy)(nil).Reviewing()
	f := r.mapping(v, "within?", "confirm_within?", "distinct?")
	if f["within"].present() {
		way.Within, _ = read(&r.decoder, f["within"], parseDuration(maxReview))
	}
	if f["confirm_within"].present() {
		way.ConfirmWithin, _ = read(&r.decoder, f["confirm_within"], parseDuration(maxReview))
	}
	if f["distinct"].present() {
		way.Distinct = r.boolean(f["distinct"])
	}
	if way.Within > 0 && way.ConfirmWithin > 0 && way.ConfirmWithin < way.Within {
		r.errorf(v, "confirm_within is shorter than within: allowed is the same or longer, since what is confirmed is checked first")
	}
	return &way
}
