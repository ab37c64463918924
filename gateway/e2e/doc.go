// Package e2e tests the program from end to end: as a process on a host in
// network namespaces, over its policy file, settings, commands, metrics and
// signals. It has tests only.
package e2e
