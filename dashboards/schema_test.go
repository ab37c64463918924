package dashboards

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestGrafanaTakesTheFiles holds every dashboard against Grafana's own types,
// which testdata/grafana/generate.sh made a JSON schema of: no field that
// Grafana does not know, none missing that it needs, none of another type. A
// dashboard that is broken on purpose shows that this can fail.
func TestGrafanaTakesTheFiles(t *testing.T) {
	shape := readSchema(t)
	files, err := generated()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		for _, problem := range shape.check(t, text) {
			t.Errorf("%s: %s", name, problem)
		}
	}
	gate := string(files["gate.json"])
	for _, x := range []struct{ have, broken, want string }{
		{`"schemaVersion": 42`, `"schemaVersion": "42"`, `/schemaVersion: 42 is no number`},
		{`"collapsed": false`, `"collapse": false`, `: there is no collapse`},
		{`"colorMode": "background"`, `"colorMode": "blinking"`, `/options/colorMode: blinking is none of [background background_solid none value]`},
		{`"mergeValues": true`, `"mergeValue": true`, `/options: there is no mergeValue`},
		{`"frameIndex": 0,`, ``, `/options: frameIndex is missing`},
		{`"drawStyle": "line"`, `"drawStyle": ["line"]`, `/fieldConfig/defaults/custom/drawStyle: [line] is no string`},
	} {
		broken := strings.Replace(gate, x.have, x.broken, 1)
		if broken == gate {
			t.Errorf("%s is not in the dashboard", x.have)
		}
		problems := shape.check(t, []byte(broken))
		if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, x.want) }) {
			t.Errorf("with %s: %q, want %q", x.broken, problems, x.want)
		}
	}
}

// schema is a JSON schema of the few words that the generator uses.
type schema struct {
	Ref                  string             `json:"$ref"`
	Schema               string             `json:"$schema"`
	Definitions          map[string]*schema `json:"definitions"`
	Type                 any                `json:"type"` // one, or several
	Properties           map[string]*schema `json:"properties"`
	Required             []string           `json:"required"`
	AdditionalProperties any                `json:"additionalProperties"` // false, or a schema for all others
	Items                *schema            `json:"items"`
	AnyOf                []*schema          `json:"anyOf"`
	Enum                 []any              `json:"enum"`
	Const                any                `json:"const"`

	root   *schema
	others *schema // of AdditionalProperties; nil: any
}

func readSchema(t *testing.T) *schema {
	t.Helper()
	file, err := os.Open("testdata/grafana/dashboard.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	d := json.NewDecoder(file)
	d.DisallowUnknownFields() // a word that we do not hold would hold nothing
	var s schema
	if err := d.Decode(&s); err != nil {
		t.Fatal(err)
	}
	s.prepare(t, &s)
	return &s
}

func (s *schema) prepare(t *testing.T, root *schema) {
	t.Helper()
	s.root = root
	if others, ok := s.AdditionalProperties.(map[string]any); ok {
		text, err := json.Marshal(others)
		if err != nil {
			t.Fatal(err)
		}
		s.others = &schema{}
		if err := json.Unmarshal(text, s.others); err != nil {
			t.Fatal(err)
		}
	}
	for _, part := range slices.Concat(s.AnyOf, []*schema{s.Items, s.others}, slices.Collect(maps.Values(s.Properties)), slices.Collect(maps.Values(s.Definitions))) {
		if part != nil {
			part.prepare(t, root)
		}
	}
}

// check says what of a text is not as the schema wants it.
func (s *schema) check(t *testing.T, text []byte) []string {
	t.Helper()
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	return s.problems("", value)
}

func (s *schema) problems(at string, value any) (all []string) {
	if s.Ref != "" {
		return s.root.Definitions[strings.TrimPrefix(s.Ref, "#/definitions/")].problems(at, value)
	}
	say := func(format string, args ...any) { all = append(all, at+": "+fmt.Sprintf(format, args...)) }
	if s.AnyOf != nil {
		// What fits best is what was meant; of panels, one of the same type.
		rank := func(found []string) int {
			if slices.ContainsFunc(found, func(p string) bool { return strings.HasPrefix(p, at+"/type: ") }) {
				return len(found) + 1000
			}
			return len(found)
		}
		best := s.AnyOf[0].problems(at, value)
		for _, x := range s.AnyOf[1:] {
			if found := x.problems(at, value); rank(found) < rank(best) {
				best = found
			}
		}
		return best
	}
	if kinds := s.kinds(); len(kinds) > 0 && !slices.ContainsFunc(kinds, func(k string) bool { return ofKind(k, value) }) {
		say("%v is no %s", value, strings.Join(kinds, " or "))
		return all
	}
	if s.Enum != nil && !slices.ContainsFunc(s.Enum, func(x any) bool { return reflect.DeepEqual(x, value) }) {
		say("%v is none of %v", value, s.Enum)
	}
	if s.Const != nil && !reflect.DeepEqual(s.Const, value) {
		say("%v is not %v", value, s.Const)
	}
	switch v := value.(type) {
	case []any:
		for i, x := range v {
			if s.Items != nil {
				all = append(all, s.Items.problems(fmt.Sprintf("%s/%d", at, i), x)...)
			}
		}
	case map[string]any:
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				say("%s is missing", name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			switch {
			case s.Properties[name] != nil:
				all = append(all, s.Properties[name].problems(at+"/"+name, v[name])...)
			case s.others != nil:
				all = append(all, s.others.problems(at+"/"+name, v[name])...)
			case s.AdditionalProperties == false:
				say("there is no %s", name)
			}
		}
	}
	return all
}

func (s *schema) kinds() []string {
	switch kind := s.Type.(type) {
	case string:
		return []string{kind}
	case []any:
		var all []string
		for _, k := range kind {
			all = append(all, k.(string))
		}
		return all
	}
	return nil
}

// ofKind reports whether a value is of a kind of JSON's.
func ofKind(kind string, value any) bool {
	switch value.(type) {
	case nil:
		return kind == "null"
	case bool:
		return kind == "boolean"
	case string:
		return kind == "string"
	case float64:
		return kind == "number" || kind == "integer"
	case []any:
		return kind == "array"
	}
	return kind == "object"
}
