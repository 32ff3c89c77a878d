package sandbox

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// standBack has the kernel kill this process rather than its parent when memory is short: one
// tunnel is gone for a moment then, and not all of them. Where the parent is spared, as by
// OOMScoreAdjust= of its unit, the child is not; else both stay as they are, since a child that is
// preferred to the whole machine would die for what others take. It is for the child to do: its
// parent may come only when Protect has given /proc/PID to root (proc_pid_oom_score_adj(5)).
func standBack(file string) error {
	score, err := read(file)
	if err != nil || !strings.HasPrefix(score, "-") {
		return err
	}
	fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte("0"))
	return errors.Join(err, unix.Close(fd))
}
