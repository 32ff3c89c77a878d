// Command bench measures tund beside other tunnels that run in user space: each of them
// in turn between the same two network namespaces, over the same veth pair, under the
// same load of iperf3 and ping, in as many rounds as asked for, so that what the machine
// does meanwhile falls on all alike. It writes a report in Markdown.
//
// It needs root, and the programs that scripts/install-bench installs. A system that
// cannot run here is left out, and what fails makes the exit code 1; the report names
// both. It leaves nothing behind.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"tund/e2e/lab"
)

// settings are the command line.
type settings struct {
	programs, rivals, out string
	rounds, seconds       int
	only, skip            string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == plainCommand {
		fmt.Fprintln(os.Stderr, carry(os.Args[2:]))
		os.Exit(1)
	}
	var s settings
	flag.StringVar(&s.programs, "programs", "bin", "`directory` of tund and tunctl")
	flag.StringVar(&s.rivals, "rivals", "bin/rivals", "`directory` of wireguard and nebula")
	flag.StringVar(&s.out, "out", "docs/performance.md", "`file` for the report")
	flag.IntVar(&s.rounds, "rounds", 3, "how often everything is measured")
	flag.IntVar(&s.seconds, "seconds", 2, "how long each stream flows")
	flag.StringVar(&s.only, "only", "", "measure these only: a `list` of "+names(systems())+"; and of "+names(measurements()))
	flag.StringVar(&s.skip, "skip", "", "leave these out: a `list` of the same names")
	flag.Parse()
	if err := bench(s); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(s settings) error {
	plan, err := newPlan(s)
	if err != nil {
		return err
	}
	if missing := lab.Need(); missing != "" {
		return fmt.Errorf("cannot run here: %s", missing)
	}
	programs, err := lab.InDir(s.programs)
	if err != nil {
		return fmt.Errorf("%w: make build", err)
	}
	if err := lab.RemoveLeftovers(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	st := newStage(ctx, os.Stdout)
	var results *results
	problems := st.run(func() { results = plan.play(st, programs) })
	if results == nil {
		return fmt.Errorf("nothing measured: %s", strings.Join(problems, "; "))
	}
	results.problems = append(results.problems, problems...)
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted: no report written")
	}
	if err := os.WriteFile(s.out, []byte(results.report()), 0o644); err != nil {
		return err
	}
	st.say("report in %s", s.out)
	if len(results.problems) > 0 {
		return fmt.Errorf("%d things went wrong: see the end of the report", len(results.problems))
	}
	return nil
}
