package config

import (
	_ "embed"
	"slices"
)

//go:embed example.yaml
var exampleYAML []byte

// ExampleYAML is a policy file to begin with, commented for the person who
// fills it in. It has no mistakes; its dates lie around the end of 2026, so
// that later it gives warnings.
func ExampleYAML() []byte { return slices.Clone(exampleYAML) }
