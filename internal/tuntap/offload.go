package tuntap

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Offloads is a set of TUN_F_ flags: what the kernel may leave to the reader of a
// device (checksums, segmentation). The zero value is the empty set.
type Offloads uint

// The offloads of a device, and sets of them.
const (
	OffloadChecksum Offloads = unix.TUN_F_CSUM // packets may come with a partial checksum
	OffloadTSO4     Offloads = unix.TUN_F_TSO4 // super-packets of TCP over IPv4
	OffloadTSO6     Offloads = unix.TUN_F_TSO6
	OffloadUSO4     Offloads = unix.TUN_F_USO4 // super-packets of UDP over IPv4
	OffloadUSO6     Offloads = unix.TUN_F_USO6

	// OffloadNone makes the kernel finish each packet before it hands it over.
	OffloadNone Offloads = 0
	// OffloadAll is all that can be made use of here.
	OffloadAll = OffloadChecksum | OffloadTSO4 | OffloadTSO6 | OffloadUSO4 | OffloadUSO6
)

var offloadNames = []struct {
	flag Offloads
	name string
}{
	{OffloadChecksum, "csum"},
	{OffloadTSO4, "tso4"},
	{OffloadTSO6, "tso6"},
	{OffloadUSO4, "uso4"},
	{OffloadUSO6, "uso6"},
}

// Names returns one short word for each offload in the set.
func (o Offloads) Names() []string {
	var names []string
	for _, n := range offloadNames {
		if o&n.flag != 0 {
			names = append(names, n.name)
		}
	}
	return names
}

// String returns "none", or the names of the offloads in the set.
func (o Offloads) String() string {
	if o&OffloadAll == OffloadNone {
		return "none"
	}
	return strings.Join(o.Names(), " ")
}

// preferences are the sets to try, best first, each within what is wanted. USO came
// with Linux 6.2. Nothing works without checksums, and the kernel says so itself.
func preferences(wanted Offloads) []Offloads {
	tso := OffloadChecksum | OffloadTSO4 | OffloadTSO6
	return []Offloads{wanted & OffloadAll, wanted & tso, wanted & OffloadChecksum, OffloadNone}
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

// shortfall says why fewer offloads are in force than there are; "" if all are.
func shortfall(wanted, got Offloads) string {
	switch missing := wanted &^ got; {
	case missing != 0:
		return fmt.Sprintf("the kernel refuses %s", missing)
	case wanted == OffloadNone:
		return "switched off"
	case wanted != OffloadAll:
		return fmt.Sprintf("%s switched off", OffloadAll&^wanted)
	}
	return ""
}

// The bounds of a super-packet that Open sets on a device that it makes.
const (
	// DefaultSuperPacket is as many bytes as one message of UDP datagrams surely takes
	// when the packet is cut for a tunnel with an MTU of 1280 or more.
	DefaultSuperPacket = 59 << 10
	maxSegments        = 64 // that a send takes on kernels before 6.9, and many drivers
)

// setSuperPacket bounds the super-packets that the device's reader gets. Larger ones are
// cut by the kernel. It is no error where a kernel does not know of such a bound: the
// reader copes with any size.
func setSuperPacket(name string, size int) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	_ = netlink.LinkSetGSOMaxSegs(link, maxSegments)
	_ = netlink.LinkSetGSOMaxSize(link, size)
	_ = netlink.LinkSetGSOIPv4MaxSize(link, size) // since Linux 6.3; before, the other serves both
	return nil
}
