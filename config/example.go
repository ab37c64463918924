package config

import (
	_ "embed"
	"slices"
)

//go:embed example.yaml
var exampleYAML []byte

// ExampleYAML is a policy file to begin with, commented for the person who
// fills it in. It has no mistakes and gives no warnings before December 2026
// ends.
func ExampleYAML() []byte { return slices.Clone(exampleYAML) }
