package main

import (
	"strings"

	"github.com/spf13/cobra"

	"tund/internal/cli"
)

// statuses is the end of the help.
const statuses = `Exit status: 0 done, 1 failed, 2 wrong usage, 3 tund not reachable, 4 not
permitted, 5 partly done.
`

// addHelp gives the commands their help, and a command help that does not take every
// word for a topic, as cobra's does.
func addHelp(root *cobra.Command) {
	cli.Prepare(root, version, statuses)
	root.SetHelpCommand(&cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Explain a command",
		Example: "  tunctl help rotate-key",
		RunE: func(cmd *cobra.Command, args []string) error {
			topic, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usagef("no help for %q (tunctl help lists the commands)", strings.Join(args, " "))
			}
			topic.InitDefaultHelpFlag()
			return topic.Help()
		},
		ValidArgsFunction: completeCommands,
	})
	root.InitDefaultHelpCmd()
}

func completeCommands(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if len(args) == 0 {
		for _, c := range cmd.Root().Commands() {
			if c.IsAvailableCommand() {
				names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// addCompletion adds cobra's command completion, less the shell that Linux hosts
// of this program do not have.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			narrowCompletion(c)
		}
	}
}

func narrowCompletion(completion *cobra.Command) {
	completion.Short = "Print the completion script of a shell"
	completion.Long = "Print the script that makes a shell complete commands and names of peers."
	completion.Example = "  tunctl completion bash > /etc/bash_completion.d/tunctl"
	completion.Args = nil
	completion.RunE = func(*cobra.Command, []string) error {
		return usagef("completion for which shell? bash, zsh or fish")
	}
	for _, shell := range completion.Commands() {
		if shell.Name() == "powershell" {
			completion.RemoveCommand(shell)
		}
	}
}
