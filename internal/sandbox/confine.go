package sandbox

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// A Confinement says what of the closed sandbox could not be had, and why: nil for what is in
// force.
type Confinement struct {
	User     error // none of its ids is root's: see Drop
	Landlock error // access to files, ports and processes
	Seccomp  error // system calls
}

// Confine closes the sandbox around all threads of this process, those to come included.
// What is loaded from files must be there before, and all descriptors open. lastFD is
// the highest; it counts among the limits. Where the kernel, or what confines this
// process already, offers no Landlock or no seccomp, Confine goes on without; after an
// error the process must end.
func Confine(lastFD int) (Confinement, error) {
	_ = time.Now().Local().String() // package time reads the time zone's file at first use
	if err := setLimits(lastFD); err != nil {
		return Confinement{}, fmt.Errorf("confine: %w", err)
	}
	c := Confinement{User: ownIDs()}
	for _, part := range []struct {
		offered func() error
		enforce func() error
		lacking *error
	}{
		{landlockOffered, restrictAccess, &c.Landlock},
		{seccompOffered, filterCalls, &c.Seccomp}, // last: it allows none of the above
	} {
		if *part.lacking = part.offered(); *part.lacking != nil {
			continue
		}
		if err := part.enforce(); err != nil {
			return c, fmt.Errorf("confine: %w", err)
		}
	}
	return c, nil
}

// offered says in a few words what the error of a first call to some facility means.
func offered(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL):
		return errors.New("the kernel has none")
	case errors.Is(err, unix.EOPNOTSUPP):
		return errors.New("switched off at boot")
	default:
		return fmt.Errorf("refused: %w", err)
	}
}
