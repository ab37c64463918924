package requests

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/api"
	"kidoban/gateway/policy"
)

// id is a request of the command line. The mark before it may be left out: a shell may
// take it for somebody's home folder.
type id string

var idForm = regexp.MustCompile(`^[a-z0-9]{1,16}$`)

// UnmarshalText takes also capital letters, as of an id that came by telephone.
func (i *id) UnmarshalText(text []byte) error {
	name := strings.ToLower(strings.TrimPrefix(string(text), policy.RequestMark))
	if !idForm.MatchString(name) {
		return fmt.Errorf("%.80q is not a request: allowed is an id, as in 7k2m9x", text)
	}
	*i = id(policy.RequestMark + name)
	return nil
}

// digest is a digest of the command line.
type digest string

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// UnmarshalText is called only where there is a value.
func (d *digest) UnmarshalText(text []byte) error {
	if !digestForm.Match(text) {
		return fmt.Errorf("%.80q is not a digest: allowed are 64 hex digits, as `kidoban requests ID` shows them", text)
	}
	*d = digest(text)
	return nil
}

// elapsed is a duration of the command line.
type elapsed time.Duration

// UnmarshalText is called only where there is a value.
func (d *elapsed) UnmarshalText(text []byte) error {
	parsed, ok := policy.ParseElapsed(string(text))
	if !ok {
		return fmt.Errorf("%.80q is not a duration: allowed is as in 90m, 2h, 1h30m or 1d", text)
	}
	*d = elapsed(parsed)
	return nil
}

// end is the end of a request, as a time or a duration. The command line has one of both.
type end struct {
	For   elapsed        `help:"How long, as in 90m, 2h, 1h30m or 1d." placeholder:"D" xor:"end"`
	Until terminal.Given `help:"The end." placeholder:"T" xor:"end"`
}

// siteZone is the zone of a time of the command line: the site's, which the gateway
// names with every answer. A time with an offset needs none.
func siteZone(p *terminal.Program, text terminal.Given) (*time.Location, error) {
	if w, ok := policy.ParseTime(string(text)); p.Zone == nil && (!ok || w.Offset == nil) {
		_, zone, err := p.Client().Get("/v1/grants", nil)
		if err != nil {
			return nil, err
		}
		p.Zone = zone
	}
	if p.Zone == nil {
		return time.Local, nil
	}
	return p.Zone, nil
}

// instant reads a time of the command line, to the second.
func instant(p *terminal.Program, text terminal.Given) (time.Time, error) {
	zone, err := siteZone(p, text)
	if err != nil {
		return time.Time{}, err
	}
	t, err := api.ParseTime(string(text), zone, time.Time{})
	return t.UTC().Truncate(time.Second), err
}
