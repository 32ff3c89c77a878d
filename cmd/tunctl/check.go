package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"tund/internal/config"
	"tund/internal/ctl"
)

// defaultConfig is what tund loads when it is told nothing else.
const defaultConfig = "/etc/tund/tund.toml"

// checked is what check prints as JSON.
type checked struct {
	Schema int               `json:"schema"`
	Result string            `json:"result"` // "ok" or "invalid"
	Path   string            `json:"path"`
	Errors []ctl.ConfigError `json:"errors"`
}

func newCheck(p *program) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check a configuration, without tund",
		Long: `Check a configuration, ` + defaultConfig + ` or another, with all files that it
names, as tund would: root does it as the user that tund runs as, since a file that
only root can read is of no use to it. Needs no daemon and changes nothing.`,
		Example: "  tunctl check\n  tunctl check ./tund.toml",
		Args:    atMostOne("file"),

		ValidArgsFunction: completeTOML,
		RunE: func(cmd *cobra.Command, args []string) error {
			path := defaultConfig
			if len(args) > 0 {
				path = args[0]
			}
			as, err := runsAs(path, name)
			if err != nil {
				return err
			}
			if as.uid != os.Geteuid() {
				return p.checkAs(cmd.Context(), path, as)
			}
			return p.check(path, name != "")
		},
	}
	addUserFlag(cmd, &name)
	return cmd
}

// checkAs checks as another user, in a process of that user's: so the kernel decides what
// may be read, by whatever rules it has.
func (p *program) checkAs(ctx context.Context, path string, as account) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	args := []string{"check", "--user", as.name, abs}
	if p.json {
		args = append(args, "--json")
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Args[0] = os.Args[0]
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = p.stdout, p.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(as.uid), Gid: uint32(as.gid), Groups: as.groups}}
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return &reported{exit.ExitCode()}
	}
	return fmt.Errorf("check as user %s: %w", as.name, err)
}

// completeTOML offers one file whose name ends in .toml.
func completeTOML(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return []string{"toml"}, cobra.ShellCompDirectiveFilterFileExt
}

// check prints "configuration ok", or everything that is wrong with it. What the user that tund
// runs as must not read is wrong; what the caller must not read is the caller's affair.
func (p *program) check(path string, asTund bool) error {
	load := func(path string) (*config.Config, error) {
		return config.LoadWith(path, config.Options{User: os.Geteuid()})
	}
	if asTund {
		load = config.Load
	}
	_, err := load(path)
	var wrong *config.Errors
	if err != nil && !errors.As(err, &wrong) {
		return err
	}
	if p.json {
		p.writeJSON(judge(path, wrong))
	} else if wrong == nil {
		p.printf("configuration ok\n")
	}
	if wrong == nil {
		return nil
	}
	if !p.json {
		for _, problem := range wrong.Problems {
			_, _ = fmt.Fprintln(p.stderr, problem) // as compilers do, for editors to jump to
		}
	}
	status, _ := classify(wrong)
	if asTund {
		status = exitFailed
	}
	return &reported{status}
}

// judge makes the JSON object of what was found wrong.
func judge(path string, wrong *config.Errors) checked {
	c := checked{Schema: ctl.Schema, Result: "ok", Path: path, Errors: []ctl.ConfigError{}}
	if wrong == nil {
		return c
	}
	c.Result = "invalid"
	for _, problem := range wrong.Problems {
		c.Errors = append(c.Errors, ctl.ConfigError(problem))
	}
	return c
}
