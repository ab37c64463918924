package audit

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/config"
	"kidoban/gateway/api"
	"kidoban/gateway/evidence"
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

type pruneCommand struct {
	terminal.JSONFlag
	terminal.YesFlag
	Before terminal.Given `help:"Take away the entries before this date; some of the newest of them stay, since whole files go." placeholder:"DATE"`
	To     terminal.Given `help:"Where to move them; beside the journal if no folder is given." placeholder:"FOLDER"`
	Delete terminal.Given `help:"Delete what was moved to this folder, for good." placeholder:"FOLDER"`
}

type pruneAnswer struct {
	Before int64  `json:"before"` // the first entry that is left
	Files  int    `json:"files"`  // that were moved or deleted, of 256 entries each
	To     string `json:"to"`
}

func (c pruneCommand) Run(p *terminal.Program) error {
	switch {
	case c.Delete != "" && c.Before == "" && c.To == "":
		return c.delete(p)
	case c.Delete != "" || c.Before == "":
		return terminal.Wrong("prune_what", nil)
	}
	dir, keyFile := Place(p.Settings.StateDir)
	p.Zone = siteZone(dir)
	date, err := api.ParseTime(string(c.Before), p.Zone, time.Time{})
	if err != nil {
		return err
	}
	o, err := overview(dir)
	if err != nil {
		return orNoJournal(p, err)
	}
	first, err := journal.FirstSince(dir, date)
	if err != nil {
		return orNoJournal(p, err)
	}
	before := journal.PrunedTo(first)
	key, _, err := ownKey(p)
	if err != nil {
		return err
	}
	to := filepath.Clean(cmp.Or(string(c.To), dir+".pruned-"+date.Format("20060102")))
	reasons := append(o.against(p, before, date, time.Now()), o.uncovered(dir, key, before)...)
	if inside, err := filepath.Rel(dir, to); err == nil && !strings.HasPrefix(inside, "..") {
		reasons = append(reasons, view.Say("prune_inside", view.Args{"folder": to}))
	}
	if owner := ownerOf(dir); owner != "" {
		reasons = append(reasons, view.Say("prune_owner", view.Args{"user": owner}))
	}
	var j *journal.Journal
	if len(reasons) == 0 || !foreign(dir) {
		j, err = journal.Open(dir, keyFile) // it verifies all
		switch {
		case errors.Is(err, journal.ErrLocked):
			reasons = append(reasons, view.Say("prune_running", nil))
		case err != nil:
			return err
		default:
			defer j.Close()
		}
	}
	if len(reasons) > 0 {
		return &terminal.Exit{Message: view.Say("prune_refused", view.Args{"reasons": listed(p, reasons)}), Status: terminal.No}
	}
	show := func(p *terminal.Program) {
		p.Tell("prune_shows", view.Args{"journal": dir, "count": before - o.first, "before": before, "date": p.Local(date), "to": to})
	}
	if err := p.Confirm(c.YesFlag, c.JSONFlag, show, "prune_question", nil); err != nil {
		return err
	}
	if len(o.text) > 0 && o.text[0].Index < before { // a policy that has been in force for long
		for i := range o.text {
			o.text[i].Time = time.Time{}
		}
		if err := j.Append(o.text...); err != nil {
			return err
		}
	}
	files, err := j.Prune(to, journal.Entry{Kind: journal.Pruned, Actor: terminal.Person(), Count: before, Text: to})
	if err != nil {
		return err
	}
	if c.JSON {
		p.PrintJSON(pruneAnswer{before, files, to})
	} else {
		p.Tell("pruned", view.Args{"to": to, "before": before, "files": files})
	}
	return nil
}

// listed are reasons, one a line.
func listed(p *terminal.Program, reasons []view.Message) string {
	var lines []string
	for _, r := range reasons {
		lines = append(lines, "\n  "+p.Say(r.Code, r.Args))
	}
	return strings.Join(lines, "")
}

// foreign reports whether a folder is another user's: what this one writes there, the gateway could
// not read.
func foreign(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) != os.Geteuid()
}

