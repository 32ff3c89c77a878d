package main

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"tund/internal/ctl"
)

// defaultTimeout is longer than any rotation with a peer that answers.
const defaultTimeout = 30 * time.Second

// program is one run of tunctl: its streams and the options of all commands.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	socket  string
	json    bool
	timeout time.Duration

	unwritten error // why something could not be printed
}

func (p *program) addGlobalFlags(root *cobra.Command) {
	p.socket = os.Getenv("TUND_SOCKET")
	if p.socket == "" {
		p.socket = ctl.DefaultSocket
	}
	p.timeout = defaultTimeout
	flags := root.PersistentFlags()
	flags.Var((*path)(&p.socket), "socket", "`path` of tund's control socket; $TUND_SOCKET does the same")
	flags.BoolVar(&p.json, "json", false, "print one JSON object, errors too")
	flags.Var((*limit)(&p.timeout), "timeout", "give up after this `time`; 0 waits for ever")
}

func (p *program) client() *ctl.Client { return ctl.NewClient(p.socket, p.timeout) }

// path is the value of a flag that must not be empty.
type path string

func (v *path) String() string { return string(*v) }
func (v *path) Type() string   { return "path" }

func (v *path) Set(text string) error {
	if text == "" {
		return errors.New("a path must not be empty")
	}
	*v = path(text)
	return nil
}

// limit is the value of a flag that is a duration, 0 for none.
type limit time.Duration

func (v *limit) String() string { return time.Duration(*v).String() }
func (v *limit) Type() string   { return "time" }

func (v *limit) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return errors.New("not a time such as 30s or 2m, or 0")
	}
	*v = limit(d)
	return nil
}

// once is the value of a flag that may be given one time only: of two different
// values one would be ignored.
type once struct {
	pflag.Value
	given bool
}

func (v *once) Set(text string) error {
	if v.given {
		return errors.New("given twice")
	}
	v.given = true
	return v.Value.Set(text)
}

// strict makes every flag of a command and of those below it count once, but for
// lists, and every complaint about arguments one about usage.
func strict(cmd *cobra.Command) {
	wrap := func(f *pflag.Flag) {
		if _, list := f.Value.(pflag.SliceValue); !list {
			f.Value = &once{Value: f.Value}
		}
	}
	cmd.LocalNonPersistentFlags().VisitAll(wrap)
	cmd.PersistentFlags().VisitAll(wrap)
	cmd.DisableFlagsInUseLine = true
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			var usage *usageError
			if err == nil || errors.As(err, &usage) {
				return err
			}
			return usagef("%v", err)
		}
	}
	for _, below := range cmd.Commands() {
		strict(below)
	}
}

// noArguments is the check of commands that take none.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no arguments, got %q", cmd.CommandPath(), args[0])
	}
	return nil
}

// onePeer is the check of commands that are about one peer.
func onePeer(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return usagef("%s needs the name of one peer", cmd.CommandPath())
	}
	return nil
}

// atMostOne is the check of commands with one optional argument.
func atMostOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 || len(args) == 1 && args[0] == "" {
			return usagef("%s takes one %s or none", cmd.CommandPath(), what)
		}
		return nil
	}
}

// completeTimeout keeps a shell from waiting for a daemon that hangs.
const completeTimeout = time.Second

// completePeers offers the names of peers, up to max of them (0: any number).
func (p *program) completePeers(limit int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if limit > 0 && len(args) >= limit {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
		defer cancel()
		status, err := p.client().Status(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, peer := range status.Peers {
			if !slices.Contains(args, peer.Name) {
				names = append(names, cobra.CompletionWithDesc(peer.Name, string(peer.State)))
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// isTerminal says whether a stream is one.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
