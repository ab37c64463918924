package confine

import "golang.org/x/sys/unix"

const architecture = unix.AUDIT_ARCH_AARCH64

// deniedHere are calls that only this architecture has.
var deniedHere = []uintptr{unix.SYS_KEXEC_FILE_LOAD}
