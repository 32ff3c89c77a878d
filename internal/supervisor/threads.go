package supervisor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// maxThreads is how many threads a child may have. An honest one has less than a dozen.
const maxThreads = 64

// A census counts the threads of a process, which no limit of the kernel bounds where all children
// are one user. Its file is opened while the process lets itself be looked at: where /proc hides the
// processes of others (hidepid), a closed sandbox is among those, but a file that is open stays.
type census struct{ file *os.File }

// newCensus opens the file. Without it the children are not counted.
func newCensus(pid int) (census, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return census{}, fmt.Errorf("count threads: %w", err)
	}
	return census{f}, nil
}

// count returns an error if there are too many threads, and nil where nobody can say.
func (n census) count() error {
	if n.file == nil {
		return nil
	}
	text := make([]byte, 4096)
	size, err := n.file.ReadAt(text, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil //nolint:nilerr // it has ended: the exit is to come
	}
	for line := range strings.Lines(string(text[:size])) {
		value, ok := strings.CutPrefix(line, "Threads:")
		if threads, err := strconv.Atoi(strings.TrimSpace(value)); ok && err == nil && threads > maxThreads {
			return fmt.Errorf("has %d threads, and may have %d", threads, maxThreads)
		}
	}
	return nil
}

func (n census) close() {
	if n.file != nil {
		_ = n.file.Close()
	}
}
