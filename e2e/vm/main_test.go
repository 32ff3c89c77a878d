package vm

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"

	"tund/e2e/lab"
)

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	if missing := lab.Need(); missing != "" {
		return 1, errors.New(missing)
	}
	defer func() {
		if booted != nil {
			err = errors.Join(err, booted.Close())
		}
	}()
	return m.Run(), nil
}

// booted is the one machine of all tests, which leave it as they find it; nil before boot.
var booted *VM

// boot boots it at the first call.
var boot = sync.OnceValue(func() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	vm, err := Boot(ctx)
	booted = vm
	return err
})
