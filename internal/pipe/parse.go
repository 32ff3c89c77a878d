package pipe

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"tund/internal/keys"
	"tund/internal/wire"
)

// errMalformed is the cause of every refusal of a body's bytes.
var errMalformed = errors.New("malformed body")

// parse makes a message of a frame's type and body. It uses every byte of body, keeps
// none, and accepts only what encoding the message would give again.
func parse(t Type, body []byte) (Message, error) {
	r := reader{rest: body}
	m := r.message(t)
	if m == nil {
		return nil, fmt.Errorf("parse message of type %d: unknown type", t)
	}
	if r.bad || len(r.rest) != 0 {
		WipeMessage(m)
		return nil, fmt.Errorf("parse message of type %d: %w", t, errMalformed)
	}
	return m, nil
}

// reader takes values off the front of a body. After the first value that is missing
// or not permitted, bad is set and everything it returns is meaningless.
type reader struct {
	rest []byte
	bad  bool
}

// message reads the body of one message; nil for an unknown type.
func (r *reader) message(t Type) Message {
	switch t {
	case TypeHello:
		return Hello{Version: r.uint16(), PID: r.uint32()}
	case TypeConfigure:
		return r.configure()
	case TypeConfigured:
		return Configured{Seq: r.uint64()}
	case TypeInstallKey:
		return r.installKey()
	case TypeInstallIV:
		return r.installIV()
	case TypeInstalled:
		return Installed{KeyID: r.keyID(), Generation: r.generation(), Err: r.text()}
	case TypeActivate:
		return Activate{KeyID: r.keyID(), Generation: r.generation()}
	case TypeKeyActive:
		return KeyActive{KeyID: r.keyID(), Generation: r.generation()}
	case TypeRetire:
		return Retire{KeyID: r.keyID(), Generation: r.generation()}
	case TypeDrop:
		return Drop{KeyID: r.keyID(), Generation: r.generation()}
	case TypeDisplace:
		return Displace{KeyID: r.keyID(), Generation: r.generation()}
	case TypeDisplaced:
		return Displaced{KeyID: r.keyID(), Generation: r.generation(), Kept: r.bool()}
	case TypeWipe:
		return Wipe{Seq: r.uint64()}
	case TypeWiped:
		return Wiped{Seq: r.uint64()}
	case TypeGetStats:
		return GetStats{Seq: r.uint64()}
	case TypeStats:
		return r.stats()
	case TypeSendProbe:
		return SendProbe{ID: r.uint64()}
	case TypeProbeResult:
		return r.probeResult()
	case TypeUrgent:
		return Urgent{Thread: r.uint32()}
	case TypeRekeyDue:
		return RekeyDue{KeyID: r.keyID(), Reason: r.reason()}
	case TypeStop:
		return Stop{}
	case TypeFatal:
		return Fatal{Reason: r.text()}
	case TypeHandOver:
		return HandOver{}
	case TypeKeyState:
		return r.keyState()
	case TypeHandedOver:
		return r.handedOver()
	case TypeResume:
		return Resume{Seq: r.uint64(), End: r.handedOver()}
	case TypeResumed:
		return Resumed{Seq: r.uint64(), Err: r.text()}
	}
	return nil
}

func (r *reader) configure() Configure {
	m := Configure{
		Seq: r.uint64(), Mode: r.mode(), Keepalive: r.duration(), KeyLifetime: r.duration(), Offloads: r.offloads(),
		Await: r.bool(),
	}
	for n := r.uint32(); n > 0 && !r.bad; n-- {
		m.AllowedIPs = append(m.AllowedIPs, r.prefix())
	}
	return m
}

func (r *reader) installKey() *InstallKey {
	return &InstallKey{
		KeyID: r.keyID(), Epoch: keys.Epoch(r.uint32()), AEAD: r.aead(),
		Send: r.dataKey(), Receive: r.dataKey(),
		SendIndex: r.index(), ReceiveIndex: r.index(), Activate: r.bool(), PartialCsum: r.bool(),
	}
}

func (r *reader) installIV() InstallIV {
	return InstallIV{
		KeyID: r.keyID(), Generation: r.generation(),
		SendIndex: r.index(), ReceiveIndex: r.index(), Activate: r.bool(),
	}
}

