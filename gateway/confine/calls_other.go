//go:build !amd64 && !arm64

package confine

const architecture = 0 // no filter

var deniedHere []uintptr
