package tuntap

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Offloads is a set of TUN_F_ flags: what the kernel may leave to the reader of a
// device (checksums, segmentation). The zero value is the empty set.
type Offloads uint

// OffloadNone makes the kernel finish each packet before it hands it over.
const OffloadNone Offloads = 0

// String returns "none", or the names of the offloads in the set.
func (o Offloads) String() string {
	if o == OffloadNone {
		return "none"
	}
	return "unknown"
}

// setOffloads tries the sets in the order given and returns the first that the
// kernel takes: a kernel refuses with EINVAL a set that holds a flag unknown to it.
func setOffloads(fd int, wanted ...Offloads) (Offloads, error) {
	err := error(unix.EINVAL)
	for _, o := range wanted {
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, int(o))
		if err == nil {
			return o, nil
		}
		if !errors.Is(err, unix.EINVAL) {
			break
		}
	}
	return OffloadNone, err
}