func (r *reader) stats() Stats {
	return Stats{
		Seq:     r.uint64(),
		RxBytes: r.uint64(), TxBytes: r.uint64(), RxPackets: r.uint64(), TxPackets: r.uint64(),
		Drops:    r.drops(),
		Received: r.uint64(), Missing: r.uint64(),
		SendKey: keys.KeyID(r.uint64()), SendGeneration: r.generation(),
		ReceiveSlots: r.byte(),
		LastReceived: r.signedDuration(), RTT: r.duration(),
		Engine: r.name(), Offloads: r.offloads(), Sandbox: r.walls(),
		Fallbacks: r.fallbacks(),
	}
}

func (r *reader) drops() Drops {
	return Drops{
		Auth: r.uint64(), Replay: r.uint64(), Malformed: r.uint64(), Unknown: r.uint64(), Queue: r.uint64(),
		Source: r.uint64(), Device: r.uint64(), Send: r.uint64(), NoKey: r.uint64(),
	}
}

func (r *reader) fallbacks() Fallbacks {
	return Fallbacks{Sends: r.uint64(), Writes: r.uint64(), Checksums: r.uint64()}
}

func (r *reader) probeResult() ProbeResult {
	return ProbeResult{
		ID: r.uint64(), OK: r.bool(), RTT: r.duration(),
		Received: r.uint64(), Missing: r.uint64(), LocalReceived: r.uint64(), LocalMissing: r.uint64(),
	}
}

// take returns the next n bytes, or n zero bytes if there are not so many.
func (r *reader) take(n int) []byte {
	if r.bad || len(r.rest) < n {
		r.bad = true
		return make([]byte, n)
	}
	p := r.rest[:n]
	r.rest = r.rest[n:]
	return p
}

func (r *reader) byte() byte     { return r.take(1)[0] }
func (r *reader) uint16() uint16 { return big.Uint16(r.take(2)) }
func (r *reader) uint32() uint32 { return big.Uint32(r.take(4)) }
func (r *reader) uint64() uint64 { return big.Uint64(r.take(8)) }

// require marks the body as bad unless ok.
func (r *reader) require(ok bool) {
	if !ok {
		r.bad = true
	}
}

func (r *reader) bool() bool {
	b := r.byte()
	r.require(b <= 1)
	return b == 1
}

func (r *reader) signedDuration() time.Duration { return time.Duration(r.uint64()) }

func (r *reader) duration() time.Duration {
	n := r.uint64()
	r.require(n <= math.MaxInt64)
	return time.Duration(n)
}

// text and name are printable, or else no message: they reach logs and terminals.
func (r *reader) text() string { return r.printable(maxText) }
func (r *reader) name() string { return r.printable(maxName) }

func (r *reader) printable(limit int) string {
	n := int(r.uint16())
	r.require(n <= limit)
	s := string(r.take(n))
	r.require(utf8.ValidString(s) && strings.IndexFunc(s, unprintable) < 0)
	return s
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

func (r *reader) mode() Mode {
	m := Mode(r.byte())
	r.require(m == ModeTUN || m == ModeTAP)
	return m
}

func (r *reader) offloads() Offloads {
	o := Offloads(r.uint16())
	r.require(o <= offloadsKnown)
	return o
}

func (r *reader) walls() Walls {
	w := Walls(r.byte())
	r.require(w <= AllWalls)
	return w
}

func (r *reader) aead() keys.AEAD {
	a := keys.AEAD(r.byte())
	r.require(a.Valid())
	return a
}

func (r *reader) reason() RekeyReason {
	reason := RekeyReason(r.byte())
	r.require(reason >= RekeyPackets && reason <= RekeyExpired)
	return reason
}

func (r *reader) keyID() keys.KeyID {
	id := keys.KeyID(r.uint64())
	r.require(id != 0)
	return id
}

func (r *reader) generation() keys.Generation {
	g := keys.Generation(r.uint32())
	r.require(g <= keys.MaxGeneration)
	return g
}

func (r *reader) index() wire.Index {
	i := wire.Index(r.uint32())
	r.require(i != 0 && i <= wire.MaxIndex)
	return i
}

func (r *reader) dataKey() keys.DataKey {
	var k keys.DataKey
	copy(k.Key[:], r.take(len(k.Key)))
	copy(k.IV[:], r.take(len(k.IV)))
	return k
}

func (r *reader) prefix() netip.Prefix {
	n := int(r.byte())
	if n != 4 && n != 16 {
		r.bad = true
		return netip.Prefix{}
	}
	addr, _ := netip.AddrFromSlice(r.take(n))
	bits := int(r.byte())
	r.require(bits <= addr.BitLen())
	return netip.PrefixFrom(addr, bits)
}
