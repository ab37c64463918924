package dashboards

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
)

// Language is one in which operators read.
type Language int

// The languages.
const (
	English Language = iota
	Japanese
)

func (l Language) folder() string { return [...]string{"", "ja/"}[l] }
func (l Language) suffix() string { return [...]string{"", "-ja"}[l] }

// All gives the three dashboards in one language.
func All(l Language) []*Dashboard {
	b := builder{l}
	return []*Dashboard{b.gate(), b.vendor(), b.appliance()}
}

// builder makes dashboards in one language.
type builder struct{ language Language }

// say gives the text of the language.
func (b builder) say(en, ja string) string { return [...]string{en, ja}[b.language] }

// uid names a dashboard, the same in every installation.
func (b builder) uid(name string) string { return "kidoban-" + name + b.language.suffix() }

// Colours for any colour vision (Okabe and Ito, Color Universal Design).
const (
	blue      = "#0072B2"
	orange    = "#E69F00"
	sky       = "#56B4E9"
	vermilion = "#D55E00"
	purple    = "#CC79A7"
	teal      = "#009E73"
	yellow    = "#F0E442"
	grey      = "#8C8C8C"
)

// Column is a column of a table: a label, or the value of a query ("Value" of the only query,
// "Value #A" of several).
type Column struct {
	Field, Title, Unit string
	Mappings           map[string]string // of a label's values
	Link               object
}

// query is a target before it has a letter.
type query struct {
	expr, legend string
}

// question is a panel before it has a place.
type question struct {
	kind, title   string // the type, and the English title, which has its texts in words.yaml
	width, height int
	unit          string
	queries       []query
	mappings      []mapping
	thresholds    []object
	colors        map[string]string // by the name of a series
	columns       []Column
	links         []object
	noValue       string // instead of "No data"
	share         bool   // the axis ends at 1
	whole         bool   // the values are whole numbers
	timeFrom      string
	drawn         drawing
	names         []Naming // of a histogram's buckets
}

// drawing says how a panel draws its series over time.
type drawing int

const (
	bars drawing = 1 << iota
	stacked
	exemplars
)

// Naming says the bound of a histogram's bucket in words.
type Naming struct{ Bound, Words string }

// column is a column that several tables have.
func (b builder) column(field string) Column {
	return Column{Field: field, Title: words.Columns[field][b.language]}
}

// inside asks for a value of each open session, with its number and the names.
func inside(value string) query {
	return query{namedEngineer(value + " * on (instance, vendor, engineer) group_left (session) kidoban_session_info"), ""}
}

// lay places rows and questions on the grid, 24 columns wide, in order.
func (b builder) lay(d *Dashboard, name string, parts ...any) *Dashboard {
	x, y, high := 0, 0, 0
	for _, part := range parts {
		id := len(d.Panels) + 1
		switch p := part.(type) {
		case row:
			y, x, high = y+high, 0, 0
			d.Panels = append(d.Panels, &Panel{ID: id, Type: "row", Title: string(p), GridPos: grid{1, 24, 0, y}, Collapsed: new(bool), Panels: []*Panel{}})
			y++
		case question:
			if x+p.width > 24 {
				y, x, high = y+high, 0, 0
			}
			panel, texts := p.panel(), words.Panels[name][p.title]
			panel.Title, panel.Description = b.say(p.title, texts[0]), texts[1+b.language]
			panel.ID, panel.GridPos = id, grid{p.height, p.width, x, y}
			d.Panels = append(d.Panels, panel)
			x += p.width
			high = max(high, p.height)
		}
	}
	return d
}

// row is a heading.
type row string

