package config

import "testing"

func TestRetention(t *testing.T) {
	for text, want := range map[string]string{"5y": "5y", "18mo": "18mo", "24mo": "2y", "1mo": "1mo", "100y": "100y", "0y": "", "101y": "", "1201mo": "", "05y": "", "5": "", "y": "", "mo": "", "5 y": "", "-1y": "", "5d": "", "1.5y": ""} {
		kept, err := parseRetention(text)
		if kept.String() != want || (err != nil) != (want == "") {
			t.Errorf("%q: %s, %v", text, kept, err)
		}
	}
}
