//go:build race

package main

// The race detector takes ten times the memory and the time for each value.
func init() { hostileValues = 30_000 }
