package pipe

// What a child holds at most for receiving. The parent must not install more: an
// exchange that would exceed this waits for a key to be retired.
const (
	MaxKeys  = 8  // with all their IV generations
	MaxSlots = 32 // IV generations of all keys together
)

// MaxStates bounds what a child holds in all, and so hands over: keys and, for each of
// them, IV generations. It is more than it receives with, since what can only be sent
// with counts too.
const MaxStates = 2 * MaxSlots

// EngineVariable names the engine of package aead in a child's environment: a child
// loads it before it hears of anything else.
const EngineVariable = "TUND_ENGINE"

// SandboxVariable tells a child in the same way, with SandboxRequired, that it must not go on without
// a part of its sandbox that this machine does not offer.
const (
	SandboxVariable = "TUND_SANDBOX"
	SandboxRequired = "required"
)

// ReasonDeviceGone is the Fatal reason of a child whose device has been deleted: a
// new child alone would not help.
const ReasonDeviceGone = "device gone"
