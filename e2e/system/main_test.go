package system

import (
	"errors"
	"flag"
	"fmt"
	"os"
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
	return m.Run(), nil
}
