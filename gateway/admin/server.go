// Package admin has the listeners and the server: the Unix socket through which
// operators reach the gateway's api, with its client, and TCP for monitoring.
//
// The mode of the socket (0660, group kidoban) decides about access. The kernel names
// the peer (SO_PEERCRED), and no word of the peer itself counts. A request with an
// Origin, or a Host other than "kidoban" or "localhost", comes from a browser and is
// refused.
package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway/durable"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

const (
	// host is the Host of a request to the socket; localHost is common with
	// curl --unix-socket. A browser sends another name, also after DNS rebinding.
	host      = "kidoban"
	localHost = "localhost"
	// group may use the socket.
	group = "kidoban"
	// nobody is the kernel's uid for all users that the gateway's user namespace does
	// not map (overflowuid).
	nobody = 65534
)

// Listen makes the operators' socket, as listen does for their group.
func Listen(path string) (net.Listener, error) { return listen(path, group) }

// ListenOffice makes the socket of the office. Without a path no connection comes.
func ListenOffice(path string) (net.Listener, error) {
	if path == "" {
		closed, end := context.WithCancel(context.Background())
		return nowhere{closed, end}, nil
	}
	return listen(path, view.OfficeUser)
}

// nowhere is a listener to which no connection comes.
type nowhere struct {
	closed context.Context
	end    func()
}

func (n nowhere) Accept() (net.Conn, error) {
	<-n.closed.Done()
	return nil, net.ErrClosed
}

func (n nowhere) Close() error { n.end(); return nil }
func (nowhere) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// listen makes a socket, with its folder if that is missing: mode 0660, of a group where
// there is such a group. A socket without a server is replaced; a socket with a server
// is an error.
func listen(path, group string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("%s is there and is no socket", path)
		}
		c, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			c.Close()
		}
		// Any other error may come from a server that is only slow.
		if !errors.Is(err, unix.ECONNREFUSED) {
			return nil, fmt.Errorf("%s is served already: another gateway runs", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	// The socket is born closed to all but its owner.
	old := unix.Umask(0o177)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, err
	}
	if g, found := user.LookupGroup(group); found == nil {
		gid, _ := strconv.Atoi(g.Gid)
		if err = os.Chown(path, -1, gid); err != nil {
			err = fmt.Errorf("give %s to group %s: %w: the gateway's user must be in that group, as by `usermod --append --groups %[2]s kidoban`", path, group, err)
		}
	}
	if err == nil {
		err = os.Chmod(path, 0o660)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// ListenPages listens on a TCP address that the host may not have yet: the gateway
// starts before the network is up (ip(7), IP_FREEBIND).
func ListenPages(ctx context.Context, address string) (net.Listener, error) {
	free := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) (err error) {
		level, option := unix.IPPROTO_IP, unix.IP_FREEBIND
		if network == "tcp6" {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
		}
		refused := c.Control(func(fd uintptr) {
			err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), level, option, 1))
		})
		return errors.Join(refused, err)
	}}
	return free.Listen(ctx, "tcp", address)
}

type peerKey struct{}

// peer is the kernel's word about the other end of a connection.
type peer struct {
	cred *unix.Ucred
	err  error
}

// lastAnswers bounds how long Serve waits for answers when the context has ended.
const lastAnswers = 2 * time.Second

// Serve serves until the context ends, and then finishes the accepted requests.
func Serve(ctx context.Context, l net.Listener, handler http.Handler, logger *slog.Logger) error {
	server := &http.Server{
		Handler: handler,
		// "OPTIONS *" is a request like others: it gets a problem.
		DisableGeneralOptionsHandler: true,

		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    8 << 10,
		// Streams end when the server does. Other requests are finished.
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if socket, ok := c.(problemConn); ok {
				return context.WithValue(ctx, peerKey{}, credentials(socket.UnixConn))
			}
			return ctx
		},
		ConnState: bounded(ownerOf),
	}
	answered := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(answered)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastAnswers)
		defer cancel()
		if server.Shutdown(last) != nil {
			server.Close()
		}
	})
	err := server.Serve(problems{l}) // returns as soon as the end begins
	if !stop() {
		<-answered
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func credentials(c *net.UnixConn) (p peer) {
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			p.cred, p.err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		})
	}
	p.err = errors.Join(p.err, err)
	return p
}

