package evidence

import (
	"errors"
	"os"
	"slices"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/config"
	"kidoban/config/share"
	"kidoban/gateway/durable"
	"kidoban/gateway/view"
)

// shareCommand is `kidoban share`.
type shareCommand struct {
	Export exportCommand `cmd:"" help:"Write a policy without names, keys, dates and addresses of its own, which can be shown to others."`
	Import importCommand `cmd:"" help:"Make a template for a policy of a shared one: REPLACE stands wherever a site writes its own."`
}

type exportCommand struct {
	File   terminal.Given `arg:"" optional:"" help:"The policy file; KIDOBAN_POLICY_FILE if none is given."`
	Map    terminal.Given `help:"Where to keep which name and address became which, with mode 0600; not kept if none is given." placeholder:"FILE"`
	Story  terminal.Given `help:"A file with purpose, went_wrong and clause, or some of them: what you want to tell." placeholder:"FILE"`
	Report terminal.Given `help:"The JSON of 'kidoban report': how much each vendor used the gateway, as ranges." placeholder:"FILE"`
	Out    terminal.Given `required:"" help:"Where to write it." placeholder:"FILE"`
}

func (c exportCommand) Run(p *terminal.Program) error {
	path := p.Settings.PolicyFile
	if c.File != "" {
		path = string(c.File)
	}
	if err := apart(path, string(c.Out), string(c.Map), string(c.Story), string(c.Report)); err != nil {
		return err
	}
	guard := durable.GuardFor(p.Settings.StateDir)
	guard.Draft = path != p.Settings.PolicyFile
	loaded, _, err := config.LoadPolicy(path, config.Host{Guard: guard, Sealed: true})
	if err != nil {
		return err
	}
	story, err := readStory(string(c.Story))
	if err != nil {
		return err
	}
	var usage []share.Usage
	if c.Report != "" {
		text, err := os.ReadFile(string(c.Report))
		if err == nil {
			usage, err = share.UsageOf(text)
		}
		if err != nil {
			return &view.Error{Message: view.Say("share_report", view.Args{"file": string(c.Report), "cause": err}), Cause: err}
		}
	}
	shared, err := share.Export(path, []byte(loaded.Text), story, usage)
	var leak *share.LeakError
	switch {
	case errors.As(err, &leak):
		return &terminal.Exit{Message: view.Say("share_leak", view.Args{"field": leak.Field, "word": leak.Word}), Status: terminal.No}
	case errors.Is(err, share.ErrTooWide):
		return &view.Error{Message: view.Say("share_wide", nil), Cause: err}
	case err != nil:
		return err
	}
	if c.Map != "" {
		text, err := shared.Map.Text()
		if err == nil {
			err = durable.Replace(string(c.Map), text, 0o600)
		}
		if err != nil {
			return err
		}
	}
	if err := durable.Replace(string(c.Out), shared.Text(), 0o644); err != nil {
		return err
	}
	p.Tell("share_written", view.Args{"file": string(c.Out)})
	p.TellIf(shared.Larger, "share_larger", nil)
	p.TellIf(shared.Shrunk, "share_shrunk", nil)
	return nil
}

// apart refuses to write over a file that is read.
func apart(read string, out, relabelled string, more ...string) error {
	for _, to := range []string{out, relabelled} {
		a, err := os.Stat(to)
		if to == "" || err != nil {
			continue
		}
		for _, from := range append(more, read) {
			if b, err := os.Stat(from); err == nil && os.SameFile(a, b) {
				return terminal.Wrong("share_same", view.Args{"file": to})
			}
		}
	}
	if out == relabelled {
		return terminal.Wrong("share_same", view.Args{"file": out})
	}
	return nil
}

// readStory reads what a person tells; an empty path is no story.
func readStory(path string) (s share.Story, err error) {
	if path == "" {
		return s, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	t, err := config.ReadTree(path, text)
	if err != nil {
		return s, err
	}
	parts := map[string]*string{"purpose": &s.Purpose, "went_wrong": &s.WentWrong, "clause": &s.Clause}
	var errs []error
	for _, f := range t.Fields {
		switch {
		case parts[f.Name] == nil:
			errs = append(errs, f.At(path, f.Name, "unknown field: allowed here is purpose, went_wrong or clause"))
		case f.Text == "":
			errs = append(errs, f.At(path, f.Name, "is no text: allowed is one value"))
		default:
			*parts[f.Name] = f.Text
		}
	}
	if len(t.Fields) == 0 {
		errs = append(errs, t.At(path, "", "is no mapping: allowed is purpose, went_wrong or clause, each with a text"))
	}
	return s, config.Mistakes(slices.Clip(errs)...)
}

type importCommand struct {
	File terminal.Given `arg:"" help:"A shared policy."`
	Out  terminal.Given `required:"" help:"Where to write the template." placeholder:"FILE"`
}

func (c importCommand) Run(p *terminal.Program) error {
	if err := apart(string(c.File), string(c.Out), "", p.Settings.PolicyFile); err != nil {
		return err
	}
	text, err := os.ReadFile(string(c.File))
	if err != nil {
		return err
	}
	template, err := share.Template(string(c.File), text)
	if err != nil {
		return err
	}
	if err := durable.Replace(string(c.Out), template, 0o640); err != nil {
		return err
	}
	p.Tell("share_template", view.Args{"file": string(c.Out)})
	return nil
}
