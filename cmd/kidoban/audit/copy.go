package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/admin"
	"kidoban/gateway/evidence"
	"kidoban/gateway/journal"
	"kidoban/gateway/view"
)

type copyCommand struct {
	terminal.JSONFlag
	Dest    string         `arg:"" help:"The folder of the copy, on another machine's share; it is made if it is not there."`
	Journal terminal.Given `help:"A copy of a journal's folder, to copy that; this machine's own journal if none is given." placeholder:"DIR"`
	Key     terminal.Given `help:"The verifier key of the journal, or a file that holds it; this machine's own if none is given." placeholder:"KEY"`
}

type copyAnswer struct {
	To       string `json:"to"`
	From     int64  `json:"from"` // how many entries the copy had
	Size     int64  `json:"size"` // and has now
	Recorded bool   `json:"recorded"`
}

func (c copyCommand) Run(p *terminal.Program) error {
	at := place{Dir: c.Journal}
	key, _, err := Key(p, c.Key, at.Dir != "")
	if err != nil {
		return err
	}
	to, err := filepath.Abs(c.Dest)
	if err != nil {
		return err
	}
	progress := p.Progress()
	copied, err := journal.Copy(at.dir(p), to, key, func(done, all int64) { progress.At(done&^0xff, all) })
	progress.End()
	if err != nil {
		return c.explain(at.dir(p), to, err)
	}
	a := copyAnswer{To: to, From: copied.From, Size: copied.Size}
	var noted error
	if c.Journal == "" {
		_, _, noted = p.Client().Post("/v1/evidence/mirrored", evidence.Mirrored{To: to, Size: copied.Size})
		a.Recorded = noted == nil
	}
	if c.JSON {
		p.PrintJSON(a)
	} else {
		p.Tell("copied", view.Args{"to": to, "count": copied.Size, "new": copied.Size - copied.From})
	}
	if noted != nil && !errors.Is(noted, admin.ErrNoGateway) {
		p.Note("copy_unrecorded", view.Args{"cause": noted})
	}
	return nil
}

// explain says what a failed copy means.
func (copyCommand) explain(from, to string, err error) error {
	var damage *journal.DamageError
	var code view.Code
	switch {
	case errors.Is(err, journal.ErrAhead):
		code = "copy_ahead"
	case errors.Is(err, journal.ErrOtherJournal):
		code = "copy_other"
	case errors.Is(err, journal.ErrOccupied):
		code = "copy_occupied"
	case errors.As(err, &damage):
		code = "copy_damaged"
	case errors.Is(err, fs.ErrPermission):
		return terminal.Denied(err, from)
	default:
		return fmt.Errorf("journal copy: %w", err)
	}
	return &terminal.Exit{Message: view.Say(code, view.Args{"from": from, "to": to, "cause": err}), Status: terminal.No}
}
