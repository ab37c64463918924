//go:build race

package e2e

// The race detector takes ten times the memory and the time for each value.
// The program is built with it as well.
func init() { hostileValues, raceDetector = 30_000, true }
