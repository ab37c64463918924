package config

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/caarlos0/env/v11"

	"kidoban/gateway/durable"
	"kidoban/gateway/view"
	"kidoban/gateway/witness"
)

// Settings are the settings of the program. FromEnvironment checks every field.
type Settings struct {
	PolicyFile       string     `env:"KIDOBAN_POLICY_FILE" envDefault:"/etc/kidoban/policy.yaml" meaning:"the policy: who may enter when, to what"`
	StateDir         string     `env:"KIDOBAN_STATE_DIR" envDefault:"/var/lib/kidoban" meaning:"where the journal and the private key are kept"`
	Interface        string     `env:"KIDOBAN_INTERFACE" envDefault:"kido0" meaning:"name of the tunnel's network interface, 1 to 15 characters"`
	InsideInterfaces []string   `env:"KIDOBAN_INSIDE_INTERFACES" shown:"found by the host's routes" meaning:"names of the interfaces that lead to targets, with commas between them, as in eth1,eth2. Then every route through these counts, the default route too, and none through others"`
	ListenPort       uint16     `env:"KIDOBAN_LISTEN_PORT" envDefault:"51820" meaning:"UDP port of WireGuard, 1 to 65535"`
	PrivateKeyFile   string     `env:"KIDOBAN_PRIVATE_KEY_FILE" shown:"private.key in the state directory" meaning:"the gateway's private key, base64 as wg genkey writes it; made at first start with mode 0600; a looser mode is refused"`
	MetricsAddress   string     `env:"KIDOBAN_METRICS_ADDRESS" envDefault:"127.0.0.1:9586" meaning:"host:port on which Prometheus finds the metrics. Prometheus must name an IP address, localhost or the name given here; other names are refused, since a browser can be made to believe in them"`
	MetricsEngineers int        `env:"KIDOBAN_METRICS_ENGINEERS" envDefault:"1000" meaning:"up to this many engineers have series of their own, 0 to 100000. If the policy lists more, only those who are inside do, and none if more than this are inside; 0: none ever"`
	AdminSocket      string     `env:"KIDOBAN_ADMIN_SOCKET" envDefault:"/run/kidoban/admin.sock" meaning:"the socket through which operators' commands reach the gateway, up to 107 bytes"`
	ShutFile         string     `env:"KIDOBAN_SHUT_FILE" shown:"none" meaning:"a path on a tmpfs, as /run/kidoban-shut: while something has it, or its folder cannot be read, everything is shut"`
	OfficeSocket     string     `env:"KIDOBAN_OFFICE_SOCKET" shown:"none" meaning:"the socket on which the gateway serves the process that delivers notices, and on which kidoban office asks it, up to 107 bytes; as /run/kidoban/office.sock"`
	OfficeStateDir   string     `env:"KIDOBAN_OFFICE_STATE_DIR" envDefault:"/var/lib/kidoban-office" meaning:"where kidoban office keeps how far each sink's notices are"`
	Masquerade       bool       `env:"KIDOBAN_MASQUERADE" envDefault:"false" meaning:"true: to every target the gateway's own address is shown, so that no target needs a route to the tunnel"`
	ForwardOthers    bool       `env:"KIDOBAN_FORWARD_OTHERS" envDefault:"false" meaning:"true: leave traffic alone that has nothing to do with the tunnel; otherwise the host forwards nothing else"`
	Witness          string     `env:"KIDOBAN_WITNESS" shown:"none" meaning:"a witness that cosigns the journal's checkpoints (C2SP tlog-witness), as URL+NAME+HASH+KEY: the prefix of its calls and its verifier key, https://witness.example/log+witness.example+0123abcd+BA…; only the journal's size and hashes leave the machine"`
	LogLevel         slog.Level `env:"KIDOBAN_LOG_LEVEL" envDefault:"info" meaning:"debug, info, warn or error"`
	LogFormat        string     `env:"KIDOBAN_LOG_FORMAT" envDefault:"text" meaning:"text or json"`
	SyslogAddress    string     `env:"KIDOBAN_SYSLOG_ADDRESS" shown:"none" meaning:"host:port of a collector that takes the log as syslog (RFC 5424) over TLS, besides"`
	SyslogCAFile     string     `env:"KIDOBAN_SYSLOG_CA_FILE" shown:"the machine's authorities" meaning:"PEM certificates of who vouches for that collector"`
}

// settingsPrefix begins the name of every setting. Other variables with it are typing errors.
const settingsPrefix = "KIDOBAN_"

