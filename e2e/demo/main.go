// Command demo shows what tund does, on this machine and in a minute: it makes two
// hosts out of network namespaces, writes a configuration for each, brings a tunnel up,
// and puts it to use: pings, a gigabyte over TCP, new keys and IVs meanwhile, a changed
// configuration, a killed child. It prints what it does and what it sees, cleans up,
// and exits non-zero if anything was not as it should be.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"tund/e2e/lab"
)

func main() {
	programs := flag.String("programs", "bin", "`directory` of tund and tunctl")
	megabytes := flag.Int64("megabytes", 1024, "how much to move over TCP")
	flag.Parse()
	if err := demonstrate(*programs, *megabytes<<20); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func demonstrate(directory string, bytes int64) error {
	if missing := lab.Need(); missing != "" {
		return fmt.Errorf("cannot run here: %s", missing)
	}
	programs, err := lab.InDir(directory)
	if err != nil {
		return fmt.Errorf("%w: make build", err)
	}
	if err := lab.RemoveLeftovers(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := newShow(ctx, os.Stdout)
	a := &act{show: s, programs: programs, bytes: bytes}
	problems := s.run(a.play)
	a.summary(problems)
	if len(problems) > 0 {
		return errors.New("not everything was as it should be")
	}
	return nil
}
