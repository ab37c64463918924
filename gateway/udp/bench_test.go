package udp

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

// BenchmarkBinds sends batches over the loopback interface, by these sockets and by wireguard-go's. Processor
// time tells more than time on a machine that does something else.
func BenchmarkBinds(b *testing.B) {
	for _, size := range []int{132, 1452} {
		for name, of := range map[string]func() conn.Bind{"own": func() conn.Bind { return New() }, "wireguard-go": conn.NewStdNetBind} {
			b.Run(fmt.Sprintf("%s/%d bytes", name, size), func(b *testing.B) {
				from, at := of(), of()
				defer from.Close()
				defer at.Close()
				_, _, err := from.Open(0)
				receive, port, err2 := at.Open(0)
				if err != nil || err2 != nil {
					b.Fatal(err, err2)
				}
				to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
				var endpoint conn.Endpoint = &Endpoint{AddrPort: to}
				if name != "own" {
					endpoint = &conn.StdNetEndpoint{AddrPort: to}
				}
				carry(b, from, receive[0], endpoint, size)
			})
		}
	}
}

func carry(b *testing.B, from conn.Bind, receive conn.ReceiveFunc, to conn.Endpoint, size int) {
	packets := make([][]byte, 100)
	for i := range packets {
		packets[i] = append(make([]byte, 0, 1<<16), noise(size, i)...) // wireguard-go's joins in place
	}
	d := newDesk(batch, 1<<16-1)
	begun := processorTime()
	b.ResetTimer()
	for b.Loop() {
		if err := from.Send(packets, to); err != nil {
			b.Fatal(err)
		}
		for got := 0; got < len(packets); {
			n, err := receive(d.packets, d.sizes, d.from)
			if err != nil {
				b.Fatal(err)
			}
			for _, size := range d.sizes[:n] {
				got += min(size, 1)
			}
		}
	}
	b.ReportMetric(float64(processorTime()-begun)/float64(b.N*len(packets)), "cpu-ns/packet")
}

// processorTime is that of this process, in nanoseconds.
func processorTime() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t) // never fails
	return t.Nano()
}
