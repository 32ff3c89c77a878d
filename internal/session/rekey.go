package session

import (
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/mlkem"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"

	"tund/internal/keys"
	"tund/internal/wire"
)

const (
	textOnePSK   = "pre-shared keys differ: one end uses one, the other none"
	textOtherPSK = "pre-shared keys differ"
)

// startRekey sends a REKEY, step 1 of protocol.md's five. It is an end to both wishes.
func (s *Session) startRekey() error {
	e := &s.exchange
	e.wantRekey, e.wantReiv = false, false
	if e.epochs.highest == math.MaxUint32 || e.ours > math.MaxUint32-2 {
		return &CloseError{Code: CloseReplaced, Text: "all numbers are used up"}
	}
	x := &exchange{kind: KindRekey, initiator: true, id: s.nextExchange(), epoch: e.epochs.highest + 1}
	e.epochs.saw(x.epoch)
	m, err := s.prepare(x)
	if err != nil {
		s.conclude(x, fmt.Errorf("start rekey: %w", err))
		return nil
	}
	data, err := Encode(m)
	if err != nil {
		return fmt.Errorf("start rekey: %w", err)
	}
	x.agreement.request = data
	e.inFlight = x
	s.progress()
	return s.out.send(data)
}

func (s *Session) prepare(x *exchange) (m Rekey, err error) {
	a := &x.agreement
	a.psk = s.psk()
	if x.index, err = s.o.Indexes.Allocate(); err != nil {
		return m, err
	}
	if a.x25519, err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
		return m, err
	}
	if a.mlkem, err = mlkem.GenerateKey768(); err != nil {
		return m, err
	}
	return Rekey{
		Exchange: x.id, Epoch: x.epoch, Index: x.index, Preshared: a.psk != nil,
		X25519: a.x25519.PublicKey().Bytes(), MLKEM: a.mlkem.EncapsulationKey().Bytes(),
	}, nil
}

// psk gives a copy of the pre-shared key that is ours to wipe, nil for none.
func (s *Session) psk() *keys.Secret {
	psk := s.o.Secrets.PSK()
	if psk == nil {
		return nil
	}
	own := *psk
	return &own
}

// answerRekey derives the keys and hands them over, step 2. The reply goes out when they
// are installed.
func (s *Session) answerRekey(x *exchange, m Rekey, data []byte) (err error) {
	x.epoch = m.Epoch
	if m.Epoch <= s.exchange.epochs.concluded {
		x.epoch = 0
		return s.abort(AbortEpoch, fmt.Sprintf("epoch %d is not new", m.Epoch))
	}
	a := &x.agreement
	a.request = data
	if a.psk = s.psk(); (a.psk != nil) != m.Preshared {
		return s.abort(AbortPSK, textOnePSK)
	}
	if x.index, err = s.o.Indexes.Allocate(); err != nil {
		return s.abort(AbortResources, "no index free")
	}
	shares, body, err := respond(m, x)
	defer shares.wipe()
	if err != nil {
		return s.abort(AbortCrypto, err.Error())
	}
	material, err := s.derive(x, shares, body)
	if err != nil {
		return s.abort(AbortCrypto, err.Error())
	}
	defer material.Wipe()
	a.next, a.tag = material.Chain, material.Tag(s.peer)
	x.reply = RekeyReply{Exchange: x.id, Body: body, Tag: material.Tag(s.self)}
	s.install(x, material, m.Index)
	return nil
}

// shares are the secrets that a REKEY agrees on.
type shares struct{ x25519, mlkem []byte }

// Format hides them.
func (shares) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[shares]") }

func (s *shares) wipe() {
	clear(s.x25519)
	clear(s.mlkem)
}

// respond does the responder's half of the agreement.
func respond(m Rekey, x *exchange) (*shares, []byte, error) {
	out := &shares{}
	theirs, err := ecdh.X25519().NewPublicKey(m.X25519)
	if err != nil {
		return out, nil, err
	}
	capsule, err := mlkem.NewEncapsulationKey768(m.MLKEM)
	if err != nil {
		return out, nil, err
	}
	own, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return out, nil, err
	}
	if out.x25519, err = own.ECDH(theirs); err != nil {
		return out, nil, err
	}
	var ciphertext []byte
	out.mlkem, ciphertext = capsule.Encapsulate()
	body, err := encodeBody(ReplyBody{X25519: own.PublicKey().Bytes(), MLKEM: ciphertext, Index: x.index})
	return out, body, err
}

