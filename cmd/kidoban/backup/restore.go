package backup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/config"
	"kidoban/gateway/admin"
	"kidoban/gateway/backup"
	"kidoban/gateway/durable"
	"kidoban/gateway/journal"
	"kidoban/gateway/view"
)

// Restore is `kidoban restore`.
type Restore struct {
	terminal.JSONFlag
	terminal.YesFlag
	From            terminal.Given   `help:"The backup." placeholder:"FILE"`
	Identity        []terminal.Given `help:"A file of the age key that reads it, AGE-SECRET-KEY-...; - is the input; may be given more than once." placeholder:"FILE" sep:"none"`
	DryRun          bool             `help:"Check and compare everything, and change nothing."`
	RollBackJournal bool             `help:"Restore although this machine's journal has entries that the backup does not have. That journal is kept beside."`
	Reason          string           `help:"Why; it is kept in the journal. Required with --roll-back-journal." placeholder:"R"`
	Continue        bool             `help:"Finish a restore that was interrupted."`
}

type restoreAnswer struct {
	Backup struct {
		Host    string         `json:"host"`
		Made    time.Time      `json:"made"`
		Program string         `json:"program"`
		Journal backup.Journal `json:"journal"`
	} `json:"backup"`
	Journal       backup.Comparison `json:"journal"`
	RollsBack     bool              `json:"rolls_back"`
	Items         []backup.Item     `json:"items"`
	Shut          []string          `json:"shut"`           // scopes that stay shut
	EverythingToo bool              `json:"everything_too"` // until an operator reopens it
	Notes         []view.Message    `json:"notes,omitempty"`
	Restored      bool              `json:"restored"`
	Folder        string            `json:"folder,omitempty"` // where the replaced files are
}

// Run restores a backup. No gateway may run.
func (c Restore) Run(p *terminal.Program) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := noGateway(p); err != nil {
		return explain(p, c.JSONFlag, err)
	}
	m, _ := machine(p)
	if c.Continue {
		return c.resume(p, m)
	}
	identities, err := c.identities(p)
	if err != nil {
		return err
	}
	file, err := os.Open(string(c.From))
	if err != nil {
		return err
	}
	defer file.Close()
	plan, err := backup.Begin(m, file, identities, time.Now())
	if err != nil {
		return explain(p, c.JSONFlag, err)
	}
	err = c.carryOut(p, plan)
	return errors.Join(err, plan.Drop())
}

// check refuses flags that do not go together.
func (c Restore) check() error {
	switch {
	case c.Continue && (c.From != "" || len(c.Identity) > 0 || c.DryRun || c.RollBackJournal || c.Reason != ""):
		return terminal.Wrong("restore_continue_alone", nil)
	case c.Continue:
		return nil
	case c.From == "" || len(c.Identity) == 0:
		return terminal.Wrong("restore_what", nil)
	case c.RollBackJournal || c.Reason != "":
		return terminal.Because(c.Reason)
	}
	return nil
}

// noGateway returns an error while a gateway serves the admin socket. The lock on the journal does not
// show a gateway that could not open its journal.
func noGateway(p *terminal.Program) error {
	_, _, err := p.Client().Get("/v1/status", nil)
	if errors.Is(err, admin.ErrNoGateway) {
		return nil
	}
	return &view.Error{Message: view.Say("restore_runs", view.Args{"folder": p.Settings.StateDir}), Cause: backup.ErrRuns}
}

// identities reads the secret keys that decrypt the backup. No message repeats them.
func (c Restore) identities(p *terminal.Program) (all []age.Identity, err error) {
	for _, name := range c.Identity {
		if isSecret(string(name)) {
			return nil, terminal.Wrong("identity_secret", nil)
		}
		in := p.Input
		if name != "-" {
			f, err := os.Open(string(name))
			if err != nil {
				return nil, err
			}
			defer f.Close()
			in = f
		}
		found, err := age.ParseIdentities(io.LimitReader(in, 1<<20))
		if err != nil {
			return nil, terminal.Wrong("identity_wrong", view.Args{"file": string(name)})
		}
		all = append(all, found...)
	}
	return all, nil
}

// carryOut shows a plan, asks, and applies it.
func (c Restore) carryOut(p *terminal.Program, plan *backup.Plan) error {
	a := c.answer(p, plan)
	refused := c.against(p, plan)
	if c.DryRun || refused != nil {
		if c.JSON {
			p.PrintJSON(a)
		} else {
			c.show(p, a)
		}
		return refused
	}
	show := func(p *terminal.Program) { c.show(p, a) }
	if err := p.Confirm(c.YesFlag, c.JSONFlag, show, "restore_question", nil); err != nil {
		return err
	}
	kept, err := plan.Apply(journal.Entry{Actor: terminal.Person(), Reason: c.Reason})
	if err != nil {
		return explain(p, c.JSONFlag, err)
	}
	a.Restored, a.Folder = true, kept
	if c.JSON {
		p.PrintJSON(a)
		return nil
	}
	p.Tell("restored", view.Args{"host": a.Backup.Host, "made": p.Local(a.Backup.Made), "folder": kept})
	p.TellIf(a.EverythingToo, "restored_shut", nil)
	return nil
}

