package mantest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Commands describes the commands below root, in the order in which help shows them.
func Commands(root *cobra.Command) string {
	var page strings.Builder
	page.WriteString(".Bl -tag -width Ds\n")
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() || c.Name() == "help" && !c.Hidden {
			page.WriteString(command(c))
		}
	}
	page.WriteString(".El\n")
	return page.String()
}

func command(c *cobra.Command) string {
	text := ".It " + usage(c) + "\n" + Text(finished(cmp.Or(c.Long, c.Short)))
	if flags := ownFlags(c); flags.HasFlags() {
		text += Options(flags)
	}
	if c.Example != "" {
		text += literal(c.Example)
	}
	return text
}

// usage is the line that cobra shows as a command's use, marked up.
func usage(c *cobra.Command) string {
	words := strings.Fields(c.Use)
	marked := []string{"Cm", Word(words[0])}
	if below := names(c); len(below) > 0 {
		marked = append(marked, "Cm", strings.Join(below, " | "))
	}
	for _, w := range words[1:] {
		marked = append(marked, argument(w)...)
	}
	return strings.Join(marked, " ")
}

// argument marks up one word of a usage, with brackets around what may be left out.
func argument(w string) (marked []string) {
	if w[0] == '[' {
		marked, w = append(marked, "Oo"), w[1:]
	}
	w, closed := strings.CutSuffix(w, "]")
	name, dots := strings.CutSuffix(w, "...")
	switch flag, isFlag := strings.CutPrefix(name, "-"); {
	case isFlag:
		marked = append(marked, "Fl", Word(flag))
	case w == "|":
		marked = append(marked, "|")
	default:
		marked = append(marked, "Ar", Word(name))
	}
	if dots {
		marked = append(marked, "...")
	}
	if closed {
		marked = append(marked, "Oc")
	}
	return marked
}

// names are those of the commands below one.
func names(c *cobra.Command) (all []string) {
	for _, below := range c.Commands() {
		if below.IsAvailableCommand() {
			all = append(all, below.Name())
		}
	}
	return all
}

// ownFlags are those of a command and of the commands below it, less --help.
func ownFlags(c *cobra.Command) *pflag.FlagSet {
	all := pflag.NewFlagSet(c.Name(), pflag.ContinueOnError)
	for _, one := range append([]*cobra.Command{c}, c.Commands()...) {
		one.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !f.Hidden && all.Lookup(f.Name) == nil {
				all.AddFlag(f)
			}
		})
	}
	return all
}

// Options describes flags, in the order of their names.
func Options(flags *pflag.FlagSet) string {
	var page strings.Builder
	page.WriteString(".Bl -tag -width Ds\n")
	flags.VisitAll(func(f *pflag.Flag) {
		value, text := pflag.UnquoteUsage(f)
		fmt.Fprintf(&page, ".It %s\n%s", strings.Join(flagWords(f, value), " "), Text(finished(text)))
		if !slices.Contains([]string{"", "false", "0", "0s", "[]"}, f.DefValue) {
			fmt.Fprintf(&page, "Default:\n.Ql %s .\n", Word(f.DefValue))
		}
	})
	page.WriteString(".El\n")
	return page.String()
}

func flagWords(f *pflag.Flag, value string) (marked []string) {
	if f.Shorthand != "" {
		marked = append(marked, "Fl", f.Shorthand, ",")
	}
	marked = append(marked, "Fl", Word("-"+f.Name))
	if value != "" {
		marked = append(marked, "Ar", Word(value))
	}
	return marked
}

// finished makes a sentence of what help shows as a phrase.
func finished(phrase string) string {
	phrase = strings.TrimSpace(phrase)
	if phrase == "" || strings.ContainsRune(".:", rune(phrase[len(phrase)-1])) {
		return phrase
	}
	return strings.ToUpper(phrase[:1]) + phrase[1:] + "."
}
