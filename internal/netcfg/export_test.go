package netcfg

import (
	"context"
	"syscall"
)

// WatchWithBuffer is Watch with a receive buffer that a test can overflow.
func (m *Manager) WatchWithBuffer(ctx context.Context, o Observer, buffer int) error {
	return m.watch(ctx, o, buffer)
}

// LocalLimit is how long Set waits until a new IPv6 address takes packets.
const LocalLimit = localLimit

// ParseEvent lets the fuzzer at the parser.
func ParseEvent(m syscall.NetlinkMessage) { parseEvent(m) }
