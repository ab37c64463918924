//go:build race

package tunnel

// raceEnabled: times mean little under the race detector.
const raceEnabled = true
