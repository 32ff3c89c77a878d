package peer

import (
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/config"
	"tund/internal/keys"
	"tund/internal/netcfg"
	"tund/internal/parts"
	"tund/internal/pipe"
	"tund/internal/session"
)

// What stands around an inner packet on the wire.
const (
	ethernetHeader = 14
	overhead       = 28 + 8 // wire.Overhead and the UDP header
	header4        = 20
	header6        = 40
	minAutoMTU     = 1280 // RFC 8200: what IPv6 asks of every link
	reopenPause    = time.Second
)

// open makes the tunnel, unless it exists or must not. A failure is a state of the
// peer, and tried again.
func (p *Peer) open() {
	p.agenda.clear(taskOpen)
	if !p.cfg.Enabled || p.held != "" || p.tunnel != nil || p.moving {
		return
	}
	p.dial.stop()
	if in := p.inherited; in != nil {
		p.inherited = nil
		if p.takeOver(in) {
			return
		}
	}
	s := p.settings(netip.Addr{})
	t, err := p.o.Open(Opening{Log: p.log, Node: p.o.Node.Identity().Public(), Config: p.cfg, Settings: s, Events: p.in.children})
	if err != nil {
		p.notOpened(err.Error())
		return
	}
	p.opened(t, s)
}

// opened takes a tunnel into service.
func (p *Peer) opened(t Tunnel, s netcfg.Settings) {
	if p.view.lastError == p.view.openError {
		p.failed("")
	}
	p.tunnel, p.view.openError, p.view.carrier, p.view.deviceGone = t, "", t.Carrier(), false
	p.applied, p.view.mtu = s, s.MTU
	p.lacks(t.Missing())
	p.configureChild()
}

// applySettings gives the device what it shall have now, as far as that can be had.
func (p *Peer) applySettings() {
	s := p.settings(p.remote())
	p.lacks(p.tunnel.Set(s))
	p.applied, p.view.mtu = s, s.MTU
}

// lacks notes what the device misses of its settings.
func (p *Peer) lacks(missing parts.List) {
	if missing.Same(p.view.missing) {
		return
	}
	if len(missing) > 0 {
		p.log.Warn("settings incomplete", "iface", p.cfg.Interface, "err", missing.String())
	} else if p.tunnel != nil {
		p.log.Info("settings complete", "iface", p.cfg.Interface)
	}
	p.view.missing = missing
}

// notOpened plans the next try. The log says it once, not at each of them.
func (p *Peer) notOpened(why string) {
	if p.view.openError != why {
		p.log.Error("tunnel not opened", "iface", p.cfg.Interface, "err", why, "restart_in", reopenPause)
	}
	p.view.openError = why
	p.failed(why)
	p.agenda.set(taskOpen, p.o.Now()+reopenPause)
}

// close frees everything: sessions, child, socket, device.
func (p *Peer) close() {
	for _, l := range p.links.open {
		l.cancel()
	}
	p.links = links{}
	p.dial.stop()
	p.agenda = agenda{}
	p.ring.clear()
	p.wait.exchangesLost(errClosed)
	p.wait.childGone()
	restarts := p.child.restarts
	p.child = child{restarts: restarts, seq: p.child.seq}
	if p.tunnel != nil {
		p.tunnel.Close()
		p.tunnel, p.view.mtu = nil, 0
		p.lacks(nil)
	}
}

// reopen makes a new device after an administrator deleted the old one.
func (p *Peer) reopen() {
	p.log.Warn("device lost", "iface", p.cfg.Interface)
	p.close()
	p.open()
}

// localPort is the port that the other side shall send data to. Where the node
// listens it is the door's, else one is bound now; nothing is received before
// connect.
func (p *Peer) localPort(remote netip.Addr) int {
	if p.tunnel == nil {
		return 0
	}
	local := p.o.Node.Local(remote)
	if p.tunnel.LocalPort() == 0 && local.Port() != 0 {
		return int(local.Port())
	}
	if p.tunnel.LocalPort() == 0 {
		if err := p.tunnel.Bind(local); err != nil {
			p.failed(err.Error())
			p.log.Warn("data socket not bound", "addr", local.String(), "err", err)
		}
	}
	return int(p.tunnel.LocalPort())
}

