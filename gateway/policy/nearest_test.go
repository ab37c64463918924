package policy

import (
	"errors"
	"testing"
	"time"
)

func TestNearest(t *testing.T) {
	_, p := example(t)
	p.Vendor("medisys").DisplayName = "株式会社メディシス"
	p.Engineer("medisys/sato").DisplayName = "佐藤"
	for name, want := range map[string]string{
		"medisys/satoo": "medisys/sato",
		"medisy/sato":   "medisys/sato",
		"Medisys/Sato":  "medisys/sato",
		"medysis":       "medisys",
		"othr":          "other",
		"suzuki":        "medisys/suzuki", // an engineer, without the vendor
		"suzukii":       "medisys/suzuki",
		"株式会社メディシス":     "medisys",
		"佐藤":            "medisys/sato",
		"medisys-sato":  "medisys/sato",
		"acme":          "",
		"acme/yamada":   "",
		"":              "",
	} {
		if got := p.Nearest(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	// A name that two have means neither: the wrong one would be closed.
	p.Vendor("other").Engineers = append(p.Vendor("other").Engineers, &Engineer{Vendor: p.Vendor("other"), Name: "suzuki", DisplayName: "佐藤"})
	for _, name := range []string{"suzuki", "suzukii", "佐藤"} {
		if got := p.Nearest(name); got != "" {
			t.Errorf("%q: %q, want none of two", name, got)
		}
	}
	if got := p.Nearest("medisys/suzukii"); got != "medisys/suzuki" {
		t.Errorf("with the vendor: %q", got)
	}
}

// TestNoMatchNamesWhatIsMeant: of a close, what the policy has; of a reopening, what
// is shut.
func TestNoMatchNamesWhatIsMeant(t *testing.T) {
	s, _ := example(t)
	at := time.Date(2026, 12, 7, 10, 0, 0, 0, time.UTC)
	if err := s.Apply(at, "test", Shut{Scope: "medisys/suzuki", Reason: "x"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		event Event
		near  string
		said  string
	}{
		{Shut{Scope: "medisys/satoo", Reason: "x"}, "medisys/sato", `the policy has no vendor or engineer "medisys/satoo"; did you mean medisys/sato?`},
		{Shut{Scope: "medisis", Reason: "x"}, "medisys", `the policy has no vendor or engineer "medisis"; did you mean medisys?`},
		{Shut{Scope: "nobody", Reason: "x"}, "", `the policy has no vendor or engineer "nobody"`},
		{Reopened{"medisys/suzuk", "x"}, "medisys/suzuki", `"medisys/suzuk" is not shut; did you mean medisys/suzuki?`},
		{Reopened{"medisys/sato", "x"}, "", `"medisys/sato" is not shut`},
	} {
		err := s.Apply(at, "test", c.event)
		var none *NoMatchError
		if !errors.As(err, &none) || none.Near != c.near || err.Error() != c.said {
			t.Errorf("%+v: %v, want %s", c.event, err, c.said)
		}
	}
}
