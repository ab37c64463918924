// Package terminal is what the commands share: the gateway that they ask, and how they
// print answers, errors and exit statuses.
package terminal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"kidoban/config"
	"kidoban/gateway/admin"
	"kidoban/gateway/view"
)

// Program is the argument of every command.
type Program struct {
	Settings config.Settings
	Input    io.Reader // where a person answers questions
	Out, Err io.Writer
	Lang     view.Language
	Zone     *time.Location // the site's, of the gateway that was asked; nil: not known
}

// Client asks the gateway of this machine.
func (p *Program) Client() admin.Client { return admin.Client{Socket: p.Settings.AdminSocket} }

// Given is a value of the command line. An empty value is an error: most likely a
// variable of a script is not set.
type Given string

// UnmarshalText is called only where there is a value.
func (g *Given) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return errors.New("is empty: give a value, or leave it out")
	}
	*g = Given(text)
	return nil
}

// JSONFlag is on every command that answers.
type JSONFlag struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// Ask gets an answer of the gateway. It prints JSON with --json, else it reports that
// the caller must show the answer.
func (j JSONFlag) Ask(p *Program, path string, query url.Values, answer any) (show bool, err error) {
	text, zone, err := p.Client().Get(path, query)
	if err != nil {
		return false, err
	}
	return j.Answer(p, text, zone, answer)
}

// Answer does with a text what Ask does with the answer of the gateway. zone is the
// site's, or nil.
func (j JSONFlag) Answer(p *Program, text []byte, zone *time.Location, answer any) (show bool, err error) {
	p.Zone = zone
	if err := json.Unmarshal(text, answer); err != nil {
		return false, &view.Error{Message: view.Say("answer_unknown", view.Args{"cause": err})}
	}
	if j.JSON {
		fmt.Fprintf(p.Out, "%s\n", bytes.TrimSpace(text))
	}
	return !j.JSON, nil
}
