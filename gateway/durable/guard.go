package durable

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Guard opens the files that the program believes, such as its policy and its keys. It
// refuses a file that another user of the machine can change or replace.
//
// It walks the path from the root. It judges each link, and then follows it. Each
// folder, each link and the file must belong to root or to a trusted user, and
// nobody else may write in a folder. One exception: a folder with the sticky bit,
// as /tmp, may lie on the way, since there only owners replace their files. The file's
// own folder must be closed to others. What is opened is what was judged.
//
// The user and the group of the process are trusted. User and Group are too; the
// zero value adds nobody.
type Guard struct {
	User, Group uint32
	Draft       bool // the file may lie in a sticky folder: it is read once, for people

	// Within are folders, without links. A file that Open opens lies beneath one of them; nil: anywhere.
	Within []string
}

// GuardFor trusts the owner of a folder too. With the state folder, root and operators
// see the service's files as the service does.
func GuardFor(folder string) Guard {
	var s unix.Stat_t
	if unix.Stat(folder, &s) != nil {
		return Guard{}
	}
	return Guard{User: s.Uid, Group: s.Gid}
}

// Open opens a regular file whose mode is not looser than loosest; execute bits do
// not count. It never waits, as opening a pipe would.
func (g Guard) Open(path string, loosest fs.FileMode) (*os.File, error) {
	folder, file, err := g.walk(path)
	if err != nil {
		return nil, err
	}
	defer folder.close()
	defer file.close()
	if g.Within != nil && !slices.ContainsFunc(g.Within, func(allowed string) bool { return Beneath(file.path, allowed) }) {
		return nil, fmt.Errorf("lies in %s, where the gateway cannot read: allowed is a file beneath %s; move it there, and restart the gateway if the policy file itself leads elsewhere now",
			shown(filepath.Dir(file.path)), strings.Join(g.Within, " or "))
	}
	if err := g.judgeFile(folder, file, loosest); err != nil {
		return nil, err
	}
	opened, err := folder.open(filepath.Base(file.path), unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if opened.stat.Dev != file.stat.Dev || opened.stat.Ino != file.stat.Ino {
		opened.close()
		return nil, fmt.Errorf("cannot be read: it was replaced at this moment")
	}
	return os.NewFile(uintptr(opened.fd), path), nil
}

// Beneath reports whether a path is a folder, or something beneath it. Both are without links.
func Beneath(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, strings.TrimSuffix(folder, "/")+"/")
}

// Real is where a path leads, without links. What is missing counts as no link.
func Real(path string) string {
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	if real, err := filepath.EvalSymlinks(path); err == nil || path == "/" {
		return real
	}
	return filepath.Join(Real(filepath.Dir(path)), filepath.Base(path))
}

// Stat describes a file that Open would open, whatever the file's mode.
func (g Guard) Stat(path string) (unix.Stat_t, error) {
	folder, file, err := g.walk(path)
	if err != nil {
		return unix.Stat_t{}, err
	}
	defer folder.close()
	defer file.close()
	return file.stat, g.judgeFile(folder, file, 0o777)
}

// Folder judges a folder in which the program keeps files.
func (g Guard) Folder(path string) error {
	above, folder, err := g.walk(path)
	if err != nil {
		return err
	}
	defer above.close()
	defer folder.close()
	if !folder.is(unix.S_IFDIR) {
		return fmt.Errorf("is not a folder (%s)", folder.mode().Type())
	}
	return g.judge(folder, "", true)
}

// place is a file, a folder or a link that is open.
type place struct {
	fd   int
	path string // without links
	stat unix.Stat_t
}

func (p *place) is(kind uint32) bool { return p.stat.Mode&unix.S_IFMT == kind }

