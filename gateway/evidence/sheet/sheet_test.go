package sheet

import (
	"bytes"
	"encoding/csv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/xuri/excelize/v2"
)

// odd are texts that harm a reader who takes them for more than texts, and as they are printed.
var odd = [][2]string{
	{"木戸市民病院", "木戸市民病院"},
	{"=cmd|' /C calc'!A0", "=cmd|' /C calc'!A0"},
	{"+81-3", "+81-3"}, {"-1", "-1"}, {"@SUM(A1)", "@SUM(A1)"}, {"＝1+1", "＝1+1"}, {" =1", " =1"},
	{"\t=1", "·=1"}, {"\r=1", "·=1"}, {"\u200b=1", "·=1"},
	{"two\nlines", "two·lines"}, {"\u202egnp.exe", "·gnp.exe"}, {"bell\x07 nul\x00", "bell· nul·"},
	{`<a b="c">&'`, `<a b="c">&'`}, {"_x000D_", "_x000D_"}, {"  kept  ", "  kept  "}, {"", ""},
	{"bad\xff", "bad\uFFFD"},
	{strings.Repeat("病", 40000), strings.Repeat("病", 32766) + "…"},
}

func oddSheet(name string) Sheet {
	s := Sheet{Name: name, Columns: []Column{{Title: "名前", Width: 30}, {Title: "=count"}, {Title: "空"}}}
	for i, text := range odd {
		s.Rows = append(s.Rows, []any{text[0], int64(i) << 40})
	}
	return s
}

func TestXLSX(t *testing.T) {
	first := oddSheet("月報")
	second := Sheet{Name: "拒否", Columns: []Column{{Title: "a"}}}
	text := XLSX(first, second)
	if !bytes.Equal(text, XLSX(first, second)) {
		t.Error("the same tables give other bytes")
	}
	book, err := excelize.OpenReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"月報", "拒否"}, book.GetSheetList()); diff != "" {
		t.Error(diff)
	}
	for i, want := range odd {
		cell, _ := excelize.CoordinatesToCellName(1, i+2)
		got, err := book.GetCellValue("月報", cell)
		formula, _ := book.GetCellFormula("月報", cell)
		kind, _ := book.GetCellType("月報", cell)
		if err != nil || got != want[1] || formula != "" || kind != excelize.CellTypeInlineString {
			t.Errorf("%s: %.60q with formula %q and type %v, %v; want %.60q", cell, got, formula, kind, err, want[1])
		}
	}
	if got, _ := book.GetCellValue("月報", "B4"); got != "2,199,023,255,552" {
		t.Errorf("a number came as %q", got)
	}
	panes, err := book.GetPanes("月報")
	if err != nil || !panes.Freeze || panes.YSplit != 1 {
		t.Errorf("the heads are not frozen: %+v, %v", panes, err)
	}
	if width, _ := book.GetColWidth("月報", "A"); width != 30 {
		t.Errorf("column A is %v wide", width)
	}
	if layout, _ := book.GetPageLayout("月報"); *layout.Orientation != "landscape" || *layout.Size != 9 {
		t.Errorf("pages are %+v", layout)
	}
}

func TestLetters(t *testing.T) {
	for _, n := range []int{1, 26, 27, 52, 53, 702, 703} {
		if want, _ := excelize.ColumnNumberToName(n); letters(n-1) != want {
			t.Errorf("column %d is %s, want %s", n, letters(n-1), want)
		}
	}
}

func TestCSV(t *testing.T) {
	s := oddSheet("月報")
	text := s.CSV()
	body, marked := bytes.CutPrefix(text, []byte("\uFEFF"))
	if !marked || bytes.Count(body, []byte("\n")) != len(odd)+1 || bytes.Count(body, []byte("\r\n")) != len(odd)+1 {
		t.Errorf("no mark, or other lines than rows:\n%.400q", text)
	}
	rows, err := csv.NewReader(bytes.NewReader(body)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"名前", "'=count", "空"}, rows[0]); diff != "" {
		t.Error(diff)
	}
	quoted := 0
	for i, want := range odd {
		got := rows[i+1][0]
		if strings.IndexAny(strings.TrimLeft(got, " ·\t\r"), "=+-@＝＋－＠") == 0 {
			t.Errorf("%q begins a formula", got)
		}
		unquoted := strings.TrimPrefix(got, "'")
		if unquoted != want[1] {
			t.Errorf("%.60q came as %.60q", want[0], got)
		}
		if unquoted != got {
			quoted++
		}
	}
	if quoted != 9 {
		t.Errorf("%d texts are quoted against formulas, want 9", quoted)
	}
	if got := rows[3][1]; got != "2199023255552" {
		t.Errorf("a number came as %q", got)
	}
}
