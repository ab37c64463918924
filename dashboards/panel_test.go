package dashboards

// SchemaVersion is the version of Grafana's classic dashboard schema (Grafana 12; @grafana/schema).
const SchemaVersion = 42

// object is an open part of the schema, such as the options of a panel type.
type object = map[string]any

// Dashboard is one in Grafana's classic schema.
type Dashboard struct {
	UID           string   `json:"uid"`
	Title         string   `json:"title"`
	Description   string   `json:"description"`
	Tags          []string `json:"tags"`
	SchemaVersion int      `json:"schemaVersion"`
	Version       int      `json:"version"`
	Editable      bool     `json:"editable"`
	GraphTooltip  int      `json:"graphTooltip"` // 1: the crosshair is shared
	Refresh       string   `json:"refresh"`
	Time          object   `json:"time"`
	Timezone      string   `json:"timezone"`
	WeekStart     string   `json:"weekStart"`
	Links         []object `json:"links"`
	Templating    struct {
		List []object `json:"list"`
	} `json:"templating"`
	Annotations struct {
		List []Annotation `json:"list"`
	} `json:"annotations"`
	Panels []*Panel `json:"panels"`
}

// Annotation marks moments on all panels with a time axis. The values of the query are times in
// milliseconds.
type Annotation struct {
	Name            string            `json:"name"`
	Datasource      map[string]string `json:"datasource"`
	Enable          bool              `json:"enable"`
	Hide            bool              `json:"hide"`
	IconColor       string            `json:"iconColor"`
	Target          annotating        `json:"target"`
	TitleFormat     string            `json:"titleFormat"`
	TagKeys         string            `json:"tagKeys"`
	UseValueForTime bool              `json:"useValueForTime"`
}

type annotating struct {
	RefID    string `json:"refId"`
	Expr     string `json:"expr"`
	Interval string `json:"interval"` // the least step
}

// fromVariable is the datasource that the dashboard's variable names.
var fromVariable = map[string]string{"type": "prometheus", "uid": "${datasource}"}

// Panel answers one question. Of a row only the title counts.
type Panel struct {
	ID              int               `json:"id"`
	Type            string            `json:"type"`
	Title           string            `json:"title"`
	Description     string            `json:"description,omitempty"`
	GridPos         grid              `json:"gridPos"`
	Datasource      map[string]string `json:"datasource,omitempty"`
	Targets         []Target          `json:"targets,omitempty"`
	FieldConfig     *fields           `json:"fieldConfig,omitempty"`
	Options         object            `json:"options,omitempty"`
	Transformations []object          `json:"transformations,omitempty"`
	TimeFrom        string            `json:"timeFrom,omitempty"` // another period than the dashboard's: "7d" back, "+24h" ahead
	Interval        string            `json:"interval,omitempty"` // the least step
	MaxDataPoints   int               `json:"maxDataPoints,omitempty"`
	Collapsed       *bool             `json:"collapsed,omitempty"` // of a row
	Panels          []*Panel          `json:"panels,omitzero"`     // of a row
}

type grid struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

// Target is one query of a panel.
type Target struct {
	RefID        string            `json:"refId"`
	Datasource   map[string]string `json:"datasource"`
	Expr         string            `json:"expr"`
	LegendFormat string            `json:"legendFormat"`
	Instant      bool              `json:"instant"`
	Range        bool              `json:"range"`
	Format       string            `json:"format"`
	Exemplar     bool              `json:"exemplar"`
	EditorMode   string            `json:"editorMode"`
}

type fields struct {
	Defaults  defaults `json:"defaults"`
	Overrides []object `json:"overrides"`
}

type defaults struct {
	Unit       string    `json:"unit"`
	Min        *float64  `json:"min,omitempty"`
	Max        *float64  `json:"max,omitempty"`
	Decimals   *int      `json:"decimals,omitempty"`
	NoValue    string    `json:"noValue,omitempty"`
	Color      object    `json:"color"`
	Thresholds object    `json:"thresholds"`
	Mappings   []mapping `json:"mappings"`
	Links      []object  `json:"links,omitempty"`
	Custom     object    `json:"custom,omitempty"`
}

type mapping struct {
	Type    string            `json:"type"` // "value"
	Options map[string]result `json:"options"`
}

type result struct {
	Text  string `json:"text"`
	Color string `json:"color,omitempty"`
	Index int    `json:"index"`
}
