package main

import (
	"os"
	"path/filepath"
	"strings"

	"kidoban/config"
	"kidoban/gateway/confine"
	"kidoban/gateway/tunnel"
)

// confined returns the rules unchanged. Tests replace it with a function that adds the places that
// only they use.
var confined = func(r confine.Rules) confine.Rules { return r }

// gatewayRules are the places that `kidoban run` opens after its start.
func gatewayRules(s config.Settings) confine.Rules {
	r := confine.Rules{
		Read:   append(confine.Host(), s.Readable()...),
		Change: []string{tunnel.Device, "/proc/sys/net"},
		Write:  []string{s.StateDir, filepath.Dir(s.PrivateKeyFile), filepath.Dir(s.AdminSocket), tunnel.UAPIDirectory},
	}
	if s.OfficeSocket != "" {
		r.Write = append(r.Write, filepath.Dir(s.OfficeSocket))
	}
	if s.Witness != "" || s.SyslogAddress != "" {
		r.Read = append(r.Read, confine.Network()...)
	}
	r.Abstract = strings.HasPrefix(os.Getenv("NOTIFY_SOCKET"), "@")
	return r
}
