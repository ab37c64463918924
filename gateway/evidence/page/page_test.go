package page

import (
	"bytes"
	"encoding/csv"
	"flag"
	"fmt"
	"html"
	"image"
	"image/color"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	go_qr "github.com/piglig/go-qr"
	"github.com/xuri/excelize/v2"
	nethtml "golang.org/x/net/html"

	"kidoban/gateway/evidence"
	"kidoban/gateway/evidence/sheet"
	"kidoban/gateway/policy"
	"kidoban/gateway/session"
	"kidoban/gateway/view"
)

var update = flag.Bool("update", false, "write the golden files anew")

var languages = []view.Language{view.Japanese, view.English}

func printed(t *testing.T, r *evidence.Report, lang view.Language) string {
	t.Helper()
	text, err := Month(r, lang)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// textOf is what a reader sees: a line for each block, cells apart.
func textOf(t *testing.T, document string) string {
	t.Helper()
	node, err := nethtml.Parse(strings.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for n := range node.Descendants() {
		switch {
		case n.Type == nethtml.TextNode && n.Parent.Data != "style" && n.Parent.Data != "title":
			b.WriteString(strings.Join(strings.FieldsFunc(n.Data, func(r rune) bool { return r == '\n' }), " "))
		case n.Type == nethtml.ElementNode:
			switch n.Data {
			case "h1", "h2", "tr", "p", "dt", "figcaption", "pre":
				b.WriteString("\n")
			case "td", "th", "dd":
				b.WriteString(" | ")
			case "span", "small", "br":
				b.WriteString(" ")
			}
		}
	}
	text := regexp.MustCompile(`[ \t]+`).ReplaceAllString(b.String(), " ")
	return strings.TrimSpace(regexp.MustCompile(`\s*\n\s*`).ReplaceAllString(text, "\n")) + "\n"
}

// TestMonth holds the text of the month and its tables in both languages. With -update it is
// written anew.
func TestMonth(t *testing.T) {
	for _, lang := range languages {
		document := printed(t, sample(), lang)
		got := textOf(t, document)
		for _, s := range Sheets(sample(), lang) {
			got += fmt.Sprintf("\n%s\n%s", s.Name, bytes.ReplaceAll(s.CSV(), []byte("\r"), nil))
		}
		if document != printed(t, sample(), lang) || !bytes.Equal(sheet.XLSX(Sheets(sample(), lang)...), sheet.XLSX(Sheets(sample(), lang)...)) {
			t.Errorf("%s: the same report gives other bytes", lang)
		}
		name := filepath.Join("testdata", "month-"+string(lang)+".txt")
		if *update {
			if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-file +printed):\n%s", name, diff)
		}
	}
}

// TestUnknownIsNoZero: a session of which nothing is known, and one without bytes.
func TestUnknownIsNoZero(t *testing.T) {
	crashed := evidence.ReportSession{ID: "s-1", Vendor: "v", Engineer: "e", OpenedAt: on(1, 9, 0), Ended: "crashed", Used: []evidence.ReportUse{}}
	r := &evidence.Report{Month: "2026-11", Timezone: "Asia/Tokyo", Vendors: []evidence.VendorSummary{{Vendor: "v"}}, Sessions: []evidence.ReportSession{crashed}}
	for lang, want := range map[view.Language][]string{view.Japanese: {"未計上", "不明 / 不明", "11-01 09:00 – 不明"}, view.English: {"not counted", "unknown / unknown", "11-01 09:00 – unknown"}} {
		row := regexp.MustCompile(`\n1 \|.*`).FindString(strings.ReplaceAll(textOf(t, printed(t, r, lang)), "\n| 1 |", "\n1 |"))
		for _, text := range want {
			if !strings.Contains(row, text) {
				t.Errorf("%s: no %q in %q", lang, text, row)
			}
		}
		if strings.Contains(row, "0 B") {
			t.Errorf("%s: zero bytes in %q", lang, row)
		}
		for i, s := range Sheets(r, lang)[:2] {
			for j, cell := range s.Rows[0] {
				if cell == int64(0) && s.Columns[j].Title != view.Say("month_refused", nil).In(lang) {
					t.Errorf("%s: sheet %d has 0 as %s", lang, i, s.Columns[j].Title)
				}
			}
		}
	}
	known := sample().Sessions[3]
	if m := monthOf(sample(), view.English); (&row{ReportSession: &known, month: m}).TunnelCell() != "0 B / 0 B" {
		t.Error("a known zero is not shown")
	}
}

// odd harms whoever takes it for more than a text.
const odd = "=cmd|' /C calc'!A0\n\u202e<script src=http://x.example/a.js>alert(1)</script>\");@import url(http://x.example)"

// TestOddNames: names from outside stay texts in every form.
func TestOddNames(t *testing.T) {
	r := sample()
	r.Site, r.Origin, r.Checkpoint, r.Witnesses = odd, odd, odd, []string{odd}
	for i := range r.Vendors {
		r.Vendors[i].Name = odd
	}
	for i := range r.Sessions {
		s := &r.Sessions[i]
		s.VendorName, s.EngineerName, s.Section, s.Purpose, s.Ticket, s.Ended, s.Line, s.RequestedBy = odd, odd, odd, odd, odd, odd, odd, odd
		for j := range s.Used {
			s.Used[j].Target = odd
		}
		if s.Work != nil {
			s.Work.Text, s.Work.Files, s.Work.Present, s.Work.PersonalData = odd, odd, odd, odd
		}
	}
	r.Mismatches[0].Note, r.Mismatches[0].Text, r.Refused[0].Reason, r.Refused[0].Target = odd, odd, odd, odd
	for _, lang := range languages {
		checkSelfContained(t, printed(t, r, lang))
		book, err := excelize.OpenReader(bytes.NewReader(sheet.XLSX(Sheets(r, lang)...)))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range Sheets(r, lang) {
			rows, err := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(s.CSV(), []byte("\uFEFF")))).ReadAll()
			if err != nil {
				t.Fatal(err)
			}
			for i, row := range rows {
				for j, cell := range row {
					if strings.IndexAny(cell, "=+-@\t\r") == 0 || strings.ContainsAny(cell, "\n\u202e") {
						t.Errorf("%s %d.%d of the CSV is %q", s.Name, i, j, cell)
					}
					name, _ := excelize.CoordinatesToCellName(j+1, i+1)
					if formula, err := book.GetCellFormula(s.Name, name); err != nil || formula != "" {
						t.Errorf("%s %s of the XLSX has the formula %q, %v", s.Name, name, formula, err)
					}
				}
			}
		}
	}
}

