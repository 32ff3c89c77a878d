package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"
)

// tincSettle is how long tinc seeks the path's MTU; until then it sends over TCP.
const tincSettle = 4 * time.Second

// tinc returns tinc 1.0 with its defaults.
func tinc() system {
	return system{
		name: "tinc", about: "its own defaults, mode router",
		version: printed("tincd", "--version"),
		start:   startTinc,
		settle:  tincSettle,
	}
}

func startTinc(b *bed) error {
	publics := map[string]string{}
	for _, s := range b.sides() {
		private, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return err
		}
		s.node.WriteFile("tinc/rsa_key.priv", string(pem.EncodeToMemory(
			&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)})))
		publics[s.name] = string(pem.EncodeToMemory(
			&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&private.PublicKey)}))
	}
	for _, s := range b.sides() {
		config := fmt.Sprintf("Name = %s\nInterface = %s\nDeviceType = tun\nMode = router\nAddressFamily = ipv4\n", s.name, s.device)
		if s.first {
			config += "ConnectTo = " + s.peerName + "\n"
		}
		s.node.WriteFile("tinc/tinc.conf", config)
		for _, host := range b.sides() {
			s.node.WriteFile("tinc/hosts/"+host.name, fmt.Sprintf("Address = %v\nSubnet = %s/32\n%s", host.outer, host.inner, publics[host.name]))
		}
	}
	err := b.runBoth("tincd", func(s side) []string {
		return []string{"-D", "-c", s.node.Path("tinc"), "--pidfile=" + s.node.Path("tinc.pid")}
	})
	if err != nil {
		return err
	}
	return b.addresses()
}