func (q question) panel() *Panel {
	p := &Panel{Type: q.kind, Datasource: fromVariable, TimeFrom: q.timeFrom}
	for i, target := range q.queries {
		t := Target{RefID: string(rune('A' + i)), Datasource: fromVariable, Expr: target.expr, LegendFormat: target.legend, Format: "time_series", EditorMode: "code"}
		switch q.kind {
		case "table":
			t.Instant, t.Format = true, "table"
		case "stat":
			t.Instant = true
		case "bargauge": // of a histogram: Grafana sorts the buckets and takes them apart
			t.Instant, t.Format = true, "heatmap"
		default:
			t.Range, t.Exemplar = true, q.drawn&exemplars != 0
		}
		p.Targets = append(p.Targets, t)
	}
	f := &fields{Overrides: []object{}, Defaults: defaults{Unit: q.unit, NoValue: q.noValue,
		Mappings: q.mappings, Links: q.links, Thresholds: object{"mode": "absolute", "steps": q.thresholds}, Color: object{"mode": "thresholds"}}}
	if q.kind == "timeseries" || q.kind == "bargauge" {
		f.Defaults.Min = new(float64)
	}
	if q.share {
		f.Defaults.Max = new(1.0)
	}
	if q.whole {
		f.Defaults.Decimals = new(int)
	}
	if f.Defaults.Mappings == nil {
		f.Defaults.Mappings = []mapping{}
	}
	if q.thresholds == nil {
		f.Defaults.Thresholds["steps"] = steps(blue)
	}
	p.FieldConfig = f
	switch q.kind {
	case "stat":
		p.Options = object{"reduceOptions": reduce, "colorMode": "background", "graphMode": "none", "justifyMode": "center", "orientation": "auto",
			"textMode": "auto", "wideLayout": true, "showPercentChange": false, "percentChangeColorMode": "standard"}
		if len(q.queries) == 1 && q.queries[0].legend == "" {
			p.Options["textMode"] = "value"
		}
	case "bargauge":
		p.Options = object{"reduceOptions": reduce, "orientation": "horizontal", "displayMode": "basic", "valueMode": "text", "showUnfilled": true,
			"minVizHeight": 16, "maxVizHeight": 300, "minVizWidth": 8, "namePlacement": "auto", "sizing": "auto",
			"legend": object{"showLegend": false, "displayMode": "list", "placement": "bottom", "calcs": []string{}}}
		for _, n := range q.names {
			f.Overrides = append(f.Overrides, override("byRegexp", "/^"+regexp.QuoteMeta(n.Bound)+"(\\.0)?$/", option("displayName", n.Words)))
		}
	case "state-timeline":
		p.Options = object{"mergeValues": true, "showValue": "auto", "alignValue": "left", "rowHeight": 0.8, "perPage": 20,
			"legend": object{"showLegend": true, "displayMode": "list", "placement": "bottom", "calcs": []string{}}, "tooltip": object{"mode": "single", "sort": "none"}}
		f.Defaults.Custom = object{"fillOpacity": 80, "lineWidth": 0}
		p.MaxDataPoints = 1000
	case "timeseries":
		p.series(q)
	case "table":
		p.table(q)
	}
	return p
}

// reduce shows the newest value of a series.
var reduce = object{"values": false, "calcs": []string{"lastNotNull"}, "fields": ""}

func (p *Panel) series(q question) {
	legend := object{"showLegend": true, "displayMode": "table", "placement": "bottom", "calcs": []string{"lastNotNull", "max"}}
	custom := object{"drawStyle": "line", "lineWidth": 2, "fillOpacity": 0, "showPoints": "auto", "pointSize": 5, "spanNulls": false,
		"lineInterpolation": "stepAfter", "axisPlacement": "auto", "stacking": object{"mode": "none", "group": "A"}}
	if q.drawn&bars != 0 {
		custom["drawStyle"], custom["fillOpacity"], custom["lineWidth"] = "bars", 80, 0
		// $__rate_interval is at least four scrapes: a smaller distance of bars would show one
		// event in several. The legend has no sums, since these would count some events twice.
		p.Interval = "1m"
		legend["displayMode"], legend["calcs"] = "list", []string{}
	}
	if q.drawn&stacked != 0 {
		custom["stacking"] = object{"mode": "normal", "group": "A"}
	}
	p.Options = object{"legend": legend, "tooltip": object{"mode": "multi", "sort": "desc"}}
	p.FieldConfig.Defaults.Custom = custom
	p.FieldConfig.Defaults.Color = object{"mode": "palette-classic-by-name"}
	for _, name := range slices.Sorted(maps.Keys(q.colors)) {
		p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, override("byName", name,
			option("color", object{"mode": "fixed", "fixedColor": q.colors[name]})))
	}
}

