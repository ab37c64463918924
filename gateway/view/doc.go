// Package view is the read model of the gateway: immutable snapshots, and
// messages for people, with one table of words in English and Japanese.
package view
