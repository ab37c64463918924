package tunnel

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/clock"
	"kidoban/gateway/view"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"
)

// fixedTUN gives the same packets at every Read and keeps what is written.
type fixedTUN struct {
	tun.Device
	packets [][]byte
	err     error // of reading, when there are no packets
	written int
}

func (f *fixedTUN) Read(to [][]byte, sizes []int, offset int) (int, error) {
	for i, p := range f.packets {
		sizes[i] = copy(to[i][offset:], p)
	}
	if len(f.packets) == 0 {
		return 0, f.err
	}
	return len(f.packets), nil
}

func (f *fixedTUN) Write(packets [][]byte, _ int) (int, error) {
	f.written += len(packets)
	return len(packets), nil
}

// What waited in WireGuard's queues over the deadline ends at the interface.
func TestKeeperHoldsTheDeadlineToo(t *testing.T) {
	h, engineers, _ := fullTable(t, 2)
	var late time.Duration
	f := &fixedTUN{}
	k := &gatedTUN{Device: f, table: h, boot: func() time.Duration { return clock.Boot() + late }, fail: func(err error) { t.Error(err) }}
	packet := func(from, to netip.Addr) []byte {
		p := make([]byte, 20)
		p[0] = 0x45
		copy(p[12:], from.AsSlice())
		copy(p[16:], to.AsSlice())
		return p
	}
	gateway, first, second, nobody := netip.MustParseAddr("10.99.255.1"), engineers[0].Addresses[0], engineers[1].Addresses[0], netip.MustParseAddr("10.99.200.200")
	f.packets = [][]byte{packet(gateway, first), packet(gateway, nobody), packet(gateway, second), {0x60}, packet(gateway, second)}
	const offset = 16
	read := func() (passed []int) {
		t.Helper()
		to, sizes := make([][]byte, 5), make([]int, 5)
		for i := range to {
			to[i] = make([]byte, 100)
		}
		if n, err := k.Read(to, sizes, offset); n != 5 || err != nil {
			t.Fatalf("Read gives %d, %v", n, err)
		}
		for i, size := range sizes {
			if size > 0 {
				passed = append(passed, i)
			}
		}
		return passed
	}
	write := func(from netip.Addr) int {
		t.Helper()
		before := f.written
		p := append(make([]byte, offset), packet(from, gateway)...)
		if _, err := k.Write([][]byte{p, p}, offset); err != nil {
			t.Fatal(err)
		}
		return f.written - before
	}
	if got, want := read(), []int{0, 2, 4}; !slices.Equal(got, want) {
		t.Errorf("read while open: packets %v pass, want %v", got, want)
	}
	if got := write(first); got != 2 {
		t.Errorf("written while open: %d packets pass, want 2", got)
	}
	if got := write(nobody); got != 0 {
		t.Errorf("written from an address that nobody holds: %d packets pass", got)
	}
	h.end(engineers[0].Key)
	if got, want := read(), []int{2, 4}; !slices.Equal(got, want) {
		t.Errorf("read after the first was cut: packets %v pass, want %v", got, want)
	}
	if got := write(first); got != 0 {
		t.Errorf("written after the first was cut: %d of its packets pass", got)
	}
	late = 72 * time.Hour
	if got := read(); got != nil {
		t.Errorf("read past the deadline: packets %v pass", got)
	}
	if got := write(second); got != 0 {
		t.Errorf("written past the deadline: %d packets pass", got)
	}
}

// TestOnePacketClosesNoTunnel: a target that sends what cannot be read loses
// that, and nobody else anything.
func TestOnePacketClosesNoTunnel(t *testing.T) {
	for _, test := range []struct {
		err   error
		fatal bool
	}{
		{errors.New("unsupported virtio GSO type: 129"), false},
		{&fs.PathError{Op: "read", Path: "/dev/net/tun", Err: unix.EINVAL}, false},
		{&fs.PathError{Op: "read", Path: "/dev/net/tun", Err: unix.EIO}, true},
		{os.ErrClosed, true}, // as wireguard-go tells of EBADFD
		{&fs.PathError{Op: "read", Path: "/dev/net/tun", Err: os.ErrClosed}, true},
	} {
		var told error
		k := &gatedTUN{Device: &fixedTUN{err: test.err}, table: newTable(), boot: clock.Boot, fail: func(err error) { told = err }}
		n, err := k.Read(make([][]byte, 1), make([]int, 1), 0)
		if n != 0 || (err != nil) != test.fatal || (told != nil) != test.fatal {
			t.Errorf("%v: WireGuard hears of %v, the tunnel of %v, want that either does: %v", test.err, err, told, test.fatal)
		}
	}
}

// TestNoTUNDevice: what makes interfaces is missing, or nothing is behind it. The
// error says what mends that, and not that the tunnel be built anew.
func TestNoTUNDevice(t *testing.T) {
	folder := t.TempDir()
	other := filepath.Join(folder, "other")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(folder, "loop")
	if err := os.Symlink(link, link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]view.Code{filepath.Join(folder, "tun"): "tun_missing", other: "tun_failed", link: "tun_failed"} {
		_, err := createTUN(path, "kido0")
		var said *view.Error
		if !errors.As(err, &said) || said.Code != want || !strings.Contains(err.Error(), "kido0") {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
	for errno, want := range map[unix.Errno]view.Code{unix.ENODEV: "tun_missing", unix.ENXIO: "tun_missing", unix.EPERM: "tun_forbidden", unix.EACCES: "tun_forbidden", unix.EBUSY: "tun_failed"} {
		var said *view.Error
		if err := tunError("kido0", errno); !errors.As(err, &said) || said.Code != want || !errors.Is(err, errno) {
			t.Errorf("%v: %v, want %s", errno, err, want)
		}
	}
}
