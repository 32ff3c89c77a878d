package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tund/internal/cli"
	"tund/internal/config"
	"tund/internal/ctl"
)

// The exit statuses. Scripts rely on them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitForbidden   = 4
	exitPartly      = 5
)

// usageError is a mistake in the command line.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error {
	return &usageError{message: fmt.Sprintf(format, args...)}
}

// reported is the end of a command that has already printed what went wrong.
type reported struct{ status int }

func (e *reported) Error() string { return fmt.Sprintf("exit status %d", e.status) }

// run carries out one command line and returns the exit status.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr}
	if err := refuseOtherTunctl(args); err != nil {
		return p.fail(err)
	}
	root := newRoot(p)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(context.Background())
	if err == nil && p.unwritten == nil {
		return exitDone
	}
	if err == nil {
		p.complain("write: %v", p.unwritten)
		return exitFailed
	}
	p.json = p.json || slices.Contains(args, "--json") // it may stand behind what was wrong
	return p.fail(err)
}

// refuseOtherTunctl recognises the command line of the program of this name in
// uml-utilities, which makes tap devices and has options only.
func refuseOtherTunctl(args []string) error {
	if len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && strings.IndexByte("tduf", args[0][1]) >= 0 {
		return usagef("unknown option %s: this is tund's tunctl; to make or remove a device use: ip tuntap", args[0][:2])
	}
	return nil
}

// newRoot builds the commands. Bare tunctl is tunctl status.
func newRoot(p *program) *cobra.Command {
	root := &cobra.Command{
		Use:   "tunctl",
		Short: "Show what tund does and tell it what to do",
		Long:  "Show what tund does and tell it what to do. Without a command: status.",
		Example: `  tunctl                           all peers at a glance
  tunctl status beta               one peer whole
  tunctl rotate-key --all          new keys with every peer
  tunctl genkey --write /etc/tund/private.key
                                   a private key for this node
  tunctl invite beta > invite.toml what the other side needs, for its tunctl join`,
		Args: func(cmd *cobra.Command, args []string) error {
			return unknownCommand(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := p.status(cmd.Context(), nil)
			return err
		},
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	p.addGlobalFlags(root)
	root.AddCommand(
		newStatus(p), newRotateKey(p), newRotateIV(p), newUp(p), newDown(p), newShutdown(p), newReload(p), newRestart(p),
		newCheck(p), newInvite(p), newJoin(p), newGenkey(p), newPubkey(p), newGenpsk(p), newVersion(p),
	)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usagef("%v", err) })
	addHelp(root)
	addCompletion(root)
	cli.Plain(root)
	strict(root)
	return root
}

// unknownCommand refuses the words that Find took for arguments of the root.
func unknownCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range root.Commands() {
		names = append(names, c.Name())
	}
	if near := ctl.Nearest(args[0], names); near != "" {
		return usagef("unknown command %q (did you mean %q?)", args[0], near)
	}
	return usagef("unknown command %q (tunctl help lists them)", args[0])
}

// fail tells what went wrong, in the form that was asked for, and returns the exit
// status that belongs to it.
func (p *program) fail(err error) int {
	if done, ok := errors.AsType[*reported](err); ok {
		return done.status
	}
	status, code := classify(err)
	message := err.Error() + hint(err, status)
	if p.json {
		p.writeJSON(&ctl.ErrorReply{Schema: ctl.Schema, Error: &ctl.Error{Code: code, Message: message}})
	} else {
		p.complain("%s", message)
	}
	return status
}

// classify returns the exit status of an error, and the code that JSON shows.
func classify(err error) (int, ctl.Code) {
	var usage *usageError
	var answer *ctl.Error
	switch {
	case errors.As(err, &usage):
		return exitUsage, "usage"
	case errors.As(err, &answer) && answer.Code == ctl.CodeForbidden:
		return exitForbidden, answer.Code
	case errors.As(err, &answer):
		return exitFailed, answer.Code
	case errors.Is(err, ctl.ErrUnreachable):
		return exitUnreachable, "unreachable"
	case errors.Is(err, fs.ErrPermission):
		return exitForbidden, ctl.CodeForbidden
	default:
		return exitFailed, ctl.CodeFailed
	}
}

// hint says what to do about an error.
func hint(err error, status int) string {
	var answer *ctl.Error
	var wrong *config.Errors
	var file *fs.PathError
	var link *os.LinkError
	switch {
	case status == exitUnreachable && errors.Is(err, context.DeadlineExceeded):
		return " (it runs, but does not answer: see its log)"
	case status == exitUnreachable:
		return " (is tund running?)"
	case status == exitForbidden && (errors.As(err, &wrong) || errors.As(err, &file) || errors.As(err, &link)):
		return " (are you root?)"
	case status == exitForbidden && !errors.As(err, &answer):
		return " (are you in group tund-status or tund-admin?)"
	default:
		return ""
	}
}

// writeJSON prints one object on one line.
func (p *program) writeJSON(v any) {
	e := json.NewEncoder(p.stdout)
	e.SetEscapeHTML(false)
	p.note(e.Encode(v))
}

// note remembers that something could not be printed: the exit status tells, as a
// script that reads a full disk's file must not take it for the whole.
func (p *program) note(err error) {
	if p.unwritten == nil {
		p.unwritten = err
	}
}

// complain prints a message for whoever runs the command. It may have several lines, and
// holds nothing else that moves the cursor.
func (p *program) complain(format string, args ...any) {
	lines := strings.Split(fmt.Sprintf(format, args...), "\n")
	for i, line := range lines {
		lines[i] = ctl.OneLine(line)
	}
	_, _ = fmt.Fprintln(p.stderr, "tunctl: "+strings.Join(lines, "\n"))
}

// printf prints data.
func (p *program) printf(format string, args ...any) {
	_, err := fmt.Fprintf(p.stdout, format, args...)
	p.note(err)
}
