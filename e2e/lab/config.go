package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Port is the one every node listens on, over TCP and UDP.
const Port = 7900

// Table is a configuration as an administrator would write it: lines of TOML, by peer.
type Table struct {
	// Node holds the lines of [node] besides the private key and the port, Peers those
	// of each [peer.NAME].
	Node  []string
	Peers map[string][]string
}

// NewTable returns a configuration without peers.
func NewTable() Table { return Table{Peers: map[string][]string{}} }

// Set replaces the line of a key of a peer, or adds it; value is TOML.
func (t Table) Set(peer, key, value string) {
	line := key + " = " + value
	for i, old := range t.Peers[peer] {
		if strings.HasPrefix(old, key+" = ") {
			t.Peers[peer][i] = line
			return
		}
	}
	t.Peers[peer] = append(t.Peers[peer], line)
}

// Unset removes the line of a key of a peer.
func (t Table) Unset(peer, key string) {
	t.Peers[peer] = slices.DeleteFunc(t.Peers[peer], func(line string) bool {
		return strings.HasPrefix(line, key+" = ")
	})
}

// String returns the configuration file.
func (t Table) String() string {
	text := &strings.Builder{}
	fmt.Fprintf(text, "[node]\nprivate_key_file = \"private.key\"\n")
	if !slices.ContainsFunc(t.Node, func(line string) bool { return strings.HasPrefix(line, "listen ") }) {
		fmt.Fprintf(text, "listen = [\"[::]:%d\"]\n", Port)
	}
	for _, line := range t.Node {
		fmt.Fprintln(text, line)
	}
	names := make([]string, 0, len(t.Peers))
	for name := range t.Peers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(text, "\n[peer.%s]\n%s\n", name, strings.Join(t.Peers[name], "\n"))
	}
	return text.String()
}

// Endpoint returns a line that tells where a peer is found.
func Endpoint(addr netip.Addr) string {
	return fmt.Sprintf("endpoints = [%q]", netip.AddrPortFrom(addr, Port))
}

// Configure writes the node's configuration file, which a running tund takes up by itself.
func (n *Node) Configure(t Table) {
	n.lab.tb.Helper()
	n.PublicKey() // makes the key pair, which the file names
	n.WriteFile("tund.toml", t.String())
}

// Pair is two nodes, alpha and beta, one link, and a tunnel between them. Alpha knows
// beta's address and dials; inside, alpha is 10.77.0.1 and fd77::1, beta .2 and ::2.
type Pair struct {
	Lab                     *Lab
	Alpha, Beta             *Node
	Link                    *Link
	AlphaTable, BetaTable   Table
	AlphaDevice, BetaDevice string
}

// PairOptions choose what a pair is made of; the zero value is a TUN over IPv4.
type PairOptions struct {
	Mode     string // "tun" or "tap"
	Version  int    // of IP outside: 4 or 6
	MTU      int    // of the link: 1500
	BothDial bool   // beta knows alpha's address too
	// Extra lines for both peer tables.
	Extra []string
}

// The inner addresses of a pair.
const (
	AlphaInner4 = "10.77.0.1"
	AlphaInner6 = "fd77::1"
	BetaInner4  = "10.77.0.2"
	BetaInner6  = "fd77::2"
)

// NewPair makes the nodes, the link and the configurations of a pair, and starts nothing.
func NewPair(tb TB, bin Binaries, o PairOptions) *Pair {
	tb.Helper()
	o.setDefaults()
	l := New(tb, bin)
	p := &Pair{Lab: l, Alpha: l.Node("alpha"), Beta: l.Node("beta"), AlphaTable: NewTable(), BetaTable: NewTable()}
	p.Link = l.Link(p.Alpha, p.Beta, o.MTU)
	p.AlphaDevice, p.BetaDevice = o.Mode+"-beta", o.Mode+"-alpha"
	p.AlphaTable.Peers["beta"] = append([]string{
		fmt.Sprintf("public_key = %q", p.Beta.PublicKey()),
		Endpoint(p.Link.Addr(p.Beta, o.Version)),
		fmt.Sprintf("mode = %q", o.Mode),
		fmt.Sprintf("addresses = [\"%s/30\", \"%s/64\"]", AlphaInner4, AlphaInner6),
	}, o.Extra...)
	p.BetaTable.Peers["alpha"] = append([]string{
		fmt.Sprintf("public_key = %q", p.Alpha.PublicKey()),
		fmt.Sprintf("mode = %q", o.Mode),
		fmt.Sprintf("addresses = [\"%s/30\", \"%s/64\"]", BetaInner4, BetaInner6),
	}, o.Extra...)
	if o.BothDial {
		p.BetaTable.Peers["alpha"] = append(p.BetaTable.Peers["alpha"], Endpoint(p.Link.Addr(p.Alpha, o.Version)))
	}
	p.Alpha.Configure(p.AlphaTable)
	p.Beta.Configure(p.BetaTable)
	return p
}

func (o *PairOptions) setDefaults() {
	if o.Mode == "" {
		o.Mode = "tun"
	}
	if o.Version == 0 {
		o.Version = 4
	}
	if o.MTU == 0 {
		o.MTU = 1500
	}
}

// Up starts both nodes and waits until each shows the other as up.
func (p *Pair) Up() {
	p.Lab.tb.Helper()
	p.Beta.Start()
	p.Alpha.Start()
	p.WaitUp()
}

// WaitUp waits until both nodes show the tunnel as up.
func (p *Pair) WaitUp() {
	p.Lab.tb.Helper()
	p.Alpha.WaitState("beta", "up", Patience)
	p.Beta.WaitState("alpha", "up", Patience)
}

// Addr parses an address that is known to be one.
func Addr(text string) netip.Addr { return netip.MustParseAddr(text) }
