package terminal

import (
	"bytes"
	"testing"

	"kidoban/gateway/api"
	"kidoban/gateway/view"
)

// TestStatusOfProblems: what the gateway takes for wrong input is wrong usage.
func TestStatusOfProblems(t *testing.T) {
	for code, want := range map[int]int{400: Usage, 403: Failed, 404: No, 409: Failed, 413: Usage} {
		var said bytes.Buffer
		if got := (&Program{Err: &said}).Fail(&api.Problem{Status: code, Detail: "why"}); got != want || said.String() != "kidoban: why\n" {
			t.Errorf("%d: exit %d with %q, want %d", code, got, said.String(), want)
		}
	}
}

func TestWords(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1 << 20: "1.0 MiB", 3 << 29: "1.5 GiB", 1 << 40: "1.0 TiB", 1 << 63: "8388608.0 TiB"} {
		if got := view.Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
	english := &Program{Lang: view.English}
	names := []string{"a", "b", "c", "d", "e", "f", "g"}
	for n, want := range map[int]string{0: "", 1: "a", 5: "a,b,c,d,e", 6: "a,b,c,d and 2 more", 7: "a,b,c,d and 3 more"} {
		if got := english.Some(names[:n]); got != want {
			t.Errorf("some of %d: %q, want %q", n, got, want)
		}
	}
	for text, want := range map[string]string{
		"木戸　市民病院":                "木戸　市民病院",
		"a\nb\tc":                "a·b·c",
		"\x1b[31mred\x7f\u0085":  "·[31mred··",
		"\u202egnp.exe\u2069":    "·gnp.exe·",
		"zero\u200bwidth\u2028x": "zero·width·x",
		"left\u200eright\u061c":  "left·right·",
	} {
		if got := OneLine(text); got != want {
			t.Errorf("OneLine(%q) = %q, want %q", text, got, want)
		}
	}
}

// TestProgress: long work is told on a terminal, and the line goes away in the end.
func TestProgress(t *testing.T) {
	var said bytes.Buffer
	p := &Program{Err: &said, Lang: view.English}
	silent := p.Progress()
	silent.At(256, 1000)
	silent.End()
	if said.Len() > 0 {
		t.Errorf("without a terminal it says %q", &said)
	}
	long := &Progress{p: p}
	long.At(255, 1000)
	long.At(256, 1000)
	long.At(512, 1000) // too soon
	long.End()
	if got := said.String(); got != "\r\x1b[Kentry 256 of 1000\r\x1b[K" {
		t.Errorf("it says %q", got)
	}
}