// settingChecks check values. An error has one mistake a line.
var settingChecks = map[string]func(string) error{
	"KIDOBAN_POLICY_FILE":       checkPath,
	"KIDOBAN_STATE_DIR":         checkPath,
	"KIDOBAN_INTERFACE":         checkInterface,
	"KIDOBAN_INSIDE_INTERFACES": checkInterfaces,
	"KIDOBAN_LISTEN_PORT":       checkPort,
	"KIDOBAN_PRIVATE_KEY_FILE":  checkPath,
	"KIDOBAN_METRICS_ADDRESS":   checkHostPort,
	"KIDOBAN_ADMIN_SOCKET":      checkSocket,
	"KIDOBAN_SHUT_FILE":         checkShutFile,
	"KIDOBAN_OFFICE_SOCKET":     checkSocket,
	"KIDOBAN_OFFICE_STATE_DIR":  checkPath,
	"KIDOBAN_MASQUERADE":        checkWord("true", "false"),
	"KIDOBAN_FORWARD_OTHERS":    checkWord("true", "false"),
	"KIDOBAN_WITNESS":           checkWitness,
	"KIDOBAN_LOG_LEVEL":         checkWord("debug", "info", "warn", "error"),
	"KIDOBAN_LOG_FORMAT":        checkWord("text", "json"),
	"KIDOBAN_METRICS_ENGINEERS": checkMetricsEngineers,
	"KIDOBAN_SYSLOG_ADDRESS":    checkHostPort,
	"KIDOBAN_SYSLOG_CA_FILE":    checkPath,
}

// FromEnvironment reads the settings from "NAME=value" strings, as os.Environ gives them. Unknown
// KIDOBAN_ variables, empty values and wrong values are errors, reported all at once, one a line.
func FromEnvironment(environ []string) (Settings, error) {
	given := map[string]string{}
	var errs []error
	for _, pair := range slices.Sorted(slices.Values(environ)) {
		name, text, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, settingsPrefix) {
			continue
		}
		check, known := settingChecks[name]
		switch {
		case !known:
			all := slices.Sorted(maps.Keys(settingChecks))
			errs = append(errs, fmt.Errorf("%s: unknown setting: allowed is %s%s", printable(name), strings.Join(all, ", "), didYouMean(name, all)))
		case text == "":
			errs = append(errs, fmt.Errorf("%s: is empty: give a value or unset it", name))
		default:
			if err := check(text); err != nil {
				for line := range strings.Lines(err.Error()) {
					errs = append(errs, fmt.Errorf("%s: %s", name, strings.TrimSuffix(line, "\n")))
				}
				continue
			}
			given[name] = text
		}
	}
	var s Settings
	if err := env.ParseWithOptions(&s, env.Options{Environment: given}); err != nil {
		errs = append(errs, err)
	}
	if slices.Contains(s.InsideInterfaces, s.Interface) {
		errs = append(errs, fmt.Errorf("KIDOBAN_INSIDE_INTERFACES: %s is the tunnel's own interface (KIDOBAN_INTERFACE): allowed are others, which lead to targets", quote(s.Interface)))
	}
	if s.OfficeSocket == s.AdminSocket && s.OfficeSocket != "" {
		errs = append(errs, fmt.Errorf("KIDOBAN_OFFICE_SOCKET: %s is the operators' socket (KIDOBAN_ADMIN_SOCKET): allowed is another", quote(s.OfficeSocket)))
	}
	if err := errors.Join(errs...); err != nil {
		return Settings{}, err
	}
	if s.PrivateKeyFile == "" {
		s.PrivateKeyFile = filepath.Join(s.StateDir, "private.key")
	}
	return s, nil
}

// Readable are the folders, without links, beneath which the gateway can read files: those of the policy file and
// of the state, and /etc.
func (s Settings) Readable() []string {
	all := []string{durable.Real(filepath.Dir(s.PolicyFile)), filepath.Dir(durable.Real(s.PolicyFile)), durable.Real(s.StateDir), durable.Real("/etc")}
	slices.Sort(all)
	return slices.Compact(all)
}

// Warnings has a warning if the metrics listen on every address or on a public one.
func (s Settings) Warnings() (all []view.Message) {
	host, _, _ := net.SplitHostPort(s.MetricsAddress)
	if a, err := netip.ParseAddr(host); err == nil {
		switch a = a.Unmap().WithZone(""); {
		case a.IsUnspecified():
			all = append(all, view.Say("metrics_everywhere", view.Args{"address": s.MetricsAddress}))
		case a.IsGlobalUnicast() && !a.IsPrivate():
			all = append(all, view.Say("metrics_public", view.Args{"address": s.MetricsAddress}))
		}
	}
	return all
}

