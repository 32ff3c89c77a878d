package pipe

import (
	"fmt"
	"time"

	"tund/internal/keys"
	"tund/internal/replay"
	"tund/internal/wire"
)

// What one child hands over to its successor, so that not a packet is lost between them.
// It is single-use: a second child that went on from the same state would seal other
// bytes with the same nonces.

// maxKeyState bounds the body of a KeyState: 1200 bytes, and 15 for each slot.
const maxKeyState = 1 << 12

// HandOver makes the child stop both packet loops for good, after the batch in work, and
// tell all that it knows: a KeyState for each key, then HandedOver. With that it ends.
type HandOver struct{}

// KeyState is all there is to know of one data key. The parent holds it only between two
// children. It is sent by pointer, and wiped by whoever holds it.
type KeyState struct {
	KeyID       keys.KeyID
	Epoch       keys.Epoch
	AEAD        keys.AEAD
	Send        keys.DataKey
	Receive     keys.DataKey
	PartialCsum bool
	Installed   time.Duration // when, on CLOCK_BOOTTIME

	Next         wire.PacketNumber // the lowest packet number that was never reserved
	SendBytes    uint64            // of payload that was sealed
	ReceiveBytes uint64            // of payload that was opened
	FailedOpens  uint64
	SendOver     bool // a limit has ended the key's use in this direction
	ReceiveOver  bool
	DuePackets   bool // RekeyDue was said for this reason
	DueBytes     bool
	Window       replay.State

	Slots []SlotState // its generations, oldest first; at least one
}

// SlotState is one IV generation of a key.
type SlotState struct {
	Generation   keys.Generation
	SendIndex    wire.Index
	ReceiveIndex wire.Index
	Heard        bool // an authentic packet was received in it
	Announced    bool // KeyActive was sent for it, which its parent need not have heeded
	Retired      bool // no longer received with
}

// Wipe zeroes the key bytes of this message.
func (m *KeyState) Wipe() {
	m.Send.Wipe()
	m.Receive.Wipe()
}

// Format writes the name of the key for every verb: fmt follows a pointer to a message
// by some, and would print the bytes of its keys.
func (m *KeyState) Format(state fmt.State, _ rune) { formatKey(state, m.KeyID, m.Epoch) }

// HandedOver is the end of what a child hands over.
type HandedOver struct {
	Keys            uint8 // how many KeyStates came before
	SendKey         keys.KeyID
	SendGeneration  keys.Generation // what is sent with; key 0: nothing
	FloorKey        keys.KeyID
	FloorGeneration keys.Generation // the newest that was ever sent with; key 0: none
	NewestKey       keys.KeyID      // the newest that was ever installed; 0: none
	Totals          Totals
}

// Totals are the counters of Stats, and what the probes go by.
type Totals struct {
	RxBytes      uint64
	TxBytes      uint64
	RxPackets    uint64
	TxPackets    uint64
	Drops        Drops
	Received     uint64
	Missing      uint64
	Fallbacks    Fallbacks
	LastReceived time.Duration // when, on CLOCK_BOOTTIME; negative: never
	LastSent     time.Duration // the same
	RTT          time.Duration // last measured; 0: unknown
}

// Resume is what the child before has handed over, behind its KeyStates. The first
// Configure must have announced it.
type Resume struct {
	Seq uint64 // echoed in the answer
	End HandedOver
}

// Resumed answers Resume: packets move from now on. If Err is not empty it says why the
// child begins without any key.
type Resumed struct {
	Seq uint64
	Err string
}

// Type implements Message.
func (HandOver) Type() Type { return TypeHandOver }

// Type implements Message.
func (*KeyState) Type() Type { return TypeKeyState }

// Type implements Message.
func (HandedOver) Type() Type { return TypeHandedOver }

// Type implements Message.
func (Resume) Type() Type { return TypeResume }

// Type implements Message.
func (Resumed) Type() Type { return TypeResumed }

func (m HandOver) appendBody(dst []byte) []byte { return dst }

