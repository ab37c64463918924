package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"kidoban/gateway/evidence/catalogue"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

var update = flag.Bool("update", false, "write openapi.json anew")

// summaries say what each route does.
var summaries = map[string]string{
	"/v1/evidence/month":       "The report of a month.",
	"/v1/evidence/inspection":  "The self-inspection: each control of the catalogue with its answer.",
	"/v1/evidence/answer":      "Answer a control of the catalogue.",
	"/v1/evidence/incidents":   "All incidents, with what was sent about each.",
	"/v1/evidence/review":      "Sign sessions or a vendor's month: checked by an operator, or confirmed by the officer in charge.",
	"/v1/evidence/work-report": "Record what a vendor says of its work.",
	"/v1/evidence/reported":    "Record that the report of a month was made, by its digest.",
	"/v1/evidence/mirrored":    "Record that a copy elsewhere has the first entries of the journal.",
	"/v1/evidence/probe":       "Record how a trial of the promises ended.",
	"/v1/evidence/incident":    "Open an incident, record a bundle of it, or close it.",
	"/v1/evidence/sent":        "Record that a report of an incident went to a recipient.",
	"/v1/status":               "How the gateway stands",
	"/v1/sessions":             "Who is inside",
	"/v1/grants":               "What is open",
	"/v1/refusals":             "Who was refused, and why",
	"/v1/explain":              "Whether an engineer may enter, and why or why not",
	"/v1/calendar":             "Who can enter when, to what",
	"/v1/policy":               "The policy in force, with what is shut",
	"/v1/client-config":        "What an engineer pastes into a WireGuard client",
	"/v1/events":               "Follow the journal: Server-Sent Events, one for each entry once it is on disk",
	"/v1/notify":               "Where notices go",
	"/v1/journal":              "Read the journal by pages, the oldest entry first",
	"/v1/openapi.json":         "This document",
	"/v1/close":                "Cut an engineer, a vendor or everything now, and keep it shut over restarts",
	"/v1/reopen":               "Take a close back",
	"/v1/recover":              "Lead out of doubt. Every session ends",
	"/v1/reload":               "Read the policy file again. The body is empty",
	"/v1/request":              "Ask for an opening that the policy lets a vendor have on request",
	"/v1/requests":             "Requests, the newest first",
	"/v1/approve":              "Approve a request, by the digest of the terms that were shown. With another digest the answer is 409",
	"/v1/deny":                 "Deny a request",
	"/v1/withdraw":             "Withdraw a request",
	"/v1/revoke":               "End an approved request at once and for good",
	"/v1/ask-extension":        "Ask for a later end of a request",
	"/v1/extend":               "Approve a later end, by the digest of the terms that were shown",
	"/v1/shorten":              "Set an earlier end",
	"/v1/ratify":               "Sign an emergency afterwards",
	"/v1/report":               "Say what the work was",
	"/v1/review":               "Sign the work",
}

// parameterTexts say what parameters of queries mean, of one route or of all.
var parameterTexts = map[string]string{
	"engineer":               "vendor/engineer",
	"vendor":                 "the short name of a vendor",
	"/v1/explain from":       "the address to come from; else that of the session or the last attempt",
	"line":                   "a line of the policy, or an interface of the gateway, to come by; else the right one",
	"to":                     "a destination, as in 10.1.0.5:tcp/22; else the tunnel only",
	"at":                     "a time, as in 2026-12-01T20:00; else now",
	"/v1/calendar from":      "a time; else now",
	"until":                  "a time; else 30 days after from",
	"mtu":                    "of the tunnel, in bytes: 1280 to 1420",
	"after":                  "the index of an entry: the answer begins with the next one. -1: with the first. Else a stream begins with what comes, and a list with the first",
	"kinds":                  "kinds of entries with commas between them; else all",
	"request":                "the id of a request",
	"id":                     "the id of a request",
	"state":                  "of the requests: " + joined(policy.Stages()),
	"limit":                  "the most items of a page: 1 to 500; else 50",
	"tier":                   "of the catalogue: 1 to 3; else that of the policy",
	"month":                  "a month of the site, as 2026-11",
	"cursor":                 "the next of the page before; else the first page",
	"header Last-Event-ID":   "the index of the last entry that the client has. It wins over after",
	"header Idempotency-Key": "1 to 64 printable characters: a command that comes again with it within 24 h is done once, and gets the same answer. With another body it is 422, while the first is being done 409",
}

type object = map[string]any