// actor names the user of the peer, and for root also the login. Root has no ID: root can
// take any login, so rules that need two persons do not count it.
func (p peer) actor() (policy.Actor, error) {
	if p.err != nil {
		return policy.Actor{}, fmt.Errorf("the kernel does not say who asks: %w", p.err)
	}
	if p.cred.Uid == nobody {
		return policy.Actor{}, fmt.Errorf("uid %d is not mapped into the gateway's user namespace: it could be anybody", nobody)
	}
	name := userName(p.cred.Uid)
	if p.cred.Uid != 0 {
		return policy.Actor{ID: strings.TrimPrefix(name, unnamed), Via: "socket", Text: name}, nil
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/loginuid", p.cred.Pid))
	login, parseErr := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil || parseErr != nil || login == 1<<32-1 {
		return policy.Actor{Via: "socket", Text: name + " (no login)"}, nil
	}
	return policy.Actor{Via: "socket", Text: fmt.Sprintf("%s (login %s)", name, userName(uint32(login)))}, nil
}

// unnamed begins the name of a user whom the system has no name for.
const unnamed = "uid "

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return unnamed + id
}

// Who names the peer of a request. It refuses browsers and unnamed peers.
func Who(r *http.Request) (policy.Actor, error) {
	p, err := peerOf(r)
	if err != nil {
		return policy.Actor{}, err
	}
	return p.actor()
}

// WhoOffice is Who for the office's socket. It refuses all but the office's user, or the
// gateway's own where the system has no such user, and root.
func WhoOffice(r *http.Request) (policy.Actor, error) {
	p, err := peerOf(r)
	if err != nil || p.err != nil {
		return policy.Actor{}, errors.Join(err, p.err)
	}
	office := strconv.Itoa(os.Geteuid())
	if u, err := user.Lookup(view.OfficeUser); err == nil {
		office = u.Uid
	}
	if uid := strconv.FormatUint(uint64(p.cred.Uid), 10); uid != office && uid != "0" {
		return policy.Actor{}, fmt.Errorf("%s asks: allowed is %s, which delivers notices, and root", userName(p.cred.Uid), view.OfficeUser)
	}
	return p.actor()
}

func peerOf(r *http.Request) (peer, error) {
	for _, header := range []string{"Origin", "Referer", "Sec-Fetch-Site"} {
		if len(r.Header.Values(header)) > 0 {
			return peer{}, fmt.Errorf("a browser asks (%s), which nobody needs here", header)
		}
	}
	if r.Host != host && r.Host != localHost {
		return peer{}, fmt.Errorf("the Host is %q: allowed is %q or %q", r.Host, host, localHost)
	}
	p, ok := r.Context().Value(peerKey{}).(peer)
	if !ok {
		return peer{}, errors.New("the request did not come through the socket")
	}
	return p, nil
}

// connectionsMost bounds the open connections of a server.
const connectionsMost = 64

// bounded limits the connections of a server, so that clients cannot take all file
// descriptors of the process: without one for the journal, the journal dies.
//
// For a new connection the oldest one of whoever has most is closed. If the new one were refused, or
// the oldest of all closed, a client with many connections could keep all others out.
func bounded(whose func(net.Conn) string) func(net.Conn, http.ConnState) {
	var mu sync.Mutex
	var open []owned // oldest first
	count := map[string]int{}
	remove := func(i int) {
		owner := open[i].by
		if count[owner]--; count[owner] == 0 {
			delete(count, owner)
		}
		open = slices.Delete(open, i, i+1)
	}
	return func(c net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		switch state {
		case http.StateNew: // from Serve itself, before it accepts the next
			by := whose(c)
			if count[by]++; len(open) == connectionsMost {
				most := slices.Max(slices.Collect(maps.Values(count)))
				i := slices.IndexFunc(open, func(o owned) bool { return count[o.by] == most })
				open[i].Conn.Close()
				remove(i)
			}
			open = append(open, owned{c, by})
		case http.StateClosed:
			if i := slices.IndexFunc(open, func(o owned) bool { return o.Conn == c }); i >= 0 {
				remove(i)
			}
		}
	}
}

// owned is a connection, and whose it is.
type owned struct {
	net.Conn
	by string
}

// ownerOf names the user of a connection to a socket, or the address that it comes from.
func ownerOf(c net.Conn) string {
	if socket, ok := c.(problemConn); ok {
		if p := credentials(socket.UnixConn); p.err == nil {
			return strconv.FormatUint(uint64(p.cred.Uid), 10)
		}
		return ""
	}
	from, _, _ := net.SplitHostPort(c.RemoteAddr().String())
	return from
}

// Beside gives the paths of files beside the admin socket, in /run: they outlive the
// process but not a boot, and wait for no disk. If another user can replace what is in
// the folder, the paths are empty, since the next process would believe such
// files.
func Beside(socket string, logger *slog.Logger) func(name string) string {
	folder := filepath.Dir(socket)
	if err := (durable.Guard{}).Folder(folder); err != nil {
		logger.Warn("nothing is kept in the folder of KIDOBAN_ADMIN_SOCKET, so a start does not turn forwarding back that a killed process turned on",
			"folder", folder, "err", err)
		return func(string) string { return "" }
	}
	return func(name string) string { return filepath.Join(folder, name) }
}
