package daemon

import (
	"slices"
	"sync"
	"time"

	"tund/internal/config"
	"tund/internal/netcfg"
)

// overlapPause is how long addresses may come, as at a boot, until they are looked at.
const overlapPause = 5 * time.Second

// overlaps are the addresses that lie in the network of another interface. They belong to the daemon's Run
// goroutine, but for of.
type overlaps struct {
	look    *time.Timer
	planned bool

	mu    sync.Mutex
	found map[string][]string // by interface
}

func newOverlaps() *overlaps {
	look := time.NewTimer(0)
	look.Stop()
	return &overlaps{look: look}
}

// soon plans a look, after what comes at the same time.
func (o *overlaps) soon() {
	if !o.planned {
		o.planned = true
		o.look.Reset(overlapPause)
	}
}

// of returns what is known of an interface.
func (o *overlaps) of(iface string) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.found[iface]
}

// findOverlaps looks, and logs what is new.
func (d *Daemon) findOverlaps() {
	o := d.overlaps
	o.planned = false
	peers := d.node.config().Peers
	found, err := d.node.net.Overlaps(wishes(peers))
	if err != nil {
		d.log.Warn("addresses not compared with other interfaces", "err", err)
		return
	}
	for _, p := range peers {
		before := o.of(p.Interface)
		for _, text := range found[p.Interface] {
			if !slices.Contains(before, text) {
				d.log.Warn("address in another interface's network", "peer", p.Name, "iface", p.Interface, "reason", text)
			}
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.found = found
}

// wishes are the addresses that the devices of enabled peers shall have.
func wishes(peers []config.Peer) []netcfg.Settings {
	var all []netcfg.Settings
	for _, p := range peers {
		if p.Enabled {
			all = append(all, netcfg.Settings{Interface: p.Interface, Addresses: p.Addresses, PeerAddress: p.PeerAddress})
		}
	}
	return all
}
