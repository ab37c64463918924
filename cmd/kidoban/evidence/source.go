package evidence

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"kidoban/cmd/kidoban/audit"
	"kidoban/cmd/kidoban/terminal"
	"kidoban/config"
	"kidoban/gateway/api"
	"kidoban/gateway/evidence"
	"kidoban/gateway/journal"
	"kidoban/gateway/view"
)

// source says which journal a command reads: that of the gateway of this machine, or a copy.
type source struct {
	Journal terminal.Given `help:"Read a copy of the journal's folder, without a gateway." placeholder:"DIR"`
	Key     terminal.Given `help:"With --journal: the verifier key that 'kidoban journal key' printed, or a file that holds it; this machine's own if none is given." placeholder:"KEY"`
	Witness []string       `help:"With --journal: the verifier key of a witness, which must have cosigned it. May be given more than once." placeholder:"KEY" sep:"none"`
}

func (s source) check() error {
	if (s.Key != "" || len(s.Witness) > 0) && s.Journal == "" {
		return errors.New("--key and --witness: need --journal, the copy that they verify")
	}
	return nil
}

// copied is what is known of a copy beside its entries.
type copied struct {
	journal.Report
	Witnesses []string // who cosigned it, of those that were asked for
}

// read verifies the copy and reads it. A copy that does not verify is a well-formed no.
func (s source) read(p *terminal.Program) (*evidence.Record, copied, error) {
	var got copied
	if _, err := os.Stat(string(s.Journal)); errors.Is(err, fs.ErrPermission) {
		return nil, got, terminal.Denied(err, string(s.Journal))
	} else if err != nil {
		return nil, got, err
	}
	key, from, err := audit.Key(p, s.Key, true)
	if err != nil {
		return nil, got, err
	}
	dir := audit.Copy(string(s.Journal))
	record := evidence.NewRecord(config.ReadPast)
	progress := p.Progress()
	got.Report, err = journal.ReadDir(dir, key, nil, true, func(e journal.Entry, of int64) {
		record.Add(e)
		progress.At(e.Index+1, of)
	})
	progress.End()
	var damage *journal.DamageError
	switch {
	case errors.Is(err, fs.ErrPermission):
		err = terminal.Denied(err, dir)
	case errors.As(err, &damage):
		code := view.Code("unverified")
		if damage.Missing && got.Checkpoint != "" {
			code = "copy_incomplete"
		}
		err = &terminal.Exit{Message: view.Say(code, view.Args{"journal": dir, "cause": damage, "key": key, "from": from, "there": damage.Entry, "count": got.Size, "proven": got.Proven}), Status: terminal.No}
	case err == nil:
		got.Witnesses, err = audit.Cosigners(dir, key, s.Witness)
	}
	return record, got, err
}

// siteZone sets the zone of times to the gateway's, or this machine's if the gateway has no policy.
func siteZone(p *terminal.Program) error {
	_, zone, err := p.Client().Get("/v1/status", nil)
	p.Zone = cmp.Or(zone, time.Local)
	return err
}

// judged makes a well-formed no of an error that says that the journal has nothing of what was asked
// for, whether the gateway said it or a copy.
func judged(err error) error {
	var here *view.Error
	var there *api.Problem
	var said view.Message
	if errors.As(err, &there) {
		said = view.Say(there.Code, there.Args)
	} else if errors.As(err, &here) {
		said = here.Message
	}
	if slices.Contains([]view.Code{"evidence_month_outside", "evidence_no_entries", "evidence_vendor_unknown"}, said.Code) {
		return &terminal.Exit{Message: said, Status: terminal.No}
	}
	return err
}

// monthly says which month a command is about, and where it is read.
type monthly struct {
	Month  terminal.Given `required:"" help:"The month, in the site's time zone: as 2026-11." placeholder:"YYYY-MM"`
	Vendor terminal.Given `help:"Only this vendor." placeholder:"V"`
	source
}

// Validate is for kong.
func (m monthly) Validate() error {
	const layout = "2006-01"
	var wrong error
	if _, err := time.Parse(layout, string(m.Month)); m.Month != "" && (err != nil || len(m.Month) != len(layout)) {
		wrong = fmt.Errorf("--month: %.40q is not a month: allowed is YYYY-MM, as 2026-11", m.Month)
	}
	return errors.Join(wrong, m.check())
}

// report gives the month's report, of the copy or of the gateway.
func (m monthly) report(p *terminal.Program) (*evidence.Report, error) {
	if m.Journal == "" {
		r, err := monthOf(p, string(m.Month), string(m.Vendor))
		return &r, judged(err)
	}
	record, from, err := m.read(p)
	if err != nil {
		return nil, err
	}
	r, err := record.Month(string(m.Month), string(m.Vendor))
	r.Origin, r.Checkpoint, r.Verified, r.Witnesses = from.Origin, from.Checkpoint, true, from.Witnesses
	return &r, judged(err)
}