func (p *place) mode() fs.FileMode {
	mode := fs.FileMode(p.stat.Mode).Perm()
	for kind, bit := range map[uint32]fs.FileMode{unix.S_IFDIR: fs.ModeDir, unix.S_IFIFO: fs.ModeNamedPipe, unix.S_IFSOCK: fs.ModeSocket,
		unix.S_IFLNK: fs.ModeSymlink, unix.S_IFCHR: fs.ModeDevice | fs.ModeCharDevice, unix.S_IFBLK: fs.ModeDevice} {
		if p.is(kind) {
			mode |= bit
		}
	}
	return mode
}

func (p *place) close() {
	if p != nil {
		unix.Close(p.fd)
	}
}

// open opens an entry of a folder; p is nil for the root.
func (p *place) open(name string, flags int) (*place, error) {
	at, path := unix.AT_FDCWD, name
	if p != nil {
		at, path = p.fd, filepath.Join(p.path, name)
	}
	fd, err := unix.Openat(at, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, unread(err)
	}
	opened := &place{fd: fd, path: path}
	if err := unix.Fstat(fd, &opened.stat); err != nil {
		opened.close()
		return nil, unread(err)
	}
	return opened, nil
}

func unread(err error) error { return fmt.Errorf("cannot be read: %w", err) }

// mostLinks is the kernel's own bound (path_resolution(7)).
const mostLinks = 40

// walk goes to a path and judges what it passes. It returns the last place, which
// it has not judged, and the folder of that place; nil: it is the root.
func (g Guard) walk(path string) (folder, last *place, err error) {
	if !filepath.IsAbs(path) {
		here, err := os.Getwd()
		if err != nil {
			return nil, nil, unread(err)
		}
		path = here + "/" + path // not filepath.Join: a/../b depends on where a leads
	}
	defer func() {
		if err != nil {
			folder.close()
			last.close()
			folder, last = nil, nil
		}
	}()
	links := 0
	for steps := strings.Split("/"+path, "/"); len(steps) > 0; {
		step := steps[0]
		steps = steps[1:]
		if last == nil {
			if last, err = (*place)(nil).open("/", unix.O_PATH); err != nil {
				return folder, last, err
			}
		}
		if step == "" || step == "." {
			continue
		}
		if last.is(unix.S_IFDIR) {
			if err := g.judge(last, lies(last), false); err != nil {
				return folder, last, err
			}
		}
		next, err := last.open(step, unix.O_PATH)
		if err != nil {
			return folder, last, err
		}
		if !next.is(unix.S_IFLNK) {
			folder.close()
			folder, last = last, next
			continue
		}
		to, err := g.follow(next)
		next.close()
		if links++; err == nil && links > mostLinks {
			err = unread(unix.ELOOP)
		}
		if err != nil {
			return folder, last, err
		}
		if filepath.IsAbs(to) {
			folder.close()
			last.close()
			folder, last = nil, nil
		}
		steps = append(strings.Split(to, "/"), steps...)
	}
	return folder, last, nil
}

// follow judges a link and reads it.
func (g Guard) follow(link *place) (to string, err error) {
	if !g.user(link.stat.Uid) && !unmapped(link.stat.Uid) {
		return "", fmt.Errorf("leads through the link %s, which belongs to user %d: allowed is %s (chown -h root %[1]s)", shown(link.path), link.stat.Uid, g.users())
	}
	text := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(link.fd, "", text)
	if err != nil {
		return "", unread(err)
	}
	return string(text[:n]), nil
}

// judgeFile judges a file and its folder.
func (g Guard) judgeFile(folder, file *place, loosest fs.FileMode) error {
	if !file.is(unix.S_IFREG) {
		return fmt.Errorf("is not a regular file (%s)", file.mode().Type())
	}
	if err := g.judge(folder, lies(folder), !g.Draft); err != nil {
		return err
	}
	const execute = 0o111
	if mode := file.mode().Perm(); mode&^execute&^loosest != 0 {
		return fmt.Errorf("has mode %04o: allowed is %04o or stricter (chmod %04o)", mode, loosest, loosest)
	}
	return g.judge(file, "", true)
}

func lies(folder *place) string { return "lies in " + shown(folder.path) + ", which " }

