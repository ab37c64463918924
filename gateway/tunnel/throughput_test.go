package tunnel

import (
	"io"
	"testing"
	"time"

	"kidoban/gateway/lab"
)

// BenchmarkThroughput sends TCP from a vendor through the gate, and through
// plain wireguard-go, on one machine that does the client's work as well.
func BenchmarkThroughput(b *testing.B) {
	send := func(b *testing.B, vendor, gateway *lab.Host) {
		l, err := gateway.Listen("tcp", "10.99.0.1:9000")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		received := make(chan int64, 1)
		go func() {
			c, err := l.Accept()
			if err != nil {
				received <- 0
				return
			}
			defer c.Close()
			n, _ := io.Copy(io.Discard, c)
			received <- n
		}()
		c, err := vendor.Dial(within(b, 5*time.Second), "tcp", "10.99.0.1:9000")
		if err != nil {
			b.Fatal(err)
		}
		const size = 1 << 20
		message := make([]byte, size)
		b.SetBytes(size)
		b.ResetTimer()
		for range b.N {
			if _, err := c.Write(message); err != nil {
				b.Fatal(err)
			}
		}
		c.Close()
		if got, want := <-received, int64(b.N)*size; got != want {
			b.Fatalf("%d bytes arrived, want %d", got, want)
		}
	}
	b.Run("gate", func(b *testing.B) {
		s := newSite(b)
		s.open(later(), s.sato)
		s.client(s.medisys, s.sato, medisysEndpoint)
		send(b, s.medisys, s.gateway)
	})
	b.Run("plain", func(b *testing.B) {
		s := newSite(b)
		s.tunnel.Close()
		s.gateway.NewClient(lab.ClientConfig{
			PrivateKey: s.private, PeerKey: lab.Key(s.sato.Key), PresharedKey: s.sato.PresharedKey, ListenPort: 51820,
			Addresses: lab.Prefixes("10.99.0.1/32"), AllowedIPs: lab.Prefixes("10.99.0.2/32"),
		})
		s.client(s.medisys, s.sato, medisysEndpoint)
		send(b, s.medisys, s.gateway)
	})
}
