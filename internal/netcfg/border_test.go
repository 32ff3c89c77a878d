package netcfg

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestAddressesAreTheSameHoweverNetlinkWritesThem(t *testing.T) {
	for text, n := range map[string]*net.IPNet{
		"0.0.0.0/0":       {IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, // 16 bytes, as package netlink has it
		"10.1.0.1/24":     {IP: net.IPv4(10, 1, 0, 1), Mask: net.CIDRMask(24, 32)},
		"10.1.0.2/24":     {IP: net.IPv4(10, 1, 0, 2).To4(), Mask: net.CIDRMask(24, 32)},
		"::/0":            {IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
		"fd77::1/64":      {IP: net.ParseIP("fd77::1"), Mask: net.CIDRMask(64, 128)},
		"::ffff:0:0/96":   {IP: net.IPv4zero.To16(), Mask: net.CIDRMask(96, 128)}, // a network of IPv6
		"fe80::1234/64":   {IP: net.ParseIP("fe80::1234"), Mask: net.CIDRMask(64, 128)},
		"169.254.0.1/16":  {IP: net.IPv4(169, 254, 0, 1), Mask: net.CIDRMask(16, 32)},
		"10.20.0.0/16":    {IP: net.IPv4(10, 20, 0, 0), Mask: net.CIDRMask(16, 32)},
		"255.255.0.0/16":  {IP: net.IPv4(255, 255, 0, 0), Mask: net.CIDRMask(16, 32)},
		"192.0.2.255/32":  {IP: net.IPv4(192, 0, 2, 255), Mask: net.CIDRMask(32, 32)},
		"2001:db8::1/128": {IP: net.ParseIP("2001:db8::1"), Mask: net.CIDRMask(128, 128)},
	} {
		want := netip.MustParsePrefix(text)
		if got := fromIPNet(n); got != want {
			t.Errorf("%s is read as %s", text, got)
		}
		if got := fromIPNet(toIPNet(want)); got != want {
			t.Errorf("%s comes back as %s", text, got)
		}
	}
	for _, ip := range []net.IP{net.IPv4(10, 0, 0, 1), net.IPv4(10, 0, 0, 1).To4()} {
		if got := fromIP(ip); got != netip.MustParseAddr("10.0.0.1") {
			t.Errorf("10.0.0.1 is read as %s", got)
		}
	}
	if fromIP(nil).IsValid() || fromIPNet(nil).IsValid() {
		t.Error("nothing is read as an address")
	}
}

// What makes an address of a slice elsewhere would have to think of both forms again.
func TestOnlyTheBorderMakesAddressesOfSlices(t *testing.T) {
	makers := []string{"AddrFromSlice", "AddrFrom4", "AddrFrom16", "To4", "To16"}
	names, err := filepath.Glob("*.go")
	if err != nil || !slices.Contains(names, "border.go") {
		t.Fatalf("%v: %q", err, names)
	}
	for _, name := range names {
		if name == "border.go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && slices.Contains(makers, s.Sel.Name) {
				t.Errorf("%s uses %s: border.go does that", name, s.Sel.Name)
			}
			return true
		})
	}
}
