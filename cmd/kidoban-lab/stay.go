package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// staying is how long the window is open after the story.
const staying = 12 * time.Hour

// stay keeps everything up until the demo is interrupted, with a window open, the engineer at work
// and the outsider trying, so that there is something to see.
func (s *story) stay() {
	s.writePolicy(support(time.Now()), once(time.Now(), time.Now().Add(staying)))
	if _, _, err := s.operator("reload"); err != nil {
		s.Fatalf("%v", err)
	}
	file := filepath.Join(s.folder, "environment")
	var text strings.Builder
	for _, setting := range s.settings() {
		name, value, _ := strings.Cut(setting, "=")
		fmt.Fprintf(&text, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		s.Fatalf("%v", err)
	}
	as := func(user string) string {
		return fmt.Sprintf("setpriv --reuid=%d --regid=0 --clear-groups %s ", operators[user], s.forAll)
	}
	operate := "\n# as Tanaka and Ito, operators of the policy:\n" + as("tanaka") + "request medisys --engineers sato --targets ehr --for 1h --purpose 'trying it'\n" + as("ito") + "approve ID\n"
	enter := fmt.Sprintf("nsenter --target %d --net=", os.Getpid())
	if ids, err := os.ReadFile("/proc/self/uid_map"); err == nil && strings.Join(strings.Fields(string(ids)), " ") != "0 0 4294967295" {
		// The demo has a user namespace of its own: the machine's maps every id onto itself.
		enter = strings.Replace(enter, "--net=", "--user --preserve-credentials --net=", 1)
		operate = "" // these are users of that namespace only
	}
	s.out.lines("Everything stays up until Ctrl-C. To try, in another terminal:", strings.Split(strings.NewReplacer(
		"KIDOBAN", s.executable, "GATEWAY", enter+s.gateway.Namespace(), "ENGINEER", enter+s.engineer.Namespace()).Replace(
		". "+file+`
KIDOBAN status
KIDOBAN refusals
KIDOBAN explain medisys/sato --from `+outsiderAddress.String()+`
KIDOBAN close medisys/sato --reason 'trying it'
KIDOBAN reopen medisys/sato --reason 'tried it'
KIDOBAN journal list
`+operate+`
# from the engineer's computer, through the tunnel (each line that you type comes back):
ENGINEER curl -sN telnet://`+listedService.String()+`
# the gateway's ruleset and metrics:
GATEWAY nft list ruleset
GATEWAY curl -s http://`+metricsAddress+`/metrics`), "\n"))

	if err := s.thief.Up(); err != nil {
		s.Fatalf("the outsider's WireGuard: %v", err)
	}
	// Otherwise WireGuard would go on with the dead session for 15 s.
	_ = s.sato.Initiate()
	for tick := 0; s.ctx.Err() == nil; tick++ {
		_, _ = s.exchange(s.engineer, listedService, time.Second) // operators may have closed the engineer
		if tick%15 == 0 {
			_ = s.thief.Initiate()
		}
		select {
		case <-s.ended:
			s.Fatalf("the gateway ended: %v", s.endedWith)
		case <-time.After(2 * time.Second):
		case <-s.ctx.Done():
		}
	}
	s.out.note("")
}