// checkSelfContained: a document has no script, asks no network, and every table repeats its head.
func checkSelfContained(t *testing.T, document string) {
	t.Helper()
	node, err := nethtml.Parse(strings.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(document, "\r\u202e") {
		t.Error("a mark changes how other text shows")
	}
	for n := range node.Descendants() {
		if n.Type != nethtml.ElementNode {
			continue
		}
		switch n.Data {
		case "script", "link", "img", "iframe", "object", "embed", "base", "form", "image", "use":
			t.Errorf("the document has a <%s>", n.Data)
		case "style":
			if css := regexp.MustCompile(`"[^"\n]*"`).ReplaceAllString(n.FirstChild.Data, ""); strings.Contains(css, "url(") || strings.Contains(css, "@import") || !strings.Contains(css, "A4 landscape") {
				t.Errorf("the style asks for more, or is not for A4:\n%.300s", css)
			}
		case "table":
			if n.FirstChild.NextSibling == nil || n.FirstChild.NextSibling.Data != "thead" {
				t.Errorf("a table without a head: %s", n.FirstChild.Data)
			}
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || (a.Key == "src" || a.Key == "href" || a.Key == "action") && !strings.HasPrefix(a.Val, "#") || strings.Contains(a.Val, "url(") {
				t.Errorf("<%s %s=%q>", n.Data, a.Key, a.Val)
			}
		}
	}
}

func TestSelfContained(t *testing.T) { checkSelfContained(t, printed(t, sample(), view.Japanese)) }

// TestCheckpointAsQR: what a camera reads is the checkpoint.
func TestCheckpointAsQR(t *testing.T) {
	document := printed(t, sample(), view.English)
	var side int
	_, svg, _ := strings.Cut(document, `<svg class="qr"`)
	svg, _, _ = strings.Cut(svg, "</svg>")
	if _, err := fmt.Sscanf(svg, ` viewBox="0 0 %d`, &side); err != nil {
		t.Fatalf("no QR code: %v\n%.200s", err, svg)
	}
	const scale = 4
	picture := image.NewGray(image.Rect(0, 0, side*scale, side*scale))
	for i := range picture.Pix {
		picture.Pix[i] = 255
	}
	for _, m := range regexp.MustCompile(`M(\d+) (\d+)h`).FindAllStringSubmatch(svg, -1) {
		var x, y int
		fmt.Sscan(m[1]+" "+m[2], &x, &y)
		for i := range scale * scale {
			picture.SetGray(x*scale+i%scale, y*scale+i/scale, color.Gray{})
		}
	}
	got, err := go_qr.Decode(picture)
	if err != nil || got != sample().Checkpoint {
		t.Errorf("it reads %q, %v", got, err)
	}
	r := sample()
	for r.Checkpoint = "x"; len(r.Checkpoint) < 4000; r.Checkpoint += r.Checkpoint {
	}
	if strings.Contains(printed(t, r, view.English), "<svg") {
		t.Error("a checkpoint that is too long has a QR code")
	}
}

// TestEveryEndingAndReasonHasWords, so that a page does not print codes.
func TestEveryEndingAndReasonHasWords(t *testing.T) {
	for _, lang := range languages {
		m := monthOf(sample(), lang)
		for _, e := range session.Endings() {
			if got := m.word(endings[string(e)], string(e)); got == string(e) {
				t.Errorf("%s: no words for the ending %s", lang, e)
			}
		}
		for _, r := range policy.Reasons() {
			for _, plain := range []bool{false, true} {
				if m.Reason(evidence.ReportRefused{Reason: r.String(), Plain: plain}) == r.String() {
					t.Errorf("%s: no words for the reason %s (plain: %t)", lang, r, plain)
				}
			}
		}
	}
	if m := monthOf(sample(), view.English); m.word(endings["of_tomorrow"], "of_tomorrow") != "of_tomorrow" {
		t.Error("an ending of a newer version is lost")
	}
}

// TestClockChange: where two hours of a month have one name, the zone's name tells them apart.
func TestClockChange(t *testing.T) {
	m := monthOf(&evidence.Report{Month: "2026-10", Timezone: "Europe/Berlin"}, view.English)
	first := time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC)
	if got, later := m.Short(first), m.Short(first.Add(time.Hour)); got != "10-25 02:30 CEST" || later != "10-25 02:30 CET" {
		t.Errorf("%q and %q", got, later)
	}
}

// TestPrint: a body that somebody else wrote, with the functions and the shared templates.
func TestPrint(t *testing.T) {
	text, err := Document{Lang: view.Japanese, Title: "a<b", Footer: "end\\"}.Print(`<p>{{.}} {{say "month_only" "vendor" "v"}} {{prose "month_see_entries"}}</p>{{template "stamps"}}`, "<i>")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<title>a&lt;b</title>", `lang="ja"`, "<p>&lt;i&gt; v のみ", "<code>kidoban journal list</code>", "企画管理者"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, html.UnescapeString(string(text)))
		}
	}
	checkSelfContained(t, string(text))
	if _, err := (Document{}).Print("{{.Nothing}}", 1); err == nil {
		t.Error("a template that cannot be filled is no error")
	}
	if _, err := (Document{}).Print("{{", 1); err == nil {
		t.Error("a template that cannot be read is no error")
	}
}