// printable quotes a name that has unusual characters.
func printable(name string) string {
	if strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == "" && len(name) <= 80 {
		return name
	}
	return quote(name)
}

func checkPath(text string) error {
	if strings.ContainsFunc(text, hidden) {
		return fmt.Errorf("%s has characters that do not show: allowed is a path without them", quote(text))
	}
	return nil
}

// checkShutFile allows an absolute path to a name in a folder.
func checkShutFile(text string) error {
	if !filepath.IsAbs(text) || filepath.Clean(text) != text || text == "/" {
		return fmt.Errorf("%s is no path of a shut file: allowed is one that begins with /, without .., . and // in it, and without / at its end, as /run/kidoban-shut", quote(text))
	}
	return checkPath(text)
}

// checkSocket bounds the path as the kernel does (unix(7), sun_path).
func checkSocket(text string) error {
	if len(text) > 107 {
		return fmt.Errorf("%s has %d bytes: allowed for a socket are 107", quote(text), len(text))
	}
	return checkPath(text)
}

// checkInterface allows the names that the kernel allows (dev_valid_name), without those that need
// quotes in a ruleset or have a meaning under /proc/sys/net.
func checkInterface(text string) error {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	if text == "" || len(text) > 15 || strings.Trim(text, letters+"0123456789_.-") != "" || !strings.Contains(letters, text[:1]) ||
		text == "all" || text == "default" || text == "lo" {
		return fmt.Errorf("%s is no name for an interface: allowed are 1 to 15 letters, digits, '_', '.' and '-', beginning with a letter, and not all, default or lo", quote(text))
	}
	return nil
}

// checkInterfaces allows names with commas between them, each once.
func checkInterfaces(text string) error {
	var errs []error
	seen := map[string]bool{}
	for name := range strings.SplitSeq(text, ",") {
		if err := checkInterface(name); err != nil {
			errs = append(errs, err)
		} else if seen[name] {
			errs = append(errs, fmt.Errorf("%s is named more than once: allowed is once", quote(name)))
		}
		seen[name] = true
	}
	return errors.Join(errs...)
}

func checkPort(text string) error {
	if _, ok := parsePort(text); !ok {
		return fmt.Errorf("%s is no port: allowed is 1 to 65535", quote(text))
	}
	return nil
}

func checkMetricsEngineers(text string) error {
	if n, err := strconv.ParseUint(text, 10, 32); err != nil || n > 100_000 {
		return fmt.Errorf("%s is no number of engineers: allowed is 0 to 100000", quote(text))
	}
	return nil
}

// parsePort reads a decimal number from 1 to 65535, without sign or leading zero.
func parsePort(text string) (uint16, bool) {
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), err == nil && n > 0 && text[0] != '0'
}

// checkHostPort allows "host:port" with a DNS name or an address.
func checkHostPort(text string) error {
	host, port, err := net.SplitHostPort(text)
	_, validPort := parsePort(port)
	if err != nil || !validPort || !isHost(host) {
		return fmt.Errorf("%s is not host:port: allowed is a DNS name or an address, IPv6 in brackets, and a port from 1 to 65535, as in gate.example.jp:51820 or [2001:db8::1]:51820", quote(text))
	}
	return nil
}

// isHost reports whether the text is an IP address or a DNS name (RFC 1123, section 2.1).
func isHost(text string) bool {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Zone() == "" && !a.Is4In6()
	}
	if len(text) > 253 || text == "" {
		return false
	}
	labels := strings.Split(strings.TrimSuffix(text, "."), ".")
	for _, label := range labels {
		if !isName(strings.ToLower(label)) {
			return false
		}
	}
	// A name with a number as its last label is a mistyped address.
	return strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

func checkWitness(text string) error {
	if _, err := witness.Parse(text); err != nil {
		return fmt.Errorf("%s: %w", quote(text), err)
	}
	return nil
}

func checkWord(allowed ...string) func(string) error {
	return func(text string) error {
		if !slices.Contains(allowed, text) {
			return fmt.Errorf("%s is not allowed: allowed is %s%s", quote(text), oneOf(allowed), didYouMean(text, allowed))
		}
		return nil
	}
}
