package main

import (
	"errors"
	"fmt"

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
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check a configuration, without tund",
		Long: `Check a configuration, ` + defaultConfig + ` or another, with all files that it
names, as tund would. Needs no daemon and changes nothing.`,
		Example: "  tunctl check\n  tunctl check ./tund.toml",
		Args:    atMostOne("file"),

		ValidArgsFunction: completeTOML,
		RunE: func(_ *cobra.Command, args []string) error {
			path := defaultConfig
			if len(args) > 0 {
				path = args[0]
			}
			return p.check(path)
		},
	}
}

// completeTOML offers one file whose name ends in .toml.
func completeTOML(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return []string{"toml"}, cobra.ShellCompDirectiveFilterFileExt
}

// check prints "configuration ok", or everything that is wrong with it.
func (p *program) check(path string) error {
	_, err := config.Load(path)
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
