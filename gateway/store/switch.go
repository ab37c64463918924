package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway/view"
)

// Switch is the shut file. While it exists, everything is shut, and also while it is unknown
// whether it exists: its folder is missing or cannot be read, or the filesystem does not answer.
type Switch struct {
	path    string
	look    func(path string) (lasting bool, err error)
	busy    chan struct{}     // full while a look is under way
	results chan view.Message // up to two of one look
	lasting atomic.Bool       // by the newest look
}

// switchWait is how long a look may take until everything is shut.
const switchWait = 5 * time.Second

// ErrThere says that the shut file exists.
var ErrThere = errors.New("it exists")

// NewSwitch makes the switch of a path. An empty path is none: it is never on. look is LookAt.
func NewSwitch(path string, look func(path string) (lasting bool, err error)) *Switch {
	return &Switch{path: path, look: look, busy: make(chan struct{}, 1), results: make(chan view.Message, 2)}
}

// Look has the file looked at, on another goroutine. The result comes on Results: why everything is
// shut, or an empty message. After switchWait it says that the look hangs, and the result follows
// when it comes. While a look is under way, or a result waits, Look does nothing.
func (s *Switch) Look() {
	if s == nil || s.path == "" || len(s.results) > 0 {
		return
	}
	select {
	case s.busy <- struct{}{}:
	default:
		return
	}
	answer := make(chan view.Message, 1)
	go func() {
		lasting, err := s.look(s.path)
		s.lasting.Store(lasting)
		answer <- s.why(err)
	}()
	go func() {
		defer func() { <-s.busy }()
		timeout := time.NewTimer(switchWait)
		defer timeout.Stop()
		select {
		case why := <-answer:
			s.results <- why
			return
		case <-timeout.C:
		}
		s.results <- view.Say("switch_hangs", view.Args{"file": s.path, "wait": switchWait})
		s.results <- <-answer
	}()
}

// Results gives the results of looks; there are none without a shut file.
func (s *Switch) Results() <-chan view.Message {
	if s == nil {
		return nil
	}
	return s.results
}

// Now looks at the file, and waits for the first result, for switchWait at most.
func (s *Switch) Now() (why view.Message) {
	if s == nil || s.path == "" {
		return why
	}
	s.Look()
	return <-s.results
}

func (s *Switch) why(err error) (m view.Message) {
	switch {
	case errors.Is(err, ErrThere):
		m = view.Say("switch_there", view.Args{"file": s.path})
	case err != nil:
		m = view.Say("switch_unknown", view.Args{"file": s.path, "cause": err})
	}
	return m
}

// Hints has a hint if the newest look found the file on a disk, where it outlives a boot, and whose
// fault would shut everything.
func (s *Switch) Hints() (all []view.Hint) {
	if s.lasting.Load() {
		all = append(all, view.Hint{Message: view.Say("switch_lasting", view.Args{"file": s.path})})
	}
	return all
}

// Warnings looks at the file, and gives the texts of Hints.
func (s *Switch) Warnings() (all []view.Message) {
	s.Now()
	for _, h := range s.Hints() {
		all = append(all, h.Message)
	}
	return all
}

// LookAt returns nil only if the folder is there, can be searched and has no such name, and ErrThere
// if it has. A link with that name counts, wherever it leads. lasting reports whether the folder
// outlives a boot.
func LookAt(path string) (lasting bool, err error) {
	folder, err := retry(func() (int, error) {
		return unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return false, fmt.Errorf("its folder %s: %w", filepath.Dir(path), err)
	}
	defer unix.Close(folder)
	var on unix.Statfs_t
	if _, err := retry(func() (int, error) { return 0, unix.Fstatfs(folder, &on) }); err == nil {
		lasting = on.Type != unix.TMPFS_MAGIC && on.Type != unix.RAMFS_MAGIC
	}
	var file unix.Stat_t
	_, err = retry(func() (int, error) {
		return 0, unix.Fstatat(folder, filepath.Base(path), &file, unix.AT_SYMLINK_NOFOLLOW)
	})
	switch {
	case err == nil:
		return lasting, ErrThere
	case errors.Is(err, unix.ENOENT):
		return lasting, nil
	}
	return lasting, err
}

func retry(call func() (int, error)) (n int, err error) {
	for {
		if n, err = call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
