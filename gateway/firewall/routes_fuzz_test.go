package firewall

import (
	"encoding/hex"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Messages of rtnetlink, as Linux 6.18 writes them on a little-endian machine,
// without their outermost header.
var dumpedRoutes = []string{
	// 10.1.0.0/24 dev 2 proto kernel
	"02180000fe02fd010000000008000f00fe000000080001000a010000080007000a0100010800040002000000",
	// 10.1.0.5 nexthop via 10.1.0.9 dev 2 nexthop via 10.3.0.9 dev 3
	"02200000fe0300010000000008000f00fe000000080001000a010005240009001000000002000000080005000a0100091000000003000000080005000a030009",
	// 10.1.7.0/24 via inet6 fd03::9 dev 3
	"02180000fe0300010000000008000f00fe000000080001000a010700160012000a00fd03000000000000000000000000000900000800040003000000",
	// unreachable 10.9.0.0/16
	"02100000fe0300070000000008000f00fe000000080001000a090000",
	// fd01::5 nexthop via fe80::9 dev 2 nexthop via fd03::9 dev 3
	"0a800000fe0300010000000008000f00fe00000014000100fd01000000000000000000000000000508000600000400003c0009001c0000000200000014000500fe8000000000000000000000000000091c0000000300000014000500fd03000000000000000000000000000924000c0000000000000000000000000000000000000000000000000000000000000000000500140000000000",
	// fd01::/64 dev 2 proto kernel
	"0a400000fe0200010000000008000f00fe00000014000100fd0100000000000000000000000000000800060000010000080004000200000024000c0000000000000000000000000000000000000000000000000000000000000000000500140000000000",
	// default via fd03::9 dev 3 expires 500
	"0a000000fe0300010000000008000f00fe000000080006000004000014000500fd030000000000000000000000000009080004000300000024000c0000000000000000004fc3000000000000000000000000000000000000000000000500140000000000",
}

var dumpedAddresses = []string{
	// 10.1.0.1/24 dev 2
	"0218800002000000080001000a010001080002000a010001080004000a0100ff080003006c616e00080008008000000014000600ffffffffffffffff1d5302001d530200",
	// 10.1.0.6/30 dev 3 valid_lft 500
	"021e000003000000080001000a010006080002000a010006090003006c616e320000000008000800000000001400060090010000f40100002453020024530200",
	// fd01::1/64 dev 2
	"0a4082000200000014000100fd01000000000000000000000000000114000600ffffffffffffffff1d5302001d5302000800080082000000",
	// fe80::48:428a:ffe6:8570/64 dev 2
	"0a4080fd0200000014000100fe8000000000000048428afffe68570414000600ffffffffffffffff1e5302001e530200080008008000000005000b0003000000",
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzRoute reads what may stand in place of a route or of an address. What is
// accepted is of the family asked for, and names interfaces that were listed.
func FuzzRoute(f *testing.F) {
	for _, text := range append(append([]string{}, dumpedRoutes...), dumpedAddresses...) {
		m := unhex(f, text)
		f.Add(m, false)
		f.Add(m, true)
		for _, cut := range []int{1, 3, 4, 5, 9, len(m) / 2} {
			f.Add(m[:len(m)-cut], m[0] == unix.AF_INET6)
		}
		longer := append([]byte{}, m...)
		longer[1] = 200
		f.Add(longer, m[0] == unix.AF_INET6)
	}
	// An address of four bytes for IPv6, and one of sixteen for IPv4.
	f.Add(unhex(f, "0a180000fe02fd010000000008000f00fe000000080001000a0100000800040002000000"), true)
	f.Add(unhex(f, "02180000fe02fd010000000008000f00fe00000014000100fd0100000000000000000000000000000800040002000000"), false)
	names := map[int]string{2: "lan", 3: "lan2"}
	f.Fuzz(func(t *testing.T, m []byte, six bool) {
		family := unix.AF_INET
		if six {
			family = unix.AF_INET6
		}
		if r, _, ok := parseRoute(m, family, names); ok {
			if !r.to.IsValid() || r.to != r.to.Masked() || r.to.Addr().Is6() != six {
				t.Errorf("a route to %v, of IPv6: %t", r.to, six)
			}
			for _, h := range r.hops {
				if h.through != "lan" && h.through != "lan2" {
					t.Errorf("it leads through %q", h.through)
				}
			}
		}
		if _, network, ok := parseAddress(m); ok && (!network.IsValid() || network != network.Masked() || network.Addr().Is6() != (m[0] == unix.AF_INET6)) {
			t.Errorf("an address of %v", network)
		}
	})
}

// TestParseAddress: which addresses are taken for an administrator's.
func TestParseAddress(t *testing.T) {
	global := dumpedAddresses[2]
	for _, tt := range []struct{ name, message, want string }{
		{"IPv4", dumpedAddresses[0], "10.1.0.0/24"},
		{"IPv4, with an end", dumpedAddresses[1], ""},
		{"IPv6", global, "fd01::/64"},
		{"IPv6, link-local", dumpedAddresses[3], "fe80::/64"},
		{"made of an advertisement by a program, without an end", global + "05000b0002000000", ""},
		{"made of an advertisement by the kernel, without an end", strings.Replace(global, "0800080082000000", "0800080002010000", 1), ""},
		{"temporary ones are made of it", strings.Replace(global, "0800080082000000", "0800080082010000", 1), ""},
		{"cut short", global[:len(global)-2], ""},
		{"of another length", "0218800002000000" + global[16:], ""},
		{"of no family", "07" + global[2:], ""},
	} {
		index, network, ok := parseAddress(unhex(t, tt.message))
		got := ""
		if ok {
			got = network.String()
		}
		if got != tt.want || ok && index != 2 {
			t.Errorf("%s: %q on interface %d, want %q on 2", tt.name, got, index, tt.want)
		}
	}
}

// TestParseRouteDown: by which hops of a route nothing goes, since their link is
// dead or has no carrier.
func TestParseRouteDown(t *testing.T) {
	for _, tt := range []struct{ name, message, want string }{
		{"one hop", dumpedRoutes[0], "lan"},
		{"one hop without carrier", strings.Replace(dumpedRoutes[0], "fd0100000000", "fd0110000000", 1), "lan down"},
		{"one dead hop", strings.Replace(dumpedRoutes[0], "fd0100000000", "fd0101000000", 1), "lan down"},
		{"one of two without carrier", strings.Replace(dumpedRoutes[1], "1000000002", "1000100002", 1), "lan down, lan2"},
		{"the other is dead", strings.Replace(dumpedRoutes[1], "1000000003", "1000110003", 1), "lan, lan2 down"},
	} {
		r, _, ok := parseRoute(unhex(t, tt.message), unix.AF_INET, map[int]string{2: "lan", 3: "lan2"})
		var got []string
		for _, h := range r.hops {
			got = append(got, h.through+map[bool]string{true: " down"}[h.down])
		}
		if !ok || strings.Join(got, ", ") != tt.want {
			t.Errorf("%s: %q (%t), want %q", tt.name, got, ok, tt.want)
		}
	}
}
