// Package audit is the commands of the journal: verify, list, copy, prune, key.
package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/config"
	"kidoban/gateway/api"
	"kidoban/gateway/durable"
	"kidoban/gateway/journal"
	"kidoban/gateway/view"
)

// Command is `kidoban journal`.
type Command struct {
	Verify verifyCommand `cmd:"" help:"Verify the journal, or a copy of it."`
	List   listCommand   `cmd:"" help:"List the entries."`
	Copy   copyCommand   `cmd:"" help:"Bring a copy of the journal elsewhere up to date; it verifies also if this is interrupted."`
	Prune  pruneCommand  `cmd:"" help:"Take old entries out of the journal, while the gateway is stopped."`
	Key    keyCommand    `cmd:"" help:"Print the verifier key, with which anyone can verify a copy."`
}

// Place is where a state directory keeps its journal.
func Place(state string) (dir, keyFile string) {
	return filepath.Join(state, "journal"), filepath.Join(state, "journal.key")
}

// place is the journal a command is about: the gateway's own, or a copy.
type place struct {
	Dir terminal.Given `arg:"" optional:"" help:"A copy of the journal's folder; this machine's own if none is given."`
}

func (c place) dir(p *terminal.Program) string {
	if c.Dir == "" {
		own, _ := Place(p.Settings.StateDir)
		return own
	}
	return Copy(string(c.Dir))
}

// Copy is the folder of a copied journal: the one given, or the one in a copy of a whole state
// directory.
func Copy(dir string) string {
	if !durable.Exists(filepath.Join(dir, "checkpoint")) {
		if inner, _ := Place(dir); durable.Exists(inner) {
			return inner
		}
	}
	return dir
}

type verifyCommand struct {
	terminal.JSONFlag
	place
	Key   terminal.Given `help:"The verifier key that 'kidoban journal key' printed, or a file that holds it; this machine's own if none is given, never one that lies beside the copy." placeholder:"KEY"`
	Since terminal.Given `help:"A checkpoint that was kept elsewhere: the journal must be a continuation of it. A file, - for the input, or the text itself as it was typed or scanned." placeholder:"CHECKPOINT"`

	Witness []string `help:"The verifier key of a witness: it must have cosigned a checkpoint of this journal. May be given more than once." placeholder:"KEY" sep:"none"`
}

type verifyAnswer struct {
	OK         bool       `json:"ok"`
	Fault      string     `json:"fault,omitempty"`
	Entry      *int64     `json:"entry,omitempty"` // the first bad one
	Origin     string     `json:"origin"`
	Size       int64      `json:"size"`
	Root       string     `json:"root"`
	First      *time.Time `json:"first"`
	Last       *time.Time `json:"last"`
	Since      int64      `json:"since,omitempty"`
	Checkpoint string     `json:"checkpoint"`
	Key        string     `json:"key"`      // with which it was verified
	KeyFrom    string     `json:"key_from"` // --key, or the file with the key

	SetBack []journal.SetBack `json:"set_back,omitempty"` // where the times go back

	Minimum    int64    `json:"minimum,omitempty"`    // the first entry that is there: those before it were pruned
	Proven     int64    `json:"proven"`               // how many entries, from the first on
	Incomplete bool     `json:"incomplete,omitempty"` // the fault is that something is missing
	Beyond     int64    `json:"beyond,omitempty"`     // entries of a copy that its checkpoint does not cover
	Lacking    []string `json:"lacking,omitempty"`    // hash tiles that a copy is without

	// Witnesses are the cosignatures beside the checkpoint, those of --witness verified.
	Witnesses []witnessed `json:"witnesses,omitempty"`
}

