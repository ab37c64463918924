package terminal

import (
	"errors"
	"fmt"
	"net/http"

	"kidoban/config"
	"kidoban/gateway/api"
	"kidoban/gateway/durable"
	"kidoban/gateway/view"
)

// Exit statuses.
const (
	Yes    = 0
	Failed = 1
	Usage  = 2
	No     = 3
)

// Exit ends the program with a status, and with a message if there is one.
type Exit struct {
	view.Message
	Status int
}

func (e *Exit) Error() string { return e.String() }

// Unless ends the program with a status, unless the answer is yes.
func Unless(yes bool, status int) error {
	if yes {
		return nil
	}
	return &Exit{Status: status}
}

// Wrong is wrong usage.
func Wrong(code view.Code, args view.Args) error { return &Exit{view.Say(code, args), Usage} }

// Denied tells which users may read a folder.
func Denied(err error, folder string) error {
	group := any("")
	if name := durable.Readers(folder); name != "" {
		group = view.Say("or_group", view.Args{"group": name})
	}
	return &view.Error{Message: view.Say("journal_denied", view.Args{"cause": err, "group": group}), Cause: err}
}

// Fail tells an error and turns it into an exit status. It is Yes without an error.
func (p *Program) Fail(err error) int {
	if err == nil {
		return Yes
	}
	var said *Exit
	var message *view.Error
	var problem *api.Problem
	var mistakes config.Errors
	text, status := err.Error(), Failed
	switch {
	case errors.As(err, &said):
		if said.Empty() {
			return said.Status
		}
		text, status = said.In(p.Lang), said.Status
	case errors.As(err, &problem):
		text = problem.In(p.Lang)
		switch problem.Status {
		case http.StatusNotFound:
			text, status = view.Say("no_match", view.Args{"cause": text}).In(p.Lang), No
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
			text, status = view.Say("input_wrong", view.Args{"cause": text}).In(p.Lang), Usage
		}
	case errors.As(err, &mistakes):
		fmt.Fprintln(p.Err, mistakes) // each begins with its file
		return Failed
	case errors.As(err, &message):
		text = message.In(p.Lang)
	}
	fmt.Fprintln(p.Err, "kidoban:", text)
	return status
}
