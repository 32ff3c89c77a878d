package udp

import "net/netip"

// Source returns the address that a connected socket sends from. The kernel chose it at
// Connect, and it stays the same even when the machine has it no longer.
func (s *Socket) Source() (netip.Addr, error) {
	var source netip.AddrPort
	err := s.control(func(fd int) (err error) {
		source, err = localAddr(fd)
		return err
	})
	return source.Addr(), s.wrap(err)
}