// document is the OpenAPI document of the routes.
func document(t *testing.T) []byte {
	b := &builder{t: t, schemas: object{}, types: map[string]reflect.Type{}, comments: map[string]map[string]string{}}
	paths := object{}
	for path, r := range routes {
		if summaries[path] == "" {
			t.Errorf("%s has no summary", path)
		}
		paths[path] = object{strings.ToLower(r.method): b.operation(path, r)}
	}
	for path := range summaries {
		if _, ok := routes[path]; !ok {
			t.Errorf("%s has a summary and is no route", path)
		}
	}
	text, err := json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{"title": "Kidoban", "version": "1", "description": "The gateway's admin socket: HTTP over a Unix socket. The kernel names the user of the other end. " +
			"Paths are compared as they are, HEAD is as GET, and unknown or doubled parameters and fields are errors."},
		"servers":    []object{{"url": "http://kidoban", "description": "over the Unix socket of KIDOBAN_ADMIN_SOCKET"}},
		"paths":      paths,
		"components": object{"schemas": b.schemas},
	}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

// builder makes schemas of Go types. Descriptions are the comments of types and fields.
type builder struct {
	t        *testing.T
	schemas  object
	types    map[string]reflect.Type
	comments map[string]map[string]string // by package, and "Type" or "Type.Field"
}

func (b *builder) operation(path string, r route) object {
	content := object{"application/json": object{"schema": b.schema(r.answer)}}
	parameters := []object{}
	for _, name := range r.parameters {
		text := parameterTexts[path+" "+name]
		if text == "" {
			text = parameterTexts[name]
		}
		if text == "" {
			b.t.Errorf("%s: the parameter %s has no text", path, name)
		}
		parameters = append(parameters, object{"name": name, "in": "query", "description": text, "schema": object{"type": "string"}})
	}
	header := func(name string) {
		parameters = append(parameters, object{"name": name, "in": "header", "description": parameterTexts["header "+name], "schema": object{"type": "string"}})
	}
	if r.answer == reflect.TypeFor[*stream]() {
		content = object{"text/event-stream": object{"schema": object{"type": "string", "description": "events with id (the index), event (the kind) and data (an Entry as JSON)"}}}
		b.schema(reflect.TypeFor[Entry]())
		header(LastEventHeader)
	}
	o := object{
		"operationId": strings.TrimPrefix(path, "/v1/"), "summary": summaries[path],
		"responses": object{
			strconv.Itoa(r.status): object{"description": http.StatusText(r.status), "content": content},
			"default":              object{"description": "a problem (RFC 9457)", "content": object{"application/problem+json": object{"schema": b.schema(reflect.TypeFor[Problem]())}}},
		},
	}
	if r.method == http.MethodPost {
		header(KeyHeader)
		if path != "/v1/reload" { // which has no body
			o["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": b.schema(r.body)}}}
		}
	}
	if len(parameters) > 0 {
		o["parameters"] = parameters
	}
	return o
}

var asText = object{"type": "string"}

// known are the types whose JSON is not that of their fields.
var known = map[reflect.Type]object{
	reflect.TypeFor[time.Time]():        {"type": "string", "format": "date-time"},
	reflect.TypeFor[netip.Addr]():       asText,
	reflect.TypeFor[netip.AddrPort]():   asText,
	reflect.TypeFor[netip.Prefix]():     asText,
	reflect.TypeFor[policy.Key]():       {"type": "string", "description": "a WireGuard public key, base64"},
	reflect.TypeFor[policy.Reason]():    asText,
	reflect.TypeFor[catalogue.Period](): asText,
	reflect.TypeFor[json.RawMessage]():  {},
	reflect.TypeFor[view.Message](): {"type": "object", "description": "a message: its code, its arguments, and the English text", "required": []string{"code", "text"},
		"properties": object{"code": asText, "args": object{"type": "object"}, "text": asText}},
	reflect.TypeFor[view.Doubt](): {"type": "object", "description": "why the gateway keeps everybody out", "required": []string{"about", "code", "text"},
		"properties": object{"about": asText, "code": asText, "args": object{"type": "object"}, "text": asText}},
}

