package udp

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Whatever a send may fail with costs the datagrams that it was about, each counted once, unless
// the socket itself is lost.
func TestOnlyALostSocketIsAnError(t *testing.T) {
	lost := map[unix.Errno]bool{
		unix.EBADF: true, unix.ENOTSOCK: true, unix.EPIPE: true, unix.ECONNABORTED: true, unix.EFAULT: true, unix.ENOSYS: true,
	}
	const last = unix.EHWPOISON
	for errno := unix.Errno(1); errno <= last; errno++ {
		var p Port
		counted := p.refused(errno, 3)
		c := p.Counters()
		sum := c.TooBig + c.NoBuffer + c.Denied + c.Unreachable + c.NotConnected
		if counted == lost[errno] || counted && sum != 3 || !counted && sum != 0 {
			t.Errorf("%v: counted %v, %d of 3", errno, counted, sum)
		}
	}
}
