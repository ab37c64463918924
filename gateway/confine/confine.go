// Package confine takes from the process what a gateway never needs, for good: files
// outside of its folders, other programs, and the parts of the kernel that only
// administrators use. Whoever takes the process over has no more than that.
//
// Files are kept by landlock(7), and system calls by a filter of seccomp(2). Both hold for
// all threads, those that run already and those that begin later. A kernel
// without one of the two is no error: the report says what is missing.
package confine

import (
	"errors"
	"fmt"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"

	"kidoban/gateway/view"
)

// Rules are what the process may still open. Each path is a file, or a folder with all that
// is beneath it. A rule holds for the place to which the path leads now; a
// path that cannot be opened now is left out. So a file that is replaced by renaming needs
// a rule for its folder. To look whether a file is there takes no rule.
type Rules struct {
	Read   []string // to read
	Change []string // to read and write what is there, devices too
	Write  []string // folders: to make, write, rename and remove files, folders and sockets, too

	// Abstract leaves the process the abstract sockets of others (unix(7)).
	Abstract bool
}

// Rights of the kinds of rules. Nobody gets the right to execute (ll.AccessFSExecute).
const (
	onFiles = change &^ ll.AccessFSReadDir // a rule for one file has no others
	read    = ll.AccessFSReadFile | ll.AccessFSReadDir
	change  = read | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSIoctlDev
	write   = read | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSMakeReg | ll.AccessFSMakeDir | ll.AccessFSMakeSock |
		ll.AccessFSRemoveFile | ll.AccessFSRemoveDir | ll.AccessFSRefer
)

// handled are the rights that nobody has without a rule, of landlock's ABI 7. Rights of later
// ABIs are left alone, until it is known that the program does not need them.
const handled = 1<<16 - 1

// scopedABI is the first ABI of landlock that keeps signals and abstract sockets, and signalsMended
// the bit of the correction without which signals between threads are refused.
const (
	scopedABI     = 6
	signalsMended = 1 << 1
)

// Report tells what the kernel did not take away.
type Report struct{ missing []view.Message }

// Hints are the missing layers, for status.
func (r Report) Hints() (all []view.Hint) {
	for _, m := range r.missing {
		all = append(all, view.Hint{Message: m})
	}
	return all
}

// Missing are the missing layers, for the log.
func (r Report) Missing() []view.Message { return r.missing }

func (r *Report) miss(code view.Code, cause error) {
	r.missing = append(r.missing, view.Say(code, view.Args{"cause": cause}))
}

// Apply confines the process. It cannot be taken back.
func Apply(r Rules) (report Report) {
	if err := keepFiles(r); err != nil {
		report.miss("confine_files", err)
	} else if !scoped() {
		report.missing = append(report.missing, view.Say("confine_processes", nil))
	}
	if err := errors.Join(refuseCalls(), refuseCode()); err != nil {
		report.miss("confine_calls", err)
	}
	return report
}

// scoped reports whether landlock keeps signals and abstract sockets.
func scoped() bool {
	abi, err := ll.LandlockGetABIVersion()
	errata, _ := ll.LandlockGetErrata()
	return err == nil && abi >= scopedABI && errata&signalsMended != 0
}

func keepFiles(r Rules) error {
	if _, err := ll.LandlockGetABIVersion(); err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	var rules []landlock.Rule
	for _, kind := range []struct {
		paths  []string
		rights landlock.AccessFSSet
	}{{r.Read, read}, {r.Change, change}, {r.Write, write}} {
		for _, path := range kind.paths {
			if rule, ok := ruleFor(path, kind.rights); ok {
				rules = append(rules, rule)
			}
		}
	}
	scopes := landlock.ScopedSet(ll.ScopeSignal | ll.ScopeAbstractUnixSocket)
	if r.Abstract {
		scopes = ll.ScopeSignal
	}
	return landlock.Config{HandledAccessFS: handled, Scoped: scopes}.BestEffort().Restrict(rules...)
}

// ruleFor is the rule for a path; ok is false if it cannot be opened.
func ruleFor(path string, rights landlock.AccessFSSet) (rule landlock.Rule, ok bool) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, false
	}
	var is unix.Stat_t
	if unix.Fstat(fd, &is) != nil || is.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= onFiles
		unix.Close(fd)
	} // else it stays open: /proc forgets folders that nobody has open, and then the rule holds for nothing
	return landlock.PathAccess(rights, path), true
}
