package confine

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"kidoban/gateway/durable"
)

// Host are the places of a machine that every part of the program reads: users and groups, time
// zones, processes. /etc is there as a whole, since the files with users and
// with name servers are replaced by renaming. Files that the process's user
// may not read stay closed.
func Host() []string { return []string{"/etc", "/usr/share/zoneinfo", "/proc"} }

// resolver is the file with the name servers (resolv.conf(5)).
const resolver = "/etc/resolv.conf"

// Network are the places besides, for looking names up and for verifying certificates, as crypto/x509 looks for those.
func Network() []string {
	all := []string{"/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/usr/share/pki", "/var/lib/ca-certificates"}
	if folder := existing(filepath.Dir(durable.Real(link(resolver)))); folder != "" {
		all = append(all, folder)
	}
	for _, name := range []string{"SSL_CERT_FILE", "SSL_CERT_DIR"} {
		all = append(all, filepath.SplitList(os.Getenv(name))...)
	}
	return all
}

// link is where a link leads, also if nothing is there yet, as early in a boot; the path itself if it is none.
func link(path string) string {
	to, err := os.Readlink(path)
	switch {
	case err != nil:
		return path
	case filepath.IsAbs(to):
		return to
	}
	return filepath.Join(filepath.Dir(path), to)
}

// existing is the first folder on the way up that is there, below the root; empty: there is none.
func existing(folder string) string {
	for ; folder != "/"; folder = filepath.Dir(folder) {
		if unix.Access(folder, unix.F_OK) == nil {
			return folder
		}
	}
	return ""
}