func (c verifyCommand) Run(p *terminal.Program) error {
	if c.Dir != "" {
		if _, err := os.Stat(string(c.Dir)); errors.Is(err, fs.ErrPermission) {
			return terminal.Denied(err, string(c.Dir))
		} else if err != nil {
			return err
		}
	}
	since, err := c.since(p)
	if err != nil {
		return err
	}
	witnesses, err := c.witnesses()
	if err != nil {
		return err
	}
	key, keyFrom, err := Key(p, c.Key, c.Dir != "")
	if err != nil {
		return err
	}
	progress := p.Progress()
	report, err := journal.ReadDir(c.dir(p), key, since, c.Dir != "", func(e journal.Entry, of int64) { progress.At(e.Index+1, of) })
	progress.End()
	var damage *journal.DamageError
	if errors.Is(err, fs.ErrPermission) { // it tells nothing about the journal
		return terminal.Denied(err, c.dir(p))
	}
	if err != nil && !errors.As(err, &damage) {
		return err
	}
	a := verifyAnswer{OK: err == nil, Origin: report.Origin, Size: report.Size, Root: report.Root, Since: report.Since, SetBack: report.SetBack, Checkpoint: report.Checkpoint, Key: key, KeyFrom: keyFrom,
		Minimum: report.Minimum, Proven: report.Proven, Beyond: report.Beyond, Lacking: report.Lacking}
	if !report.First.IsZero() {
		a.First, a.Last = &report.First, &report.Last
	}
	if damage != nil {
		a.Fault, a.Entry, a.Incomplete = damage.Error(), &damage.Entry, damage.Missing
	} else if a.Witnesses, err = cosignatures(c.dir(p), key, witnesses); err != nil {
		a.OK, a.Fault = false, err.Error()
	}
	if c.JSON {
		p.PrintJSON(a)
		return terminal.Unless(a.OK, terminal.No)
	}
	if damage != nil {
		code := view.Code("unverified")
		if c.Dir != "" && damage.Missing && a.Checkpoint != "" {
			code = "copy_incomplete"
		}
		return &terminal.Exit{Message: view.Say(code, view.Args{"journal": c.dir(p), "cause": damage, "key": key, "from": keyFrom, "there": damage.Entry, "count": a.Size, "proven": a.Proven}), Status: terminal.No}
	}
	if err != nil {
		return &terminal.Exit{Message: view.Say("unwitnessed", view.Args{"journal": c.dir(p), "cause": err}), Status: terminal.No}
	}
	c.show(p, a, since != nil)
	return nil
}

// show prints an answer without a fault.
func (c verifyCommand) show(p *terminal.Program, a verifyAnswer, since bool) {
	if a.First != nil {
		p.Zone = siteZone(c.dir(p))
		p.Tell("verified_span", view.Args{"journal": c.dir(p), "count": a.Size, "first": p.Local(*a.First), "last": p.Local(*a.Last)})
	} else {
		p.Tell("verified", view.Args{"journal": c.dir(p), "count": a.Size})
	}
	for _, b := range a.SetBack {
		p.Tell("verified_set_back", view.Args{"entry": b.Entry, "before": p.Local(b.Before), "accepted": p.Local(b.Accepted), "actor": terminal.OneLine(b.Actor), "reason": terminal.OneLine(b.Reason)})
	}
	p.TellIf(a.Minimum > 0, "verified_pruned", view.Args{"count": a.Minimum})
	p.TellIf(a.Beyond > 0, "verified_beyond", view.Args{"count": a.Beyond})
	p.TellIf(len(a.Lacking) > 0, "verified_lacking", view.Args{"tiles": strings.Join(a.Lacking, ", ")})
	p.Tell("verified_with", view.Args{"key": a.Key, "from": a.KeyFrom})
	p.TellIf(since, "verified_since", view.Args{"count": a.Since})
	for _, w := range a.Witnesses {
		code := view.Code("verified_named")
		if w.Verified {
			code = "verified_witness"
		}
		p.Tell(code, view.Args{"witness": terminal.OneLine(w.Name), "at": p.Local(w.At), "count": w.Size})
	}
	p.TellIf(!since, "verified_alone", nil)
	fmt.Fprintf(p.Out, "\n%s", a.Checkpoint)
}

