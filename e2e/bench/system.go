package main

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"tund/e2e/lab"
	"tund/internal/aead"
)

// system is one way from alpha to beta.
type system struct {
	name string
	// about says how it is configured, for the report.
	about string
	// version returns what runs, or why it cannot run here.
	version func(*bed) (string, error)
	// start brings the tunnel up on both nodes; stop does what ending the programs that
	// bed started does not, and may be nil.
	start, stop func(*bed) error
	// details returns what only the running tunnel knows, for the report; may be nil.
	details func(*bed) string
	// settle is how long after the first answer the tunnel still finds its way.
	settle time.Duration
	// direct is set where traffic goes over the wire itself.
	direct bool
}

func (s system) id() string { return s.name }

// address returns where beta is reached.
func (s system) address(b *bed) string {
	if s.direct {
		return b.pair.Link.Addr(b.pair.Beta, 4).String()
	}
	return lab.BetaInner4
}

// describe returns how the running system is configured.
func (s system) describe(b *bed) string {
	if s.details == nil {
		return s.about
	}
	return s.about + "; " + s.details(b)
}

// reference is the system that all others are compared with.
const reference = "wireguard-go"

const bareName = "none"

// systems returns all of them, in the order of the report.
func systems() []system {
	return []system{
		tund("tund", "AES-256-GCM", nil),
		tund("tund-go", "AES-256-GCM of Go's standard library", []string{`engine = "go"`}),
		wireguard(),
		openvpn("openvpn", "AES-256-GCM, its own defaults"),
		openvpn("openvpn-48000", "AES-256-GCM, tun-mtu 48000: the wire carries IP fragments", "--tun-mtu", "48000", "--mssfix", "0"),
		fastd(),
		tinc(),
		nebula(),
		plain(plainName, noCipher, "no cipher"),
		plain(plainAES, aead.ChooseIPsecMB, "AES-256-GCM by the engine of tund"),
		plain(plainGo, aead.ChooseGo, "AES-256-GCM by the engine of tund-go"),
		{
			name: bareName, about: "no tunnel: the bare wire", direct: true,
			version: func(*bed) (string, error) { return "-", nil },
			start:   func(*bed) error { return nil },
		},
	}
}

// side is one end of a tunnel, and what it must know of the other.
type side struct {
	node, peer             *lab.Node
	outer, peerOuter       netip.Addr
	inner, peerInner       string
	first                  bool // alpha, which dials where only one does
	device, name, peerName string
}

// sides returns both ends, beta first: it waits for alpha.
func (b *bed) sides() []side {
	alpha, beta := b.pair.Alpha, b.pair.Beta
	outerA, outerB := b.pair.Link.Addr(alpha, 4), b.pair.Link.Addr(beta, 4)
	return []side{
		{
			node: beta, peer: alpha, outer: outerB, peerOuter: outerA, inner: lab.BetaInner4, peerInner: lab.AlphaInner4,
			device: "rival-b", name: "beta", peerName: "alpha",
		},
		{
			node: alpha, peer: beta, outer: outerA, peerOuter: outerB, inner: lab.AlphaInner4, peerInner: lab.BetaInner4,
			first: true, device: "rival-a", name: "alpha", peerName: "beta",
		},
	}
}

// addresses gives the devices of both ends their addresses, once they are there.
func (b *bed) addresses() error {
	for _, s := range b.sides() {
		if err := b.await(startLimit, "device "+s.device, func() bool { return s.node.Index(s.device) != 0 }); err != nil {
			return err
		}
		if err := s.node.Run("ip", "addr", "add", s.inner+"/30", "dev", s.device); err != nil {
			return err
		}
		if err := s.node.Run("ip", "link", "set", s.device, "up"); err != nil {
			return err
		}
	}
	return nil
}

// printed returns what a program prints of its version: the first line with a digit.
func printed(name string, args ...string) func(*bed) (string, error) {
	return func(*bed) (string, error) {
		path, err := exec.LookPath(name)
		if err != nil {
			return "", fmt.Errorf("%s is not installed: scripts/install-bench", name)
		}
		out, _ := exec.Command(path, args...).CombinedOutput() // some exit with 1 after it
		for line := range strings.Lines(string(out)) {
			if strings.ContainsAny(line, "0123456789") {
				return short(strings.TrimSpace(line)), nil
			}
		}
		return "", fmt.Errorf("%s prints no version", name)
	}
}

// short cuts what a program tells beyond its name and version.
func short(line string) string {
	words := strings.Fields(line)
	for i, word := range words {
		if strings.ContainsAny(word, "0123456789") {
			return strings.Join(words[:i+1], " ")
		}
	}
	return line
}
