package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Binaries are the paths of the two programs that a lab runs.
type Binaries struct {
	Tund   string
	Tunctl string
}

// InDir returns the programs in a directory, or an error that says which is missing.
func InDir(dir string) (Binaries, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Binaries{}, err
	}
	b := Binaries{Tund: filepath.Join(abs, "tund"), Tunctl: filepath.Join(abs, "tunctl")}
	for _, path := range []string{b.Tund, b.Tunctl} {
		if _, err := os.Stat(path); err != nil {
			return Binaries{}, fmt.Errorf("find programs: %w", err)
		}
	}
	return b, nil
}

// Build compiles both programs from the module that the working directory belongs to
// into dir. Flags, such as -race, go to go build.
func Build(ctx context.Context, dir string, flags ...string) (Binaries, error) {
	return build(ctx, dir, nil, flags)
}

// BuildWithoutCgo is Build as it is done where there is no C compiler. Its flags are those
// of the Makefile, which has compiled most of what is needed.
func BuildWithoutCgo(ctx context.Context, dir string) (Binaries, error) {
	return build(ctx, dir, []string{"CGO_ENABLED=0"}, []string{"-trimpath", "-tags", "netgo,osusergo"})
}

func build(ctx context.Context, dir string, environment, flags []string) (Binaries, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return Binaries{}, err
	}
	args := append([]string{"build", "-o", dir + string(filepath.Separator)}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/tund", "./cmd/tunctl")...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), environment...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return Binaries{}, fmt.Errorf("build programs: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return InDir(dir)
}

// environment is that of all programs in a lab. Those that were built with the race
// detector would sleep for a second before they end.
func environment() []string {
	return append(os.Environ(), "GORACE=atexit_sleep_ms=0")
}

// moduleRoot returns the directory of the module's go.mod.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find module: %w", err)
	}
	path := strings.TrimSpace(string(out))
	if path == "" || path == os.DevNull {
		return "", errors.New("find module: not inside one")
	}
	return filepath.Dir(path), nil
}
