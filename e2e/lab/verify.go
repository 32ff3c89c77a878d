package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// enoughWrong is how many wrong frames a Verifier describes.
const enoughWrong = 3

// Verified says what frames came in on a device, and what was wrong with them.
type Verified struct {
	TCP, UDP, Tagged int
	WrongFrames      int
	Wrong            []string // the first ones
}

// Verifier looks at each frame that comes in on a device: it must be no longer than the
// MTU allows, and its checksums of IPv4, TCP and UDP must be right and complete, as they
// are on a wire without offloads.
type Verifier struct {
	node *Node
	fd   int
	mtu  int
	stop chan struct{}
	halt func() error

	mu    sync.Mutex
	found Verified
}

// Verify begins to look at what comes in on a device with the given MTU.
func (n *Node) Verify(device string, mtu int) *Verifier {
	n.lab.tb.Helper()
	v := &Verifier{node: n, mtu: mtu, stop: make(chan struct{})}
	err := n.Do(func() (err error) {
		if v.fd, err = packetSocket(device, unix.ETH_P_ALL); err != nil {
			return err
		}
		return errors.Join(
			unix.SetsockoptInt(v.fd, unix.SOL_PACKET, packetIgnoreOutgoing, 1),
			unix.SetsockoptInt(v.fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
		)
	})
	if err != nil {
		n.lab.tb.Fatalf("node %s: verify %s: %v", n.Name, device, err)
	}
	done := make(chan error, 1) // one result of read
	go func() {                 // ends after stop, within the receive timeout
		done <- v.read()
	}()
	v.halt = sync.OnceValue(func() error {
		close(v.stop)
		return <-done
	})
	n.lab.tb.Cleanup(func() { _ = v.halt() })
	return v
}

// Stop returns what was found, once all that has come in was looked at.
func (v *Verifier) Stop() Verified {
	v.node.lab.tb.Helper()
	if err := v.halt(); err != nil {
		v.node.lab.tb.Fatalf("node %s: verify: %v", v.node.Name, err)
	}
	return v.Found()
}

// Found returns what was found so far.
func (v *Verifier) Found() Verified {
	v.mu.Lock()
	defer v.mu.Unlock()
	found := v.found
	found.Wrong = slices.Clone(found.Wrong)
	return found
}

func (v *Verifier) read() error {
	defer func() { _ = unix.Close(v.fd) }()
	buffer, oob := make([]byte, 1<<17), make([]byte, 256)
	for {
		size, oobSize, _, _, err := unix.Recvmsg(v.fd, buffer, oob, 0)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			select {
			case <-v.stop:
				return nil
			default:
			}
		case err != nil:
			return err
		default:
			v.take(buffer[:size], oob[:oobSize])
		}
	}
}

// take notes one frame.
func (v *Verifier) take(frame, oob []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	tagged := binary.BigEndian.Uint16(frame[vlanAt:]) == etherTypeVLAN
	status := frameStatus(oob)
	if tagged { // the tag stands in the frame, or apart from it
		frame = append(frame[:vlanAt:vlanAt], frame[vlanAt+4:]...)
	}
	if tagged || status&unix.TP_STATUS_VLAN_VALID != 0 {
		v.found.Tagged++
	}
	protocol, err := verifyFrame(frame)
	switch {
	case err != nil:
	case status&unix.TP_STATUS_CSUMNOTREADY != 0:
		err = errors.New("checksum not complete")
	case len(frame) > ethernetHeader+v.mtu:
		err = errors.New("longer than the MTU")
	}
	if err != nil {
		v.found.WrongFrames++
		if len(v.found.Wrong) < enoughWrong {
			v.found.Wrong = append(v.found.Wrong, fmt.Sprintf("%v: %d bytes: %x", err, len(frame), frame[:min(len(frame), 80)]))
		}
		return
	}
	switch protocol {
	case unix.IPPROTO_TCP:
		v.found.TCP++
	case unix.IPPROTO_UDP:
		v.found.UDP++
	}
}

// frameStatus returns tp_status of a frame's auxiliary data.
func frameStatus(oob []byte) uint32 {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= auxdataSize {
			return binary.NativeEndian.Uint32(m.Data[auxStatus:])
		}
	}
	return 0
}

// verifyFrame adds up the checksums of a frame without tag, and returns the protocol of
// its transport header, 0 if it has none that is known here.
func verifyFrame(frame []byte) (protocol byte, err error) {
	transport, protocol := transportOf(frame)
	if transport == 0 {
		return 0, nil
	}
	ip := frame[ethernetHeader:]
	first, last, length := 8, 40, 40+int(binary.BigEndian.Uint16(ip[4:])) // addresses, and the end
	if ip[0]>>4 == 4 {
		first, last, length = 12, 20, int(binary.BigEndian.Uint16(ip[2:]))
		if fold(onesComplement(ip[:transport-ethernetHeader])) != 0xffff {
			return protocol, errors.New("wrong IPv4 checksum")
		}
		if binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 {
			return protocol, errors.New("a fragment")
		}
	}
	if protocol != unix.IPPROTO_TCP && protocol != unix.IPPROTO_UDP {
		return protocol, nil
	}
	if length != len(ip) {
		return protocol, errors.New("of another length than IP says")
	}
	segment := frame[transport:]
	if protocol == unix.IPPROTO_UDP && int(binary.BigEndian.Uint16(segment[4:])) != len(segment) {
		return protocol, errors.New("of another length than UDP says")
	}
	sum := onesComplement(ip[first:last]) + onesComplement(segment) + uint32(len(segment)) + uint32(protocol)
	if fold(sum) != 0xffff {
		return protocol, errors.New("wrong transport checksum")
	}
	return protocol, nil
}
