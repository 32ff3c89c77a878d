// Command tund is the tunnel daemon. Started by an operator or a service manager it
// is the parent of all; "tund datapath NAME" is the child that the parent starts for each peer.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tund/internal/cli"
	"tund/internal/config"
	"tund/internal/ctl"
	"tund/internal/daemon"
	"tund/internal/journal"
	"tund/internal/sandbox"
	"tund/internal/sdnotify"
)

// version is set by the linker.
var version = "dev"

const defaultConfig = "/etc/tund/tund.toml"

func main() {
	if len(os.Args) > 1 && (os.Args[1] == sandbox.RoleStart || os.Args[1] == sandbox.Role) {
		os.Exit(runDatapath(os.Args))
	}
	if err := command().Execute(); err != nil {
		os.Exit(fail(err))
	}
}

func command() *cobra.Command {
	o := daemon.Options{Version: version}
	root := &cobra.Command{
		Use:           "tund",
		Short:         "Tunnels between Linux hosts, from one TOML file",
		Example:       "  tund --config /etc/tund/tund.toml\n  tund check",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(*cobra.Command, []string) error {
			if err := wholePath(&o); err != nil {
				return err
			}
			return run(o)
		},
	}
	root.Flags().StringVar(&o.Config, "config", defaultConfig, "configuration `FILE`")
	root.Flags().StringVar(&o.Socket, "socket", socketPath(), "control socket `PATH` (environment: TUND_SOCKET)")
	root.AddCommand(&cobra.Command{
		Use: "check [FILE]", Short: "Check a configuration and exit", Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return check(append(args, defaultConfig)[0]) },
	}, &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return say("tund " + version) },
	}, newStopKind())
	root.CompletionOptions.DisableDefaultCmd = true // tunctl is what is typed
	root.SetHelpCommand(&cobra.Command{Hidden: true})
	cli.Prepare(root, version, statuses)
	cli.Plain(root)
	hideFlagsInUse(root)
	return root
}

// wholePath makes the path of the configuration one that others can compare with theirs, as
// tunctl join does, whatever directory they are in.
func wholePath(o *daemon.Options) (err error) {
	o.Config, err = filepath.Abs(o.Config)
	return err
}

// statuses is the end of the help.
const statuses = `Exit status: 0 stopped by SIGTERM or SIGINT, or done; 1 failed; 78 configuration
refused.
`

// hideFlagsInUse leaves "[flags]" out of usage lines, as the options are listed below.
func hideFlagsInUse(root *cobra.Command) {
	root.DisableFlagsInUseLine = true
	for _, below := range root.Commands() {
		below.DisableFlagsInUseLine = true
	}
}

func socketPath() string {
	if path := os.Getenv("TUND_SOCKET"); path != "" {
		return path
	}
	return ctl.DefaultSocket
}

func check(path string) error {
	if _, err := config.Load(path); err != nil {
		return fmt.Errorf("configuration refused\n%w", err)
	}
	return say("configuration ok")
}

func say(line string) error {
	_, err := fmt.Println(line)
	return err
}

// How long tund waits at its end until somebody has read what it logged, and before it is
// replaced, when packets wait.
const (
	flushLimit   = time.Second
	executeLimit = 100 * time.Millisecond
)

// startLog returns the log of this process, which is written until the process ends.
func startLog() *journal.Log {
	log := journal.New()
	go log.Run(context.Background())
	return log
}

// run is the parent's life: until SIGTERM or SIGINT.
func run(o daemon.Options) error {
	if err := sandbox.Protect(); err != nil {
		return err
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	o.Hangup = hangup
	log := startLog()
	defer log.Flush(flushLimit)
	o.Log = slog.New(log.Handler())
	o.Execute = func(path string, args, env []string) error {
		log.Flush(executeLimit)
		return syscall.Exec(path, args, env)
	}
	inherited, err := sdnotify.Inherited()
	if err != nil {
		o.Log.Warn("descriptor not inherited", "err", err)
	}
	o.Inherited = inherited
	if err := daemon.Run(ctx, o); err != nil {
		return notStarted{err, len(inherited) > 0}
	}
	return nil
}
