package datapath

import (
	"errors"
	"fmt"
	"time"

	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/wire"
)

// A child hands over all that it knows when its loops have ended, and never before: a
// packet number that was reserved after it was told would be used twice. The next child
// starts its loops when it has taken all over, and never before: what came without a key
// would be dropped. In between, packets and datagrams wait in the kernel.
//
//	            HandOver ──► loops end ──► KeyState … HandedOver ──► the end
//	Configure{Await} ──► KeyState … Resume ──► Resumed ──► loops begin

// Why nothing can be taken over.
var (
	errOrder   = errors.New("keys or generations out of order")
	errFuture  = errors.New("installed in the future")
	errNumbers = errors.New("counters beyond all limits")
	errSending = errors.New("no such key to send with")
	errNewest  = errors.New("newer than the newest")
)

// noCounter is what no counter of a sender gets near, however long it is used after its
// end. One that ran over would give packet numbers again.
const noCounter = 1 << 62

// handOver ends the loops for good and tells the parent all that is known. Then run ends.
func (c *control) handOver() error {
	if err := c.halt(); err != nil {
		return err
	}
	end := c.keyring.handedOver()
	states := c.keyring.states()
	defer wipeAll(states)
	for _, m := range states {
		if err := c.pipe.Send(m); err != nil {
			return err
		}
	}
	end.Keys, end.Totals = uint8(len(states)), c.totals()
	if err := c.pipe.Send(end); err != nil {
		return err
	}
	return errStop
}

// onKeyState keeps a key for Resume.
func (c *control) onKeyState(m *pipe.KeyState) error {
	if !c.awaiting || len(c.states) == pipe.MaxStates {
		m.Wipe()
		return fmt.Errorf("state of key %d: unexpected", m.KeyID)
	}
	c.states = append(c.states, m)
	return nil
}

// onResume takes over what the child before knew, all or nothing, and starts the loops.
// The parent hears first whether it did, then what came of it.
func (c *control) onResume(m pipe.Resume) error {
	if !c.awaiting {
		return errors.New("resumption that was not announced")
	}
	c.awaiting = false
	answer := pipe.Resumed{Seq: m.Seq}
	if err := c.resume(m.End); err != nil {
		answer.Err = err.Error()
	}
	if err := c.pipe.Send(answer); err != nil {
		return err
	}
	c.move() // the loops look at ages and limits themselves; then comes review
	return nil
}

func (c *control) resume(end pipe.HandedOver) error {
	defer c.forget()
	now := c.now()
	err := c.keyring.restore(c.states, end, now)
	if err != nil {
		c.keyring.wipe()
		c.keyring = keyring{limits: c.keyring.limits, engine: c.keyring.engine, dead: c.keyring.dead}
		c.publish()
		return err
	}
	c.publish()
	c.goOn(end.Totals, now)
	if s := c.keyring.sending; s != nil && !s.heard.Load() {
		c.prober.switched(s, now)
	}
	return nil
}

// forget wipes what came for Resume.
func (c *control) forget() {
	wipeAll(c.states)
	c.states = nil
}

func wipeAll(states []*pipe.KeyState) {
	for _, m := range states {
		m.Wipe()
	}
}

// states returns all keys, oldest first. The loops must have ended.
func (k *keyring) states() []*pipe.KeyState {
	var states []*pipe.KeyState
	for _, s := range k.slots {
		if n := len(states); n == 0 || states[n-1].KeyID != s.id {
			states = append(states, s.epoch.state(s.id))
		}
		last := states[len(states)-1]
		last.Slots = append(last.Slots, pipe.SlotState{
			Generation: s.generation, SendIndex: s.sendIndex, ReceiveIndex: s.receiveIndex,
			Heard: s.heard.Load(), Announced: s.announced, Retired: s.retired,
		})
	}
	return states
}

// state returns all of an epoch but its slots.
func (e *epoch) state(id keys.KeyID) *pipe.KeyState {
	return &pipe.KeyState{
		KeyID: id, Epoch: e.number, AEAD: e.aead, Send: e.send.key, Receive: e.receive.key,
		PartialCsum: e.partial, Installed: e.installed,
		Next: wire.PacketNumber(e.send.next.Load()), SendBytes: e.send.bytes.Load(),
		ReceiveBytes: e.receive.bytes.Load(), FailedOpens: e.receive.failed.Load(),
		SendOver: e.sendOver, ReceiveOver: e.receiveOver,
		DuePackets: e.due[pipe.RekeyPackets], DueBytes: e.due[pipe.RekeyBytes],
		Window: e.receive.window.State(),
	}
}

