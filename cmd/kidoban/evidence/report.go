package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/api"
	"kidoban/gateway/durable"
	"kidoban/gateway/evidence"
	"kidoban/gateway/evidence/page"
	"kidoban/gateway/evidence/sheet"
	"kidoban/gateway/view"
)

// reportCommand is `kidoban report`.
type reportCommand struct {
	terminal.JSONFlag
	monthly
	Out terminal.Given `help:"The folder for report.html, report.csv, report.xlsx and report.json; it is made if it is not there." placeholder:"DIR"`
}

// modes of what is written: it names people.
const (
	folderMode fs.FileMode = 0o750
	fileMode   fs.FileMode = 0o640
)

// Run makes the report, and writes it.
func (c reportCommand) Run(p *terminal.Program) error {
	if c.Out == "" && !c.JSON {
		return terminal.Wrong("report_where", nil)
	}
	r, err := c.report(p)
	if err != nil {
		return err
	}
	files, err := filesOf(r, p.Lang)
	if err != nil {
		return err
	}
	if c.Out != "" {
		if err := write(string(c.Out), files); err != nil {
			return err
		}
		if c.Journal == "" {
			c.record(p, r)
		}
	}
	if c.JSON {
		_, err := p.Out.Write(files[len(files)-1].text)
		return err
	}
	c.tell(p, r, files)
	return nil
}

// file is one of the forms of a report.
type file struct {
	name string
	text []byte
}

// filesOf gives all forms of a report, JSON last. The same report gives the same bytes.
func filesOf(r *evidence.Report, lang view.Language) ([]file, error) {
	html, err := page.Month(r, lang)
	if err != nil {
		return nil, err
	}
	sheets := page.Sheets(r, lang)
	text, err := asJSON(r)
	return []file{{"report.html", html}, {"report.csv", sheets[0].CSV()}, {"report.xlsx", sheet.XLSX(sheets...)}, {"report.json", text}}, err
}

// asJSON is JSON that people can read too.
func asJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.Bytes(), err
}

// write puts files into a folder, each file whole.
func write(folder string, files []file) error {
	if err := os.MkdirAll(folder, folderMode); err != nil {
		return err
	}
	for _, f := range files {
		if err := durable.Replace(filepath.Join(folder, f.name), f.text, fileMode); err != nil {
			return err
		}
	}
	return durable.SyncFolder(folder)
}

// record lets the journal keep the digest, so that anybody can compare a report with it later.
func (c reportCommand) record(p *terminal.Program, r *evidence.Report) {
	err := p.Order("/v1/evidence/reported", evidence.Reported{Month: r.Month, Vendor: r.Vendor, Digest: r.Digest, Size: r.Size}, new(struct{}))
	if err == nil {
		return
	}
	cause := any(err)
	var problem *api.Problem
	if errors.As(err, &problem) {
		cause = problem.In(p.Lang)
	}
	p.Note("report_unrecorded", view.Args{"cause": cause})
}

// tell sums the report up.
func (c reportCommand) tell(p *terminal.Program, r *evidence.Report, files []file) {
	refused := int64(0)
	for _, x := range r.Refused {
		refused += x.Count
	}
	p.Tell("report_sums", view.Args{"month": r.Month, "site": r.Site, "sessions": len(r.Sessions), "unused": len(r.Unused), "refused": refused})
	kinds, open := []string{}, map[string][2]int{}
	for _, x := range r.Mismatches {
		n, known := open[x.Kind]
		if !known {
			kinds = append(kinds, x.Kind)
		}
		n[0]++
		if x.State == "open" {
			n[1]++
		}
		open[x.Kind] = n
	}
	for _, kind := range kinds {
		p.Tell("report_mismatch", view.Args{"kind": kind, "count": open[kind][0], "open": open[kind][1]})
	}
	p.TellIf(len(kinds) == 0, "report_no_mismatch", nil)
	p.Tell("report_digest", view.Args{"digest": r.Digest})
	var names []string
	for _, f := range files {
		names = append(names, filepath.Join(string(c.Out), f.name))
	}
	p.Tell("report_files", view.Args{"files": strings.Join(names, " ")})
}