func (b *builder) schema(t reflect.Type) object {
	if s, ok := known[t]; ok {
		return s
	}
	switch t.Kind() {
	case reflect.Pointer:
		return object{"anyOf": []object{b.schema(t.Elem()), {"type": "null"}}}
	case reflect.String:
		return asText
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return object{"type": "integer"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Interface:
		return object{}
	case reflect.Slice:
		return object{"type": []string{"array", "null"}, "items": b.schema(t.Elem())}
	case reflect.Map:
		return object{"type": []string{"object", "null"}, "additionalProperties": b.schema(t.Elem())}
	case reflect.Struct:
		for _, method := range []string{"MarshalJSON", "MarshalText"} {
			if _, ok := t.MethodByName(method); ok {
				b.t.Errorf("%v has a %s, and no schema", t, method)
			}
		}
		return b.component(t)
	case reflect.Array, reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.Float32, reflect.Uintptr, reflect.UnsafePointer, reflect.Invalid:
	}
	b.t.Errorf("%v has no schema", t)
	return object{}
}

// renamed are types whose names others have too.
var renamed = map[reflect.Type]string{reflect.TypeFor[policy.Request](): "PolicyRequest"}

// component is a reference to the schema of a struct.
func (b *builder) component(t reflect.Type) object {
	b.read(t.PkgPath())
	name := t.Name()
	if other, ok := renamed[t]; ok {
		name = other
	} else if part, ok := strings.CutPrefix(name, "Page["); ok {
		name = part[strings.LastIndex(part, ".")+1:len(part)-1] + "Page"
	}
	body := !ast.IsExported(name)
	if body {
		name = strings.ToUpper(name[:1]) + name[1:] + "Body"
	}
	reference := object{"$ref": "#/components/schemas/" + name}
	if other, ok := b.types[name]; ok {
		if other != t {
			b.t.Errorf("%v and %v have one name", other, t)
		}
		return reference
	}
	b.types[name] = t
	required, properties := []string{}, object{}
	for _, f := range reflect.VisibleFields(t) {
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == "" || tag == "-" || !f.IsExported() {
			continue
		}
		s := maps.Clone(b.schema(f.Type))
		optional := options == "omitempty" || options == "omitzero"
		if (optional || body) && (f.Type.Kind() == reflect.Slice || f.Type.Kind() == reflect.Map) && s["type"] != nil {
			s["type"] = map[reflect.Kind]string{reflect.Slice: "array", reflect.Map: "object"}[f.Type.Kind()]
		} else if optional && f.Type.Kind() == reflect.Pointer {
			s = maps.Clone(b.schema(f.Type.Elem()))
		}
		if text := b.comment(t, f); text != "" {
			s["description"] = text
		}
		properties[tag] = s
		if !optional {
			required = append(required, tag)
		}
	}
	s := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		slices.Sort(required)
		s["required"] = required
	}
	generic, _, _ := strings.Cut(t.Name(), "[")
	if text := b.comments[t.PkgPath()][generic]; text != "" {
		s["description"] = text
	}
	if body {
		s["additionalProperties"] = false
	}
	b.schemas[name] = s
	return reference
}

// comment is that of a field, which may be of an embedded struct.
func (b *builder) comment(t reflect.Type, f reflect.StructField) string {
	owner := t
	for _, i := range f.Index[:len(f.Index)-1] {
		if owner = owner.Field(i).Type; owner.Kind() == reflect.Pointer {
			owner = owner.Elem()
		}
	}
	b.read(owner.PkgPath())
	name, _, _ := strings.Cut(owner.Name(), "[")
	return b.comments[owner.PkgPath()][name+"."+f.Name]
}

// read reads the comments of one of our packages.
func (b *builder) read(path string) {
	folder, ours := strings.CutPrefix(path, "kidoban/")
	if b.comments[path] != nil || !ours {
		return
	}
	b.comments[path] = map[string]string{}
	files, err := filepath.Glob(filepath.Join("../..", folder, "*.go"))
	if err != nil {
		b.t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			b.t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			group, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range group.Specs {
				typ, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				fields, ok := typ.Type.(*ast.StructType)
				if !ok {
					continue
				}
				b.comments[path][typ.Name.Name] = oneLine(group.Doc, typ.Doc)
				for _, f := range fields.Fields.List {
					for _, name := range f.Names {
						b.comments[path][typ.Name.Name+"."+name.Name] = oneLine(f.Doc, f.Comment)
					}
				}
			}
		}
	}
}

func oneLine(groups ...*ast.CommentGroup) string {
	var text string
	for _, g := range groups {
		text += " " + g.Text()
	}
	return strings.Join(strings.Fields(text), " ")
}

