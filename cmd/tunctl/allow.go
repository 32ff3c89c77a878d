package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"tund/internal/invite"
)

// allowed refuses an invitation that reaches further than was allowed by name.
func (j *joining) allowed() error {
	for _, key := range j.allow {
		if !slices.Contains(invite.Allowable(), key) {
			return usagef("--allow: %q is not one of %s", key, strings.Join(invite.Allowable(), ", "))
		}
	}
	host, err := hostNetworks(j.invite.Peer.Interface)
	if err != nil {
		return err
	}
	var lines, keys []string
	j.reaches = j.invite.Reaches(host)
	for _, reach := range j.reaches {
		if !slices.Contains(j.allow, reach.Key) {
			lines = append(lines, "  "+reach.Key+": "+reach.Effect)
			keys = append(keys, reach.Key)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return fmt.Errorf("invitation refused: it reaches further than a tunnel to %s needs:\n%s\nif that is meant: --allow %s",
		j.invite.Peer.Name, strings.Join(lines, "\n"), strings.Join(keys, ","))
}

// hostNetworks returns the networks of this host's interfaces, but for the device of the tunnel,
// which may be there already.
func hostNetworks(tunnel string) ([]netip.Prefix, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var all []netip.Prefix
	for _, i := range interfaces {
		addresses, err := i.Addrs()
		if err != nil || i.Name == tunnel { // one that has gone meanwhile has none
			continue
		}
		for _, a := range addresses {
			if n, err := netip.ParsePrefix(a.String()); err == nil && !n.Addr().IsLoopback() {
				all = append(all, n)
			}
		}
	}
	return all, nil
}
