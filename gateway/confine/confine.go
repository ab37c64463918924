// Package confine takes rights from the process, for good, that a gateway never needs: files
// outside of its folders, other programs, and the parts of the kernel that only
// administrators use. An attacker who takes the process over does not have them either.
//
// landlock(7) restricts files, and a filter of seccomp(2) restricts system calls. Both hold for
// all threads, those that run already and those that begin later. A kernel
// without one of the two is no error: Apply names the layer that is missing.
package confine

import (
	"errors"
	"fmt"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"

	"kidoban/gateway/view"
)

// Rules are the places that the process may still open. Each path is a file, or a folder with all
// that is beneath it. A rule holds for the file or folder that is there when Apply runs; a path
// that cannot be opened then is left out. So a file that is replaced by renaming needs
// a rule for its folder. To look whether a file exists takes no rule.
type Rules struct {
	Read   []string // to read
	Change []string // to read, and to write existing files and devices
	Write  []string // folders: to make, write, rename and remove files, folders and sockets, too

	// Abstract leaves the process the abstract sockets of others (unix(7)).
	Abstract bool
}

// Rights of the kinds of rules. None has the right to execute (ll.AccessFSExecute).
const (
	onFiles = change &^ ll.AccessFSReadDir // a rule for one file has no others
	read    = ll.AccessFSReadFile | ll.AccessFSReadDir
	change  = read | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSIoctlDev
	write   = read | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSMakeReg | ll.AccessFSMakeDir | ll.AccessFSMakeSock |
		ll.AccessFSRemoveFile | ll.AccessFSRemoveDir | ll.AccessFSRefer
)

// handled are the rights that take a rule: all of landlock's ABI 7. Rights of later
// ABIs stay free, until it is known that the program does not need them.
const handled = 1<<16 - 1

// scopedABI is the first ABI of landlock that restricts signals and abstract sockets, and signalsMended
// the bit of the correction without which signals between threads are refused.
const (
	scopedABI     = 6
	signalsMended = 1 << 1
)

// Apply confines the process, for good. missing are the layers that the kernel does not have, for log
// and status: empty if all are in force.
func Apply(r Rules) (missing []view.Message) {
	miss := func(code view.Code, cause error) {
		missing = append(missing, view.Say(code, view.Args{"cause": cause}))
	}
	if err := keepFiles(r); err != nil {
		miss("confine_files", err)
	} else if !scoped() {
		missing = append(missing, view.Say("confine_processes", nil))
	}
	if err := errors.Join(refuseCalls(), refuseCode()); err != nil {
		miss("confine_calls", err)
	}
	return missing
}

// scoped reports whether landlock restricts signals and abstract sockets.
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
	} // else it stays open: /proc drops folders that no process has open, and the rule with them
	return landlock.PathAccess(rights, path), true
}
