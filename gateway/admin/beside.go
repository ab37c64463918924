package admin

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
)

// Beside gives the paths of files that must outlive the process but not a boot,
// and must wait for no disk: they lie beside the admin socket, in /run. If
// another user owns the folder or anybody may write in it, the paths are empty,
// since the next process would believe such files.
func Beside(socket string, logger *slog.Logger) func(name string) string {
	folder := filepath.Dir(socket)
	info, err := os.Stat(folder)
	if err == nil && info.Mode().Perm()&0o002 != 0 {
		err = fmt.Errorf("its mode is %04o: allowed is one in which only its owner and group write", info.Mode().Perm())
	}
	if err == nil {
		if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid != 0 && int(s.Uid) != os.Geteuid() {
			err = fmt.Errorf("it belongs to user %d: allowed is root or whom the gateway runs as", s.Uid)
		}
	}
	if err != nil {
		logger.Warn("nothing is kept in the folder of KIDOBAN_ADMIN_SOCKET, so a start does not turn forwarding back that a killed process turned on",
			"folder", folder, "err", err)
		return func(string) string { return "" }
	}
	return func(name string) string { return filepath.Join(folder, name) }
}