// TestOpenAPI holds the committed document against the routes and the types, and has another
// program's validator read it. With -update it is written anew.
func TestOpenAPI(t *testing.T) {
	want := document(t)
	if *update {
		if err := os.WriteFile("openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(OpenAPI, want) {
		t.Error("openapi.json is out of date: `make generate` writes it anew")
	}
	doc := committed()
	if err := doc.Validate(t.Context()); err != nil {
		t.Errorf("openapi.json: %v", err)
	}
	if doc.OpenAPI != "3.1.0" || doc.Paths.Len() != len(routes) {
		t.Errorf("version %s, %d paths of %d routes", doc.OpenAPI, doc.Paths.Len(), len(routes))
	}
	for name, s := range doc.Components.Schemas {
		if s.Value.Description == "" {
			t.Errorf("the schema %s has no description: comment its type", name)
		}
	}
	s := serve(t)
	served := get[any](s, "/v1/openapi.json", nil)
	if again, err := json.MarshalIndent(served, "", " "); err != nil || !bytes.Equal(append(again, '\n'), unescaped(t, want)) {
		t.Errorf("GET /v1/openapi.json is another document: %v", err)
	}
}

// unescaped writes a document as encoding/json writes it after reading it.
func unescaped(t *testing.T, text []byte) []byte {
	v := decode[any](t, text)
	again, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return append(again, '\n')
}

// committed is the document as the foreign validator reads it.
var committed = sync.OnceValue(func() *openapi3.T {
	doc, err := openapi3.NewLoader().LoadFromData(OpenAPI)
	if err != nil {
		panic(err)
	}
	return doc
})

// misfit tells how a request and its answer differ from the committed document. Routes of tests are
// not in it. A body that was taken must fit too.
func misfit(method, path string, body []byte, status int, kind string, answer []byte) error {
	path, _, _ = strings.Cut(path, "?")
	doc := committed()
	problem := doc.Components.Schemas["Problem"]
	fits := func(what string, schema *openapi3.SchemaRef, text []byte) error {
		var value any
		err := json.Unmarshal(text, &value)
		if err == nil {
			err = doc.ValidateSchemaJSON(schema.Value, value, openapi3.EnableJSONSchema2020())
		}
		if err != nil {
			return fmt.Errorf("%s %s: %s with the status %d does not fit openapi.json: %w", method, path, what, status, err)
		}
		return nil
	}
	if status >= 400 {
		if kind != "application/problem+json" {
			return fmt.Errorf("%s %s: a problem of the type %q", method, path, kind)
		}
		return fits("the problem", problem, answer)
	}
	item := doc.Paths.Value(path)
	if item == nil || item.GetOperation(method) == nil {
		if _, ok := routes[path]; ok && !strings.HasPrefix(path, "/v1/test") {
			return fmt.Errorf("%s %s is not in openapi.json", method, path)
		}
		return nil
	}
	operation := item.GetOperation(method)
	response := operation.Responses.Value(strconv.Itoa(status))
	if response == nil || response.Value.Content[kind] == nil {
		return fmt.Errorf("%s %s: the status %d with %q is not in openapi.json", method, path, status, kind)
	}
	if len(body) > 0 && operation.RequestBody != nil {
		if err := fits("the body", operation.RequestBody.Value.Content["application/json"].Schema, body); err != nil {
			return err
		}
	}
	if kind != "application/json" {
		return nil
	}
	return fits("the answer", response.Value.Content[kind].Schema, answer)
}

// TestMisfitsAreFound: the comparison with the document finds what differs.
func TestMisfitsAreFound(t *testing.T) {
	const outcome = `{"applied": true, "recorded": true, "kept": false, "sessions": 0, "shut": []}`
	for _, test := range []struct {
		path, body string
		status     int
		answer     string
		wrong      bool
	}{
		{"/v1/close", `{"scope": "all", "reason": "x"}`, 200, outcome, false},
		{"/v1/close", `{"scope": "all", "reason": 1}`, 200, outcome, true},
		{"/v1/close", `{"scope": "all", "force": true}`, 200, outcome, true},
		{"/v1/close", `{"scope": "all", "reason": "x"}`, 201, outcome, true},
		{"/v1/close", `{"scope": "all", "reason": "x"}`, 200, `{"applied": true}`, true},
		{"/v1/close", `{"scope": "all", "reason": "x"}`, 200, strings.Replace(outcome, "0", `"none"`, 1), true},
	} {
		if err := misfit("POST", test.path, []byte(test.body), test.status, "application/json", []byte(test.answer)); (err != nil) != test.wrong {
			t.Errorf("%+v: %v", test, err)
		}
	}
	if err := misfit("GET", "/v1/status", nil, 404, "application/problem+json", []byte(`{"detail": "x"}`)); err == nil {
		t.Error("a problem without a status is none")
	}
}
