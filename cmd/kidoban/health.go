package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"kidoban/gateway/view"
)

// healthCommand asks /livez, for container engines, which have no watchdog. It
// succeeds while the loop turns, also in doubt: a restart would not end a doubt.
type healthCommand struct{}

func (healthCommand) Run(p *program) error {
	client := http.Client{Timeout: 4 * time.Second, Transport: &http.Transport{}} // no proxy
	answer, err := client.Get("http://" + p.settings.MetricsAddress + "/livez")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	if err != nil {
		return err
	}
	said := strings.TrimSpace(string(text))
	if answer.StatusCode != http.StatusOK {
		return &view.Error{Message: view.Say("not_live", view.Args{"cause": said})}
	}
	fmt.Fprintln(p.out, said)
	return nil
}
