package tuntap

import (
	"fmt"

	"github.com/songgao/water"
	"golang.org/x/sys/unix"
)

// Mode says what a device carries: packets or frames. The zero Mode is invalid.
type Mode uint8

// The modes of a device.
const (
	TUN Mode = 1 // IP packets
	TAP Mode = 2 // Ethernet frames
)

// String returns the word used in configuration and messages.
func (m Mode) String() string {
	switch m {
	case TUN:
		return "tun"
	case TAP:
		return "tap"
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// ParseMode is the inverse of String.
func ParseMode(s string) (Mode, error) {
	switch s {
	case "tun":
		return TUN, nil
	case "tap":
		return TAP, nil
	}
	return 0, fmt.Errorf("mode %q: neither tun nor tap", s)
}

func (m Mode) valid() bool { return m == TUN || m == TAP }

func (m Mode) flag() uint16 {
	if m == TAP {
		return unix.IFF_TAP
	}
	return unix.IFF_TUN
}

func (m Mode) water() water.DeviceType {
	if m == TAP {
		return water.TAP
	}
	return water.TUN
}