// ownerOf is the user of a foreign folder; else empty.
func ownerOf(dir string) string {
	info, err := os.Stat(dir)
	if err != nil || !foreign(dir) {
		return ""
	}
	id := fmt.Sprint(info.Sys().(*syscall.Stat_t).Uid)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

// known is what a journal says about its pruning.
type known struct {
	first  int64 // the first entry that is there
	record *evidence.Record
	policy *policy.Policy  // in force last; nil: the journal has no text of it
	text   []journal.Entry // of that
	state  int64           // where the newest state is; -1: there is none
	copies []mirrored
}

// mirrored is an entry of kind mirrored.
type mirrored struct {
	To      string `json:"to"`
	Size    int64  `json:"size"`
	Witness bool   `json:"witness"`
}

// overview reads the journal.
func overview(dir string) (known, error) {
	k := known{record: evidence.NewRecord(config.ReadPast), state: -1}
	texts := map[string][]journal.Entry{}
	inForce := ""
	first, _, err := journal.First(dir)
	if err != nil {
		return k, err
	}
	k.first = first
	for line, err := range journal.List(dir, 0) {
		if err != nil {
			return k, err
		}
		var e journal.Entry
		if err := json.Unmarshal(line.JSON, &e); err != nil {
			return k, fmt.Errorf("entry %d: %w", line.Index, err)
		}
		e.Index = line.Index
		switch e.Kind {
		case journal.PolicyText:
			if e.Part <= 1 {
				texts[e.Digest] = nil
			}
			texts[e.Digest] = append(texts[e.Digest], e)
		case journal.PolicyLoaded:
			inForce = cmp.Or(e.Digest, inForce)
		case journal.Incident, journal.Sent:
			k.record.Add(e)
		case journal.State:
			if e.Part == e.Parts {
				k.state = e.Count
			}
		case journal.Mirrored:
			var m mirrored
			if json.Unmarshal(e.Event, &m) == nil && m.To != "" {
				k.copies = append(k.copies, m)
			}
		}
	}
	k.text = texts[inForce]
	var whole strings.Builder
	for _, e := range k.text {
		whole.WriteString(e.Text)
	}
	if len(k.text) > 0 {
		k.policy, _ = config.ReadPast(whole.String()) // of another version: nil
	}
	return k, nil
}

// against are all reasons not to prune.
func (k known) against(p *terminal.Program, before int64, date, now time.Time) (all []view.Message) {
	say := func(bad bool, code view.Code, args view.Args) {
		if bad {
			all = append(all, view.Say(code, args))
		}
	}
	say(before <= k.first, "prune_nothing", view.Args{"date": p.Local(date)})
	switch {
	case k.policy == nil:
		say(true, "prune_no_policy", nil)
	case k.policy.Retention == 0:
		say(true, "prune_no_retention", nil)
	default:
		last := k.policy.Retention.Before(now)
		say(date.After(last), "prune_retention", view.Args{"retention": k.policy.Retention.String(), "date": p.Local(last)})
	}
	say(k.state < before, "prune_no_state", view.Args{"before": before})
	for _, i := range k.record.Incidents {
		say(i.Closed == nil, "prune_incident", view.Args{"id": i.Is.ID})
	}
	return all
}

// uncovered are the reasons not to prune that a copy and a witness take away. Somebody states that there
// is a copy: it must be there and verify. What a witness cosigned the gateway itself states.
func (k known) uncovered(dir, key string, before int64) (reasons []view.Message) {
	copied, witnessed := false, false
	broken := map[string]view.Message{}
	for _, m := range k.copies {
		switch {
		case m.Size < before || copied && !m.Witness:
		case m.Witness:
			witnessed = true
		default:
			err := k.verify(dir, m.To, key, before)
			if copied = err == nil; !copied {
				broken[m.To] = view.Say("prune_bad_copy", view.Args{"folder": m.To, "cause": err})
			}
		}
	}
	if !copied {
		reasons = append(reasons, view.Say("prune_no_copy", view.Args{"before": before}))
		for _, folder := range slices.Sorted(maps.Keys(broken)) {
			reasons = append(reasons, broken[folder])
		}
	}
	if !witnessed {
		reasons = append(reasons, view.Say("prune_no_witness", view.Args{"before": before}))
	}
	return reasons
}

// verify says why a folder is no copy of what is to be pruned.
func (k known) verify(dir, folder, key string, before int64) error {
	own, err := os.Stat(dir)
	if err != nil {
		return err
	}
	there, err := os.Stat(folder)
	if err != nil {
		return err
	}
	if os.SameFile(own, there) {
		return errors.New("it is the journal itself")
	}
	report, err := journal.VerifyCopy(folder, key, nil)
	switch {
	case err != nil:
		return err
	case report.Minimum > k.first || report.Size < before:
		return fmt.Errorf("it has the entries from %d to %d", report.Minimum, report.Size-1)
	}
	return nil
}

// delete deletes what was moved away earlier.
func (c pruneCommand) delete(p *terminal.Program) error {
	folder := filepath.Clean(string(c.Delete))
	show := func(p *terminal.Program) { p.Tell("prune_delete_shows", view.Args{"folder": folder}) }
	if err := p.Confirm(c.YesFlag, c.JSONFlag, show, "prune_delete_question", nil); err != nil {
		return err
	}
	files, err := journal.DeletePruned(folder)
	if errors.Is(err, fs.ErrPermission) {
		return terminal.Denied(err, folder)
	}
	if err != nil {
		return &terminal.Exit{Message: view.Say("prune_undeleted", view.Args{"cause": err}), Status: terminal.No}
	}
	if c.JSON {
		p.PrintJSON(pruneAnswer{Files: files, To: folder})
	} else {
		p.Tell("prune_deleted", view.Args{"folder": folder, "files": files})
	}
	return nil
}
