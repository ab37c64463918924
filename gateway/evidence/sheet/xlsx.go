package sheet

import (
	"archive/zip"
	"bytes"
	"encoding/xml"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// XLSX gives tables as a workbook: the heads in bold, frozen and repeated on every printed page, A4
// landscape, as wide as one page. Texts are inline strings, which no program takes for formulas.
func XLSX(sheets ...Sheet) []byte {
	files := []struct{ name, text string }{
		{"[Content_Types].xml", `<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">` +
			`<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/>` +
			`<Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>` +
			`<Override PartName="/xl/styles.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.styles+xml"/>` +
			each(sheets, func(n int, _ Sheet) string {
				return fmt.Sprintf(`<Override PartName="/xl/worksheets/sheet%d.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/>`, n)
			}) + `</Types>`},
		{"_rels/.rels", `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">` +
			`<Relationship Id="rId1" Type="` + relation + `officeDocument" Target="xl/workbook.xml"/></Relationships>`},
		{"xl/workbook.xml", `<workbook xmlns="` + space + `" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets>` +
			each(sheets, func(n int, s Sheet) string {
				return fmt.Sprintf(`<sheet name="%s" sheetId="%d" r:id="rId%d"/>`, escaped(s.Name), n, n)
			}) + `</sheets><definedNames>` +
			each(sheets, func(n int, s Sheet) string {
				return fmt.Sprintf(`<definedName name="_xlnm.Print_Titles" localSheetId="%d">'%s'!$1:$1</definedName>`, n-1, escaped(s.Name))
			}) + `</definedNames></workbook>`},
		{"xl/_rels/workbook.xml.rels", `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">` +
			each(sheets, func(n int, _ Sheet) string {
				return fmt.Sprintf(`<Relationship Id="rId%d" Type="%sworksheet" Target="worksheets/sheet%d.xml"/>`, n, relation, n)
			}) + fmt.Sprintf(`<Relationship Id="rId%d" Type="%sstyles" Target="styles.xml"/></Relationships>`, len(sheets)+1, relation)},
		{"xl/styles.xml", styles},
	}
	for i, s := range sheets {
		files = append(files, struct{ name, text string }{fmt.Sprintf("xl/worksheets/sheet%d.xml", i+1), s.xml()})
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		// A time of its own would make other bytes each time. DOS times begin in 1980.
		w, err := z.CreateHeader(&zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)})
		if err == nil {
			_, err = w.Write([]byte(xml.Header + f.text))
		}
		if err != nil {
			panic(err) // a buffer takes everything
		}
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

const (
	space    = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
	relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/"

	// styles has the style 1 of heads, 2 of texts and 3 of numbers, as in 1,234.
	styles = `<styleSheet xmlns="` + space + `"><fonts count="2"><font><sz val="10"/><name val="Yu Gothic"/></font><font><b/><sz val="10"/><name val="Yu Gothic"/></font></fonts>` +
		`<fills count="3"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill><fill><patternFill patternType="solid"><fgColor rgb="FFE6ECF2"/></patternFill></fill></fills>` +
		`<borders count="2"><border/><border><left style="hair"/><right style="hair"/><top style="hair"/><bottom style="hair"/></border></borders>` +
		`<cellStyleXfs count="1"><xf/></cellStyleXfs><cellXfs count="4"><xf/>` +
		`<xf fontId="1" fillId="2" borderId="1" applyFont="1" applyFill="1" applyBorder="1" applyAlignment="1"><alignment vertical="center" wrapText="1"/></xf>` +
		`<xf borderId="1" applyBorder="1" applyAlignment="1"><alignment vertical="top" wrapText="1"/></xf>` +
		`<xf numFmtId="3" borderId="1" applyNumberFormat="1" applyBorder="1" applyAlignment="1"><alignment vertical="top"/></xf></cellXfs></styleSheet>`
)

func each(sheets []Sheet, text func(n int, s Sheet) string) (all string) {
	for i, s := range sheets {
		all += text(i+1, s)
	}
	return all
}

func (s Sheet) xml() string {
	var b strings.Builder
	b.WriteString(`<worksheet xmlns="` + space + `"><sheetPr><pageSetUpPr fitToPage="1"/></sheetPr>` +
		`<sheetViews><sheetView workbookViewId="0"><pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews>`)
	var heads []any
	if len(s.Columns) > 0 {
		b.WriteString("<cols>")
		for i, c := range s.Columns {
			fmt.Fprintf(&b, `<col min="%d" max="%d" width="%d" customWidth="1"/>`, i+1, i+1, c.width())
			heads = append(heads, c.Title)
		}
		b.WriteString("</cols>")
	}
	b.WriteString("<sheetData>")
	for i, row := range append([][]any{heads}, s.Rows...) {
		style := 2
		if i == 0 {
			style = 1
		}
		fmt.Fprintf(&b, `<row r="%d">`, i+1)
		for j, cell := range row {
			at := fmt.Sprintf(`r="%s%d"`, letters(j), i+1)
			switch v := cell.(type) {
			case nil:
				fmt.Fprintf(&b, `<c %s s="%d"/>`, at, style)
			case string:
				fmt.Fprintf(&b, `<c %s s="%d" t="inlineStr"><is><t xml:space="preserve">%s</t></is></c>`, at, style, escaped(plain(v)))
			default:
				fmt.Fprintf(&b, `<c %s s="3"><v>%d</v></c>`, at, v)
			}
		}
		b.WriteString("</row>")
	}
	b.WriteString(`</sheetData><pageMargins left="0.4" right="0.4" top="0.5" bottom="0.5" header="0.3" footer="0.3"/>` +
		`<pageSetup paperSize="9" orientation="landscape" fitToHeight="0"/><headerFooter><oddFooter>&amp;L&amp;8` +
		escaped(strings.ReplaceAll(plain(" "+s.Footer), "&", "&&")) + `&amp;R&amp;8&amp;P / &amp;N</oddFooter></headerFooter></worksheet>`)
	return b.String()
}

// letters names a column: A, B, ..., Z, AA.
func letters(column int) string {
	if column < 26 {
		return string(rune('A' + column))
	}
	return letters(column/26-1) + letters(column%26)
}

// coded is what a spreadsheet program reads as the code of a character (ST_Xstring).
var coded = regexp.MustCompile(`_x[0-9A-Fa-f]{4}_`)

func escaped(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(coded.ReplaceAllStringFunc(text, func(code string) string { return "_x005F" + code })))
	return b.String()
}
