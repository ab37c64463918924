// Package backup is the commands backup and restore.
package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
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

// Version is the version of the program, for backups.
var Version string

// Backup is `kidoban backup`.
type Backup struct {
	terminal.JSONFlag
	Out            terminal.Given   `required:"" help:"The file to write; nothing may have that name." placeholder:"FILE"`
	To             []string         `help:"Who may read it, as age1...; may be given more than once. The key that reads it stays elsewhere." placeholder:"RECIPIENT" sep:"none"`
	RecipientsFile []terminal.Given `help:"A file of recipients, one a line; may be given more than once." placeholder:"FILE" sep:"none"`
}

type backupAnswer struct {
	File    string         `json:"file"`
	Host    string         `json:"host"`
	Made    time.Time      `json:"made"`
	Files   int            `json:"files"`
	Bytes   int64          `json:"bytes"`
	Journal backup.Journal `json:"journal"`
	Missing []string       `json:"missing,omitempty"` // files that the policy names
	Notes   []view.Message `json:"notes,omitempty"`
}

// Run writes a backup. The gateway may run.
func (c Backup) Run(p *terminal.Program) error {
	to, err := c.recipients()
	if err != nil {
		return err
	}
	m, notes := machine(p)
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	file := string(c.Out)
	made, err := backup.Create(file, m, backup.About{Program: Version, Host: host, Made: time.Now()}, to)
	if err != nil {
		return explain(p, c.JSONFlag, err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	a := backupAnswer{File: file, Host: host, Made: made.Made, Files: len(made.Files), Bytes: info.Size(), Journal: made.Journal, Missing: made.Missing, Notes: notes}
	if c.JSON {
		p.PrintJSON(a)
		return nil
	}
	p.Tell("backed_up", view.Args{"file": file, "size": view.Bytes(uint64(info.Size())), "files": a.Files, "count": a.Journal.Size})
	for _, n := range notes {
		p.Indent(view.Say("warning", view.Args{"text": n}))
	}
	for _, path := range made.Missing {
		p.Indent(view.Say("warning", view.Args{"text": view.Say("backup_missing", view.Args{"path": path})}))
	}
	p.Tell("backup_key", view.Args{"key": a.Journal.Key})
	return nil
}

// recipients reads the public keys of those who may read the backup.
func (c Backup) recipients() (all []age.Recipient, err error) {
	for _, text := range c.To {
		if isSecret(text) {
			return nil, terminal.Wrong("recipient_secret", nil)
		}
		r, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil {
			return nil, terminal.Wrong("recipient_wrong", view.Args{"recipient": fmt.Sprintf("%.80q", text), "cause": err})
		}
		all = append(all, r...)
	}
	for _, file := range c.RecipientsFile {
		f, err := os.Open(string(file))
		if err != nil {
			return nil, err
		}
		r, err := age.ParseRecipients(f)
		f.Close()
		if err != nil {
			return nil, terminal.Wrong("recipient_wrong", view.Args{"recipient": string(file), "cause": err})
		}
		all = append(all, r...)
	}
	if len(all) == 0 {
		return nil, terminal.Wrong("recipient_none", nil)
	}
	return all, nil
}

func isSecret(text string) bool { return strings.HasPrefix(strings.ToUpper(text), "AGE-SECRET-KEY") }

// machine has this machine's places, from its settings and its policy. From a policy with mistakes not all
// files are known: then a note says so.
func machine(p *terminal.Program) (m backup.Machine, notes []view.Message) {
	s := p.Settings
	passing := admin.Beside(s.AdminSocket, slog.New(slog.DiscardHandler))("shut.json")
	m = backup.Machine{State: s.StateDir, PrivateKey: s.PrivateKeyFile, Policy: s.PolicyFile, Passing: passing, Office: s.OfficeStateDir}
	guard := durable.GuardFor(s.StateDir)
	loaded, _, err := config.LoadPolicy(s.PolicyFile, config.Host{Guard: guard, Opens: func(path string) { m.Names = append(m.Names, path) }})
	if err != nil {
		notes = append(notes, view.Say("backup_policy", view.Args{"file": s.PolicyFile, "cause": err}))
	} else {
		for _, sink := range loaded.Sinks {
			m.Names = append(m.Names, sink.SecretFile, sink.CAFile)
		}
	}
	m.Names = append(m.Names, s.SyslogCAFile)
	m.Names = slices.DeleteFunc(m.Names, func(name string) bool { return name == "" })
	return m, notes
}

// explain turns an error into a message for the user, with the exit status.
func explain(p *terminal.Program, j terminal.JSONFlag, err error) error {
	var refused *view.Error
	var damage *journal.DamageError
	switch {
	case errors.As(err, &damage):
		err = &view.Error{Message: view.Say("backup_damaged", view.Args{"cause": damage}), Cause: err}
	case errors.Is(err, fs.ErrPermission):
		return terminal.Denied(err, p.Settings.StateDir)
	}
	if !errors.As(err, &refused) {
		return err
	}
	if j.JSON {
		p.PrintJSON(map[string]view.Message{"refused": refused.Message})
	}
	return &terminal.Exit{Message: refused.Message, Status: terminal.No}
}
