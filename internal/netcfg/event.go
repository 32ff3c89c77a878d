package netcfg

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// groups are the kernel's announcements that can tell of a loss.
var groups = []uint{
	unix.RTNLGRP_LINK,
	unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
	unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
}

// event is what one announcement says, as far as it matters here.
type event struct {
	index   int          // of the link
	route   netip.Prefix // that went, or was replaced
	arrived bool         // an address has come, or a link: what could not be had for its lack may be had now
}

// concerns reports whether the interface may have lost something, or may get what it lacks: some
// routes go without a word, with an address or a link of another interface.
func (e event) concerns(d *device) bool {
	if e.route.IsValid() {
		return slices.ContainsFunc(d.wanted.Routes, func(p netip.Prefix) bool { return p.Masked() == e.route })
	}
	return e.index == d.index || len(d.missing) > 0
}

// parseEvent reports false for what takes nothing away and brings nothing back.
func parseEvent(m syscall.NetlinkMessage) (e event, ok bool) {
	switch m.Header.Type {
	case unix.RTM_DELADDR, unix.RTM_NEWADDR: // one that comes may be the sign that IPv6 is on again
		if len(m.Data) < unix.SizeofIfAddrmsg {
			return e, false
		}
		return event{index: int(nl.DeserializeIfAddrmsg(m.Data).Index), arrived: m.Header.Type == unix.RTM_NEWADDR}, true
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if len(m.Data) < unix.SizeofIfInfomsg {
			return e, false
		}
		return event{index: int(nl.DeserializeIfInfomsg(m.Data).Index), arrived: m.Header.Type == unix.RTM_NEWLINK}, true
	case unix.RTM_NEWROUTE:
		if m.Header.Flags&unix.NLM_F_REPLACE == 0 {
			return e, false
		}
		return parseRouteEvent(m.Data)
	case unix.RTM_DELROUTE:
		return parseRouteEvent(m.Data)
	}
	return e, false
}

func parseRouteEvent(data []byte) (e event, ok bool) {
	if len(data) < unix.SizeofRtMsg {
		return e, false
	}
	msg := nl.DeserializeRtMsg(data)
	if msg.Table != unix.RT_TABLE_MAIN {
		return e, false
	}
	dst := attribute(data[unix.SizeofRtMsg:], unix.RTA_DST)
	if dst == nil { // the default route
		dst = make([]byte, net.IPv4len)
		if msg.Family == unix.AF_INET6 {
			dst = make([]byte, net.IPv6len)
		}
	}
	e.route = fromIPNet(&net.IPNet{IP: dst, Mask: net.CIDRMask(int(msg.Dst_len), 8*len(dst))})
	return e, e.route.IsValid()
}

// attribute returns the value of the first attribute of the type, nil if there is none.
func attribute(attributes []byte, kind uint16) []byte {
	for len(attributes) >= unix.SizeofRtAttr {
		length := int(binary.NativeEndian.Uint16(attributes))
		if length < unix.SizeofRtAttr || length > len(attributes) {
			return nil
		}
		if binary.NativeEndian.Uint16(attributes[2:]) == kind {
			return attributes[unix.SizeofRtAttr:length]
		}
		attributes = attributes[min((length+3)&^3, len(attributes)):]
	}
	return nil
}

// subscription is one netlink socket with the goroutine that reads it.
type subscription struct {
	socket *nl.NetlinkSocket
	events chan event // closed when the socket fails, as with ENOBUFS after lost events
	stop   chan struct{}
}

func subscribe(buffer int) (*subscription, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, groups...)
	if err != nil {
		return nil, err
	}
	if socket.SetReceiveBufferSize(buffer, true) != nil {
		_ = socket.SetReceiveBufferSize(buffer, false) // a smaller buffer only means ENOBUFS earlier
	}
	s := &subscription{socket: socket, events: make(chan event), stop: make(chan struct{})}
	go s.read()
	return s, nil
}

// read ends when the socket is closed or fails.
func (s *subscription) read() {
	defer close(s.events)
	for {
		messages, from, err := s.socket.Receive()
		if err != nil {
			return
		}
		if from.Pid != nl.PidKernel {
			continue
		}
		for _, m := range messages {
			e, ok := parseEvent(m)
			if !ok {
				continue
			}
			select {
			case s.events <- e:
			case <-s.stop:
				return
			}
		}
	}
}

// close ends the subscription and waits for its goroutine.
func (s *subscription) close() {
	close(s.stop)
	s.socket.Close()
	for range s.events { // closed by read
	}
}
