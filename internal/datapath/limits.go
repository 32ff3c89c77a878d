package datapath

// Limits says how much one data key may do. Beyond the first pair, in either
// direction, the parent is asked for a successor; at the others the key ends.
type Limits struct {
	RekeyPackets uint64 // sent or received
	RekeyBytes   uint64
	SendPackets  uint64
	SendBytes    uint64
	FailedOpens  uint64
}

// ProtocolLimits are the limits of docs/protocol.md, part 7.4.
func ProtocolLimits() Limits {
	return Limits{
		RekeyPackets: 1 << 30,
		RekeyBytes:   1 << 36,
		SendPackets:  1 << 34,
		SendBytes:    1 << 43,
		FailedOpens:  1 << 36,
	}
}
