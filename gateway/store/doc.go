// Package store keeps the records that outlive the process: the journal, written
// off the loop, and the latch, a copy of the closes beside it.
//
//	store.go      the journal in use, and how a dead one is replaced
//	ondisk.go     where the journal is kept
//	signed.go     what a start reads of it, and what is verified afterwards
//	feed.go       its entries, for those who follow them
//	room.go       what its disk still takes
//	recorder.go   the goroutine that appends to it
//	past.go       the past that a journal has
//	state.go      the past as entries of a journal
//	entries.go    operators' decisions as entries
//	events.go     the log, in the journal's words
//	latch.go      the goroutine that writes the latch
//	shutfile.go   the latch's files
package store
