package policy

import "time"

// ReviewRules are how the site reviews sessions: an operator checks each against the plan, and the officer
// in charge confirms that.
type ReviewRules struct {
	Within        time.Duration // after a session's end: it is checked, and the vendor has reported its work
	ConfirmWithin time.Duration // after a session's end: it is confirmed
	Distinct      bool          // another person confirms than checked
}

// Times of a policy without Review.
const (
	ReviewWithin  = 3 * 24 * time.Hour
	ConfirmWithin = 31 * 24 * time.Hour
)

// Reviewing gives how sessions are reviewed. A policy that does not say it, or no policy, has the
// usual times.
func (p *Policy) Reviewing() ReviewRules {
	if p == nil || p.Review == nil {
		return ReviewRules{Within: ReviewWithin, ConfirmWithin: ConfirmWithin, Distinct: true}
	}
	return *p.Review
}

// MaySign reports whether a person may check sessions, or may confirm the check if confirm is set: nil,
// or a *RefusedError with the reason. A policy without operators allows both to every user of the
// gateway. Root may check.
func (p *Policy) MaySign(a Actor, confirm bool) error {
	if p == nil || len(p.Operators) == 0 || a.ID == "" && !confirm {
		return nil
	}
	switch o := p.OperatorOf(a); {
	case o == nil:
		return &RefusedError{Code: "no_operator", Names: p.who("")}
	case confirm && !o.May(MayReview):
		return &RefusedError{Code: "operator_may_not", Name: string(MayReview), Names: p.who(MayReview)}
	}
	return nil
}
