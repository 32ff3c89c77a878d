package session

import (
	"errors"
	"fmt"
	"math"

	"tund/internal/keys"
)

var errNoEpoch = errors.New("no epoch yet")

// startReiv sends a REIV; at the last generation, a REKEY.
func (s *Session) startReiv() error {
	e := &s.exchange
	e.wantReiv = false
	if e.epoch != 0 && (e.ivs.highest+1 >= keys.MaxGeneration || e.ours > math.MaxUint32-2) {
		return s.startRekey()
	}
	x := &exchange{kind: KindReiv, initiator: true, epoch: e.epoch, generation: e.ivs.highest + 1, keyID: e.keyID}
	if e.epoch == 0 {
		s.conclude(x, fmt.Errorf("start reiv: %w", errNoEpoch))
		return nil
	}
	e.ivs.saw(x.generation)
	index, err := s.o.Indexes.Allocate()
	if err != nil {
		s.conclude(x, fmt.Errorf("start reiv: %w", err))
		return nil
	}
	x.id, x.index = s.nextExchange(), index
	e.inFlight = x
	s.progress()
	return s.send(Reiv{Exchange: x.id, Epoch: x.epoch, Generation: x.generation, Index: index})
}

func (s *Session) answerReiv(x *exchange, m Reiv) (err error) {
	e := &s.exchange
	if m.Epoch != e.epoch || m.Generation <= e.ivs.concluded {
		return s.abort(AbortEpoch, fmt.Sprintf("generation %d of epoch %d does not follow", m.Generation, m.Epoch))
	}
	x.epoch, x.generation = m.Epoch, m.Generation
	if x.index, err = s.o.Indexes.Allocate(); err != nil {
		return s.abort(AbortResources, "no index free")
	}
	x.keyID = e.keyID
	x.reply = ReivReply{Exchange: x.id, Epoch: m.Epoch, Generation: m.Generation, Index: x.index}
	s.handOver(x, InstallIV{KeyID: x.keyID, Generation: x.generation, SendIndex: m.Index, ReceiveIndex: x.index})
	return nil
}

func (s *Session) onReivReply(m ReivReply) error {
	x, err := s.asked(m.Exchange, KindReiv)
	if x == nil || err != nil {
		return err
	}
	if m.Epoch != x.epoch || m.Generation != x.generation {
		return s.protocolError(errors.New("REIV_REPLY for another generation"))
	}
	s.handOver(x, InstallIV{
		KeyID: x.keyID, Generation: x.generation,
		SendIndex: m.Index, ReceiveIndex: x.index, Activate: true,
	})
	return nil
}

func (s *Session) onReivDone(m ReivDone) error {
	x, err := s.replied(m.Exchange, KindReiv)
	if x == nil || err != nil {
		return err
	}
	if m.Epoch != x.epoch || m.Generation != x.generation {
		return s.protocolError(errors.New("REIV_DONE for another generation"))
	}
	return s.over(x)
}
