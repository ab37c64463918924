package share

import (
	"bytes"
	"fmt"
	"regexp"

	"kidoban/config"
)

var (
	months   = regexp.MustCompile(`^month\+\d{1,4}$`)
	nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

// importer makes a template of a shared policy.
type importer struct {
	file    string
	errs    []error
	remarks remarks
}

// Template makes of the text of a shared policy the text of a policy in which REPLACE stands wherever a site
// has to write its own. file is the name of the shared policy in messages. The error is a config.Errors.
func Template(file string, text []byte) ([]byte, error) {
	shared, err := config.ReadTree(file, text)
	if err != nil {
		return nil, err
	}
	m := &importer{file: file, remarks: remarks{}}
	for _, f := range shared.Fields {
		switch f.Name {
		case "kidoban_share", "story", "usage", "policy":
		default:
			m.wrong(f, f.Name, "unknown field: allowed here is kidoban_share, story, usage or policy")
		}
	}
	if v := shared.Field("kidoban_share"); v == nil || v.Text != "1" {
		m.wrong(shared, "kidoban_share", "is not 1: this is no shared policy, or one of another version")
	}
	policy := shared.Field("policy")
	if policy == nil {
		m.wrong(shared, "policy", "the field policy is missing")
		return nil, config.Mistakes(m.errs...)
	}
	t := m.take(policyRules, policy, "policy")
	if err := config.Mistakes(m.errs...); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("# A template made of a shared policy. `kidoban check` names each place where " + config.Replace + " stands. The addresses\n# are examples too: write those of your site.\n")
	fields(&b, t, "", m.remarks)
	return b.Bytes(), nil
}

func (m *importer) wrong(t *config.Tree, where, format string, args ...any) {
	m.errs = append(m.errs, t.At(m.file, where, format, args...))
}

// take checks a part of a shared policy and makes that of the template.
func (m *importer) take(r rule, t *config.Tree, path string) *config.Tree {
	to := &config.Tree{Name: t.Name}
	switch r.kind {
	case mapping, names:
		if len(t.Fields) == 0 {
			m.wrong(t, path, "is no mapping, or empty: allowed is a mapping (key: value)")
		}
		for _, f := range t.Fields {
			of := with(r.fields)
			if r.kind == mapping {
				of = r.fields[f.Name]
			} else if !nameForm.MatchString(f.Name) {
				m.wrong(f, path, "%q is no name: allowed is 1 to 63 of a-z, 0-9 and hyphen", f.Name)
				continue
			}
			if of.kind == dropped {
				m.wrong(f, path, "unknown field %q: a shared policy does not have it", f.Name)
				continue
			}
			to.Fields = append(to.Fields, m.take(of, f, join(path, f.Name)))
		}
	case listed:
		if len(t.Items) == 0 {
			m.wrong(t, path, "is no list, or empty: allowed is a list, as in [a, b]")
		}
		for _, item := range t.Items {
			to.Items = append(to.Items, m.take(*r.item, item, path))
		}
	case moment:
		return m.moment(t, path)
	default:
		to.Text = m.value(r, t, path)
		if to.Text != t.Text {
			m.remarks[to] = t.Text
		}
	}
	return to
}

// value is the value of a template: what was shared, or REPLACE.
func (m *importer) value(r rule, t *config.Tree, path string) string {
	ok := false
	switch r.kind {
	case left:
		ok = r.pattern.MatchString(t.Text)
	case post:
		ok = posts[t.Text]
	case name, day:
		ok = nameForm.MatchString(t.Text)
	case address, inside:
		_, ok = prefix(t.Text)
	case month:
		if months.MatchString(t.Text) {
			return config.Replace
		}
	}
	if !ok && t.Text != config.Replace {
		m.wrong(t, path, "%.80q is nothing that a shared policy has here", t.Text)
	}
	return t.Text
}

// moment makes the two times of the field once.
func (m *importer) moment(t *config.Tree, path string) *config.Tree {
	told := map[string]string{}
	for _, part := range []struct {
		name string
		rule
	}{{"month", rule{kind: left, pattern: months}}, {"at", clock}, {"lasts", duration}} {
		f := t.Field(part.name)
		if f == nil {
			m.wrong(t, path, "the field %s is missing", part.name)
			continue
		}
		told[part.name] = m.value(part.rule, f, join(path, part.name))
	}
	from := &config.Tree{Name: "from", Text: config.Replace}
	m.remarks[from] = fmt.Sprintf("%s, %s, for %s", told["month"], told["at"], told["lasts"])
	return &config.Tree{Name: t.Name, Fields: []*config.Tree{from, {Name: "until", Text: config.Replace}}}
}