// judge refuses a place that others can change. If strict is set, it also refuses a
// sticky folder, and an owner that this user namespace does not know. For folders on
// the way that owner is mostly the machine's root.
func (g Guard) judge(p *place, which string, strict bool) error {
	path, mode := shown(p.path), p.mode().Perm()
	if !g.user(p.stat.Uid) && (strict || !unmapped(p.stat.Uid)) {
		return fmt.Errorf("%sbelongs to user %d: allowed is %s (chown %s %s)", which, p.stat.Uid, g.users(), g.owner(mode), path)
	}
	others, group := mode&0o002 != 0, mode&0o020 != 0 && !g.group(p.stat.Gid)
	sticky := p.stat.Mode&unix.S_ISVTX != 0
	if !others && !group || sticky && !strict {
		return nil
	}
	who, harm, kind := "everybody on this machine", "replace what is in it", "folder"
	cure := fmt.Sprintf("chmod %04o %s", mode&^0o022, path)
	if !others {
		who = fmt.Sprintf("group %d", p.stat.Gid)
	}
	switch {
	case !p.is(unix.S_IFDIR):
		harm, kind, cure = "open the gate", "file", "chmod o-w"
		if !others {
			cure = "chmod g-w"
		}
	case sticky:
		mode |= 0o1000
		cure = "use another folder"
	}
	return fmt.Errorf("%shas mode %04o: %s could %s; allowed is a %s that others cannot write (%s)", which, mode, who, harm, kind, cure)
}

// owner is who should own a place: the service, if it is closed to all but its owner.
func (g Guard) owner(mode fs.FileMode) string {
	if id := cmp.Or(g.User, uint32(os.Geteuid())); id != 0 && mode&0o077 == 0 {
		return strconv.FormatUint(uint64(id), 10)
	}
	return "root"
}

func (g Guard) user(id uint32) bool {
	return id == 0 || id == uint32(os.Geteuid()) || id == g.User
}

func (g Guard) group(id uint32) bool {
	return id == 0 || id == uint32(os.Getegid()) || id == g.Group
}

// users is "root or user 999".
func (g Guard) users() string {
	text := "root"
	for _, id := range []uint32{uint32(os.Geteuid()), g.User} {
		if name := fmt.Sprintf(" or user %d", id); id != 0 && !strings.HasSuffix(text, name) {
			text += name
		}
	}
	return text
}

// unmapped reports whether this user namespace does not know a user. The kernel shows
// all such users as one (user_namespaces(7)). Where a real user has that number, as
// on the machine itself, it reports false.
func unmapped(id uint32) bool {
	overflow, is := overflowUser()
	return is && id == overflow
}

var overflowUser = sync.OnceValues(func() (id uint32, is bool) {
	text, err1 := os.ReadFile("/proc/sys/kernel/overflowuid")
	ids, err2 := os.ReadFile("/proc/self/uid_map")
	number, err3 := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	return uint32(number), err1 == nil && err2 == nil && err3 == nil && !maps(string(ids), number)
})

// maps reports whether a uid_map has an id. A map that it cannot read has all.
func maps(text string, id uint64) bool {
	for line := range strings.Lines(text) {
		var inside, outside, length uint64
		if n, _ := fmt.Sscan(line, &inside, &outside, &length); n != 3 || id >= inside && id-inside < length {
			return true
		}
	}
	return text == ""
}

// shown quotes a path that a shell would not take as it is.
func shown(path string) string {
	if strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%,=") == "" {
		return path
	}
	return strconv.Quote(path)
}

// Readers is the group that may read a folder, other than root's; empty: there is none.
func Readers(folder string) string {
	var s unix.Stat_t
	if unix.Stat(folder, &s) != nil || s.Mode&0o050 != 0o050 || s.Gid == 0 {
		return ""
	}
	id := strconv.FormatUint(uint64(s.Gid), 10)
	if group, err := user.LookupGroupId(id); err == nil {
		return group.Name
	}
	return id
}
