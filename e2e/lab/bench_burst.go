package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// burstPatience is how long after the last datagram of a burst another may come.
const burstPatience = 200 * time.Millisecond

// Burst sends count datagrams of size bytes from the node to an address of another as
// fast as it can, and returns how many of them arrived.
func (n *Node) Burst(to *Node, address netip.Addr, count, size int) (arrived int, err error) {
	var receiver net.PacketConn
	err = to.Do(func() (err error) {
		config := net.ListenConfig{}
		receiver, err = config.ListenPacket(context.Background(), "udp", netip.AddrPortFrom(address, 0).String())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("burst: %w", err)
	}
	defer func() { _ = receiver.Close() }()
	datagrams := make([][]byte, count)
	for i := range datagrams {
		datagrams[i] = binary.BigEndian.AppendUint32(make([]byte, 0, size), uint32(i))[:size]
	}
	port := receiver.LocalAddr().(*net.UDPAddr).AddrPort()
	if err := n.SendUDP(port, datagrams); err != nil {
		return 0, fmt.Errorf("burst: %w", err)
	}
	return collect(receiver, count)
}

// collect counts the different datagrams that come until none is missing, or until the
// line is quiet.
func collect(receiver net.PacketConn, count int) (int, error) {
	seen := map[uint32]bool{}
	buffer := make([]byte, 2048)
	for len(seen) < count {
		if err := receiver.SetReadDeadline(time.Now().Add(burstPatience)); err != nil {
			return len(seen), fmt.Errorf("burst: %w", err)
		}
		length, _, err := receiver.ReadFrom(buffer)
		if err != nil {
			return len(seen), nil // quiet: the rest is lost
		}
		if length >= 4 {
			seen[binary.BigEndian.Uint32(buffer)] = true
		}
	}
	return len(seen), nil
}
