package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of a command's body, in bytes.
const (
	bodyMost  = 16 << 10
	longMost  = 64 << 10 // where it lists engineers and targets
	depthMost = 8        // objects and lists inside one another
)

// read reads a body that is bounded.
func read(body io.Reader) ([]byte, error) {
	text, err := io.ReadAll(body)
	if err != nil && !errors.As(err, new(*http.MaxBytesError)) {
		err = invalid("the body cannot be read: %v", err)
	}
	return text, err
}

// bodyOf reads a command's body, a JSON object with the fields of T. An empty text is an object
// without fields. What could mean two things is an error: text that is not UTF-8, fields that
// T does not have, a second value, and a key that is there twice in one object, in any
// case of its letters. All text must show, as in Shows.
func bodyOf[T any](text []byte) (body T, err error) {
	switch {
	case len(text) == 0:
		return body, nil
	case !utf8.Valid(text):
		return body, invalid("the body is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil {
		return body, invalid("the body is not %s: %v", form(reflect.TypeFor[T]()), err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return body, invalid("the body has more than one value")
	}
	d = json.NewDecoder(bytes.NewReader(text))
	return body, unambiguous(d, "body", depthMost)
}

// unambiguous reads one value of a text that is known to be JSON. It refuses text that does
// not show, and keys that are there twice. name is the key before the value.
func unambiguous(d *json.Decoder, name string, depth int) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	open, nested := token.(json.Delim)
	text, isText := token.(string)
	switch {
	case isText:
		return Shows("the "+name, text)
	case !nested:
		return nil
	case depth == 0:
		return invalid("the %s has objects or lists inside one another: allowed are %d", name, depthMost)
	}
	var keys []string
	for d.More() {
		if open == '{' {
			token, err = d.Token()
			if err != nil {
				return err
			}
			name = token.(string)
			if slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, name) }) {
				return invalid("%q is there twice: allowed is once", name)
			}
			keys = append(keys, name)
		}
		if err := unambiguous(d, name, depth-1); err != nil {
			return err
		}
	}
	_, err = d.Token() // the closing bracket
	return err
}

// form shows the JSON of a type, as {"id": "...", "engineers": ["..."]}.
func form(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return form(t.Elem())
	case reflect.Bool:
		return "true"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "0"
	case reflect.Slice:
		return "[" + form(t.Elem()) + "]"
	case reflect.Struct:
		var fields []string
		for _, f := range reflect.VisibleFields(t) {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
				fields = append(fields, fmt.Sprintf("%q: %s", name, form(f.Type)))
			}
		}
		if fields != nil {
			return "{" + strings.Join(fields, ", ") + "}"
		}
	}
	return `"..."`
}
