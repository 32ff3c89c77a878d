package datapath

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"tund/internal/aead"
	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/wire"
)

// The reasons for which an installation is refused.
var (
	errNoRoom   = errors.New("all receive slots are taken")
	errNotNewer = errors.New("not newer than what was installed")
	errIndex    = errors.New("receive index is in use")
	errNoKey    = errors.New("no such key")
	errAwaiting = errors.New("older keys have not been taken over yet")
)

// keyring holds all keys. It belongs to control, which publishes a new [table] after
// each change.
//
//	                    Installed, first authentic packet, Activate
//	                                    │
//	(install) ──► pending ──────────────┴──────────► sending ──► (a newer one sends)
//	          └─► receiving ────────────────────────────────────► retired
//
// Sending only ever moves to a newer slot. A slot goes when it is retired and does
// not send, or is dropped, or when its key ends.
type keyring struct {
	limits  *Limits
	engine  aead.Engine
	slots   []*slot // oldest first
	sending *slot   // nil: none
	floor   name    // of the newest slot that was ever sent with, even if it is gone
	newest  keys.KeyID
	dead    []*epoch // of which no slot is left, until control takes them
}

// install adds a new key at generation 0. It wipes the key bytes of m.
func (k *keyring) install(m *pipe.InstallKey, now time.Duration) (*slot, error) {
	defer m.Wipe()
	if m.KeyID <= k.newest {
		return nil, errNotNewer
	}
	if err := k.room(m.ReceiveIndex, true); err != nil {
		return nil, err
	}
	e := &epoch{number: m.Epoch, aead: m.AEAD, installed: now, partial: m.PartialCsum}
	if err := e.begin(k.engine, &m.Send, &m.Receive); err != nil {
		return nil, fmt.Errorf("install key: %w", err)
	}
	k.newest = m.KeyID
	return k.add(&slot{name: name{id: m.KeyID}, epoch: e, sendIndex: m.SendIndex, receiveIndex: m.ReceiveIndex}), nil
}

// begin makes the ciphers of an epoch. It keeps a copy of both keys, and none if it fails.
func (e *epoch) begin(engine aead.Engine, send, receive *keys.DataKey) (err error) {
	if e.send.cipher, err = engine.New(e.aead, &send.Key); err != nil {
		return err
	}
	if e.receive.cipher, err = engine.New(e.aead, &receive.Key); err != nil {
		e.send.cipher.Wipe()
		return err
	}
	e.send.key, e.receive.key = *send, *receive
	return nil
}

// wipe overwrites all that was made of the keys. Nothing may use them any more.
func (e *epoch) wipe() {
	e.send.cipher.Wipe()
	e.receive.cipher.Wipe()
	e.send.key.Wipe()
	e.receive.key.Wipe()
}

// installIV adds a generation to a key. The key's packet numbers and window go on.
func (k *keyring) installIV(m pipe.InstallIV) (*slot, error) {
	var last *slot
	for _, s := range k.slots {
		if s.id == m.KeyID {
			last = s
		}
	}
	switch {
	case last == nil:
		return nil, errNoKey
	case m.Generation <= last.generation:
		return nil, errNotNewer
	}
	if err := k.room(m.ReceiveIndex, false); err != nil {
		return nil, err
	}
	return k.add(&slot{
		name: name{m.KeyID, m.Generation}, epoch: last.epoch, sendIndex: m.SendIndex, receiveIndex: m.ReceiveIndex,
	}), nil
}

// room refuses what would be one slot or key too many, or could not be told apart.
func (k *keyring) room(i wire.Index, newKey bool) error {
	receiving := k.receiving()
	held := make(map[keys.KeyID]bool)
	for _, s := range receiving {
		held[s.id] = true
	}
	if len(receiving) >= pipe.MaxSlots || newKey && len(held) >= pipe.MaxKeys || len(k.slots) >= pipe.MaxStates {
		return errNoRoom
	}
	if slices.ContainsFunc(receiving, func(s *slot) bool { return s.receiveIndex == i }) {
		return errIndex
	}
	return nil
}

// add puts s in its place: a generation may come after a newer key was installed.
func (k *keyring) add(s *slot) *slot {
	at := slices.IndexFunc(k.slots, func(other *slot) bool { return other.newer(s.name) })
	if at < 0 {
		at = len(k.slots)
	}
	k.slots = slices.Insert(k.slots, at, s)
	return s
}

