package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"

	"kidoban/gateway/view"
)

// machine is interface and device. Restart makes another.
type machine struct {
	device  *device.Device
	link    *link
	uapi    *uapi // may be nil
	workers sync.WaitGroup
	closed  atomic.Bool
}

// build makes a machine and puts it to work; building is held.
func (t *Tunnel) build() error {
	c := t.config
	if err := portFree(c.ListenPort); err != nil {
		return err
	}
	native, err := createTUN(Device, c.Interface)
	if err != nil {
		return err
	}
	link, err := newLink(c.Interface, c.MTU, t.addresses)
	if err != nil {
		native.Close()
		return err
	}
	debug := func(format string, values ...any) {
		if t.log.Enabled(context.Background(), slog.LevelDebug) {
			t.log.Debug("wireguard: " + fmt.Sprintf(format, values...))
		}
	}
	k := &gatedTUN{Device: native, table: t.table, boot: t.boot, fail: t.fail}
	// Its errors are packets that were cut and addresses that cannot be reached.
	// gatedTUN and the reconciler see the serious ones.
	m := &machine{device: device.NewDevice(k, t.gate, &device.Logger{Verbosef: debug, Errorf: debug}), link: link}
	err = m.device.IpcSet(fmt.Sprintf("private_key=%x\nlisten_port=%d\n", t.private[:], c.ListenPort))
	if err == nil {
		err = m.device.Up()
	}
	if err != nil {
		m.close()
		return fmt.Errorf("start WireGuard on %s, UDP port %d: %w", c.Interface, c.ListenPort, err)
	}
	if c.UAPI {
		m.uapi = newUAPI(c.Interface, m.device, t.log)
		m.workers.Go(m.uapi.run)
	}
	t.peers.renew(m.device)
	t.machine.Store(m)
	return nil
}

// portFree reports whether a UDP port can be used. It is asked before the interface
// is made, so that the interface does not come and go while somebody has the port.
// A family that the host does not have is no reason.
func portFree(port uint16) error {
	for _, network := range []string{"udp4", "udp6"} {
		socket, err := net.ListenUDP(network, &net.UDPAddr{Port: int(port)})
		if errors.Is(err, unix.EADDRINUSE) {
			return &view.Error{Message: view.Say("port_taken", view.Args{"port": port}), Cause: err}
		}
		if err == nil {
			socket.Close()
		}
	}
	return nil
}

// close removes the interface and waits until all has ended.
func (m *machine) close() {
	if m.closed.Swap(true) {
		return
	}
	if m.uapi != nil {
		close(m.uapi.quit)
	}
	m.device.Close()
	m.workers.Wait()
	m.link.handle.Close()
}

// lost reports whether the device has ended for good.
func (m *machine) lost() bool {
	select {
	case <-m.device.Wait():
		return true
	default:
		return false
	}
}

// check mends the interface, and reports what that took, or why the machine cannot
// work. One that was closed on purpose has nothing to report.
func (m *machine) check() (mended []string, err error) {
	mended, err = m.link.mend()
	if m.lost() {
		err = errors.New("WireGuard has ended: the tunnel interface was lost")
	}
	if m.closed.Load() {
		return nil, nil
	}
	return mended, err
}
