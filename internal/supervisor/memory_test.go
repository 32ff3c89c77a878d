package supervisor_test

import (
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"tund/internal/supervisor"
)

// A child that gets no memory ends at its start. It is tried again, less and less often, and
// runs when there is some.
func TestChildWithoutMemoryIsTriedUntilThereIsSome(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var short atomic.Bool
	short.Store(true)
	r := supervise(t, "good", func(o *supervisor.Options, _ *supervisor.Supervisor) {
		if o != nil {
			o.Command = func(name string) *exec.Cmd {
				if short.Load() {
					return exec.Command("prlimit", "--as=50000000", self, "actor", name)
				}
				return actorCommand(name)
			}
		}
	})
	first, second := r.crashed(), r.crashed()
	t.Log(first.Err)
	if !strings.HasPrefix(first.Err.Error(), "child: ") || !strings.HasSuffix(first.Err.Error(), "its last words are in the log") {
		t.Errorf("exited with %v", first.Err)
	}
	if first.RestartIn != 0 || second.RestartIn == 0 {
		t.Errorf("tried again after %s, then %s", first.RestartIn, second.RestartIn)
	}
	short.Store(false)
	if e := r.started(); e.Child != 3 {
		t.Errorf("child %d runs", e.Child)
	}
}
