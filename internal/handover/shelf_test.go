package handover

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/sdnotify"
	"tund/internal/tuntap"
)

// fakeStore keeps duplicates by name, as a service manager does.
type fakeStore struct {
	mu     sync.Mutex
	kept   map[string]*os.File
	refuse error
}

func (s *fakeStore) Store(name string, files ...*os.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return s.refuse
	}
	fd, err := unix.FcntlInt(files[0].Fd(), unix.F_DUPFD_CLOEXEC, 0)
	s.kept[name] = os.NewFile(uintptr(fd), name)
	return err
}

func (s *fakeStore) Unstore(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.kept[name]; f != nil {
		_ = f.Close()
	}
	delete(s.kept, name)
	return s.refuse
}

func (s *fakeStore) names() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(s.kept)), " ")
}

func newShelf(t *testing.T, store Store, all ...sdnotify.Descriptor) (*Shelf, []*os.File, []sdnotify.Descriptor) {
	t.Helper()
	return NewShelf(slog.New(slog.DiscardHandler), store, all)
}

func something(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func closed(f *os.File) bool {
	_, err := f.Stat()
	return errors.Is(err, os.ErrClosed)
}

func TestShelfSortsWhatTheProcessWasStartedWith(t *testing.T) {
	var all []sdnotify.Descriptor
	for _, name := range []string{"d1", "u1", "state", "tund.socket", "d", "u01", "d-2", "d0", "d4294967296", "x3", "", "state"} {
		all = append(all, sdnotify.Descriptor{Name: name, File: something(t, "f")})
	}
	s, records, others := newShelf(t, &fakeStore{}, all...)
	if len(records) != 2 || records[0] != all[2].File {
		t.Errorf("%d records", len(records))
	}
	if len(others) != 8 || others[0].Name != "tund.socket" {
		t.Errorf("others: %v", others)
	}
	if len(s.left) != 1 || s.left[0] != (Tunnel{1, all[0].File, all[1].File}) {
		t.Errorf("left: %+v", s.left)
	}
}

func TestNumbersGoOnBehindThoseThatWereLeft(t *testing.T) {
	store := &fakeStore{kept: map[string]*os.File{}}
	s, _, _ := newShelf(t, store, sdnotify.Descriptor{Name: "u41", File: something(t, "u")})
	if n := s.KeepDevice(something(t, "d")); n != 42 {
		t.Errorf("number %d, want 42", n)
	}
	s.KeepSocket(42, something(t, "s"))
	s.Settle()
	if got := store.names(); got != "d42 u42" {
		t.Errorf("stored: %s", got)
	}
	if got := len(s.Descriptors()); got != 2 {
		t.Errorf("%d descriptors", got)
	}
	s.Drop(42)
	s.Drop(42)
	if got := store.names(); got != "" || len(s.Descriptors()) != 0 {
		t.Errorf("stored after drop: %s; %v", got, s.Descriptors())
	}
}

func TestShelfGoesOnWhereNothingCanBeStored(t *testing.T) {
	s, _, _ := newShelf(t, &fakeStore{refuse: errors.New("no manager")})
	n := s.KeepDevice(something(t, "d"))
	if len(s.Descriptors()) != 1 {
		t.Error("it can't be handed over by execve either")
	}
	s.Drop(n)
}

// Two thousand descriptors must fit where their names are passed: an environment, one
// variable of which has 128 KiB at most.
func TestNamesOfAThousandTunnelsFitAnEnvironment(t *testing.T) {
	store := &fakeStore{refuse: errors.New("nothing is stored here")}
	s, _, _ := newShelf(t, store, sdnotify.Descriptor{Name: "d4000000", File: something(t, "d")})
	file := something(t, "f")
	for range 1000 {
		s.KeepSocket(s.KeepDevice(file), file)
	}
	all := s.Descriptors()
	longest, sum := 0, 0
	for _, d := range all {
		longest, sum = max(longest, len(d.Name)), sum+len(d.Name)+len("=65535,")
	}
	if len(all) != 2000 || longest > 12 || sum > 128<<10 {
		t.Errorf("%d descriptors, names of up to %d bytes, %d bytes in all", len(all), longest, sum)
	}
}

func TestDescriptorThatComesTwiceIsNotUsedTwice(t *testing.T) {
	first, second := something(t, "a"), something(t, "b")
	s, _, _ := newShelf(t, &fakeStore{}, sdnotify.Descriptor{Name: "u7", File: first}, sdnotify.Descriptor{Name: "u7", File: second})
	if len(s.left) != 1 || s.left[0].Socket != first || !closed(second) {
		t.Errorf("left: %+v", s.left)
	}
}

func TestClaimFindsADeviceByNameAndMode(t *testing.T) {
	enterNamespace(t)
	var all []sdnotify.Descriptor
	store := &fakeStore{kept: map[string]*os.File{}}
	for i := range 3 {
		d, err := tuntap.Open(tuntap.Options{Name: fmt.Sprintf("kept%d", i), Mode: tuntap.TUN})
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("d%d", i+1)
		all = append(all, sdnotify.Descriptor{Name: name, File: d.File()})
		if err := store.Store(name, d.File()); err != nil {
			t.Fatal(err)
		}
	}
	all = append(all, sdnotify.Descriptor{Name: "u9", File: something(t, "u")})
	s, _, _ := newShelf(t, store, all...)
	if _, ok := s.Claim("kept1", "tap"); ok {
		t.Error("claimed with another mode")
	}
	if _, ok := s.Claim("kept9", "tun"); ok {
		t.Error("claimed under another name")
	}
	got, ok := s.Claim("kept1", "tun")
	if !ok || got.Number != 2 || got.Device != all[1].File {
		t.Errorf("claimed %+v, %t", got, ok)
	}
	if _, ok := s.Claim("kept1", "tun"); ok {
		t.Error("claimed twice")
	}
	s.DiscardRest()
	if left := store.names(); left != "d2" || !closed(all[0].File) || !closed(all[3].File) {
		t.Errorf("stored: %s", left)
	}
	for name, want := range map[string]bool{"kept0": false, "kept1": true} {
		if _, err := net.InterfaceByName(name); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// enterNamespace moves the test into a network namespace of its own, which ends with the
// test's thread.
func enterNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a network namespace")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare: %v", err)
	}
}

// slowStore is a manager with much to do: it takes a descriptor when it is told to.
type slowStore struct {
	fakeStore
	take chan struct{}
}

func (s *slowStore) Store(name string, files ...*os.File) error {
	<-s.take
	return s.fakeStore.Store(name, files...)
}

func TestNobodyWaitsForASlowStoreButWhoDropsOrSettles(t *testing.T) {
	store := &slowStore{fakeStore: fakeStore{kept: map[string]*os.File{}}, take: make(chan struct{})}
	s, _, _ := newShelf(t, store)
	first := s.KeepDevice(something(t, "d1"))
	s.KeepSocket(first, something(t, "u1"))
	second := s.KeepDevice(something(t, "d2"))
	if got := store.names(); got != "" {
		t.Errorf("stored: %s", got)
	}
	dropped := make(chan struct{})
	go func() { s.Drop(first); close(dropped) }()
	for range 3 {
		select {
		case <-dropped:
			t.Fatal("dropped before it was stored: it would stay for ever")
		case store.take <- struct{}{}:
		}
	}
	<-dropped
	go func() { store.take <- struct{}{} }()
	s.KeepSocket(second, something(t, "u2"))
	s.Settle()
	if got := store.names(); got != "d2 u2" {
		t.Errorf("stored: %s", got)
	}
}