// table joins the answers of all queries by their labels. It shows the named columns in that order.
func (p *Panel) table(q question) {
	p.Options = object{"showHeader": true, "frameIndex": 0, "cellHeight": "sm", "sortBy": []object{}}
	p.FieldConfig.Defaults.Custom = object{"align": "auto", "cellOptions": object{"type": "auto"}, "filterable": true, "inspect": false}
	names, order := object{}, object{}
	var pattern []string
	for i, c := range q.columns {
		names[c.Field], order[c.Field] = c.Title, i
		pattern = append(pattern, c.Field)
		var properties []object
		if c.Unit != "" {
			properties = append(properties, option("unit", c.Unit))
		}
		if c.Mappings != nil {
			properties = append(properties, option("mappings", []mapping{wordMapping(c.Mappings)}))
		}
		if c.Link != nil {
			properties = append(properties, option("links", []object{c.Link}))
		}
		if properties != nil {
			p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, override("byName", c.Title, properties...))
		}
	}
	p.Transformations = []object{
		{"id": "merge", "options": object{}},
		{"id": "filterFieldsByName", "options": object{"include": object{"names": pattern}}},
		{"id": "organize", "options": object{"excludeByName": object{}, "includeByName": object{}, "indexByName": order, "renameByName": names}},
	}
}

// override sets options of the fields that a matcher chooses.
func override(by, name string, options ...object) object {
	return object{"matcher": object{"id": by, "options": name}, "properties": options}
}

func option(id string, value any) object { return object{"id": id, "value": value} }

// wordMapping says words instead of a label's values.
func wordMapping(words map[string]string) mapping {
	m := mapping{"value", map[string]result{}}
	for i, value := range slices.Sorted(maps.Keys(words)) {
		m.Options[value] = result{Text: words[value], Index: i}
	}
	return m
}

// is says words and a colour instead of numbers.
func is(results ...any) []mapping {
	m := mapping{"value", map[string]result{}}
	for i := 0; i+2 < len(results); i += 3 {
		m.Options[fmt.Sprint(results[i])] = result{results[i+1].(string), results[i+2].(string), i / 3}
	}
	return []mapping{m}
}

// steps gives thresholds: the first colour is that of all values, then each value has
// the colour of the values from it on.
func steps(first string, then ...any) []object {
	all := []object{{"color": first, "value": nil}}
	for i := 0; i+1 < len(then); i += 2 {
		all = append(all, object{"color": then[i+1], "value": then[i]})
	}
	return all
}

// named gives the series of vendors their names for people, in the label name.
func named(expr string) string { return joined(expr, "vendor", "name", "kidoban_vendor_info") }

// namedEngineer gives the series of engineers both names for people.
func namedEngineer(expr string) string {
	return joined(expr, "vendor, engineer", "vendor_name, engineer_name", "kidoban_engineer_info")
}

// joined adds labels of an info series. Series without one stay as they are: of strangers, of vendors
// that the policy no longer lists, and of the time before a gateway had info series.
func joined(expr, on, labels, info string) string {
	return fmt.Sprintf("(%s) * on (instance, %s) group_left (%s) %s or on (instance, %s) (%s)", expr, on, labels, info, on, expr)
}

// turns has a value where a state changed to it.
func turns(state string, to int) string {
	return fmt.Sprintf("%s == %d and (%s offset 1m) == %d", state, to, state, 1-to)
}

