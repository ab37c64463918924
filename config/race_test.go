//go:build race

package config

// With the race detector, which has nothing to find in them, the large texts take
// ten times longer. What is quadratic shows at a quarter of their size too.
func init() { fraction = 4 }
