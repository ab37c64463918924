// Package lab makes hosts in network namespaces, so that tests, benchmarks
// and the demo send real packets through a real kernel without touching the
// network of the machine, as root and as an ordinary user.
//
// A program that needs hosts calls Main first. Main runs the
// program again in a network and a mount namespace of its own (and, where the
// caller may not make these, in a user namespace), with a private /run. There
// New makes a Lab, and a Lab makes hosts, each one more network namespace:
//
//	func TestMain(m *testing.M) { lab.Main(m) }
//
//	func TestSomething(t *testing.T) {
//		l := lab.New(t)
//		vendor, site := l.Host("vendor"), l.Host("site")
//		l.Link(vendor, "eth0", lab.Prefixes("203.0.113.10/24"),
//			site, "eth0", lab.Prefixes("203.0.113.1/24"))
//		...
//	}
//
// Methods that build the network (hosts, links, routes, echo servers, captures,
// clients) end the test on failure. Methods that a test is about (Do, Dial, Ping,
// Send, commands, handshakes) return an error. Everything is gone when the test
// ends. If the process is killed, the kernel removes namespaces and commands.
//
// A host has loopback up, forwards nothing, filters no reverse paths and skips
// duplicate address detection. Its links drop and delay nothing.
package lab
