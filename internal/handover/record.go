package handover

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"tund/internal/keys"
	"tund/internal/netcfg"
	"tund/internal/supervisor"
	"tund/internal/udp"
	"tund/internal/wire"
)

// The reasons for which a record is not used. Keys are lost then, and nothing else.
var (
	ErrTaken   = errors.New("the record was taken before")
	ErrSeveral = errors.New("there is more than one record")
	ErrFormat  = errors.New("the record is of another format")
	ErrBoot    = errors.New("the record was made before this boot")
	ErrDamaged = errors.New("the record is damaged")
)

// Record is what one tund leaves to the next. It holds keys: whoever has it wipes it.
type Record struct {
	ID      ID
	Boot    ID           // of the kernel's run, in which alone the times mean anything
	Version string       // of the program that made it
	Resting []wire.Index // indexes that must not be used again soon
	Peers   []Peer
}

// Peer is what is left of one peer's tunnel.
type Peer struct {
	Tunnel    uint32 // number of its descriptors
	Name      string // in the configuration
	PublicKey keys.PublicKey
	Mode      string
	Settings  netcfg.Settings // what the interface was given
	NextKey   keys.KeyID      // the last number given to a key
	Restarts  uint64          // of its child
	Stopped   time.Duration   // CLOCK_BOOTTIME: since when packets wait in the kernel
	Slots     []Slot          // oldest first
	Lost      string          // why there are no keys; empty: there are
	State     supervisor.State
}

// Slot is what the parent knows of one IV generation of one key. Times are CLOCK_BOOTTIME.
type Slot struct {
	Key         keys.KeyID
	Generation  keys.Generation
	Epoch       keys.Epoch
	AEAD        keys.AEAD
	Index       wire.Index    // the receive index
	At          time.Duration // when it was handed to the child
	Born        time.Duration // when its key was derived
	Sends       bool
	Confirmed   bool
	ConfirmedAt time.Duration
}

// Inherited puts a tunnel's descriptors and what the record says of it together. Without a
// record there are the descriptors alone.
func (r *Record) Inherited(t Tunnel) *Inherited {
	in := &Inherited{Tunnel: t, Remote: udp.RemoteOf(t.Socket)}
	if r == nil {
		return in
	}
	for i := range r.Peers {
		if r.Peers[i].Tunnel == t.Number {
			in.Peer = &r.Peers[i]
		}
	}
	return in
}

// WipeRest overwrites the keys of all tunnels but those claimed, and returns the indexes
// that were in use with them.
func (r *Record) WipeRest(claimed []uint32) (unused []wire.Index) {
	if r == nil {
		return nil
	}
	for i := range r.Peers {
		p := &r.Peers[i]
		if slices.Contains(claimed, p.Tunnel) {
			continue
		}
		p.Wipe()
		for _, s := range p.Slots {
			unused = append(unused, s.Index)
		}
	}
	return unused
}

// Of returns what is left of a peer, nil if nothing is.
func (r *Record) Of(name string) *Peer {
	if r == nil {
		return nil
	}
	for i := range r.Peers {
		if r.Peers[i].Name == name {
			return &r.Peers[i]
		}
	}
	return nil
}

// Wipe overwrites all keys.
func (r *Record) Wipe() {
	for i := range r.Peers {
		r.Peers[i].State.Wipe()
	}
}

// Wipe overwrites the peer's keys, and leaves none.
func (p *Peer) Wipe() {
	p.State.Wipe()
	p.State = supervisor.State{}
}

// Format writes how many peers there are, for every verb: package fmt would not call the
// methods of all that is below.
func (r Record) Format(state fmt.State, _ rune) {
	_, _ = fmt.Fprintf(state, "record %s of %d peers", r.ID, len(r.Peers))
}

// Format writes the name, for every verb.
func (p Peer) Format(state fmt.State, _ rune) { _, _ = fmt.Fprintf(state, "record of peer %s", p.Name) }

// ID names a record, or a boot.
type ID [16]byte

// NewID returns a random one.
func NewID() ID {
	var id ID
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	return id
}

// String returns it in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }
