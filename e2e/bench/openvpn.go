package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// openvpn returns OpenVPN between two peers that know each other's fingerprint, with
// further options.
func openvpn(name, about string, options ...string) system {
	return system{
		name: name, about: about,
		version: printed("openvpn", "--version"),
		start:   func(b *bed) error { return startOpenVPN(b, options) },
	}
}

func startOpenVPN(b *bed, options []string) error {
	prints := map[string]string{}
	for _, s := range b.sides() {
		certificate, key, fingerprint, err := selfSigned(s.name)
		if err != nil {
			return err
		}
		s.node.WriteFile("openvpn.crt", certificate)
		s.node.WriteFile("openvpn.key", key)
		prints[s.name] = fingerprint
	}
	return b.runBoth("openvpn", func(s side) []string {
		role := []string{"--tls-server", "--dh", "none"}
		if s.first {
			role = []string{"--tls-client"}
		}
		args := []string{
			"--dev", s.device, "--dev-type", "tun", "--disable-dco", "--proto", "udp4", "--verb", "1",
			"--local", s.outer.String(), "--remote", s.peerOuter.String(), "--port", "1194",
			"--ifconfig", s.inner, s.peerInner,
			"--cert", "openvpn.crt", "--key", "openvpn.key", "--peer-fingerprint", prints[s.peerName],
			"--data-ciphers", "AES-256-GCM",
		}
		return slices.Concat(args, role, options)
	})
}

// selfSigned makes a certificate and returns it, its key, and its fingerprint.
func selfSigned(name string) (certificate, key, fingerprint string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return "", "", "", err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", "", err
	}
	sum := sha256.Sum256(der)
	certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
	return certificate, key, strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":"), nil
}
