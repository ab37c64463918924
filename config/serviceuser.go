package config

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"kidoban/gateway/durable"
	"kidoban/gateway/view"
)

// Doubtful warns of what a start on this machine would refuse: a private key that is missing or wrong
// where there is a journal, and files, the key among them, that the service's user cannot read.
func (s Settings) Doubtful(files []string) (all []view.Message) {
	_, _, err := KeyFile{s.PrivateKeyFile, durable.GuardFor(s.StateDir)}.Load()
	if _, missing := os.Stat(filepath.Join(s.StateDir, "journal")); err != nil && missing == nil && !errors.Is(err, fs.ErrPermission) {
		code := view.Code("key_unread")
		if errors.Is(err, fs.ErrNotExist) {
			code = "key_missing"
		}
		all = append(all, view.Say(code, view.Args{"cause": err}))
	}
	if u, ok := serviceUser(s.StateDir); ok {
		all = append(all, u.unread(append(slices.Clone(files), s.PrivateKeyFile))...)
	}
	return all
}

// account is a user with the groups that count for files.
type account struct {
	name     string
	uid, gid int
	groups   []uint32
}

// serviceUser is the user of the service: the owner of the state folder, or kidoban before the first
// start. It gives none if root runs the service, or if the caller is not root: then the caller finds
// itself what it cannot read.
func serviceUser(stateDir string) (account, bool) {
	u, err := user.Lookup("kidoban")
	var state unix.Stat_t
	if unix.Stat(stateDir, &state) == nil {
		id := strconv.Itoa(int(state.Uid))
		if u, err = user.LookupId(id); err != nil {
			u, err = &user.User{Username: id, Uid: id, Gid: strconv.Itoa(int(state.Gid))}, nil
		}
	}
	if os.Geteuid() != 0 || err != nil || u.Uid == "0" {
		return account{}, false
	}
	a := account{name: u.Username}
	a.uid, _ = strconv.Atoi(u.Uid)
	a.gid, _ = strconv.Atoi(u.Gid)
	groups, _ := u.GroupIds() // without them fewer files can be read
	for _, g := range append(groups, u.Gid) {
		if id, err := strconv.ParseUint(g, 10, 32); err == nil {
			a.groups = append(a.groups, uint32(id))
		}
	}
	return a, true
}

// unread has a warning for each file that the account cannot read, with the file or folder that keeps
// it out.
func (a account) unread(files []string) (all []view.Message) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // this thread alone is another user, and ends with the goroutine
		if !a.become() {
			return
		}
		for _, file := range files {
			if m := a.barrier(file); !m.Empty() {
				all = append(all, m)
			}
		}
	}()
	<-done
	return all
}

// become has this thread see files as the account does.
func (a account) become() bool {
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(a.groups)), uintptr(unsafe.Pointer(unsafe.SliceData(a.groups))), 0); e != 0 {
		return false
	}
	for _, set := range []struct {
		id  int
		set func(int) (int, error)
	}{{a.gid, unix.SetfsgidRetGid}, {a.uid, unix.SetfsuidRetUid}} {
		_, _ = set.set(set.id)
		if now, _ := set.set(-1); now != set.id {
			return false
		}
	}
	return true
}

// barrier is a warning if this thread cannot read a file that root could.
func (a account) barrier(file string) view.Message {
	f, err := os.Open(file)
	if err == nil {
		f.Close()
	}
	if !errors.Is(err, fs.ErrPermission) {
		return view.Message{}
	}
	place, path := "/", file
	if absolute, err := filepath.Abs(file); err == nil {
		path = absolute
	}
	for step := range strings.SplitSeq(path, "/") {
		next := filepath.Join(place, step)
		var s unix.Stat_t
		if errors.Is(unix.Stat(next, &s), fs.ErrPermission) {
			break
		}
		place = next
	}
	var s unix.Stat_t
	if err := unix.Stat(place, &s); err != nil {
		return view.Message{}
	}
	owner, group := strconv.Itoa(int(s.Uid)), strconv.Itoa(int(s.Gid))
	if u, err := user.LookupId(owner); err == nil {
		owner = u.Username
	}
	if g, err := user.LookupGroupId(group); err == nil {
		group = g.Name
	}
	mode := strconv.FormatUint(uint64(s.Mode&0o7777), 8)
	return view.Say("file_unread", view.Args{"file": file, "user": a.name, "place": place, "mode": "0" + mode, "owner": owner, "group": group})
}
