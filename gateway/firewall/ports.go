package firewall

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"kidoban/gateway/view"
)

// Switches of the kernel's choice of ports for connections of the host (ip-sysctl).
// Both count for IPv6 as well.
const (
	reservedPorts = "ipv4/ip_local_reserved_ports" // it never chooses these
	chosenPorts   = "ipv4/ip_local_port_range"     // it chooses out of these
)

// mostPorts is more bytes than the longest list of ports takes. The kernel gives a
// list in one reading only.
const mostPorts = 1 << 19

// span is a range of ports, both included.
type span [2]uint16

// ports are in ascending order, as the kernel writes them: "8080,9148-9150".
type ports []span

func (p ports) has(port uint16) bool {
	return slices.ContainsFunc(p, func(s span) bool { return s[0] <= port && port <= s[1] })
}

// without is p, but for one port.
func (p ports) without(port uint16) (rest ports) {
	for _, s := range p {
		if port < s[0] || s[1] < port {
			rest = append(rest, s)
			continue
		}
		if s[0] < port {
			rest = append(rest, span{s[0], port - 1})
		}
		if port < s[1] {
			rest = append(rest, span{port + 1, s[1]})
		}
	}
	return rest
}

func (p ports) String() string {
	var all []string
	for _, s := range p {
		one := strconv.Itoa(int(s[0]))
		if s[1] > s[0] {
			one += "-" + strconv.Itoa(int(s[1]))
		}
		all = append(all, one)
	}
	return strings.Join(all, ",")
}

// parsePorts reads the format of String.
func parsePorts(text string) (p ports, err error) {
	for one := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		first, last, isRange := strings.Cut(one, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", sysctl(reservedPorts), one, err)
		}
		p = append(p, span{uint16(from), uint16(to)})
	}
	return p, nil
}

func readReserved(file *os.File) (ports, error) {
	text := make([]byte, mostPorts)
	n, err := file.ReadAt(text, 0)
	if n == 0 {
		return nil, fmt.Errorf("reading %s: %w", file.Name(), err)
	}
	return parsePorts(string(text[:n]))
}

// writeReserved replaces the list. The kernel takes a long one in parts.
func writeReserved(file *os.File, p ports) error {
	_, err := file.WriteAt([]byte(p.String()+"\n"), 0)
	return err
}

// reserve keeps the kernel from choosing WireGuard's port for a connection of the host,
// whose packets the ruleset would drop. It keeps the ports that others reserve, and
// reserves its own again if somebody wrote the list anew. The list is that of the
// calling thread's network namespace.
func (f *forwarding) reserve(port uint16) error {
	if f.reserved == nil {
		file, refused := os.OpenFile(sysctls+reservedPorts, os.O_RDWR, 0)
		if refused != nil {
			// In a container it can only be read; the host's administrator may have reserved the port.
			file, err := os.Open(sysctls + reservedPorts)
			if err != nil {
				return err
			}
			defer file.Close()
			if have, err := readReserved(file); err != nil || !have.has(port) {
				return errors.Join(refused, err)
			}
			return nil
		}
		f.reserved = file
	}
	if f.here.Port != port {
		f.unreserve() // a process before this one had another port
	}
	have, err := readReserved(f.reserved)
	if err != nil || have.has(port) {
		return err
	}
	before := f.here.Port
	f.here.Port = port
	if err := f.keep(); err != nil {
		f.here.Port = before
		return fmt.Errorf("that it was not reserved cannot be kept: %w", err)
	}
	f.logger.Info("the port is reserved", "switch", sysctl(reservedPorts), "port", port, "was", have.String())
	return writeReserved(f.reserved, append(have, span{port, port}))
}

// unreserve takes back what reserve did, here or in the process before.
func (f *forwarding) unreserve() {
	port := f.here.Port
	if port == 0 || f.reserved == nil {
		return
	}
	have, err := readReserved(f.reserved)
	if err == nil && have.has(port) {
		err = writeReserved(f.reserved, have.without(port))
	}
	if err != nil {
		f.logger.Warn("the port stays reserved", "switch", sysctl(reservedPorts), "port", port, "err", err)
		return
	}
	f.here.Port = 0
	if err := f.keep(); err != nil {
		f.logger.Warn("the record of forwarding cannot be written", "err", err)
	}
}

// reserve reserves WireGuard's port. If it cannot, and the kernel may choose the
// port, it gives a hint.
func (f *ruleset) reserve() (hints []view.Hint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	port := f.options.ListenPort
	err := f.forwarding.reserve(port)
	var first, last uint16
	if n, _ := fmt.Sscan(setting(chosenPorts), &first, &last); err == nil || n == 2 && (port < first || last < port) {
		return nil
	}
	return []view.Hint{{Message: view.Say("port_unreserved", view.Args{"port": port, "cause": err, "switch": sysctl(reservedPorts)})}}
}
