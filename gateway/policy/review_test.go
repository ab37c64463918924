package policy

import "testing"

func TestWhoMaySign(t *testing.T) {
	_, p := example(t)
	everybody := *p
	p.Operators = []*Operator{{Name: "jimucho", User: "jimu", Rights: []Right{MayReview}}, {Name: "tanaka", User: "tanaka", Rights: []Right{MayRecord}}}
	for _, c := range []struct {
		login   string // empty: root
		confirm bool
		of      *Policy
		want    string
	}{
		{"tanaka", false, p, ""},
		{"tanaka", true, p, "operator_may_not"},
		{"jimu", true, p, ""},
		{"", false, p, ""},
		{"", true, p, "no_operator"},
		{"sato", false, p, "no_operator"},
		{"sato", true, &everybody, ""},
		{"sato", true, nil, ""},
	} {
		got := ""
		if err, ok := c.of.MaySign(Actor{ID: c.login, Text: c.login}, c.confirm).(*RefusedError); ok {
			got = err.Code
		}
		if got != c.want {
			t.Errorf("%q, confirm %t: %q, want %q", c.login, c.confirm, got, c.want)
		}
	}
	var none *Policy
	if r := none.Reviewing(); r.Within != ReviewWithin || !r.Distinct {
		t.Errorf("without a policy %+v", r)
	}
}
