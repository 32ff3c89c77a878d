package handover

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// seals keep the memory from being resized under a reader; writing stays possible, since
// a record is overwritten when it is taken.
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// The marks at the beginning of a record.
var (
	markMade  = binary.NativeEndian.Uint32([]byte("MADE"))
	markTaken = binary.NativeEndian.Uint32([]byte("TAKE"))
)

// Seal writes the record into memory of its own, of which the file is a descriptor. The
// record is not wiped.
func (r *Record) Seal() (*os.File, error) {
	p, err := r.encode()
	if err != nil {
		return nil, err
	}
	defer clear(p)
	binary.NativeEndian.PutUint32(p, markMade)
	file, err := newMemory()
	if err != nil {
		return nil, fmt.Errorf("make record: %w", err)
	}
	_, err = file.Write(p)
	if err == nil {
		err = control(file, func(fd int) error {
			_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
			return err
		})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make record: %w", err), file.Close())
	}
	return file, nil
}

// newMemory makes a memfd that can't be executed; kernels before 6.3 do not know that flag.
func newMemory() (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("tund-state", flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("tund-state", flags)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	return os.NewFile(uintptr(fd), "tund-state"), nil
}

// Take reads the one record there may be, and makes sure that nobody ever reads it again.
// Without a file there is none, and no error. Where there is more than one, all are discarded.
// A boot that is zero is not known. Any error means that nothing may be resumed.
func Take(files []*os.File, boot ID) (*Record, error) {
	if len(files) == 0 {
		return nil, nil
	}
	if len(files) > 1 {
		for _, f := range files {
			_, _ = takeBytes(f) // whatever it is, it is not used
		}
		return nil, ErrSeveral
	}
	p, err := takeBytes(files[0])
	if err != nil {
		return nil, err
	}
	defer clear(p)
	r, err := parse(p)
	if err != nil {
		return nil, err
	}
	if r.Boot != boot || boot == (ID{}) {
		r.Wipe()
		return nil, ErrBoot
	}
	return r, nil
}

// takeBytes marks the memory as taken, copies it and overwrites it. The mark is
// set first and by one exchange: of all who hold a descriptor only one can get at the
// bytes, even if it is killed before it has read them.
func takeBytes(file *os.File) (p []byte, err error) {
	size, err := checkMemory(file)
	if err != nil {
		return nil, err
	}
	err = control(file, func(fd int) error {
		memory, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return fmt.Errorf("map record: %w", err)
		}
		mark := (*uint32)(unsafe.Pointer(&memory[0])) // a page's beginning: aligned
		made := atomic.CompareAndSwapUint32(mark, markMade, markTaken)
		if made {
			p = append(make([]byte, 0, size), memory...)
		} else {
			err = explainMark(atomic.LoadUint32(mark))
		}
		if !errors.Is(err, ErrFormat) {
			clear(memory[4:])
		}
		return errors.Join(err, unix.Munmap(memory))
	})
	return p, err
}

func explainMark(mark uint32) error {
	if mark == markTaken {
		return ErrTaken
	}
	return fmt.Errorf("%w: it is none of tund's", ErrFormat)
}

// checkMemory returns the size of what can't be resized any more; anything else is no
// record, and reading it might even kill the reader.
func checkMemory(file *os.File) (size int, err error) {
	info, err := file.Stat()
	if err != nil {
		return 0, fmt.Errorf("look at record: %w", err)
	}
	var has int
	err = control(file, func(fd int) error {
		has, err = unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
		return err
	})
	if err != nil || has&seals != seals || info.Size() < headerSize || info.Size() > maxSize {
		return 0, fmt.Errorf("%w: it is none of tund's", ErrFormat)
	}
	return int(info.Size()), nil
}

// Boot returns the id of the kernel's present run.
func Boot() (ID, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ID{}, fmt.Errorf("read boot id: %w", err)
	}
	var id ID
	digits := strings.ReplaceAll(strings.TrimSpace(string(text)), "-", "")
	raw, err := hex.DecodeString(digits)
	if err != nil || copy(id[:], raw) != len(id) || len(raw) != len(id) {
		return ID{}, fmt.Errorf("read boot id: bad text %q", text)
	}
	return id, nil
}

func control(file *os.File, op func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = op(int(fd)) }); err != nil {
		return err
	}
	return failed
}