// handedOver returns what is known beside the keys.
func (k *keyring) handedOver() pipe.HandedOver {
	m := pipe.HandedOver{FloorKey: k.floor.id, FloorGeneration: k.floor.generation, NewestKey: k.newest}
	if k.sending != nil {
		m.SendKey, m.SendGeneration = k.sending.id, k.sending.generation
	}
	return m
}

// restore takes over the keys of the child before. After an error the keyring holds a
// part of them and must be wiped.
func (k *keyring) restore(states []*pipe.KeyState, end pipe.HandedOver, now time.Duration) error {
	if len(states) != int(end.Keys) {
		return fmt.Errorf("%d keys instead of %d", len(states), end.Keys)
	}
	for _, m := range states {
		if m.KeyID > end.NewestKey {
			return fmt.Errorf("key %d: %w", m.KeyID, errNewest)
		}
		if err := k.restoreKey(m, now); err != nil {
			return fmt.Errorf("key %d: %w", m.KeyID, err)
		}
	}
	k.newest = end.NewestKey
	k.floor = name{end.FloorKey, end.FloorGeneration}
	if k.floor.id > k.newest {
		return fmt.Errorf("key %d: %w", k.floor.id, errNewest)
	}
	if err := k.restoreSending(name{end.SendKey, end.SendGeneration}); err != nil {
		return err
	}
	k.sweep()
	return nil
}

// restoreSending makes the slot of that name the sending one; the zero name is none.
func (k *keyring) restoreSending(n name) error {
	if n == (name{}) {
		return nil
	}
	k.sending = k.find(n)
	if k.sending == nil || k.sending.epoch.sendOver || n != k.floor {
		k.sending = nil
		return fmt.Errorf("key %d.%d: %w", n.id, n.generation, errSending)
	}
	return nil
}

func (k *keyring) restoreKey(m *pipe.KeyState, now time.Duration) error {
	if m.Installed > now {
		return errFuture
	}
	if max(uint64(m.Next), m.SendBytes) > noCounter {
		return errNumbers
	}
	window, err := m.Window.Window()
	if err != nil {
		return err
	}
	e := &epoch{
		number: m.Epoch, aead: m.AEAD, installed: m.Installed, partial: m.PartialCsum,
		sendOver: m.SendOver, receiveOver: m.ReceiveOver,
	}
	if err := e.begin(k.engine, &m.Send, &m.Receive); err != nil {
		return err
	}
	e.send.next.Store(uint64(m.Next))
	if m.SendOver { // whatever the limits are here
		e.send.next.Store(max(uint64(m.Next), k.limits.SendPackets))
	}
	e.send.bytes.Store(m.SendBytes)
	e.receive.window, e.receive.missing = window, window.Missing()
	e.receive.packets.Store(window.Received())
	e.receive.bytes.Store(m.ReceiveBytes)
	e.receive.failed.Store(m.FailedOpens)
	e.due[pipe.RekeyPackets], e.due[pipe.RekeyBytes] = m.DuePackets, m.DueBytes
	if err := k.restoreSlots(m, e); err != nil {
		e.wipe() // not a loop has seen it, and perhaps no slot leads to it
		return err
	}
	return nil
}

func (k *keyring) restoreSlots(m *pipe.KeyState, e *epoch) error {
	live := false
	for _, state := range m.Slots {
		s := &slot{
			name: name{m.KeyID, state.Generation}, epoch: e, sendIndex: state.SendIndex, receiveIndex: state.ReceiveIndex,
			announced: state.Announced, retired: state.Retired,
		}
		s.heard.Store(state.Heard)
		if n := len(k.slots); n > 0 && !s.newer(k.slots[n-1].name) {
			return errOrder
		}
		if !s.retired && !e.receiveOver {
			if err := k.room(s.receiveIndex, !live); err != nil {
				return err
			}
			live = true
		}
		k.slots = append(k.slots, s)
	}
	return nil
}
