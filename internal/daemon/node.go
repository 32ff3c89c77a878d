package daemon

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tund/internal/aead"
	"tund/internal/config"
	"tund/internal/keys"
	"tund/internal/netcfg"
	"tund/internal/peer"
)

// ethernetMTU is taken for the outer MTU where no route tells.
const ethernetMTU = 1500

// node is what all peers share; it implements peer.Node.
type node struct {
	indexes *keys.Indexes
	net     *netcfg.Manager
	holds   *holds
	sources *sources

	mu       sync.RWMutex
	instance [16]byte
	cfg      *config.Config
	identity *keys.Identity
	absent   []netip.AddrPort // listen addresses that are not open
}

func newNode(cfg *config.Config, net *netcfg.Manager, h *holds) *node {
	n := &node{indexes: keys.NewIndexes(time.Now), net: net, holds: h, sources: newSources()}
	n.renew()
	n.use(cfg)
	return n
}

// renew makes another instance of this node.
func (n *node) renew() {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, _ = rand.Read(n.instance[:]) // never fails (crypto/rand)
}

// use puts cfg into force.
func (n *node) use(cfg *config.Config) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cfg = cfg
	n.sources.keep(cfg.Peers)
	if n.identity == nil || n.identity.Public() != keys.NewIdentity(&cfg.Node.PrivateKey).Public() {
		n.identity = keys.NewIdentity(&cfg.Node.PrivateKey)
	}
}

func (n *node) config() *config.Config {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.cfg
}

// Identity implements peer.Node.
func (n *node) Identity() *keys.Identity {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.identity
}

// Instance implements peer.Node.
func (n *node) Instance() [16]byte {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.instance
}

// Indexes implements peer.Node.
func (n *node) Indexes() *keys.Indexes { return n.indexes }

// AEADs implements peer.Node.
func (n *node) AEADs() []keys.AEAD {
	if configured := n.config().Node.AEAD; len(configured) > 0 {
		return configured
	}
	return aead.Preferred()
}

// choices are those for the next child.
func (n *node) choices() peer.Choices {
	c := n.config().Node
	return peer.Choices{Engine: c.Engine, WholeSandbox: c.Sandbox == config.SandboxRequired}
}

// setAbsent says which listen addresses are not open.
func (n *node) setAbsent(addrs []netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.absent = addrs
}

func (n *node) isAbsent(addr netip.AddrPort) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return slices.Contains(n.absent, addr)
}

// Local implements peer.Node: the first listen address that fits and is open, so that datagrams
// leave from where the door receives, or any address and port.
func (n *node) Local(remote netip.Addr) netip.AddrPort {
	for _, l := range n.config().Node.Listen {
		if fits(l.Addr(), remote.Unmap()) && !n.isAbsent(l) {
			return l
		}
	}
	if remote.Unmap().Is4() {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
}

// fits tells whether a socket bound to local can talk with remote; [::] takes both
// families.
func fits(local, remote netip.Addr) bool {
	return local == netip.IPv6Unspecified() || local.Is4() == remote.Is4()
}

// Reachable implements peer.Node.
func (n *node) Reachable(addr netip.Addr) error {
	if name, route, ok := n.config().RouteCovering(addr); ok {
		return fmt.Errorf("route %s of peer %s covers %s: the tunnel would swallow itself", route, name, addr)
	}
	return nil
}

// Located implements peer.Node.
func (n *node) Located(peer, name string, addrs []netip.Addr) { n.sources.set(peer, name, addrs) }

// expects tells whether a configured peer may come from addr: an endpoint names it, or it was there
// when it was last seen.
func (n *node) expects(addr netip.Addr) bool {
	for _, p := range n.config().Peers {
		for _, e := range p.Endpoints {
			if a, ok := e.Addr(); ok && sameHost(a, addr) {
				return true
			}
		}
	}
	return n.sources.has(addr)
}

// OuterMTU implements peer.Node.
func (n *node) OuterMTU(addr netip.Addr) int {
	mtu, err := n.net.RouteMTU(addr)
	if err != nil || mtu == 0 {
		return ethernetMTU
	}
	return mtu
}

// Hold implements peer.Node.
func (n *node) Hold(peer, reason string) error { return n.holds.set(peer, reason) }

// Held implements peer.Node.
func (n *node) Held(peer string) string { return n.holds.get(peer) }
