package handover

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"

	"tund/internal/sdnotify"
	"tund/internal/tuntap"
)

// The names of descriptors. They are short, since thousands of them must fit an
// environment.
const (
	devicePrefix = 'd' // and the tunnel's number
	socketPrefix = 'u'
)

// RecordName is the name of a record's descriptor.
const RecordName = "state"

// Store keeps duplicates of descriptors for the process that comes after this one.
type Store interface {
	Store(name string, files ...*os.File) error
	// Unstore returns when the duplicates are closed.
	Unstore(name string) error
}

// Tunnel is the pair of descriptors of one tunnel.
type Tunnel struct {
	Number uint32
	Device *os.File
	Socket *os.File // nil: the process ended before it was made
}

// Inherited is what an earlier tund has left of a tunnel.
type Inherited struct {
	Tunnel
	Remote netip.AddrPort // where the socket sends to; not valid: nowhere yet
	Peer   *Peer          // nil: there is nothing but the descriptors
}

// Shelf holds the descriptors that outlive this process: those of its own tunnels, and
// for a while those that an earlier process has left. It is safe for concurrent use.
//
// The store gets them one after the other, and no peer waits for that: systemd compares
// each with all that it has, which takes it seconds where there are thousands.
type Shelf struct {
	log     *slog.Logger
	store   Store
	errands errands

	mu   sync.Mutex
	last uint32
	own  map[uint32]Tunnel
	left []Tunnel
}

// NewShelf sorts what this process was started with: the shelf takes the descriptors of
// tunnels; records, and what is not of this package, are given back.
func NewShelf(log *slog.Logger, store Store, all []sdnotify.Descriptor) (s *Shelf, records []*os.File, others []sdnotify.Descriptor) {
	s = &Shelf{log: log, store: store, own: make(map[uint32]Tunnel)}
	for _, d := range all {
		kind, number := parseName(d.Name)
		switch {
		case d.Name == RecordName:
			records = append(records, d.File)
		case number == 0:
			others = append(others, d)
		default:
			s.inherit(kind, number, d.File)
		}
	}
	return s, records, others
}

// parseName reads the name of a descriptor; number is 0 for one of others.
func parseName(name string) (kind byte, number uint32) {
	if name == "" || name[0] != devicePrefix && name[0] != socketPrefix {
		return 0, 0
	}
	n, err := strconv.ParseUint(name[1:], 10, 32)
	if err != nil || strconv.FormatUint(n, 10) != name[1:] {
		return 0, 0
	}
	return name[0], uint32(n)
}

func nameOf(kind byte, number uint32) string {
	return string(kind) + strconv.FormatUint(uint64(number), 10)
}

// inherit puts a descriptor to the other one of its tunnel. One that comes twice makes a
// third one, which nobody claims.
func (s *Shelf) inherit(kind byte, number uint32, file *os.File) {
	s.last = max(s.last, number)
	i := slices.IndexFunc(s.left, func(t Tunnel) bool { return t.Number == number })
	if i < 0 {
		s.left = append(s.left, Tunnel{Number: number})
		i = len(s.left) - 1
	}
	t := &s.left[i]
	switch {
	case kind == devicePrefix && t.Device == nil:
		t.Device = file
	case kind == socketPrefix && t.Socket == nil:
		t.Socket = file
	default:
		s.log.Warn("descriptor discarded", "from", nameOf(kind, number), "reason", "there are two of that name")
		_ = file.Close()
	}
}

// Claim returns the tunnel that was left with this interface, whose mode is "tun" or "tap".
// From then on it is one of the shelf's own.
func (s *Shelf) Claim(iface, mode string) (Tunnel, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, t := range s.left {
		if t.Device == nil {
			continue
		}
		if name, is, err := tuntap.Identify(t.Device); err == nil && name == iface && is.String() == mode {
			s.left = slices.Delete(s.left, i, i+1)
			s.own[t.Number] = t
			return t, true
		}
	}
	return Tunnel{}, false
}

// DiscardRest closes what nobody has claimed. The interfaces go with it, but for those that
// an administrator has made.
func (s *Shelf) DiscardRest() {
	s.mu.Lock()
	rest := s.left
	s.left = nil
	s.mu.Unlock()
	for _, t := range rest {
		name := ""
		if t.Device != nil {
			name, _, _ = tuntap.Identify(t.Device) // a device that was deleted has no name
		}
		s.log.Warn("tunnel discarded", "from", nameOf(devicePrefix, t.Number), "iface", name, "reason", "no enabled peer has its interface and mode")
		s.remove(t)
		_ = t.Close()
	}
}

// KeepDevice takes a device, and soon its socket, into the store, under a number of their
// own. It does not wait for the store: see Settle. What can't be stored is lost with this
// process; the log says so.
func (s *Shelf) KeepDevice(device *os.File) (number uint32) {
	s.mu.Lock()
	s.last++
	number = s.last
	s.own[number] = Tunnel{Number: number, Device: device}
	s.mu.Unlock()
	s.keep(nameOf(devicePrefix, number), device)
	return number
}

// KeepSocket takes the socket of a tunnel into the store, in the place of one that was
// there.
func (s *Shelf) KeepSocket(number uint32, socket *os.File) {
	name := nameOf(socketPrefix, number)
	s.mu.Lock()
	t := s.own[number]
	another := t.Socket != nil
	t.Number, t.Socket = number, socket
	s.own[number] = t
	s.mu.Unlock()
	if another {
		s.errands.add(func() { s.unstore(name) })
	}
	s.keep(name, socket)
}

func (s *Shelf) keep(name string, file *os.File) {
	s.errands.add(func() {
		if err := s.store.Store(name, file); err != nil {
			s.log.Error("descriptor not stored", "err", err)
		}
	})
}

// Settle returns when the store has all that it was to get so far.
func (s *Shelf) Settle() { <-s.errands.add(func() {}) }

// Drop takes a tunnel out of the store, and returns when no duplicate is left there: an
// interface goes with the last descriptor. It does not close those of this process.
func (s *Shelf) Drop(number uint32) {
	s.mu.Lock()
	t, ok := s.own[number]
	delete(s.own, number)
	s.mu.Unlock()
	if ok {
		s.remove(t)
	}
}

func (s *Shelf) remove(t Tunnel) {
	<-s.errands.add(func() {
		s.unstore(nameOf(devicePrefix, t.Number))
		s.unstore(nameOf(socketPrefix, t.Number))
	})
}

func (s *Shelf) unstore(name string) {
	if err := s.store.Unstore(name); err != nil {
		s.log.Error("descriptor not removed from the store", "err", err)
	}
}

// Close closes both descriptors.
func (t Tunnel) Close() error {
	var errs []error
	for _, f := range []*os.File{t.Device, t.Socket} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// Descriptors lists all of the shelf's own, with the names under which the next process
// finds them.
func (s *Shelf) Descriptors() []sdnotify.Descriptor {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []sdnotify.Descriptor
	for number, t := range s.own {
		all = append(all, sdnotify.Descriptor{Name: nameOf(devicePrefix, number), File: t.Device})
		if t.Socket != nil {
			all = append(all, sdnotify.Descriptor{Name: nameOf(socketPrefix, number), File: t.Socket})
		}
	}
	return all
}
