package system

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"

	"tund/e2e/lab"
)

func TestMain(m *testing.M) {
	if prefix := os.Getenv(guardVariable); prefix != "" {
		if stand(prefix) != nil {
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "system:", err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	if missing := lab.Need(); missing != "" {
		return 1, errors.New(missing)
	}
	if err := errors.Join(removeLeftovers(), lab.RemoveLeftovers()); err != nil {
		return 1, err
	}
	guard, err := startGuard(ownPrefix())
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, guard.Close()) }()
	if scratch, err = os.MkdirTemp("", "tund-packages-"); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	defer begin().Wait()
	return m.Run(), nil
}

// begin makes what takes long and tests need, all at the same time. Whoever needs one of it
// waits for it, and hears of its errors.
func begin() *sync.WaitGroup {
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = makeRepositories() })
	for _, suite := range []string{"bookworm", "trixie"} {
		wg.Go(func() { _, _ = RootFS(suite) })
	}
	return &wg
}