// Key gives the verifier key that was given, as a key or as a file that holds it, and its origin;
// else this machine's own. It never takes the key beside a copy: a forger of the copy writes
// another key there.
func Key(p *terminal.Program, given terminal.Given, copied bool) (key, from string, err error) {
	if given == "" {
		if key, from, err = ownKey(p); err != nil && copied {
			err = &view.Error{Message: view.Say("no_own_key", view.Args{"cause": err}), Cause: err}
		}
		return key, from, err
	}
	// A key is also a possible name of a file: a file that came with the copy must
	// not replace the key.
	key = string(given)
	if _, err := note.NewVerifier(key); err == nil {
		return key, "--key", nil
	}
	if text, err := os.ReadFile(key); err == nil {
		key = strings.TrimSpace(string(text))
	}
	if _, err := note.NewVerifier(key); err != nil {
		return "", "", terminal.Wrong("key_wrong", view.Args{"key": fmt.Sprintf("%.80q", key)})
	}
	return key, string(given), nil
}

// ownKey gives the verifier key of this machine's journal, and its file.
func ownKey(p *terminal.Program) (key, file string, err error) {
	_, file = Place(p.Settings.StateDir)
	key, err = journal.VerifierKey(file)
	return key, file, orNoJournal(p, err)
}

// orNoJournal explains an error that means that there is no journal, or that the user may not read it.
func orNoJournal(p *terminal.Program, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &view.Error{Message: view.Say("no_journal", view.Args{"folder": p.Settings.StateDir, "cause": err}), Cause: err}
	case errors.Is(err, fs.ErrPermission):
		return terminal.Denied(err, p.Settings.StateDir)
	}
	return err
}

type listCommand struct {
	terminal.JSONFlag
	place
	Since  terminal.Given `help:"Only the first entry from this time on, and all after it." placeholder:"TIME"`
	Until  terminal.Given `help:"Only entries up to this time." placeholder:"TIME"`
	Kind   []string       `help:"Only entries of this kind, as refused or shut; may be given more than once." placeholder:"K"`
	Vendor terminal.Given `help:"Only entries about this vendor." placeholder:"V"`
}

func (c listCommand) Run(p *terminal.Program) error {
	dir := c.dir(p)
	p.Zone = siteZone(dir)
	since, err := api.ParseTime(string(c.Since), p.Zone, time.Time{})
	if err != nil {
		return err
	}
	for _, kind := range c.Kind {
		if !slices.Contains(journal.Kinds(), kind) {
			return terminal.Wrong("kind_unknown", view.Args{"kind": fmt.Sprintf("%.80q", kind), "kinds": journal.Kinds()})
		}
	}
	until, err := api.ParseTime(string(c.Until), p.Zone, time.Time{})
	if err != nil {
		return err
	}
	from, end := within(dir, since, until)
	filter := journal.Filter{Since: since, Until: until, Kinds: c.Kind, Vendor: string(c.Vendor)}
	listed, read := false, from > 0
	var before time.Time // of the entry before
	var lost []error     // the entries that cannot be read, named at the end
	for line, err := range journal.List(dir, from) {
		if err != nil {
			lost = append(lost, err)
			continue
		}
		if read = true; line.Index >= end {
			break
		}
		var e journal.Entry
		switch err := json.Unmarshal(line.JSON, &e); {
		case err != nil && !c.JSON:
			lost = append(lost, fmt.Errorf("entry %d: %w", line.Index, err))
			continue
		case err == nil && !filter.Matches(e):
		case c.JSON: // also an entry of a newer version that this one cannot read
			fmt.Fprintf(p.Out, "%s\n", line.JSON)
			listed = true
		default:
			fmt.Fprintln(p.Out, lineOf(p, line.Index, e, before))
			listed = true
		}
		before = e.Time
	}
	if read && !listed {
		fmt.Fprintln(p.Err, p.Say("list_none", nil))
	}
	if c.Dir != "" {
		fmt.Fprintln(p.Err, p.Say("list_unverified", nil))
	}
	if !read && len(lost) > 0 && c.Dir == "" {
		return orNoJournal(p, lost[0])
	}
	if !read && len(lost) > 0 && errors.Is(lost[0], fs.ErrPermission) {
		return terminal.Denied(lost[0], dir)
	}
	return errors.Join(lost...)
}

// within is where the entries of a time begin and end. Where a file cannot be read it is everything.
func within(dir string, since, until time.Time) (from, end int64) {
	end = math.MaxInt64
	if !since.IsZero() {
		from, _ = journal.FirstSince(dir, since)
	}
	if !until.IsZero() {
		if found, err := journal.EndUntil(dir, until); err == nil {
			end = found
		}
	}
	return from, end
}

