// Package config reads the settings and the policy file.
//
// Settings come from the environment. ParsePolicy makes a policy.Policy of the policy file, or
// refuses it as a whole. It reports every mistake at its place: after an error it goes on with the
// rest, unless the text is no YAML.
//
// The bytes of a policy file are checked (read.go), parsed to a syntax tree, and read by a small
// typed layer that knows the place of every value (decode.go). Why a text is no YAML is found in
// syntax.go. The frame of the policy is in policy.go, addresses in address.go, vendors and engineers
// in vendor.go, windows in window.go, operators in operator.go, what can be requested in request.go,
// and where notices go in sink.go. Warnings are about allowed things that a person should check
// (warning.go); what the service's user cannot read is in serviceuser.go.
//
// A policy needs little of YAML. Anchors, aliases, merge keys, tags, directives, several documents,
// block texts and complex keys are refused, so that an approval is readable at its place.
package config
