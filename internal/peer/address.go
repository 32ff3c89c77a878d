package peer

import (
	"crypto/sha256"
	"net"

	"tund/internal/keys"
)

// hardwareAddress is that of a TAP between two nodes, at the own end: the same each time, so that
// neighbours find the device again however it ended, and another one for each pair of
// keys. It is unicast, and administered locally; a bridge takes the lowest address of its ports for
// its own, which one that begins with fe hardly ever is.
func hardwareAddress(own, peer keys.PublicKey) net.HardwareAddr {
	h := sha256.New()
	h.Write([]byte("tund: address of a TAP device\x00"))
	h.Write(own[:])
	h.Write(peer[:])
	address := net.HardwareAddr(h.Sum(nil)[:6])
	address[0] = 0xfe
	return address
}