// lastTime gives the last time in each step, in milliseconds, at which an expression had a value. No
// time is missed, whatever the step. Grafana shows no annotation for the value 0, so the state
// itself cannot be the value.
func lastTime(expr string) string {
	return "1000 * max_over_time(timestamp(" + expr + ")[$__interval:1m])"
}

// dashboard has the common parts: variables, links, annotations. The selector chooses the windows
// that are marked.
func (b builder) dashboard(name, title, description, from, selector string, variables ...object) *Dashboard {
	d := &Dashboard{UID: b.uid(name), Title: title, Description: description, Tags: []string{"kidoban", [...]string{"en", "ja"}[b.language]},
		SchemaVersion: SchemaVersion, Version: 1, Editable: true, GraphTooltip: 1, Refresh: "30s", Time: object{"from": from, "to": "now"}, Timezone: "browser", WeekStart: "monday",
		Links: []object{}}
	d.Templating.List = append([]object{{
		"name": "datasource", "type": "datasource", "label": b.say("Data source", "データソース"), "query": "prometheus", "refresh": 1, "hide": 0,
		"includeAll": false, "multi": false, "regex": "", "options": []object{}, "skipUrlSync": false,
	}, b.variable("instance", b.say("Gateway", "ゲートウェイ"), "label_values(kidoban_build_info, instance)", true)}, variables...)
	for _, other := range []struct{ name, title string }{
		{"gate", b.say("Gate", "木戸")}, {"vendor", b.say("Vendor", "業者")}, {"appliance", b.say("Appliance", "装置")},
	} {
		if other.name != name {
			d.Links = append(d.Links, object{"title": other.title, "type": "link", "url": "/d/" + b.uid(other.name), "tooltip": "", "icon": "dashboard",
				"tags": []string{}, "asDropdown": false, "includeVars": true, "keepTime": true, "targetBlank": false})
		}
	}
	annotation := func(name, color, expr, title string) Annotation {
		return Annotation{Name: name, Datasource: fromVariable, Enable: true, IconColor: color, Target: annotating{"Anno", expr, "1m"},
			TitleFormat: title, TagKeys: "vendor", UseValueForTime: true}
	}
	windows := "kidoban_window_open{" + selector + "}"
	d.Annotations.List = []Annotation{
		annotation(b.say("Windows open", "時間帯の開始"), sky, lastTime(named(turns(windows, 1))), b.say("{{vendor}}/{{window}} ({{name}}) opened", "{{vendor}}/{{window}}（{{name}}）開始")),
		annotation(b.say("Windows close", "時間帯の終了"), grey, lastTime(named(turns(windows, 0))), b.say("{{vendor}}/{{window}} ({{name}}) closed", "{{vendor}}/{{window}}（{{name}}）終了")),
		annotation(b.say("Kill switch", "全面遮断"), vermilion, lastTime(turns("kidoban_shut{"+ofInstance+`,scope="all"}`, 1)), b.say("An operator closed everything", "運用者が全面遮断")),
	}
	return d
}

// Selectors of the variables.
const (
	ofInstance = `instance=~"$instance"`
	ofVendors  = ofInstance + `,vendor=~"$vendor"` // several, or all
)

// variable is filled by a query. all: several may be chosen, and "All" is at first.
func (b builder) variable(name, label, query string, all bool) object {
	v := object{"name": name, "type": "query", "label": label, "datasource": fromVariable,
		"query": object{"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"}, "refresh": 2, "sort": 1, "hide": 0, "regex": "",
		"includeAll": all, "multi": all, "options": []object{}, "skipUrlSync": false}
	if all {
		v["allValue"] = ".*"
		v["current"] = object{"selected": true, "text": []string{"All"}, "value": []string{"$__all"}}
	}
	return v
}

// toVendor leads from a vendor's name to its dashboard.
func (b builder) toVendor(name string) object {
	return object{"title": b.say("This vendor", "この業者を見る"), "targetBlank": false, "url": "/d/" + b.uid("vendor") + "?var-vendor=" + name + "&${datasource:queryparam}&${instance:queryparam}&${__url_time_range}"}
}
