package config

import (
	"cmp"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway/durable"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// File is the gateway's policy file on disk.
type File struct {
	Path          string
	Key           KeyFile                      // the gateway's own, which no engineer may have
	Guard         durable.Guard                // opens the file, and those of preshared keys
	Interface     string                       // the tunnel's, which no line may have
	ForwardOthers bool                         // KIDOBAN_FORWARD_OTHERS
	Addresses     func() ([]netip.Addr, error) // the host's own, which a policy may not list

	mu     sync.Mutex
	files  []dated      // at the last reading: the policy file, then the preshared-key files
	next   int          // the preshared-key file that was looked at last
	own    []netip.Addr // the host's addresses at the last reading
	digest string
	err    error

	zone atomic.Pointer[time.Location] // of the newest policy that Load read; nil: none yet
}

// Load implements gateway.PolicyFile.
func (f *File) Load() (*policy.Policy, []view.Message, error) {
	own, err := f.Addresses()
	if err != nil {
		return nil, nil, err
	}
	p, warnings, err := LoadPolicy(f.Path, Host{Key: f.Key.public(), Guard: f.Guard, Interface: f.Interface, ForwardOthers: f.ForwardOthers, Addresses: own})
	if err == nil {
		f.zone.Store(p.Zone)
	}
	return p, warnings, err
}

// Zone is the site's time zone; the machine's until a policy was loaded.
func (f *File) Zone() *time.Location { return cmp.Or(f.zone.Load(), time.Local) }

// Warnings implements gateway.PolicyFile. It does not read the file.
func (f *File) Warnings(p *policy.Policy, now time.Time) []view.Message {
	_, warnings, _ := ParsePolicy(f.Path, []byte(p.Text), filepath.Dir(f.Path), Host{}, now)
	return warnings
}

// Check implements gateway.PolicyFile. It reads the file only if the file, its
// preshared-key files or the host's own addresses have changed.
func (f *File) Check() (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	own, err := f.Addresses()
	if err != nil {
		if f.files == nil {
			return "", err
		}
		own = f.own
	}
	if f.files != nil && slices.Equal(own, f.own) && f.unchanged() {
		return f.digest, f.err
	}
	// The stamps come first: a change during the reading shows the next time.
	files := []dated{{f.Path, stampOf(f.Path)}}
	loaded, _, err := LoadPolicy(f.Path, Host{Key: f.Key.public(), Guard: f.Guard, Interface: f.Interface, ForwardOthers: f.ForwardOthers, Addresses: own, Opens: func(path string) {
		files = append(files, dated{path, stampOf(path)})
	}})
	f.files, f.own, f.digest, f.err = files, own, "", err
	if err == nil {
		f.digest = loaded.Digest
	}
	return f.digest, f.err
}

// keysALook bounds how many preshared-key files each Check looks at: the files of
// 10,000 engineers take ten Checks.
const keysALook = 1000

func (f *File) unchanged() bool {
	if !f.files[0].unchanged() {
		return false
	}
	keys := f.files[1:]
	for range min(len(keys), keysALook) {
		f.next = (f.next + 1) % len(keys)
		if !keys[f.next].unchanged() {
			return false
		}
	}
	return true
}

// dated is a file with its stamp at the last reading.
type dated struct {
	path string
	was  stamp
}

func (d dated) unchanged() bool { return stampOf(d.path) == d.was }

// stamp differs after every change of a file, since nobody can set its ctime, and
// when others become able to replace it.
type stamp struct {
	device, inode     uint64
	size              int64
	mode, user, group uint32
	changed           unix.Timespec
	refused           string // why the file is not read: it is missing, or others can replace it
}

func stampOf(path string) stamp {
	s, err := durable.Guard{}.Stat(path)
	if err != nil {
		return stamp{refused: err.Error()}
	}
	return stamp{device: s.Dev, inode: s.Ino, size: s.Size, mode: s.Mode, user: s.Uid, group: s.Gid, changed: s.Ctim}
}
