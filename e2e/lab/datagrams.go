package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// flowPatience is how long after the last datagram of a flow was sent another may come.
const flowPatience = 2 * time.Second

// numberSize is the number in front of each datagram of a Flow, in bytes.
const numberSize = 8

// Flow is a flow of datagrams: Count of them, Size bytes each, Run of them sent by one
// call (UDP_SEGMENT), of which the last one is shorter; Rate bytes a second.
type Flow struct {
	Count, Size, Run int
	Rate             int64
}

// Flowed is what became of a flow.
type Flowed struct {
	Sent, Arrived int
	// Twice have arrived again, Changed are not what was sent.
	Twice, Changed int
}

// Check returns an error if datagrams were changed or multiplied, or if more were lost
// than so many per cent.
func (f Flowed) Check(lost int) error {
	if f.Twice > 0 || f.Changed > 0 || (f.Sent-f.Arrived)*100 > f.Sent*lost {
		return fmt.Errorf("datagrams: %+v, want none changed or twice, and at most %d %% lost", f, lost)
	}
	return nil
}

// flowBlock is where the payload of all datagrams is cut from.
var flowBlock = sync.OnceValue(func() []byte { return slices.Repeat(content(), 2) })

// appendDatagram appends datagram number i of the flow, which tells its number, and whose
// length and content follow from that.
func (f Flow) appendDatagram(dst []byte, i int) []byte {
	size := f.Size
	if i%f.Run == f.Run-1 || i == f.Count-1 {
		size = f.Size/2 + 1
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(i))
	return append(dst, flowBlock()[i*7919%blockSize:][:size-numberSize]...)
}

// Flow sends a flow from the node to an address of another, and returns what arrived
// until nothing more came for a while.
func (n *Node) Flow(ctx context.Context, to *Node, address netip.Addr, f Flow) (Flowed, error) {
	var receiver *net.UDPConn
	err := to.Do(func() (err error) {
		receiver, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, 0)))
		return err
	})
	if err != nil {
		return Flowed{}, fmt.Errorf("flow: %w", err)
	}
	defer func() { _ = receiver.Close() }()
	if err := forceReceiveBuffer(receiver, 16<<20); err != nil {
		return Flowed{}, fmt.Errorf("flow: %w", err)
	}
	sent := make(chan error, 1) // one result
	done := make(chan struct{})
	go func() { // ends with the last datagram, or with ctx
		defer close(done)
		sent <- f.send(ctx, n, receiver.LocalAddr().(*net.UDPAddr).AddrPort())
	}()
	r, err := f.receive(receiver, done)
	r.Sent = f.Count
	return r, errors.Join(err, <-sent)
}

func forceReceiveBuffer(conn *net.UDPConn, size int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	failure := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size)
	})
	return errors.Join(failure, err)
}

func (f Flow) send(ctx context.Context, from *Node, to netip.AddrPort) error {
	var conn *net.UDPConn
	err := from.Do(func() (err error) {
		conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
		return err
	})
	if err != nil {
		return fmt.Errorf("flow: %w", err)
	}
	defer func() { _ = conn.Close() }()
	control := segmentControl(uint16(f.Size))
	run := make([]byte, 0, 1<<16)
	start := time.Now()
	for i := 0; i < f.Count; i += f.Run {
		run = run[:0]
		for k := i; k < min(i+f.Run, f.Count); k++ {
			run = f.appendDatagram(run, k)
		}
		if _, _, err := conn.WriteMsgUDP(run, control, nil); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("flow: %w", err)
		}
		ahead := time.Duration(float64((i+f.Run)*f.Size)/float64(f.Rate)*float64(time.Second)) - time.Since(start)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(ahead):
		}
	}
	return nil
}

// segmentControl is the control message of UDP_SEGMENT, udp(7).
func segmentControl(size uint16) []byte {
	control := make([]byte, unix.CmsgSpace(2))
	header := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	header.Level, header.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	header.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(control[unix.CmsgLen(0):], size)
	return control
}

// receive compares every datagram with what was sent, until none has come for a while
// after the last was sent; a short while if all have come.
func (f Flow) receive(conn *net.UDPConn, sent <-chan struct{}) (r Flowed, err error) {
	seen := make([]bool, f.Count)
	buffer, want := make([]byte, 1<<16), make([]byte, 0, f.Size)
	for {
		patience := flowPatience
		if r.Arrived == f.Count {
			patience /= 100 // only for what may come twice
		}
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return r, err
		}
		size, err := conn.Read(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			select {
			case <-sent:
				return r, nil
			default:
				continue
			}
		}
		if err != nil {
			return r, fmt.Errorf("flow: %w", err)
		}
		i, ok := f.number(buffer[:size])
		if ok {
			want = f.appendDatagram(want[:0], i)
		}
		switch {
		case !ok || !bytes.Equal(buffer[:size], want):
			r.Changed++
		case seen[i]:
			r.Twice++
		default:
			seen[i] = true
			r.Arrived++
		}
	}
}

// number returns which datagram of the flow this says it is.
func (f Flow) number(datagram []byte) (int, bool) {
	if len(datagram) < numberSize {
		return 0, false
	}
	i := binary.BigEndian.Uint64(datagram)
	return int(i), i < uint64(f.Count)
}
