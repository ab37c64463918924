//go:build race

package policy

// The race detector makes the long walks ten times longer, and has nothing to
// find in most of them.
func init() { walks = walks[:2] }
