package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// nebula returns Nebula with AES and two routines.
func nebula() system {
	return system{
		name: "nebula", about: "AES-256-GCM, 2 routines, MTU 1300",
		version: built("nebula"),
		start:   startNebula,
	}
}

func startNebula(b *bed) error {
	authority := b.sides()[0].node
	if err := b.certify("ca", "-name", "bench", "-out-crt", authority.Path("ca.crt"), "-out-key", authority.Path("ca.key")); err != nil {
		return err
	}
	for _, s := range b.sides() {
		err := b.certify("sign", "-name", s.name, "-networks", s.inner+"/24",
			"-ca-crt", authority.Path("ca.crt"), "-ca-key", authority.Path("ca.key"),
			"-out-crt", s.node.Path("nebula.crt"), "-out-key", s.node.Path("nebula.key"))
		if err != nil {
			return err
		}
		s.node.WriteFile("nebula.yml", nebulaConfig(s, authority.Path("ca.crt")))
	}
	return b.runBoth(filepath.Join(b.rivals, "nebula"), func(s side) []string {
		return []string{"-config", s.node.Path("nebula.yml")}
	})
}

// certify runs nebula-cert; the files that it would not overwrite go first.
func (b *bed) certify(args ...string) error {
	for i, arg := range args {
		if arg == "-out-crt" || arg == "-out-key" {
			if err := os.Remove(args[i+1]); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	out, err := exec.Command(filepath.Join(b.rivals, "nebula-cert"), args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("nebula-cert %s: %w: %s", args[0], err, out)
	}
	return nil
}

func nebulaConfig(s side, authority string) string {
	return fmt.Sprintf(`pki:
  ca: %s
  cert: %s
  key: %s
static_host_map:
  %q: ["%v:4242"]
lighthouse:
  am_lighthouse: false
listen:
  host: %v
  port: 4242
cipher: aes
routines: 2
tun:
  dev: %s
  mtu: 1300
logging:
  level: warning
firewall:
  outbound:
    - {port: any, proto: any, host: any}
  inbound:
    - {port: any, proto: any, host: any}
`, authority, s.node.Path("nebula.crt"), s.node.Path("nebula.key"), s.peerInner, s.peerOuter, s.outer, s.device)
}
