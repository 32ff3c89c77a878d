package session

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"

	"tund/internal/keys"
)

// exporterLabel asks TLS for chain key 0 of the key schedule.
const exporterLabel = "EXPORTER-tund-v1"

// Conn is a connection whose other end has proven its public key. Whoever holds it either
// gives it to [New] or closes it.
type Conn struct {
	stream   net.Conn
	peer     keys.PublicKey
	dialled  bool
	exporter keys.Secret
	local    netip.AddrPort
	remote   netip.AddrPort
}

// newConn takes over a TLS connection after its handshake.
func newConn(stream *tls.Conn, peer keys.PublicKey, dialled bool) (*Conn, error) {
	state := stream.ConnectionState()
	exporter, err := state.ExportKeyingMaterial(exporterLabel, nil, len(keys.Secret{}))
	if err != nil {
		return nil, err
	}
	defer clear(exporter)
	c := &Conn{
		stream: stream, peer: peer, dialled: dialled,
		local: addrPort(stream.LocalAddr()), remote: addrPort(stream.RemoteAddr()),
	}
	copy(c.exporter[:], exporter)
	return c, nil
}

// Peer is the public key of the other end.
func (c *Conn) Peer() keys.PublicKey { return c.peer }

// Dialled says whether this node dialled.
func (c *Conn) Dialled() bool { return c.dialled }

// Local is our address, an IPv4 one in its own form.
func (c *Conn) Local() netip.AddrPort { return c.local }

// Remote is the address of the other end, an IPv4 one in its own form.
func (c *Conn) Remote() netip.AddrPort { return c.remote }

// Format names the other end, for every verb: no secret in c can be printed.
func (c *Conn) Format(state fmt.State, _ rune) {
	_, _ = fmt.Fprintf(state, "connection with %s at %s", c.peer, c.remote)
}

// Close closes the connection at once, without a word to the other end. It does not wait
// for a peer that does not read, as TLS's own Close would.
func (c *Conn) Close() error {
	c.exporter.Wipe()
	if t, ok := c.stream.(*tls.Conn); ok {
		return t.NetConn().Close()
	}
	return c.stream.Close()
}

// closeWrite tells the other end that nothing more will come.
func closeWrite(stream net.Conn) error {
	half, ok := stream.(interface{ CloseWrite() error })
	if !ok {
		return nil
	}
	return half.CloseWrite()
}

// takeExporter moves the TLS exporter's value out of c.
func (c *Conn) takeExporter() keys.Secret {
	defer c.exporter.Wipe()
	return c.exporter
}

// addrPort gives a TCP address, an IPv4-mapped one as IPv4; zero if it is none.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// Pipe gives the two ends of a connection in memory, for the tests of owners: no network,
// no TLS, and a fixed secret in place of its exporter. The first end is the dialler's.
func Pipe(dialler, listener keys.PublicKey) (*Conn, *Conn) {
	a, b := net.Pipe()
	return PipeOver(a, b, dialler, listener)
}

// PipeOver is Pipe over two connected streams of the test's own, which can be slow or break.
func PipeOver(a, b net.Conn, dialler, listener keys.PublicKey) (*Conn, *Conn) {
	exporter := keys.Secret{1}
	from := netip.MustParseAddrPort("192.0.2.1:40000")
	to := netip.MustParseAddrPort("192.0.2.2:7900")
	return &Conn{stream: a, peer: listener, dialled: true, exporter: exporter, local: from, remote: to},
		&Conn{stream: b, peer: dialler, exporter: exporter, local: to, remote: from}
}