// point connects the data socket for the main session, and again after a while if that
// fails: an address or a route may come later.
func (p *Peer) point() {
	p.agenda.clear(taskConnect)
	if p.links.main == nil {
		return
	}
	err := p.connect(p.links.main)
	if err == nil {
		return
	}
	if p.view.lastError != err.Error() {
		p.log.Warn("data socket not connected", "endpoint", p.links.main.conn.Remote().String(), "err", err)
	}
	p.failed(err.Error())
	p.agenda.set(taskConnect, p.o.Now()+reopenPause)
}

// connect points the data socket at the other end of a session, if that has said where it
// receives: else the socket stays as it is.
func (p *Peer) connect(l *link) error {
	if l.established.Hello.UDPPort == 0 {
		return nil
	}
	addr := l.conn.Remote().Addr()
	remote := netip.AddrPortFrom(addr, uint16(l.established.Hello.UDPPort))
	if err := p.tunnel.Connect(p.o.Node.Local(addr), remote, p.fragments(addr)); err != nil {
		return err
	}
	p.view.outer = p.o.Node.OuterMTU(addr)
	p.applySettings()
	return nil
}

// followPath adapts the data channel where the way to the peer has got another MTU.
func (p *Peer) followPath() {
	if l := p.links.main; l != nil && p.tunnel != nil && p.view.outer != p.o.Node.OuterMTU(l.conn.Remote().Addr()) {
		p.point()
	}
}

// settings are what the device shall have while data goes to remote; not valid: nowhere.
func (p *Peer) settings(remote netip.Addr) netcfg.Settings {
	return netcfg.Settings{
		Interface:   p.cfg.Interface,
		Addresses:   p.cfg.Addresses,
		PeerAddress: p.cfg.PeerAddress,
		Routes:      p.cfg.Routes,
		Bridge:      p.cfg.Bridge,
		MTU:         p.mtu(remote),
	}
}

// remote is the address of the peer's data channel; not valid while unknown.
func (p *Peer) remote() netip.Addr {
	if p.tunnel == nil {
		return netip.Addr{}
	}
	return p.tunnel.Remote().Addr()
}

// mtu is the device's: as configured, else what fits unfragmented into the outer
// packets on the way to remote, or on an Ethernet while remote is unknown.
func (p *Peer) mtu(remote netip.Addr) int {
	if p.cfg.MTU != 0 {
		return p.cfg.MTU
	}
	outer, header := 1500, header6
	if remote.IsValid() {
		outer = p.o.Node.OuterMTU(remote)
		if remote.Unmap().Is4() {
			header = header4
		}
	}
	return max(outer-header-p.overhead(), minAutoMTU)
}

func (p *Peer) overhead() int {
	if p.cfg.Mode == config.ModeTAP {
		return overhead + ethernetHeader
	}
	return overhead
}

// fragments tells whether full packets do not fit into one outer packet, so that
// these must be fragmented.
func (p *Peer) fragments(remote netip.Addr) bool {
	header := header6
	if remote.Is4() {
		header = header4
	}
	return p.mtu(remote)+p.overhead()+header > p.o.Node.OuterMTU(remote)
}

// PSK implements session.Secrets: the pre-shared key of the configuration in force.
// Each caller gets a copy of its own to wipe.
func (p *Peer) PSK() *keys.Secret {
	now := p.psk.Load()
	if now == nil {
		return nil
	}
	secret := *now
	return &secret
}

func pipeMode(mode string) pipe.Mode {
	if mode == config.ModeTAP {
		return pipe.ModeTAP
	}
	return pipe.ModeTUN
}

func samePSK(a, b config.Peer) bool {
	if a.PresharedKey == nil || b.PresharedKey == nil {
		return a.PresharedKey == b.PresharedKey
	}
	return *a.PresharedKey == *b.PresharedKey
}

func sameEndpoints(a, b config.Peer) bool { return slices.Equal(a.Endpoints, b.Endpoints) }

// arbitrate says which of two sessions goes on.
func (p *Peer) arbitrate(older, newer *link) session.Verdict {
	return session.Arbitrate(p.o.Node.Identity().Public(), p.cfg.PublicKey, p.rival(older), p.rival(newer))
}

// boottime is CLOCK_BOOTTIME, which goes on during a suspend; Go's own clock does not.
func boottime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("peer: internal error: no boottime clock: " + err.Error())
	}
	return time.Duration(ts.Nano())
}
