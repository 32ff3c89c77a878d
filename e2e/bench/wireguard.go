package main

import (
	"bufio"
	"crypto/ecdh"
	"crypto/rand"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	wireguardPort = 51820
	wireguardDir  = "/var/run/wireguard"
)

// wireguard returns wireguard-go, the implementation in user space.
func wireguard() system {
	return system{
		name: reference, about: "ChaCha20-Poly1305, MTU 1420, its offloads in use",
		version: built("wireguard"),
		start:   startWireguard,
		stop:    stopWireguard,
	}
}

// built returns the version of a module that was built into the rivals' directory.
func built(name string) func(*bed) (string, error) {
	return func(b *bed) (string, error) {
		info, err := buildinfo.ReadFile(filepath.Join(b.rivals, name))
		if err != nil {
			return "", fmt.Errorf("%w: scripts/install-bench", err)
		}
		return info.Main.Path + " " + info.Main.Version + ", " + info.GoVersion, nil
	}
}

func startWireguard(b *bed) error {
	err := b.runBoth(filepath.Join(b.rivals, "wireguard"), func(s side) []string { return []string{"-f", s.device} })
	if err != nil {
		return err
	}
	keys := map[string]*ecdh.PrivateKey{}
	for _, s := range b.sides() {
		if keys[s.name], err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			return err
		}
	}
	for _, s := range b.sides() {
		if err := b.await(startLimit, "the socket of "+s.device, func() bool {
			_, err := os.Stat(wireguardSocket(s))
			return err == nil
		}); err != nil {
			return err
		}
		if err := tell(wireguardSocket(s), wireguardConfig(s, keys)); err != nil {
			return fmt.Errorf("configure %s: %w", s.device, err)
		}
	}
	return b.addresses()
}

func wireguardSocket(s side) string { return filepath.Join(wireguardDir, s.device+".sock") }

// wireguardConfig returns the request that configures one end.
func wireguardConfig(s side, keys map[string]*ecdh.PrivateKey) string {
	return fmt.Sprintf("set=1\nprivate_key=%s\nlisten_port=%d\nreplace_peers=true\npublic_key=%s\nendpoint=%v:%d\nallowed_ip=0.0.0.0/0\n\n",
		hex.EncodeToString(keys[s.name].Bytes()), wireguardPort,
		hex.EncodeToString(keys[s.peerName].PublicKey().Bytes()), s.peerOuter, wireguardPort)
}

// tell sends a request to the socket of a wireguard and reads the answer.
func tell(socket, request string) error {
	conn, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte(request)); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if strings.TrimSpace(answer) != "errno=0" {
		return fmt.Errorf("answer %q", answer)
	}
	return nil
}

// stopWireguard removes the sockets that a killed process leaves.
func stopWireguard(b *bed) error {
	var all error
	for _, s := range b.sides() {
		if err := os.Remove(wireguardSocket(s)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	return all
}
