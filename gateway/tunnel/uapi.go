package tunnel

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"
)

// UAPIDirectory is where wg(8) looks for userspace interfaces.
const UAPIDirectory = "/var/run/wireguard"

const (
	uapiTimeout = 5 * time.Second // of a client
	uapiAgain   = 5 * time.Second // until it is tried once more to make the socket
)

// uapi answers wg(8) on a socket named after the interface. It only tells: a
// "set" gets EPERM, and no secret key is told.
//
// The tunnel works without. If something is in the way of the socket, that is
// told, and it is tried again.
type uapi struct {
	device   *device.Device
	log      *slog.Logger
	path     string
	listener *net.UnixListener // nil until the socket could be made
	quit     chan struct{}
	problem  atomic.Pointer[error] // nil: it is there
}

// newUAPI tries to make the socket; run goes on trying.
func newUAPI(name string, d *device.Device, log *slog.Logger) *uapi {
	u := &uapi{device: d, log: log, path: filepath.Join(UAPIDirectory, name+".sock"), quit: make(chan struct{})}
	u.listen()
	return u
}

func (u *uapi) listen() {
	l, err := listenUAPI(u.path)
	if err == nil {
		u.listener = l
		u.problem.Store(nil)
	} else if u.problem.Swap(&err) == nil {
		u.log.Warn("`wg show` shows nothing", "err", err, "again_every", uapiAgain)
	}
}

// run serves until quit is closed.
func (u *uapi) run() {
	for u.listener == nil {
		select {
		case <-u.quit:
			return
		case <-time.After(uapiAgain):
			u.listen()
		}
	}
	go func() {
		<-u.quit
		u.listener.Close()
	}()
	for {
		c, err := u.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			time.Sleep(100 * time.Millisecond) // out of descriptors
		default:
			go func() {
				defer c.Close()
				_ = u.serve(c) // the client is gone, or is not wg
			}()
		}
	}
}

func listenUAPI(path string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("%s is in use by another process", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// serve answers one request (wireguard.com/xplatform).
func (u *uapi) serve(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(uapiTimeout)); err != nil {
		return err
	}
	in := bufio.NewReader(c)
	operation, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if string(operation) != "get=1\n" {
		// Read it to its end, or wg(8) dies of writing before it reads the answer.
		for lines := 0; err == nil && lines < 1<<16 && len(operation) > 1; lines++ {
			operation, err = in.ReadSlice('\n')
		}
		_, err = fmt.Fprintf(c, "errno=%d\n\n", -int(unix.EPERM))
		return err
	}
	var all bytes.Buffer
	if err := u.device.IpcGetOperation(&all); err != nil {
		_, err = fmt.Fprintf(c, "errno=%d\n\n", -int(unix.EIO))
		return err
	}
	out := bufio.NewWriter(c)
	for line := range bytes.Lines(all.Bytes()) {
		if !bytes.HasPrefix(line, []byte("private_key=")) && !bytes.HasPrefix(line, []byte("preshared_key=")) {
			out.Write(line)
		}
	}
	out.WriteString("errno=0\n\n")
	return out.Flush()
}
