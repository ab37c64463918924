package policy

import (
	"testing"
	"time"
)

// TestFault86TimesAsPeopleWriteThem: one reader for policies and commands.
func TestFault86TimesAsPeopleWriteThem(t *testing.T) {
	tokyo := time.FixedZone("JST", 9*3600)
	for text, want := range map[string]struct{ at, local string }{
		"2026-12-01T20:00":                {"2026-12-01T20:00:00+09:00", "2026-12-01T20:00"},
		"2026-12-01 20:00":                {"2026-12-01T20:00:00+09:00", "2026-12-01T20:00"},
		"2026-12-01T20:00:30":             {"2026-12-01T20:00:30+09:00", "2026-12-01T20:00:30"},
		"2026-12-01 20:00:30":             {"2026-12-01T20:00:30+09:00", "2026-12-01T20:00:30"},
		"2026-12-01T20:00Z":               {"2026-12-02T05:00:00+09:00", "2026-12-02T05:00"},
		"2026-12-01 20:00:30+09:00":       {"2026-12-01T20:00:30+09:00", "2026-12-01T20:00:30"},
		"2026-12-01T23:59:59-11:30":       {"2026-12-02T20:29:59+09:00", "2026-12-02T20:29:59"},
		"2026-12-01T20:00:00.25+09:00":    {"2026-12-01T20:00:00.25+09:00", "2026-12-01T20:00"},
		"2026-12-01T20:00:00.123456789":   {"2026-12-01T20:00:00.123456789+09:00", "2026-12-01T20:00"},
		"2026-12-01":                      {"2026-12-01T00:00:00+09:00", "2026-12-01T00:00"},
		"2026-12-01T24:00":                {},
		"2026-12-01T9:00":                 {},
		"2026-02-30T09:00":                {},
		"2026-12-01T20:00:60":             {},
		"2026-12-01T20:00.5":              {},
		"2026-12-01t20:00":                {},
		"2026-12-01  20:00":               {},
		"2026-12-01T20:00+9":              {},
		"2026-12-01T20:00+25:00":          {},
		"2026-12-01T20:00 +09:00":         {},
		"2026-12-01+09:00":                {},
		"2026-12-01T":                     {},
		"20:00":                           {},
		"":                                {},
		"2026-12-01T20:00\n":              {},
		"12026-12-01T20:00":               {},
		"2026-12-01T20:00:00.1234567890Z": {},
	} {
		w, ok := ParseTime(text)
		if ok != (want.at != "") {
			t.Errorf("%q: %t", text, ok)
		}
		if !ok {
			continue
		}
		if at := w.At(tokyo).In(tokyo).Format(time.RFC3339Nano); at != want.at || w.In(tokyo).String() != want.local {
			t.Errorf("%q is %s, locally %s; want %s, %s", text, at, w.In(tokyo), want.at, want.local)
		}
	}
}

func TestParseElapsed(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90m": 90 * time.Minute, "2h": 2 * time.Hour, "1h30m": 90 * time.Minute, "45s": 45 * time.Second,
		"14d": 14 * 24 * time.Hour, "1d12h": 36 * time.Hour, "9999d": 9999 * 24 * time.Hour,
		"": 0, "0h": 0, "0d": 0, "2": 0, "h": 0, "-1h": 0, "+1h": 0, "1.5h": 0, "1500ms": 0, "2h ": 0, "30m1h": 0, "1w": 0,
		"10000d": 0, "99999999999h": 0, "9999d2500000h": 0, "２h": 0,
	} {
		if got, ok := ParseElapsed(text); ok != (want > 0) || ok && got != want {
			t.Errorf("%q is %v, %t; want %v", text, got, ok, want)
		}
	}
}
