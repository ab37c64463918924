package evidence

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"kidoban/cmd/kidoban/audit"
	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/api"
	"kidoban/gateway/durable"
	"kidoban/gateway/evidence"
	"kidoban/gateway/evidence/bundle"
	"kidoban/gateway/journal"
	"kidoban/gateway/view"
)

// Version is the program's version, for what is written in bundles.
var Version string

// incidentCommand is `kidoban incident`.
type incidentCommand struct {
	Open   incidentOpen   `cmd:"" help:"Open an incident; its id is printed."`
	Bundle incidentBundle `cmd:"" help:"Make the file that goes to those who must know: what the journal says of a span of time, with proofs."`
	Sent   incidentSent   `cmd:"" help:"Record that a report or a bundle went to somebody."`
	Close  incidentClose  `cmd:"" help:"Close an incident."`
	List   incidentList   `cmd:"" help:"List the incidents, and what was sent."`
}

type incidentOpen struct {
	terminal.JSONFlag
	Kind     string `arg:"" enum:"ransomware,ddos,intrusion,leak,outage,other" help:"ransomware, ddos, intrusion, leak, outage or other."`
	Reason   string `required:"" help:"What was noticed." placeholder:"R"`
	Exercise bool   `help:"It is an exercise."`
}

func (c incidentOpen) Run(p *terminal.Program) error {
	if err := terminal.Because(c.Reason); err != nil {
		return err
	}
	var noted api.Noted
	if err := p.Order("/v1/evidence/incident", api.IncidentEvent{Verb: "opened", Kind: c.Kind, Reason: c.Reason, Exercise: c.Exercise}, &noted); err != nil {
		return err
	}
	if c.JSON {
		p.PrintJSON(noted)
	} else {
		fmt.Fprintln(p.Out, noted.ID)
	}
	return nil
}

type incidentClose struct {
	terminal.JSONFlag
	ID     string `arg:"" optional:"" help:"The id, as list shows it; without one the only incident that is open."`
	Reason string `required:"" help:"How it ended." placeholder:"R"`
}

func (c incidentClose) Run(p *terminal.Program) error {
	if err := terminal.Because(c.Reason); err != nil {
		return err
	}
	id, err := one(p, c.ID)
	if err != nil {
		return err
	}
	return told(p, c.JSONFlag, "/v1/evidence/incident", api.IncidentEvent{Verb: "closed", ID: id, Reason: c.Reason}, "incident_closed", id)
}

// one gives the id that a person named, or that of the only incident that is open.
func one(p *terminal.Program, named string) (string, error) {
	if named != "" {
		return named, nil
	}
	text, _, err := p.Client().Get("/v1/evidence/incidents", nil)
	if err != nil {
		return "", err
	}
	var all []evidence.Incident
	if err := json.Unmarshal(text, &all); err != nil {
		return "", &view.Error{Message: view.Say("answer_unknown", view.Args{"cause": err})}
	}
	var open []string
	for _, i := range all {
		if i.Closed == nil {
			open = append(open, i.Is.ID)
		}
	}
	if len(open) != 1 {
		return "", terminal.Wrong("incident_which", view.Args{"count": len(open), "open": view.Few(open, 20)})
	}
	return open[0], nil
}

type incidentSent struct {
	terminal.JSONFlag
	Recipient string         `arg:"" help:"Who got it, as the policy's reporting names it."`
	ID        string         `help:"The incident; without one the only one that is open." placeholder:"ID"`
	At        terminal.Given `required:"" help:"When." placeholder:"T"`
	How       string         `required:"" help:"How, as by mail or in person." placeholder:"H"`
}

func (c incidentSent) Run(p *terminal.Program) error {
	if err := siteZone(p); err != nil {
		return err
	}
	at, err := api.ParseTime(string(c.At), p.Zone, time.Time{})
	if err != nil {
		return err
	}
	id, err := one(p, c.ID)
	if err != nil {
		return err
	}
	return told(p, c.JSONFlag, "/v1/evidence/sent", evidence.Sent{ID: id, Recipient: c.Recipient, At: at, How: c.How}, "incident_sent", id)
}

func told(p *terminal.Program, j terminal.JSONFlag, path string, body any, done view.Code, id string) error {
	var noted api.Noted
	if err := p.Order(path, body, &noted); err != nil {
		return err
	}
	if j.JSON {
		p.PrintJSON(noted)
	} else {
		p.Tell(done, view.Args{"name": id})
	}
	return nil
}

type incidentList struct{ terminal.JSONFlag }

func (c incidentList) Run(p *terminal.Program) error {
	var all []evidence.Incident
	show, err := c.Ask(p, "/v1/evidence/incidents", nil, &all)
	if err != nil || !show {
		return err
	}
	for _, i := range all {
		state := view.Say("incident_state_open", nil)
		if i.Closed != nil {
			state = view.Say("incident_state_closed", view.Args{"at": p.Local(i.Closed.At)})
		}
		p.Tell("incident_row", view.Args{"name": i.Is.ID, "kind": i.Is.Kind, "at": p.Local(i.At), "state": state, "reason": terminal.OneLine(i.Is.Reason), "bundles": len(i.Bundles)})
		for _, s := range i.Sent {
			p.Tell("bundle_sent", view.Args{"name": terminal.OneLine(s.Is.Recipient), "at": p.Local(s.Is.At), "how": terminal.OneLine(s.Is.How)})
		}
	}
	return nil
}

