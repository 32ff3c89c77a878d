package segment

// Mode says what the device carries. The zero value is no mode: nothing is found in
// its packets.
type Mode uint8

// The modes, with the numbers that the rest of the program gives them.
const (
	// TUN is a device of IP packets.
	TUN Mode = 1
	// TAP is a device of Ethernet frames.
	TAP Mode = 2
)
