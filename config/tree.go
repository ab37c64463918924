package config

import (
	"errors"
	"fmt"

	"github.com/goccy/go-yaml/ast"
)

// Replace stands in a policy for a value that a shared policy leaves out. It is an error wherever a value
// is read.
const Replace = "REPLACE"

// Tree is a part of a file in the form of a policy: one value, a list or a mapping. Comments are not
// part of it.
type Tree struct {
	Name   string // its key; empty: the file, or an item of a list
	Text   string // one value, as it is written
	Items  []*Tree
	Fields []*Tree
	Line   int // from 1
}

// Field finds a field of a mapping, or returns nil. It is nil for nil.
func (t *Tree) Field(name string) *Tree {
	if t == nil {
		return nil
	}
	for _, f := range t.Fields {
		if f.Name == name {
			return f
		}
	}
	return nil
}

// ReadTree reads a file in the form of a policy, within the bounds of one, whatever its fields are. name
// is the file's name in messages. The error is an Errors.
func ReadTree(name string, text []byte) (*Tree, error) {
	d := &decoder{file: name, shared: true}
	var t *Tree
	if root := d.parse(text); root != nil {
		t = d.tree("", value{node: root, at: place{1, 1}, key: place{1, 1}})
	}
	if len(d.errors) > 0 {
		sortByPlace(d.errors, nil)
		return nil, d.errors
	}
	return t, nil
}

func (d *decoder) tree(name string, v value) *Tree {
	t := &Tree{Name: name, Line: v.key.line}
	switch v.node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		all, _ := d.pairs(v)
		for _, e := range all {
			t.Fields = append(t.Fields, d.tree(e.name, e.value))
		}
	case *ast.SequenceNode:
		for _, item := range d.list(v) {
			t.Items = append(t.Items, d.tree("", item))
		}
	default:
		t.Text, _ = d.text(v)
	}
	return t
}

// At is an error at a part of a file.
func (t *Tree) At(file, where, format string, args ...any) error {
	return Errors{{File: file, Line: t.Line, Column: 1, Where: where, What: fmt.Sprintf(format, args...)}}
}

// Mistakes joins the Errors of several parts.
func Mistakes(errs ...error) error {
	var all Errors
	for _, err := range errs {
		var some Errors
		if errors.As(err, &some) {
			all = append(all, some...)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}
