package cli_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tund/internal/cli"
)

func program() (*cobra.Command, *bytes.Buffer) {
	root := &cobra.Command{Use: "prog", Short: "Do things", RunE: func(*cobra.Command, []string) error { return nil }}
	root.Flags().String("config", "x", "configuration `FILE`")
	below := &cobra.Command{Use: "do", Short: "Do it", RunE: func(*cobra.Command, []string) error { return nil }}
	below.Flags().StringSlice("allow", nil, "`keys` to allow")
	below.Flags().Bool("all", false, "all of it")
	root.AddCommand(below)
	cli.Prepare(root, "1.2", "Exit status: 0.\n")
	cli.Plain(root)
	out := &bytes.Buffer{}
	root.SetOut(out)
	root.SetErr(out)
	return root, out
}

func run(t *testing.T, args ...string) string {
	t.Helper()
	root, out := program()
	root.SetArgs(args)
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestVersionIsOneLine(t *testing.T) {
	if got := run(t, "--version"); got != "prog 1.2\n" {
		t.Errorf("got %q", got)
	}
}

func TestHelpNamesTheValuesOfOptions(t *testing.T) {
	got := run(t, "--help") + run(t, "do", "--help")
	for _, want := range []string{"--config FILE ", "configuration FILE", "--allow keys ", "keys to allow", "Exit status: 0.", "--version ", "Usage:\n  prog", "prog COMMAND"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "`") {
		t.Errorf("quotes in\n%s", got)
	}
}

func TestCompletionShowsNoQuotes(t *testing.T) {
	got := run(t, "__complete", "--") + run(t, "__complete", "do", "--")
	if strings.Contains(got, "`") || !strings.Contains(got, "--allow\tkeys to allow") || !strings.Contains(got, "--config\tconfiguration FILE") {
		t.Errorf("got\n%s", got)
	}
}

func TestListsStayLists(t *testing.T) {
	root, _ := program()
	root.SetArgs([]string{"do", "--allow", "a,b", "--allow", "c"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	below, _, err := root.Find([]string{"do"})
	if err != nil {
		t.Fatal(err)
	}
	value, ok := below.Flags().Lookup("allow").Value.(pflag.SliceValue)
	if !ok || strings.Join(value.GetSlice(), " ") != "a b c" {
		t.Errorf("got %v, %v", value, ok)
	}
}
