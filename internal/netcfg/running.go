package netcfg

import (
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
)

// runningPoll is the pause between two looks at an interface that is not running yet.
const runningPoll = time.Millisecond

// AwaitRunning waits until an interface whose carrier was switched on carries packets. The
// kernel drops what it is given until its worker has seen the new carrier (linkwatch_do_dev
// in net/core/link_watch.c), which takes as long as others hold the lock of all interfaces.
// It returns an error if that is not so within limit.
func (m *Manager) AwaitRunning(iface string, limit time.Duration) error {
	end := time.NewTimer(limit)
	defer end.Stop()
	look := time.NewTicker(runningPoll)
	defer look.Stop()
	for {
		link, err := m.handle.LinkByName(iface)
		if err != nil {
			return fmt.Errorf("look up %s: %w", iface, err)
		}
		state := link.Attrs().OperState
		if state == netlink.OperUp {
			return nil
		}
		select {
		case <-look.C:
		case <-end.C:
			return fmt.Errorf("await %s: it is %s after %s", iface, state, limit)
		}
	}
}