// siteZone is the zone of the first policy in a journal, so that its times read as
// those of other commands. Without a policy it is the zone of the machine.
func siteZone(dir string) *time.Location {
	for line, err := range journal.List(dir, 0) {
		var e journal.Entry
		if err != nil || json.Unmarshal(line.JSON, &e) != nil {
			continue
		}
		if e.Kind == journal.PolicyText {
			if zone := config.ZoneOf([]byte(e.Text)); zone != nil {
				return zone
			}
		}
	}
	return time.Local
}

// lineOf gives an entry as one line for people. before is the time of the entry before it.
func lineOf(p *terminal.Program, index int64, e journal.Entry, before time.Time) string {
	who, text, by := e.Vendor, e.Text, e.Actor
	if e.Engineer != "" {
		who += "/" + e.Engineer
	}
	if r := []rune(text); len(r) > 160 {
		text = string(r[:160]) + "…"
	}
	if e.Kind == journal.PolicyText || e.Kind == journal.State {
		text = ""
	}
	until, times, key, back := "", "", "", ""
	if e.Kind == journal.Identity {
		key = e.Key
	}
	if e.Time.Before(before) {
		back = p.Local(before)
	}
	if !e.Until.IsZero() {
		until = p.Local(e.Until)
	}
	if e.Count > 1 {
		times = strconv.FormatInt(e.Count, 10)
	}
	minutes, approved := "", strings.TrimSpace(e.ApprovedBy+" "+e.Ticket)
	if e.Kind == journal.Warned {
		minutes, times = strconv.FormatInt(e.Count, 10), ""
	}
	// As earlier versions wrote it.
	if of, opens := strings.CutPrefix(text, "approved by "); opens && e.Kind == journal.WindowOpened {
		approved, text = of, ""
	}
	if by == "gateway" {
		by = ""
	}
	window, scope, begin := e.Window, e.Scope, ""
	if e.Request != "" && window == e.Request { // the window of a request has its id
		window = ""
	}
	if e.Kind == journal.Revoked {
		scope = ""
	}
	if e.Kind == journal.Requested && e.From.After(e.Time) {
		begin = p.Local(e.From)
	}
	inForce := fmt.Sprintf("%.12s", e.Digest)
	if slices.Contains([]journal.Kind{journal.Reported, journal.Review, journal.Incident}, e.Kind) && e.Digest != "" { // no policy's: people compare it with a page
		inForce, text = "", strings.TrimSpace(text+" "+p.Say("report_digest", view.Args{"digest": e.Digest}))
	}
	line := fmt.Sprintf("%6d  %s  %-14s", index, p.Local(e.Time), terminal.OneLine(string(e.Kind)))
	for _, part := range []struct {
		code view.Code // empty: the text alone
		text string
	}{
		{"entry_set_back", back}, {"", terminal.Named(who, strings.TrimSpace(e.VendorName+" "+e.EngineerName))}, {"entry_request", e.Request}, {"", window}, {"entry_scope", scope}, {"entry_from", e.Source}, {"entry_to", e.Target}, {"", e.Reason}, {"entry_session", e.Session},
		{"entry_begin", begin}, {"entry_until", until}, {"entry_times", times}, {"entry_minutes", minutes}, {"entry_approved", approved}, {"entry_policy", inForce}, {"entry_key", key}, {"", text}, {"entry_by", by},
	} {
		if part.text != "" && part.code != "" {
			part.text = p.Say(part.code, view.Args{"text": part.text})
		}
		if part.text != "" {
			line += "  " + terminal.OneLine(part.text)
		}
	}
	return strings.TrimRight(line, " ")
}

type keyCommand struct{ terminal.JSONFlag }

func (c keyCommand) Run(p *terminal.Program) error {
	key, _, err := ownKey(p)
	if err != nil {
		return err
	}
	if c.JSON {
		p.PrintJSON(map[string]string{"key": key})
	} else {
		fmt.Fprintln(p.Out, key)
	}
	return nil
}
