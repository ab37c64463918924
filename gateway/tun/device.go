package tun

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	wireguard "golang.zx2c4.com/wireguard/tun"
)

// path is named in errors.
const path = "/dev/net/tun"

// batch is how many packets a Read should have room for, the same as wireguard-go's.
const batch = 128

// Device is a wireguard-go tun.Device. All its methods may be called concurrently.
type Device struct {
	file   *os.File
	raw    syscall.RawConn
	name   string
	events chan wireguard.Event
	once   sync.Once // Close

	reading sync.Mutex // guards reader
	reader  reader
	writing sync.Mutex // guards writer
	writer  writer
}

// New makes a Device of the file descriptor of a TUN interface, made by TUNSETIFF with IFF_TUN and
// IFF_NO_PI. The Device owns the descriptor, and closes it if there is an error. With IFF_VNET_HDR
// the kernel gives joined frames of TCP, and from Linux 6.2 on of UDP.
func New(fd int) (*Device, error) { return newDevice(fd, setOffload) }

// offload asks the kernel for joined frames (TUNSETOFFLOAD).
type offload func(fd, flags int) error

func setOffload(fd, flags int) error { return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, flags) }

const (
	joinedTCP = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	joinedUDP = unix.TUN_F_USO4 | unix.TUN_F_USO6
)

func newDevice(fd int, set offload) (*Device, error) {
	name, frames, err := ask(fd)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("use %s: %w", path, err)
	}
	udp := frames && set(fd, joinedTCP|joinedUDP) == nil
	if frames && !udp {
		_ = set(fd, joinedTCP) // without it every frame is one packet
	}
	return newFile(os.NewFile(uintptr(fd), path), name, frames, udp)
}

// ask asks for the name of an interface, and whether its frames have a virtio_net_hdr (TUNGETIFF).
func ask(fd int) (name string, frames bool, err error) {
	r, err := unix.NewIfreq("")
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.TUNGETIFF, r)
	}
	if err != nil {
		return "", false, fmt.Errorf("ask for the name of the interface: %w", err)
	}
	return r.Name(), r.Uint16()&unix.IFF_VNET_HDR != 0, nil
}

// newFile makes a Device of a file that does not block. With frames, a virtio_net_hdr stands before
// each. With udp the kernel can split joined frames of UDP.
func newFile(file *os.File, name string, frames, udp bool) (*Device, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	d := &Device{file: file, raw: raw, name: name, events: make(chan wireguard.Event)}
	d.reader = newReader(frames)
	d.writer = writer{frames: frames, udp: udp}
	d.reader.step, d.writer.step = d.reader.fill, d.writer.flush // made once: each would be an allocation
	return d, nil
}

// File implements tun.Device.
func (d *Device) File() *os.File { return d.file }

// Name implements tun.Device. It is the name that the interface had when the Device was made.
func (d *Device) Name() (string, error) { return d.name, nil }

// Events implements tun.Device. There are none; the channel is closed with the Device.
func (d *Device) Events() <-chan wireguard.Event { return d.events }

// BatchSize implements tun.Device.
func (d *Device) BatchSize() int { return batch }

// MTU implements tun.Device, in the network namespace of the calling thread.
func (d *Device) MTU() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("read the MTU of %s: %w", d.name, err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(d.name)
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFMTU, r)
	}
	if err != nil {
		return 0, fmt.Errorf("read the MTU of %s: %w", d.name, err)
	}
	return int(r.Uint32()), nil
}

// Close implements tun.Device. A waiting Read returns os.ErrClosed.
func (d *Device) Close() (err error) {
	d.once.Do(func() {
		close(d.events)
		err = d.file.Close()
	})
	return err
}

// failed is the error of a system call. EBADFD means that the interface was removed.
func failed(operation string, err syscall.Errno) error {
	if err == unix.EBADFD {
		return os.ErrClosed
	}
	return &os.PathError{Op: operation, Path: path, Err: err}
}

// vector describes bytes for readv or writev.
func vector(b []byte) unix.Iovec {
	v := unix.Iovec{Base: unsafe.SliceData(b)}
	v.SetLen(len(b))
	return v
}

// vectored calls readv or writev. The caller must keep the buffers of the vectors alive.
func vectored(call, fd uintptr, vectors []unix.Iovec) (int, syscall.Errno) {
	n, _, err := syscall.Syscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(vectors))), uintptr(len(vectors)))
	return int(n), err
}