// agree does the initiator's half.
func (a *agreement) agree(b ReplyBody) (*shares, error) {
	out := &shares{}
	theirs, err := ecdh.X25519().NewPublicKey(b.X25519)
	if err != nil {
		return out, err
	}
	if out.x25519, err = a.x25519.ECDH(theirs); err != nil {
		return out, err
	}
	out.mlkem, err = a.mlkem.Decapsulate(b.MLKEM)
	return out, err
}

// derive runs the key schedule of protocol.md part 3 for the exchange x.
func (s *Session) derive(x *exchange, secret *shares, body []byte) (*keys.Material, error) {
	t := keys.Transcript{
		HelloDialler: s.hellos.ours, HelloListener: s.hellos.theirs,
		Rekey: x.agreement.request, ReplyBody: body,
	}
	in := keys.Input{
		Chain: s.exchange.chain, X25519: secret.x25519, MLKEM: secret.mlkem, PSK: x.agreement.psk,
		Dialler: s.self, Listener: s.peer,
	}
	if !s.Dialled() {
		t.HelloDialler, t.HelloListener = t.HelloListener, t.HelloDialler
		in.Dialler, in.Listener = in.Listener, in.Dialler
	}
	in.TH = t.Hash()
	defer in.Chain.Wipe()
	return keys.Derive(&in)
}

// onRekeyReply checks the responder's tag and hands the keys over, step 3.
func (s *Session) onRekeyReply(m RekeyReply) error {
	x, err := s.asked(m.Exchange, KindRekey)
	if x == nil || err != nil {
		return err
	}
	body, err := decodeReplyBody(m.Body)
	if err != nil {
		return s.protocolError(err)
	}
	shares, err := x.agreement.agree(body)
	defer shares.wipe()
	if err != nil {
		return s.abort(AbortCrypto, err.Error())
	}
	material, err := s.derive(x, shares, m.Body)
	if err != nil {
		return s.abort(AbortCrypto, err.Error())
	}
	defer material.Wipe()
	if want := material.Tag(s.peer); !hmac.Equal(want[:], m.Tag[:]) {
		return s.refuseTag(x)
	}
	x.agreement.next, x.agreement.tag = material.Chain, material.Tag(s.self)
	s.advance(x)
	s.install(x, material, body.Index)
	return nil
}

// refuseTag tells what a wrong tag means. Without pre-shared keys the two ends no longer
// have the same chain, and only a new session can mend that.
func (s *Session) refuseTag(x *exchange) error {
	if x.agreement.psk != nil {
		return s.abort(AbortPSK, textOtherPSK)
	}
	if err := s.abort(AbortConfirm, "the tag of the reply is wrong"); err != nil {
		return err
	}
	return &CloseError{Code: CloseConfirm, Text: "the key schedules of the two ends have parted"}
}

// install hands the keys of x to the owner.
func (s *Session) install(x *exchange, material *keys.Material, sendIndex wire.Index) {
	x.keyID = s.o.NextKeyID()
	event := InstallKey{
		KeyID: x.keyID, Epoch: x.epoch, AEAD: s.aead,
		Send: material.Data(s.self), Receive: material.Data(s.peer),
		SendIndex: sendIndex, ReceiveIndex: x.index, Activate: x.initiator,
	}
	s.handOver(x, event)
}

// onRekeyDone is step 4, at the responder.
func (s *Session) onRekeyDone(m RekeyDone) error {
	x, err := s.replied(m.Exchange, KindRekey)
	if x == nil || err != nil {
		return err
	}
	if !hmac.Equal(x.agreement.tag[:], m.Tag[:]) {
		return s.protocolError(errors.New("the tag of REKEY_DONE is wrong"))
	}
	return s.over(x)
}
