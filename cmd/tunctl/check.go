package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"tund/internal/config"
	"tund/internal/ctl"
	"tund/internal/netcfg"
)

// defaultConfig is what tund loads when it is told nothing else.
const defaultConfig = "/etc/tund/tund.toml"

// checked is what check prints as JSON.
type checked struct {
	Schema int               `json:"schema"`
	Result string            `json:"result"` // "ok" or "invalid"
	Path   string            `json:"path"`
	Errors []ctl.ConfigError `json:"errors"`
	// Warnings are what to look at though the configuration is right.
	Warnings []string `json:"warnings"`
}

func newCheck(p *program) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check a configuration, without tund",
		Long: `Check a configuration, ` + defaultConfig + ` or another, with all files that it
names, as tund would: root does it as the user that tund runs as, since a file that
only root can read is of no use to it. Needs no daemon and changes nothing.
Warns of addresses that lie in the network of another interface of this machine.`,
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
	cfg, err := load(path)
	var wrong *config.Errors
	if err != nil && !errors.As(err, &wrong) {
		return err
	}
	if wrong == nil {
		p.approve(path, cfg)
		return nil
	}
	if p.json {
		p.writeJSON(judge(path, wrong))
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

// approve says that a configuration is right, and what to look at all the same.
func (p *program) approve(path string, cfg *config.Config) {
	report := judge(path, nil)
	report.Warnings = append(report.Warnings, overlaps(cfg)...)
	if p.json {
		p.writeJSON(report)
		return
	}
	for _, text := range report.Warnings {
		p.complain("warning: %s", text)
	}
	p.printf("configuration ok\n")
}

// overlaps are addresses of tunnels that lie in networks of other interfaces of this machine, or the
// other way round, each once. Where it can't ask the kernel there are none.
func overlaps(cfg *config.Config) []string {
	m, err := netcfg.New()
	if err != nil {
		return nil
	}
	defer m.Close()
	var own []netcfg.Settings
	for _, peer := range cfg.Peers {
		if peer.Enabled {
			own = append(own, netcfg.Settings{Interface: peer.Interface, Addresses: peer.Addresses, PeerAddress: peer.PeerAddress})
		}
	}
	found, err := m.Overlaps(own)
	if err != nil {
		return nil
	}
	texts := slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Values(found))...)))
	return slices.Compact(texts)
}

// judge makes the JSON object of what was found wrong.
func judge(path string, wrong *config.Errors) checked {
	c := checked{Schema: ctl.Schema, Result: "ok", Path: path, Errors: []ctl.ConfigError{}, Warnings: []string{}}
	if wrong == nil {
		return c
	}
	c.Result = "invalid"
	for _, problem := range wrong.Problems {
		c.Errors = append(c.Errors, ctl.ConfigError(problem))
	}
	return c
}
