package netcfg

import (
	"context"
	"syscall"
)

// WatchWithBuffer is Watch with a receive buffer that a test can overflow.
func (m *Manager) WatchWithBuffer(ctx context.Context, lost func(iface string), buffer int) error {
	return m.watch(ctx, lost, buffer)
}

// ParseEvent lets the fuzzer at the parser.
func ParseEvent(m syscall.NetlinkMessage) { parseEvent(m) }

// Patience is the least time between two reports of an interface.
const Patience = patience
