package session

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"time"

	"tund/internal/keys"
)

var (
	errOwnKey     = errors.New("peer has our own public key")
	errUnknownKey = errors.New("unknown public key")
)

// WrongKeyError tells that the node at the other end has another key than the one that was
// dialled.
type WrongKeyError struct{ Got, Want keys.PublicKey }

func (e *WrongKeyError) Error() string {
	return fmt.Sprintf("peer has public key %s, not %s", e.Got, e.Want)
}

// tlsConfig is what both sides have in common. The certificate is only a vessel for the
// public key: nothing else in it counts, neither names nor dates.
func tlsConfig(id *keys.Identity) (*tls.Config, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	signer := id.Signer()
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	return &tls.Config{
		Certificates:           []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: signer}},
		MinVersion:             tls.VersionTLS13,
		MaxVersion:             tls.VersionTLS13,
		CurvePreferences:       []tls.CurveID{tls.X25519MLKEM768},
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // VerifyConnection compares the pinned key instead
		ClientAuth:             tls.RequireAnyClientCert,
	}, nil
}

// clientConfig accepts the one peer that is dialled.
func clientConfig(id *keys.Identity, peer keys.PublicKey) (*tls.Config, error) {
	config, err := tlsConfig(id)
	if err != nil {
		return nil, err
	}
	config.VerifyConnection = func(state tls.ConnectionState) error {
		got, err := provenKey(state)
		if err != nil {
			return err
		}
		if subtle.ConstantTimeCompare(got[:], peer[:]) != 1 {
			return &WrongKeyError{Got: got, Want: peer}
		}
		return nil
	}
	return config, nil
}

// serverConfig accepts every node that has a key of the right kind: TLS shows it the certificate
// before the proof of possession, so whether the key is known is asked only after the handshake.
func serverConfig(id *keys.Identity) (*tls.Config, error) {
	config, err := tlsConfig(id)
	if err != nil {
		return nil, err
	}
	config.VerifyConnection = func(state tls.ConnectionState) error {
		_, err := provenKey(state)
		return err
	}
	return config, nil
}

// provenKey is the public key whose owner the other end is.
func provenKey(state tls.ConnectionState) (key keys.PublicKey, err error) {
	if len(state.PeerCertificates) != 1 {
		return key, fmt.Errorf("peer sent %d certificates, not one", len(state.PeerCertificates))
	}
	public, ok := state.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok || len(public) != len(key) {
		return key, errors.New("peer's certificate has no Ed25519 key")
	}
	copy(key[:], public)
	return key, nil
}
