package mantest

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestTextCannotBeTakenForRoff(t *testing.T) {
	for plain, want := range map[string]string{
		"one. Two":             "one.\nTwo\n",
		".not a macro":         "\\&.not a macro\n",
		"it's `so`":            "it\\(aqs \\(gaso\\(ga\n",
		`a\b`:                  "a\\eb\n",
		"pre-shared, --all":    "pre-shared, \\-\\-all\n",
		"a\n\nb":               "a\n.Pp\nb\n",
		"\nfrom 10.1.1.1 on\n": "from 10.1.1.1 on\n",
	} {
		if got := Text(plain); got != want {
			t.Errorf("Text(%q) = %q, want %q", plain, got, want)
		}
	}
}

func TestPartsAreReplacedAndMissingOnesAreErrors(t *testing.T) {
	page := "a\n.\\\" begin x\nold\n.\\\" end x\nb\n"
	got, err := replace(page, "x", "new\n")
	if want := strings.Replace(page, "old", "new", 1); err != nil || got != want {
		t.Errorf("replace = %q, %v, want %q", got, err, want)
	}
	for _, broken := range []string{"", "a\n", ".\\\" begin x\n", ".\\\" end x\n"} {
		if _, err := replace(broken, "x", ""); err == nil {
			t.Errorf("%q has a part x", broken)
		}
	}
}

func TestUsageIsMarkedUp(t *testing.T) {
	for use, want := range map[string]string{
		"status [PEER]":               "Cm status Oo Ar PEER Oc",
		"rotate-key PEER... | --all":  `Cm rotate\-key Ar PEER ... | Fl \-all`,
		"down PEER [--both]":          `Cm down Ar PEER Oo Fl \-both Oc`,
		"invite PEER [--for TIME] -x": `Cm invite Ar PEER Oo Fl \-for Ar TIME Oc Fl x`,
	} {
		if got := usage(&cobra.Command{Use: use}); got != want {
			t.Errorf("usage(%q) = %q, want %q", use, got, want)
		}
	}
}

func TestCommandsShowTheirFlagsAndThoseOfTheCommandsBelow(t *testing.T) {
	root := &cobra.Command{Use: "prog"}
	c := &cobra.Command{Use: "sell", Short: "sell it", Example: "  prog sell --high"}
	below := &cobra.Command{Use: "fast", Run: func(*cobra.Command, []string) {}}
	below.Flags().Bool("low", false, "at a `price` that is low")
	c.AddCommand(below)
	c.Flags().Int("high", 7, "how high")
	root.AddCommand(c, &cobra.Command{Use: "secret", Hidden: true, Run: below.Run})
	got := Commands(root)
	for _, want := range []string{".It Cm sell Cm fast\nSell it.\n", ".It Fl \\-high Ar int\nHow high.\nDefault:\n.Ql 7 .\n", ".It Fl \\-low", "prog sell \\-\\-high\n.Ed"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "secret") {
		t.Errorf("a hidden command is shown:\n%s", got)
	}
}