// find returns the slot of that name, or nil.
func (k *keyring) find(n name) *slot {
	for _, s := range k.slots {
		if s.name == n {
			return s
		}
	}
	return nil
}

// activate makes s the sending slot and says whether it did: not if its send key has
// ended, and never if it is not newer than every slot that was sent with before.
func (k *keyring) activate(s *slot) bool {
	if s == nil || !k.pending(s) {
		return false
	}
	k.sending, k.floor = s, s.name
	k.sweep()
	return true
}

// pending says whether s may still become the sending slot.
func (k *keyring) pending(s *slot) bool {
	return !s.epoch.sendOver && s.newer(k.floor)
}

// retire ends all slots older than n.
func (k *keyring) retire(n name) {
	for _, s := range k.slots {
		s.retired = s.retired || n.newer(s.name)
	}
	k.sweep()
}

// drop removes one slot, or with generation 0 all of a key.
func (k *keyring) drop(n name) {
	k.remove(n.covers)
}

// covers says whether s is the slot of that name or, with generation 0, one of that key.
func (n name) covers(s *slot) bool {
	return s.name == n || n.generation == 0 && s.id == n.id
}

// displace drops likewise, but nothing at all if a part of it is in use; then it reports false.
// The parent decides what makes room: it knows of which sessions the slots are.
func (k *keyring) displace(n name) bool {
	used := func(s *slot) bool { return n.covers(s) && (s == k.sending || s.heard.Load()) }
	if slices.ContainsFunc(k.slots, used) {
		return false
	}
	k.drop(n)
	return true
}

// wipe removes everything.
func (k *keyring) wipe() {
	k.remove(func(*slot) bool { return true })
}

// end removes the sides of an epoch that have ended.
func (k *keyring) end(e *epoch, send, receive bool) {
	e.sendOver = e.sendOver || send
	e.receiveOver = e.receiveOver || receive
	if e.sendOver && k.sending != nil && k.sending.epoch == e {
		k.sending = nil
	}
	k.sweep()
}

// sweep removes the slots that serve no direction any more.
func (k *keyring) sweep() {
	k.remove(func(s *slot) bool {
		return s != k.sending && (s.retired || s.epoch.receiveOver && !k.pending(s))
	})
}

func (k *keyring) remove(gone func(*slot) bool) {
	before := slices.Clone(k.slots)
	k.slots = slices.DeleteFunc(k.slots, gone)
	if k.sending != nil && gone(k.sending) {
		k.sending = nil
	}
	for _, s := range before {
		lives := func(other *slot) bool { return other.epoch == s.epoch }
		if !slices.ContainsFunc(k.slots, lives) && !slices.Contains(k.dead, s.epoch) {
			k.dead = append(k.dead, s.epoch)
		}
	}
}

// receiving returns the live receive slots, newest first.
func (k *keyring) receiving() []*slot {
	var live []*slot
	for _, s := range slices.Backward(k.slots) {
		if !s.retired && !s.epoch.receiveOver {
			live = append(live, s)
		}
	}
	return live
}

// expire ends keys by age and by their hard limits. It returns the ids of those of
// which it ended something.
func (k *keyring) expire(now, lifetime time.Duration) []keys.KeyID {
	var ended []keys.KeyID
	for _, s := range slices.Clone(k.slots) {
		e := s.epoch
		old := now-e.installed >= lifetime
		send := old || e.send.next.Load() > k.limits.SendPackets || e.send.bytes.Load() > k.limits.SendBytes
		receive := old || e.receive.failed.Load() >= k.limits.FailedOpens
		if send && !e.sendOver || receive && !e.receiveOver {
			k.end(e, send, receive)
			ended = append(ended, s.id)
		}
	}
	return ended
}

// near returns the soft limits that a key has reached and that were not returned before.
func (k *keyring) near(e *epoch) []pipe.RekeyReason {
	var reasons []pipe.RekeyReason
	if max(e.send.next.Load(), e.receive.packets.Load()) >= k.limits.RekeyPackets && e.once(pipe.RekeyPackets) {
		reasons = append(reasons, pipe.RekeyPackets)
	}
	if max(e.send.bytes.Load(), e.receive.bytes.Load()) >= k.limits.RekeyBytes && e.once(pipe.RekeyBytes) {
		reasons = append(reasons, pipe.RekeyBytes)
	}
	return reasons
}

// once is true at its first call for each reason.
func (e *epoch) once(r pipe.RekeyReason) bool {
	first := !e.due[r]
	e.due[r] = true
	return first
}
