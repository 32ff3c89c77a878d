package handover

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/fxamacker/cbor/v2"

	"tund/internal/keys"
	"tund/internal/netcfg"
	"tund/internal/pipe"
	"tund/internal/supervisor"
	"tund/internal/wire"
)

// formatVersion is the version of all but the children's states, which have their own.
// Increase when a field is added, goes, or changes its meaning.
const formatVersion = 1

// A record in bytes, integers big-endian but for the mark:
//
//	0          8          16       18       20        24        28                60
//	+----------+----------+--------+--------+---------+---------+-----------------+------+------+
//	| mark (4) | magic    | format | state  | length  | length  | SHA-256 of all  | body | keys |
//	| zero (4) | tundhand | (16)   | (16)   | of body | of keys | from 8 but this | CBOR |      |
//	+----------+----------+--------+--------+---------+---------+-----------------+------+------+
//
// The body has no secret. The keys are the states of the children one behind the
// other, in the order of the peers, as package supervisor encodes them.
const (
	magic      = "tundhand"
	magicAt    = 8
	formatAt   = 16
	stateAt    = 18
	bodyAt     = 20
	keysAt     = 24
	sumAt      = 28
	headerSize = 60
)

// The bounds of what is read: far above the peers that a node can have.
const (
	maxSize  = 256 << 20
	maxPeers = 1 << 16
)

// body is a Record without what is secret.
type body struct {
	_       struct{} `cbor:",toarray"`
	ID      ID
	Boot    ID
	Version string
	Resting []wire.Index
	Peers   []peerBody
}

type peerBody struct {
	_         struct{} `cbor:",toarray"`
	Tunnel    uint32
	Name      string
	PublicKey [32]byte
	Mode      string
	Interface string
	Addresses []netip.Prefix
	Far       netip.Addr
	Routes    []netip.Prefix
	Bridge    string
	MTU       int
	NextKey   keys.KeyID
	Restarts  uint64
	Stopped   time.Duration
	Lost      string
	Keys      int // length of its state
	Slots     []slotBody
}

type slotBody struct {
	_           struct{} `cbor:",toarray"`
	Key         keys.KeyID
	Generation  keys.Generation
	Epoch       keys.Epoch
	AEAD        uint8
	Index       wire.Index
	At          time.Duration
	Born        time.Duration
	Sends       bool
	Confirmed   bool
	ConfirmedAt time.Duration
}

// encode returns the record in bytes, unmarked. They hold keys; the caller wipes them.
func (r *Record) encode() ([]byte, error) {
	states, size, err := r.encodeStates()
	defer func() {
		for _, s := range states {
			clear(s)
		}
	}()
	if err != nil {
		return nil, err
	}
	text, err := encoding().Marshal(r.body(states))
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	p := make([]byte, headerSize, headerSize+len(text)+size) // room for all: append leaves no copy behind
	copy(p[magicAt:], magic)
	binary.BigEndian.PutUint16(p[formatAt:], formatVersion)
	binary.BigEndian.PutUint16(p[stateAt:], pipe.StateVersion)
	binary.BigEndian.PutUint32(p[bodyAt:], uint32(len(text)))
	binary.BigEndian.PutUint32(p[keysAt:], uint32(size))
	p = append(p, text...)
	for _, s := range states {
		p = append(p, s...)
	}
	sum := checksum(p)
	copy(p[sumAt:], sum[:])
	return p, nil
}

// encodeStates returns the children's states in the order of the peers, and how many
// bytes they are.
func (r *Record) encodeStates() (states [][]byte, size int, err error) {
	for i := range r.Peers {
		p := &r.Peers[i]
		var state []byte
		if p.Lost == "" {
			if state, err = p.State.Encode(); err != nil {
				return states, 0, fmt.Errorf("encode record of peer %s: %w", p.Name, err)
			}
		}
		states = append(states, state)
		size += len(state)
	}
	return states, size, nil
}

func (r *Record) body(states [][]byte) body {
	b := body{ID: r.ID, Boot: r.Boot, Version: r.Version, Resting: r.Resting}
	for i, p := range r.Peers {
		s := p.Settings
		out := peerBody{
			Tunnel: p.Tunnel, Name: p.Name, PublicKey: p.PublicKey, Mode: p.Mode,
			Interface: s.Interface, Addresses: s.Addresses, Far: s.PeerAddress, Routes: s.Routes, Bridge: s.Bridge, MTU: s.MTU,
			NextKey: p.NextKey, Restarts: p.Restarts, Stopped: p.Stopped, Lost: p.Lost, Keys: len(states[i]),
		}
		for _, k := range p.Slots {
			out.Slots = append(out.Slots, slotBody{
				Key: k.Key, Generation: k.Generation, Epoch: k.Epoch, AEAD: uint8(k.AEAD), Index: k.Index,
				At: k.At, Born: k.Born, Sends: k.Sends, Confirmed: k.Confirmed, ConfirmedAt: k.ConfirmedAt,
			})
		}
		b.Peers = append(b.Peers, out)
	}
	return b
}

// parse reads a record, whatever its mark is. It keeps no part of p.
func parse(p []byte) (*Record, error) {
	text, secret, err := split(p)
	if err != nil {
		return nil, err
	}
	var b body
	if err := decoding().Unmarshal(text, &b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if again, err := encoding().Marshal(b); err != nil || !bytes.Equal(again, text) {
		return nil, fmt.Errorf("%w: not in its one encoding", ErrDamaged)
	}
	r := &Record{ID: b.ID, Boot: b.Boot, Version: b.Version, Resting: b.Resting}
	for _, in := range b.Peers {
		if in.Keys < 0 || in.Keys > len(secret) || (in.Lost == "") != (in.Keys > 0) {
			r.Wipe()
			return nil, fmt.Errorf("%w: peer %s: %d bytes of keys", ErrDamaged, in.Name, in.Keys)
		}
		peer, err := in.peer(secret[:in.Keys])
		if err != nil {
			r.Wipe()
			return nil, err
		}
		r.Peers, secret = append(r.Peers, peer), secret[in.Keys:]
	}
	if len(secret) > 0 {
		r.Wipe()
		return nil, fmt.Errorf("%w: %d bytes are left over", ErrDamaged, len(secret))
	}
	return r, nil
}

// split checks the header and returns body and keys.
func split(p []byte) (text, secret []byte, err error) {
	if len(p) < headerSize || string(p[magicAt:formatAt]) != magic {
		return nil, nil, fmt.Errorf("%w: it is none of tund's", ErrFormat)
	}
	format, state := binary.BigEndian.Uint16(p[formatAt:]), binary.BigEndian.Uint16(p[stateAt:])
	if format != formatVersion || state != pipe.StateVersion {
		return nil, nil, fmt.Errorf("%w: version %d.%d, and this tund knows %d.%d", ErrFormat, format, state, formatVersion, pipe.StateVersion)
	}
	inBody, inKeys := uint64(binary.BigEndian.Uint32(p[bodyAt:])), uint64(binary.BigEndian.Uint32(p[keysAt:]))
	if have := uint64(len(p) - headerSize); inBody+inKeys != have {
		return nil, nil, fmt.Errorf("%w: it has %d bytes instead of %d", ErrDamaged, have, inBody+inKeys)
	}
	if sum := checksum(p); !bytes.Equal(sum[:], p[sumAt:headerSize]) {
		return nil, nil, fmt.Errorf("%w: its checksum is wrong", ErrDamaged)
	}
	return p[headerSize : headerSize+inBody], p[headerSize+inBody:], nil
}

func checksum(p []byte) [sha256.Size]byte {
	h := sha256.New()
	_, _ = h.Write(p[magicAt:sumAt]) // never fails
	_, _ = h.Write(p[headerSize:])
	return [sha256.Size]byte(h.Sum(nil))
}

func (in *peerBody) peer(secret []byte) (Peer, error) {
	p := Peer{
		Tunnel: in.Tunnel, Name: in.Name, PublicKey: in.PublicKey, Mode: in.Mode,
		Settings: netcfg.Settings{
			Interface: in.Interface, Addresses: in.Addresses, PeerAddress: in.Far, Routes: in.Routes, Bridge: in.Bridge, MTU: in.MTU,
		},
		NextKey: in.NextKey, Restarts: in.Restarts, Stopped: in.Stopped, Lost: in.Lost,
	}
	for _, s := range in.Slots {
		if !keys.AEAD(s.AEAD).Valid() || s.Index == 0 || s.Index > wire.MaxIndex {
			return Peer{}, fmt.Errorf("%w: peer %s: a slot that can't be", ErrDamaged, in.Name)
		}
		p.Slots = append(p.Slots, Slot{
			Key: s.Key, Generation: s.Generation, Epoch: s.Epoch, AEAD: keys.AEAD(s.AEAD), Index: s.Index,
			At: s.At, Born: s.Born, Sends: s.Sends, Confirmed: s.Confirmed, ConfirmedAt: s.ConfirmedAt,
		})
	}
	if in.Lost != "" {
		return p, nil
	}
	state, err := supervisor.DecodeState(secret)
	if err != nil {
		return Peer{}, fmt.Errorf("%w: peer %s: %w", ErrDamaged, in.Name, err)
	}
	p.State = state
	return p, nil
}

func encoding() cbor.EncMode {
	o := cbor.CoreDetEncOptions()
	o.NilContainers = cbor.NilContainerAsEmpty
	mode, err := o.EncMode()
	if err != nil {
		panic("handover: internal error: " + err.Error())
	}
	return mode
}

func decoding() cbor.DecMode {
	mode, err := cbor.DecOptions{
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		MaxArrayElements: maxPeers,
	}.DecMode()
	if err != nil {
		panic("handover: internal error: " + err.Error())
	}
	return mode
}
