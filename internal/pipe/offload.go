package pipe

// Offloads is a set of ways to leave work to the kernel, or to do it for many packets at
// once. The zero value is none: all packets go singly and complete.
type Offloads uint16

// The offloads. Those of the device are the parent's matter to switch on; the child uses
// those of the socket and of the peer where it can.
const (
	OffloadCsum        Offloads = 1 << iota // the device's packets may have a partial checksum
	OffloadTSO4                             // super-packets of TCP over IPv4, both ways
	OffloadTSO6                             // of TCP over IPv6
	OffloadUSO4                             // of UDP over IPv4
	OffloadUSO6                             // of UDP over IPv6
	OffloadUDPGSO                           // many datagrams in one send
	OffloadUDPGRO                           // many datagrams in one receipt
	OffloadPartialCsum                      // partial checksums cross the tunnel

	offloadsKnown = OffloadPartialCsum<<1 - 1
)

// Names returns the short names of the offloads in the set, for status.
func (o Offloads) Names() []string {
	words := [...]string{"csum", "tso4", "tso6", "uso4", "uso6", "udp-gso", "udp-gro", "partial-csum"}
	var names []string
	for i, word := range words {
		if o>>i&1 != 0 {
			names = append(names, word)
		}
	}
	return names
}
