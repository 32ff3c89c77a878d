package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"tund/internal/keys"
)

// maxInterfaceName is IFNAMSIZ less the final zero.
const maxInterfaceName = 15

func parsePublicKey(text string) (keys.PublicKey, error) {
	key, err := keys.ParsePublicKey(text)
	if err != nil {
		return key, errors.New("is not 32 bytes in base64, as tunctl pubkey prints them")
	}
	return key, nil
}

func parseAEAD(text string) (keys.AEAD, error) {
	a, err := keys.ParseAEAD(text)
	if err != nil {
		return a, fmt.Errorf("%q is not %q or %q", text, keys.AES256GCM, keys.ChaCha20Poly1305)
	}
	return a, nil
}

// parseInterface accepts what the kernel accepts as the name of one device (see
// dev_valid_name and sysctl_dev_name_is_allowed there), in printable ASCII. The kernel
// takes '%' for a pattern.
func parseInterface(name string) (string, error) {
	switch {
	case name == "":
		return "", errors.New("must not be empty")
	case len(name) > maxInterfaceName:
		return "", fmt.Errorf("%q is longer than %d bytes", name, maxInterfaceName)
	case name == ".", name == "..", name == "all", name == "default", name == "lo":
		return "", fmt.Errorf("%q cannot be the name of a device", name)
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' || strings.IndexByte(`/:%"\`, c) >= 0 {
			return "", fmt.Errorf("%q cannot be the name of a device: it holds %q", name, c)
		}
	}
	return name, nil
}

// parsePrefix reads address/length.
func parsePrefix(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		if addr, addrErr := netip.ParseAddr(text); addrErr == nil && addr.Zone() == "" {
			return prefix, fmt.Errorf("missing length: write %s/%d, or the length of its network", addr, addr.BitLen())
		}
		return prefix, fmt.Errorf("%q is not an address with a length, such as 10.0.0.1/24", text)
	}
	if prefix.Addr().Is4In6() {
		return prefix, fmt.Errorf("%q: write an IPv4 address as such", text)
	}
	return prefix, nil
}

// ParseAddress reads an address for a device, with the length of its network.
func ParseAddress(text string) (netip.Prefix, error) {
	prefix, err := parsePrefix(text)
	if err != nil {
		return prefix, err
	}
	if prefix.Bits() == 0 {
		return prefix, fmt.Errorf("%q has no network length", text)
	}
	return prefix, checkHost(prefix.Addr())
}

// parsePeerAddress reads an address without a length.
func parsePeerAddress(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return addr, fmt.Errorf("%q is not an address (without a length)", text)
	case addr.Is4In6():
		return addr, fmt.Errorf("%q: write an IPv4 address as such", text)
	case addr.Zone() != "":
		return addr, fmt.Errorf("%q must not have a zone", text)
	}
	return addr, checkHost(addr)
}

// checkHost refuses what cannot be the address of one host beyond this one.
func checkHost(addr netip.Addr) error {
	switch {
	case addr.IsUnspecified():
		return fmt.Errorf("%s is not the address of a host", addr)
	case addr.IsMulticast():
		return fmt.Errorf("%s is a multicast address", addr)
	case addr.IsLoopback():
		return fmt.Errorf("%s is a loopback address", addr)
	}
	return nil
}

// parseNetwork reads a network: no bit of the host may be set.
func parseNetwork(text string) (netip.Prefix, error) {
	prefix, err := parsePrefix(text)
	if err == nil && prefix != prefix.Masked() {
		err = fmt.Errorf("%q is not a network: write %s", text, prefix.Masked())
	}
	return prefix, err
}

// parseListen reads an address of this host and a port.
func parseListen(text string) (netip.AddrPort, error) {
	addr, err := netip.ParseAddrPort(text)
	switch {
	case err != nil && strings.HasPrefix(text, ":"):
		return addr, fmt.Errorf("missing address: write [::]%s for all addresses", text)
	case err != nil:
		return addr, fmt.Errorf("%q is not an address with a port, such as [::]:7900", text)
	case addr.Addr().Is4In6():
		return addr, fmt.Errorf("%q: write an IPv4 address as such", text)
	case addr.Addr().IsMulticast():
		return addr, fmt.Errorf("%s is a multicast address", addr.Addr())
	case addr.Port() == 0:
		return addr, errors.New("port 0 is not from 1 to 65535")
	}
	return addr, nil
}

// ParseEndpoint reads host:port.
func ParseEndpoint(text string) (Endpoint, error) {
	host, port, err := splitEndpoint(text)
	if err != nil {
		return Endpoint{}, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return Endpoint{}, fmt.Errorf("port %q is not from 1 to 65535", port)
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return Endpoint{Host: host, Port: uint16(number)}, checkHostName(host)
	}
	return Endpoint{Host: addr.String(), Port: uint16(number)}, checkRemote(addr)
}

// checkRemote refuses addresses that cannot be dialled. A zone names a device.
func checkRemote(addr netip.Addr) error {
	switch {
	case addr.Is4In6():
		return fmt.Errorf("%s: write an IPv4 address as such", addr)
	case addr.IsUnspecified() || addr.IsMulticast():
		return fmt.Errorf("%s is not the address of a host", addr)
	case addr.Zone() == "" && addr.Is6() && addr.IsLinkLocalUnicast():
		return fmt.Errorf("%s is link-local: write the device it is reached by, as in [%s%%eth0]:7900", addr, addr)
	case addr.Zone() == "":
		return nil
	}
	_, err := parseInterface(addr.Zone())
	return err
}

// splitEndpoint cuts an endpoint at the colon before the port.
func splitEndpoint(text string) (host, port string, err error) {
	if text == "" {
		return "", "", errors.New("must not be empty")
	}
	if inner, bracket := strings.CutPrefix(text, "["); bracket {
		host, rest, closed := strings.Cut(inner, "]")
		port, colon := strings.CutPrefix(rest, ":")
		if addr, err := netip.ParseAddr(host); !closed || err != nil || !addr.Is6() {
			return "", "", fmt.Errorf("%q holds no IPv6 address in brackets", text)
		}
		if !colon || port == "" {
			return "", "", fmt.Errorf("missing port in %q", text)
		}
		return host, port, nil
	}
	host, port, colon := strings.Cut(text, ":")
	_, bareErr := netip.ParseAddr(text)
	switch {
	case colon && bareErr == nil:
		return "", "", fmt.Errorf("%q: an IPv6 address needs brackets and a port: [2001:db8::1]:7900", text)
	case strings.Contains(port, ":"):
		return "", "", fmt.Errorf("%q is not host:port", text)
	case !colon || port == "":
		return "", "", fmt.Errorf("missing port in %q", text)
	case host == "":
		return "", "", fmt.Errorf("missing host in %q", text)
	}
	return host, port, nil
}

// checkHostName accepts names that the resolver could be asked for. A last label of
// digits only is a mistyped address (RFC 1123, part 2.1).
func checkHostName(name string) error {
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.ContainsFunc(label, isNotNameByte) {
			return fmt.Errorf("%q is neither a host name nor an address", name)
		}
	}
	last := labels[len(labels)-1]
	if len(name) > 254 || strings.Trim(last, "0123456789") == "" {
		return fmt.Errorf("%q is neither a host name nor an address", name)
	}
	return nil
}

// isNotNameByte is true for all but ASCII letters, digits, hyphen and underscore.
func isNotNameByte(r rune) bool {
	return r > 'z' || !isBareKey(byte(r))
}
