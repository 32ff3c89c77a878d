// Package cli is what the command lines of both programs have alike: the help, the option
// --version, and options that a shell can complete. It reads and prints nothing itself.
package cli

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// help shows examples first: they answer most questions.
const help = `{{with or .Long .Short}}{{. | trimTrailingWhitespaces}}{{end}}
{{if .HasExample}}
Examples:
{{.Example}}
{{end}}
Usage:
  {{.UseLine}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} COMMAND{{end}}
{{if .HasAvailableSubCommands}}
Commands:{{range .Commands}}{{if or .IsAvailableCommand (and (eq .Name "help") (not .Hidden))}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}
{{end}}{{if .HasAvailableLocalFlags}}
Options:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}
{{end}}{{if .HasAvailableInheritedFlags}}
Options of all commands:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}
{{end}}{{if not .HasParent}}
`

// Prepare gives a program's commands their help, which ends with the meaning of its exit
// statuses, and --version.
func Prepare(root *cobra.Command, version, statuses string) {
	root.SetHelpTemplate(help + statuses + "{{end}}")
	root.Version = version
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.Flags().Bool("version", false, "print the version")
}

// Plain takes the quotes around the name of its value out of the text of every option,
// since shells show that text as it is. Help and man pages find the name in the option's type.
func Plain(cmd *cobra.Command) {
	for _, flags := range []*pflag.FlagSet{cmd.LocalNonPersistentFlags(), cmd.PersistentFlags()} {
		flags.VisitAll(plain)
	}
	for _, below := range cmd.Commands() {
		Plain(below)
	}
}

func plain(f *pflag.Flag) {
	name, text := pflag.UnquoteUsage(f)
	if text == f.Usage {
		return
	}
	f.Usage = text
	if values, ok := f.Value.(pflag.SliceValue); ok {
		f.Value = &list{named{f.Value, name}, values}
		return
	}
	f.Value = &named{f.Value, name}
}

// named is a value whose type has another name.
type named struct {
	pflag.Value
	name string
}

// Type implements pflag.Value.
func (n *named) Type() string { return n.name }

// list is a named value that may be given several times.
type list struct {
	named
	pflag.SliceValue
}
