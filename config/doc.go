// Package config turns what people write into what the gateway works with.
//
// Settings come from the environment and say where things are. The policy
// file says who may enter when, to what; ParsePolicy makes a policy.Policy of
// it or refuses it as a whole. A person who mends a policy wants to see every
// mistake at once and at its place, so nothing here stops at the first error
// unless the text cannot be read as YAML at all: each part that is wrong is
// reported, and reading goes on with what is left.
//
// The way of a policy file: its bytes are checked (read.go), parsed to a
// syntax tree, and walked with a small typed layer (decode.go) that knows
// where every value stands. Above it, one file reads the frame of the policy
// (policy.go), one addresses (address.go), one vendors and engineers
// (vendor.go), one windows (window.go). What is allowed but should be looked
// at by a person becomes a warning (warning.go).
//
// YAML is larger than what a policy needs. Anchors, aliases, merge keys,
// tags, directives, several documents, block texts and complex keys are
// refused: an approval has to say what it says, where it says it.
package config