func (m *KeyState) appendBody(dst []byte) []byte {
	dst = big.AppendUint64(dst, uint64(m.KeyID))
	dst = big.AppendUint32(dst, uint32(m.Epoch))
	dst = append(dst, byte(m.AEAD))
	dst = appendDataKey(dst, &m.Send)
	dst = appendDataKey(dst, &m.Receive)
	dst = appendBool(dst, m.PartialCsum)
	dst = appendDuration(dst, m.Installed)
	dst = appendUint64s(dst, uint64(m.Next), m.SendBytes, m.ReceiveBytes, m.FailedOpens)
	for _, b := range [...]bool{m.SendOver, m.ReceiveOver, m.DuePackets, m.DueBytes} {
		dst = appendBool(dst, b)
	}
	dst = appendUint64s(dst, uint64(m.Window.Next), m.Window.Received)
	dst = appendUint64s(dst, m.Window.Seen[:]...)
	dst = append(dst, byte(min(len(m.Slots), MaxStates+1))) // too many are refused at the other end
	for _, s := range m.Slots {
		dst = s.append(dst)
	}
	return dst
}

func (s SlotState) append(dst []byte) []byte {
	dst = big.AppendUint32(dst, uint32(s.Generation))
	dst = appendSlot(dst, s.SendIndex, s.ReceiveIndex, s.Heard)
	dst = appendBool(dst, s.Announced)
	return appendBool(dst, s.Retired)
}

func (m HandedOver) appendBody(dst []byte) []byte {
	dst = append(dst, m.Keys)
	dst = appendGeneration(dst, m.SendKey, m.SendGeneration)
	dst = appendGeneration(dst, m.FloorKey, m.FloorGeneration)
	dst = big.AppendUint64(dst, uint64(m.NewestKey))
	t := m.Totals
	dst = appendUint64s(dst, t.RxBytes, t.TxBytes, t.RxPackets, t.TxPackets)
	dst = appendDrops(dst, t.Drops)
	dst = appendUint64s(dst, t.Received, t.Missing)
	dst = appendFallbacks(dst, t.Fallbacks)
	dst = appendDuration(dst, t.LastReceived)
	dst = appendDuration(dst, t.LastSent)
	return appendDuration(dst, t.RTT)
}

func (m Resume) appendBody(dst []byte) []byte {
	return m.End.appendBody(big.AppendUint64(dst, m.Seq))
}

func (m Resumed) appendBody(dst []byte) []byte {
	return appendText(big.AppendUint64(dst, m.Seq), m.Err)
}

func (r *reader) keyState() *KeyState {
	m := &KeyState{
		KeyID: r.keyID(), Epoch: keys.Epoch(r.uint32()), AEAD: r.aead(),
		Send: r.dataKey(), Receive: r.dataKey(), PartialCsum: r.bool(), Installed: r.duration(),
		Next: wire.PacketNumber(r.uint64()), SendBytes: r.uint64(), ReceiveBytes: r.uint64(), FailedOpens: r.uint64(),
		SendOver: r.bool(), ReceiveOver: r.bool(), DuePackets: r.bool(), DueBytes: r.bool(),
	}
	m.Window.Next, m.Window.Received = wire.PacketNumber(r.uint64()), r.uint64()
	for i := range m.Window.Seen {
		m.Window.Seen[i] = r.uint64()
	}
	n := r.byte()
	r.require(n >= 1 && n <= MaxStates)
	for ; n > 0 && !r.bad; n-- {
		m.Slots = append(m.Slots, SlotState{
			Generation: r.generation(), SendIndex: r.index(), ReceiveIndex: r.index(),
			Heard: r.bool(), Announced: r.bool(), Retired: r.bool(),
		})
	}
	return m
}

func (r *reader) handedOver() HandedOver {
	m := HandedOver{
		Keys:    r.byte(),
		SendKey: keys.KeyID(r.uint64()), SendGeneration: r.generation(),
		FloorKey: keys.KeyID(r.uint64()), FloorGeneration: r.generation(),
		NewestKey: keys.KeyID(r.uint64()),
		Totals: Totals{
			RxBytes: r.uint64(), TxBytes: r.uint64(), RxPackets: r.uint64(), TxPackets: r.uint64(),
			Drops: r.drops(), Received: r.uint64(), Missing: r.uint64(), Fallbacks: r.fallbacks(),
			LastReceived: r.signedDuration(), LastSent: r.signedDuration(), RTT: r.duration(),
		},
	}
	r.require(m.Keys <= MaxStates)
	return m
}
