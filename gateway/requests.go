package gateway

import (
	"context"
	"errors"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
	"kidoban/gateway/view"
)

// decide changes a request. What may open something is recorded first, checked again, and then
// counts. What closes counts first, and is recorded after. A revocation is a policy.Shut. The
// error is a *policy.RefusedError if the operator may not.
func (g *Gateway) decide(ctx context.Context, actor policy.Actor, event policy.RequestEvent) (Outcome, error) {
	e := newEffect()
	err := g.send(ctx, func(l *loop) { e.refused = l.decide(actor, event, e) })
	if err = errors.Join(err, e.refused); err != nil {
		return Outcome{}, err
	}
	out := e.wait(ctx)
	for _, m := range out.Problems {
		if v, _ := event.(policy.Verdict); m.Code == "not_recorded" && !v.Verb.Closes() {
			return Outcome{}, &view.Error{Message: m} // it does not count
		}
	}
	return out, g.send(ctx, func(*loop) {}) // the snapshot has it now
}

func (l *loop) decide(actor policy.Actor, event policy.RequestEvent, e *effect) error {
	id, at := policy.RequestScope(event.Request()), l.clock.Now
	operator := ""
	if p := l.state.Policy(); p != nil {
		if o := p.OperatorOf(actor); o != nil {
			operator = o.Name
		}
	}
	event = policy.Signed(l.state.Needing(event), operator, actor, at)
	if err := l.state.May(at, operator, event); err != nil {
		return err
	}
	if err := l.state.Copy().Apply(at, actor.Text, event); err != nil {
		return err
	}
	if l.doubted(doubtJournal) {
		return &view.Error{Message: view.Say("not_decided", view.Args{"cause": l.doubts[doubtJournal]})}
	}
	record := store.Record{Entries: []journal.Entry{store.RequestEntry(actor.Text, event, l.state.TermsOf(event))}}
	decision, _ := event.(policy.Verdict)
	if !decision.Verb.Closes() {
		closes, shortenings := l.closes[id], l.state.Shortenings(event.Request())
		record.Done = func(err error) {
			if err == nil {
				err = l.state.Apply(at, actor.Text, l.state.Late(event, shortenings))
			}
			if err == nil && l.closes[id] != closes { // the disk was slow, and the later command counts
				err = &view.Error{Message: view.Say("request_overtaken", view.Args{"id": string(id)})}
			}
			l.stand(e, id)
			if l.openings.Pending() { // the answer waits until the kernel has what opens
				l.kernel.waiting[len(l.kernel.waiting)-1].number++
			}
			e.recorded <- err
		}
		l.add(record)
		return nil
	}
	l.closes[id]++
	_ = l.state.Apply(at, actor.Text, event) // a copy has taken it
	record.Done = func(err error) {
		if decision.Verb == policy.Shorten && err != nil {
			// The later end is what a restart would read, so the request ends now, and the latch
			// keeps that.
			revoked := policy.Shut{Scope: id, Reason: store.Clip(view.Say("shortening_lost", view.Args{"cause": err}).String())}
			if l.state.Apply(l.clock.Now, actor.Text, revoked) == nil {
				l.store.Latch.Set(l.state.Shuts())
				l.plans.stale = true
			}
		}
		e.recorded <- err
	}
	l.add(record)
	l.stand(e, id)
	return nil
}
