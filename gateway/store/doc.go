// Package store keeps what must outlive the process: the journal, which is
// written off the loop, and the latch, which says what is shut beside it.
//
//	store.go      the journal in use, and how a dead one is replaced
//	recorder.go   the goroutine that appends to it
//	past.go       what a journal tells about the time before
//	entries.go    operators' decisions as entries
//	latch.go      the goroutine that writes the latch
//	shutfile.go   the latch's files
package store
