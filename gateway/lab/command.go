package lab

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"syscall"
)

// Cmd is a command that runs inside a host. It is killed when the lab or the process ends.
type Cmd struct {
	*exec.Cmd
	host *Host
}

// Command prepares a command that is killed when ctx ends.
func (h *Host) Command(ctx context.Context, name string, args ...string) *Cmd {
	return &Cmd{exec.CommandContext(ctx, name, args...), h}
}

// Start starts the command inside the host and does not wait for it.
func (c *Cmd) Start() error {
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Pdeathsig = syscall.SIGKILL
	result := make(chan error, 1)
	c.host.starts <- func() { result <- c.Cmd.Start() }
	if err := <-result; err != nil {
		return fmt.Errorf("lab: host %s: %w", c.host.Name, err)
	}
	process := c.Process
	c.host.cleanup(func() { _ = process.Kill() }) // an error means that it has ended
	return nil
}

// Run starts the command and waits for its end.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the command and returns its standard output.
func (c *Cmd) Output() ([]byte, error) {
	var out, complaint bytes.Buffer
	c.Stdout = &out
	if c.Stderr == nil {
		c.Stderr = &complaint
	}
	err := c.Run()
	if err != nil && complaint.Len() > 0 {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(complaint.Bytes()))
	}
	return out.Bytes(), err
}

// CombinedOutput runs the command and returns its standard output and standard error.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}
