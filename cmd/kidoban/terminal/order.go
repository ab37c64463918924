package terminal

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"

	"kidoban/gateway"
	"kidoban/gateway/api"
	"kidoban/gateway/view"
)

// Because refuses a reason that is empty or does not show, also where no gateway
// runs.
func Because(reason string) error {
	if strings.TrimSpace(reason) == "" {
		return Wrong("reason_empty", nil)
	}
	return api.Shows("--reason:", reason)
}

// Order gives a command to the gateway, and decodes its answer.
func (p *Program) Order(path string, body, answer any) error {
	text, zone, err := p.Client().Post(path, body)
	if err == nil {
		p.Zone = zone
		err = json.Unmarshal(text, answer)
	}
	return err
}

// Outcome prints an outcome, and fails if not everything stands.
func (p *Program) Outcome(asJSON bool, out gateway.Outcome, done string) error {
	if asJSON {
		p.PrintJSON(out)
	} else {
		fmt.Fprintln(p.Out, done)
		p.Stands(out)
	}
	return p.Problems(out)
}

// Stands prints what an outcome says beside its problems.
func (p *Program) Stands(out gateway.Outcome) {
	p.TellIf(out.Sessions > 0, "cut", view.Args{"count": out.Sessions})
	for _, m := range out.ChangeMessages {
		p.Indent(m)
	}
	for _, m := range view.Summed(out.WarningMessages) {
		p.Indent(view.Say("warning", view.Args{"text": m}))
	}
	p.TellIf(len(out.Shut) > 0, "shut_now", view.Args{"scopes": out.Shut})
	p.TellIf(out.Journal != "", "journal_aside", view.Args{"path": out.Journal})
	p.TellIf(!out.Recorded, "unrecorded", nil)
	p.TellIf(!out.Recorded && out.Kept, "restart_keeps", nil)
	p.TellIf(!out.Recorded && out.UntilBoot, "boot_forgets", nil)
}

// Problems is an error that says what of an outcome does not stand, or nil.
func (p *Program) Problems(out gateway.Outcome) error {
	var problems []string
	for _, m := range out.Problems {
		problems = append(problems, m.In(p.Lang))
	}
	if problems == nil {
		return nil
	}
	return errors.New(strings.Join(problems, "\n"))
}

// Person names the login that gives a command without the gateway: behind sudo the one that called it.
func Person() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprint(os.Geteuid())
}