type incidentBundle struct {
	terminal.JSONFlag
	ID     string         `arg:"" optional:"" help:"The incident; without one the bundle is of the span alone."`
	From   terminal.Given `required:"" help:"The beginning of the span." placeholder:"T"`
	Until  terminal.Given `required:"" help:"Its end." placeholder:"T"`
	Out    terminal.Given `help:"The file, a ZIP archive; without it kidoban-ID.zip in this folder." placeholder:"FILE"`
	Redact string         `help:"people: for those who need no names. They are numbers then, and free text, policies and entries are left out." enum:"people,none" default:"none" placeholder:"people"`
	source
}

type bundleAnswer struct {
	File     string `json:"file"`
	Digest   string `json:"digest"` // of SHA256SUMS
	Entries  int    `json:"entries"`
	Signed   bool   `json:"signed"`
	Recorded bool   `json:"recorded"`
}

func (c incidentBundle) Run(p *terminal.Program) error {
	c.Out = cmp.Or(c.Out, terminal.Given("kidoban-"+cmp.Or(c.ID, "bundle")+".zip"))
	own := c.Journal == ""
	if own {
		dir, _ := audit.Place(p.Settings.StateDir)
		c.Journal = terminal.Given(dir)
	}
	record, from, err := c.read(p)
	if err != nil {
		return err
	}
	in, err := c.input(p, record, own)
	if err != nil {
		return err
	}
	in.Origin = from.Origin
	made, err := bundle.Make(in)
	if err != nil {
		return err
	}
	if err := durable.Replace(string(c.Out), made.Archive, fileMode); err != nil {
		return err
	}
	a := bundleAnswer{string(c.Out), made.Digest, made.Entries, made.Signed, false}
	if own && in.Incident != nil {
		var noted api.Noted
		err := p.Order("/v1/evidence/incident", api.IncidentEvent{Verb: "bundled", ID: c.ID, Digest: made.Digest, Size: in.Folder.Tree.N}, &noted)
		if a.Recorded = err == nil; err != nil {
			p.Note("copy_unrecorded", view.Args{"cause": err})
		}
	}
	if c.JSON {
		p.PrintJSON(a)
		return nil
	}
	p.Tell("bundle_made", view.Args{"file": a.File, "entries": a.Entries, "digest": a.Digest})
	p.TellIf(!a.Signed, "bundle_unsigned", nil)
	return nil
}

// input gathers what the bundle is made of.
func (c incidentBundle) input(p *terminal.Program, record *evidence.Record, own bool) (in bundle.Input, err error) {
	in = bundle.Input{Record: record, Version: Version, Redact: c.Redact == "people"}
	if now := record.At(record.Now); now != nil {
		p.Zone, in.Recipients = now.Zone, now.Reporting
	}
	if in.From, err = api.ParseTime(string(c.From), cmp.Or(p.Zone, time.Local), time.Time{}); err != nil {
		return in, err
	}
	if in.Until, err = api.ParseTime(string(c.Until), cmp.Or(p.Zone, time.Local), time.Time{}); err != nil {
		return in, err
	}
	if !in.Until.After(in.From) {
		return in, terminal.Wrong("bundle_span_wrong", nil)
	}
	if c.ID != "" {
		i := slices.IndexFunc(record.Incidents, func(i *evidence.Incident) bool { return i.Is.ID == c.ID })
		if i < 0 {
			return in, &terminal.Exit{Message: view.Say("no_incident", view.Args{"id": c.ID, "known": ids(record)}), Status: terminal.No}
		}
		in.Incident = record.Incidents[i]
	}
	key, _, err := audit.Key(p, c.Key, true)
	if err != nil {
		return in, err
	}
	if in.Folder, err = journal.OpenFolder(audit.Copy(string(c.Journal)), key); err != nil {
		return in, err
	}
	if own {
		_, keyFile := audit.Place(p.Settings.StateDir)
		in.Sign = func(text string) ([]byte, error) { return journal.SignNote(keyFile, text) }
	}
	return in, nil
}

func ids(record *evidence.Record) string {
	var all []string
	for _, i := range record.Incidents {
		all = append(all, i.Is.ID)
	}
	return strings.Join(all, ", ")
}

// verifyBundle is `kidoban verify-bundle`.
type verifyBundle struct {
	terminal.JSONFlag
	File string         `arg:"" help:"The bundle." type:"existingfile"`
	Key  terminal.Given `help:"The verifier key of the journal, or a file that holds it; this machine's own if none is given, never one that lies in the bundle." placeholder:"VKEY"`
}

func (c verifyBundle) Run(p *terminal.Program) error {
	key, from, err := audit.Key(p, c.Key, true)
	if err != nil {
		return err
	}
	archive, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	v, err := bundle.Verify(archive, key)
	if c.JSON {
		answer := map[string]any{"ok": err == nil, "digest": v.Digest, "signed": v.Signed, "entries": v.Entries, "proofs": v.Proofs, "key": key}
		if err != nil {
			answer["fault"] = err.Error()
		}
		p.PrintJSON(answer)
		return terminal.Unless(err == nil, terminal.No)
	}
	if err != nil {
		return &terminal.Exit{Message: view.Say("bundle_wrong", view.Args{"file": c.File, "cause": err, "key": key, "from": from}), Status: terminal.No}
	}
	p.Tell("bundle_right", view.Args{"file": c.File, "proofs": v.Proofs, "key": key, "from": from})
	p.TellIf(!v.Signed, "bundle_unsigned", nil)
	return nil
}