// against returns an error if the plan rolls the journal back without --roll-back-journal.
func (c Restore) against(p *terminal.Program, plan *backup.Plan) error {
	if !plan.Compared.RollsBack() || c.RollBackJournal {
		return nil
	}
	return &terminal.Exit{Message: view.Say("restore_refused", view.Args{"cause": rollsBack(p, plan.Compared)}), Status: terminal.No}
}

// rollsBack says which entries of this machine's journal a restore loses.
func rollsBack(p *terminal.Program, c backup.Comparison) view.Message {
	switch {
	case c.Fault != "":
		return view.Say("restore_unknown", view.Args{"cause": c.Fault})
	case c.First.IsZero():
		return view.Say("restore_rolls_back", view.Args{"count": c.Lost})
	}
	return view.Say("restore_rolls_back_since", view.Args{"count": c.Lost, "first": p.Local(c.First), "last": p.Local(c.Last)})
}

func (c Restore) answer(p *terminal.Program, plan *backup.Plan) (a restoreAnswer) {
	a.Backup.Host, a.Backup.Made, a.Backup.Program, a.Backup.Journal = plan.Host, plan.Made, plan.Program, plan.Manifest.Journal
	a.Journal, a.RollsBack, a.Items, a.EverythingToo = plan.Compared, plan.Compared.RollsBack(), plan.Items, plan.All
	a.Shut = []string{}
	for _, r := range plan.Shut {
		a.Shut = append(a.Shut, string(r.Scope))
	}
	slices.Sort(a.Shut)
	a.Shut = slices.Compact(a.Shut)
	a.Notes = c.notes(p, plan)
	return a
}

// notes are warnings: the gateway will not start well with this policy or this key.
func (c Restore) notes(p *terminal.Program, plan *backup.Plan) (notes []view.Message) {
	text, err := plan.PolicyText()
	if err == nil {
		_, _, err = config.ParsePolicy(p.Settings.PolicyFile, text, filepath.Dir(p.Settings.PolicyFile), config.Host{Sealed: true}, time.Now())
	}
	if err != nil {
		notes = append(notes, view.Say("restore_policy", view.Args{"cause": err}))
	}
	if _, _, err := (config.KeyFile{Path: plan.PrivateKey(), Guard: durable.GuardFor(p.Settings.StateDir)}).Load(); err != nil {
		notes = append(notes, view.Say("restore_key", view.Args{"cause": err}))
	}
	return append(notes, elsewhere(p.Settings, plan)...)
}

// elsewhere names the settings of the backup by which the gateway would look in other places than those
// that this restore writes to: it would know none of the closes.
func elsewhere(s config.Settings, plan *backup.Plan) (notes []view.Message) {
	text, _ := plan.SettingsText() // a backup need not have any
	places := map[string]string{"KIDOBAN_STATE_DIR": s.StateDir, "KIDOBAN_POLICY_FILE": s.PolicyFile, "KIDOBAN_PRIVATE_KEY_FILE": s.PrivateKeyFile}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		if here, ok := places[name]; ok && filepath.Clean(value) != filepath.Clean(here) {
			notes = append(notes, view.Say("restore_elsewhere", view.Args{"name": name, "value": value, "here": here}))
		}
	}
	return notes
}

// changes has the text for each change.
var changes = map[backup.Change]view.Code{backup.New: "change_new", backup.Same: "change_same", backup.Replaced: "change_replaced",
	backup.Kept: "change_kept", backup.Aside: "change_aside", backup.ByHand: "change_by_hand"}

// show prints a plan.
func (c Restore) show(p *terminal.Program, a restoreAnswer) {
	p.Tell("restore_of", view.Args{"host": terminal.OneLine(a.Backup.Host), "made": p.Local(a.Backup.Made), "count": a.Journal.Backup, "program": terminal.OneLine(a.Backup.Program)})
	p.Tell("backup_key", view.Args{"key": a.Backup.Journal.Key})
	var rows [][]string
	for _, i := range a.Items {
		rows = append(rows, []string{"  " + p.Say(changes[i.Change], nil), terminal.OneLine(i.Path)})
	}
	p.Columns(rows)
	switch {
	case a.RollsBack:
		fmt.Fprintln(p.Out, rollsBack(p, a.Journal).In(p.Lang))
	case a.Journal.Machine == 0:
		p.Tell("restore_no_journal", nil)
	default:
		p.Tell("restore_whole", view.Args{"count": a.Journal.Machine})
	}
	p.TellIf(len(a.Shut) > 0, "shut_now", view.Args{"scopes": a.Shut})
	p.TellIf(a.EverythingToo, "restore_shuts_all", nil)
	for _, n := range a.Notes {
		p.Indent(view.Say("warning", view.Args{"text": n}))
	}
}

// resume finishes a restore that was interrupted.
func (c Restore) resume(p *terminal.Program, m backup.Machine) error {
	kept, err := backup.Continue(m)
	if err != nil {
		return explain(p, c.JSONFlag, err)
	}
	if c.JSON {
		p.PrintJSON(map[string]any{"restored": true, "folder": kept})
	} else {
		p.Tell("restore_finished", view.Args{"folder": kept})
	}
	return nil
}
