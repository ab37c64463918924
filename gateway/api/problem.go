package api

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// Problem is an error as in RFC 9457.
type Problem struct {
	Type   string   `json:"type"`
	Title  string   `json:"title"`
	Status int      `json:"status"`
	Detail string   `json:"detail"`
	Errors []string `json:"errors,omitempty"` // of a policy file, one each

	Code view.Code `json:"code,omitempty"` // of Detail, where it is a message
	Args view.Args `json:"args,omitempty"`
	// Suggestion is the vendor, engineer or scope that may be meant.
	Suggestion string `json:"suggestion,omitempty"`
	// Differences are between the terms that were shown, and those that stand.
	Differences []policy.Difference `json:"differences,omitempty"`
}

func (p *Problem) Error() string { return p.Detail }

// In gives the detail in a language, where it is a message that is known.
func (p *Problem) In(l view.Language) string { return cmp.Or(view.Say(p.Code, p.Args).In(l), p.Detail) }

func problem(status int, format string, a ...any) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, a...)}
}

// said is a problem that is a message.
func said(status int, m view.Message) *Problem {
	p := problem(status, "%s", m)
	p.Code, p.Args = m.Code, m.Args
	return p
}

// noMatch is the problem of a name that matches nothing; near is the name that may be
// meant, or empty.
func noMatch(m view.Message, near string) *Problem {
	p := said(http.StatusNotFound, m)
	p.Suggestion = near
	return p
}

// didYouMean ends the text of a noMatch.
func didYouMean(near string) any {
	if near == "" {
		return ""
	}
	return view.Say("did_you_mean", view.Args{"name": near})
}

// invalid refuses a badly formed question or command.
func invalid(format string, a ...any) error { return problem(http.StatusBadRequest, format, a...) }

// problemOf gives an error its status.
func problemOf(err error) *Problem {
	var p *Problem
	var large *http.MaxBytesError
	var none *policy.NoMatchError
	var refused *policy.RefusedError
	switch {
	case errors.As(err, &refused):
		return Refused(refused)
	case errors.As(err, &p):
		return whole(p, err)
	case errors.As(err, &large):
		return problem(http.StatusRequestEntityTooLarge, "the body is too large: allowed are %d bytes", large.Limit)
	case errors.As(err, &none) && !none.Reopen:
		return noMatch(view.Say("no_scope", view.Args{"scope": string(none.Scope), "near": didYouMean(none.Near)}), none.Near)
	case errors.As(err, &none) && none.Switch != "":
		return noMatch(view.Say("not_shut_file", view.Args{"reason": none.Switch}), "")
	case errors.As(err, &none) && none.Held.Engineer != "":
		return noMatch(view.Say("not_shut_itself", view.Args{"scope": string(none.Scope), "engineer": none.Held.Engineer, "closed": string(none.Held.Scope)}), string(none.Held.Scope))
	case errors.As(err, &none) && none.Around != "":
		return noMatch(view.Say("not_shut_around", view.Args{"scope": string(none.Scope), "closed": string(none.Around)}), string(none.Around))
	case errors.As(err, &none):
		return noMatch(view.Say("not_shut", view.Args{"scope": string(none.Scope), "near": didYouMean(none.Near)}), none.Near)
	}
	p = problem(http.StatusConflict, "%v", err)
	var message *view.Error
	if errors.As(err, &message) {
		p.Code, p.Args = message.Code, message.Args
	}
	var several interface{ Unwrap() []error }
	if errors.As(err, &several) {
		for _, e := range several.Unwrap() {
			p.Errors = append(p.Errors, strings.Split(e.Error(), "\n")...)
		}
	}
	return p
}

// whole adds the other mistakes of a body to its first one.
func whole(p *Problem, err error) *Problem {
	var several interface{ Unwrap() []error }
	if !errors.As(err, &several) || len(several.Unwrap()) < 2 {
		return p
	}
	all := *p
	all.Detail = err.Error()
	all.Errors = strings.Split(err.Error(), "\n")
	return &all
}

// Refused is the problem of a request's event that is not allowed.
func Refused(e *policy.RefusedError) *Problem {
	status := http.StatusConflict
	switch e.Code {
	case "no_operator", "operator_may_not", "own_request":
		status = http.StatusForbidden
	case "requests_plain":
		status = http.StatusBadRequest
	case "no_request", "no_requests":
		status = http.StatusNotFound
	}
	until := ""
	if !e.Until.IsZero() {
		until = e.Until.Format(view.Moment)
	}
	args := view.Args{"id": e.ID, "name": e.Name, "names": view.Few(append([]string{}, e.Names...), mostNamed), "until": until, "count": e.Count, "near": didYouMean(e.Near)}
	if e.Stage != "" {
		args["stage"], args["allowed"] = view.StageName(e.Stage), allowedIn(e.Stage)
	}
	m := view.Say(view.Code(e.Code), args)
	p := problem(status, "%s", m)
	p.Code, p.Args, p.Suggestion, p.Differences = m.Code, m.Args, e.Near, e.Differences
	return p
}

// allowedIn lists the commands that a request takes where it stands.
func allowedIn(stage policy.Stage) string {
	switch stage {
	case policy.Undecided:
		return "approve, deny, withdraw"
	case policy.Scheduled, policy.StageOpen:
		return "extend, shorten, revoke"
	case policy.StageFrozen:
		return "extend, revoke"
	}
	return "request" // another one
}

// CodeOf is the code of a problem that a gateway answered; empty: it has none, or err is no problem.
func CodeOf(err error) view.Code {
	var p *Problem
	if errors.As(err, &p) {
		return p.Code
	}
	return ""
}
