// Package view is what everybody outside the loop sees: immutable snapshots of
// the gateway, and messages for people, which one table puts into words in
// English and Japanese.
package view
