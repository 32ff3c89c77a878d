package daemon

import (
	"net/netip"
	"slices"
	"sync"

	"tund/internal/config"
)

// maxSourceAddrs bounds what one name of a peer's endpoints may resolve to here.
const maxSourceAddrs = 16

// sources are the addresses that peers were last seen at, or that their names resolve to: there
// the listeners expect them. It is safe for concurrent use.
type sources struct {
	mu sync.Mutex
	of map[string]map[string][]netip.Addr // by peer, and by the name that was resolved; "" is its session
}

func newSources() *sources { return &sources{of: make(map[string]map[string][]netip.Addr)} }

// set notes the addresses of one name of a peer; an empty name is where its session comes from.
// What is said of a peer that is not configured, because it is just being removed, is forgotten.
func (s *sources) set(peer, name string, addrs []netip.Addr) {
	addrs = slices.Clone(addrs[:min(len(addrs), maxSourceAddrs)])
	for i, a := range addrs {
		addrs[i] = a.Unmap().WithZone("")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[peer] != nil {
		s.of[peer][name] = addrs
	}
}

// keep forgets peers that are gone, and names that they have no more.
func (s *sources) keep(peers []config.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.of
	s.of = make(map[string]map[string][]netip.Addr, len(old))
	for _, p := range peers {
		kept := map[string][]netip.Addr{}
		for name, addrs := range old[p.Name] {
			if name == "" || slices.ContainsFunc(p.Endpoints, func(e config.Endpoint) bool { return e.Host == name }) {
				kept[name] = addrs
			}
		}
		s.of[p.Name] = kept
	}
}

// has tells whether a peer is expected at addr; of IPv6 anywhere in its /64, as hosts change the
// rest of their address by themselves.
func (s *sources) has(addr netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, names := range s.of {
		for _, addrs := range names {
			if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return sameHost(a, addr) }) {
				return true
			}
		}
	}
	return false
}

func sameHost(a, b netip.Addr) bool {
	a, b = a.Unmap().WithZone(""), b.Unmap().WithZone("")
	if a.Is4() || b.Is4() {
		return a == b
	}
	network, _ := a.Prefix(64)
	return network.Contains(b)
}
