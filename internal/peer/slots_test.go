package peer_test

import (
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/config"
	"tund/internal/ctl"
	"tund/internal/session"
)

// storm breaks sessions instead of messages that it picks at random, while datagrams pass or do not.
type storm struct {
	*two
	random *rand.Rand
	breaks atomic.Int64 // of 100 messages of an exchange
	broken atomic.Int64

	dark atomic.Bool // no datagram passes
	wild atomic.Bool // sessions break meanwhile, too
}

// mayBreak tells whether a session may break. What a broken exchange leaves while no datagram passes
// can't be confirmed, and where it is more than there is room for, it is given up (protocol.md 5.4), though the
// other side may send in it until the next exchange: only a wild storm does that.
func (s *storm) mayBreak() bool { return s.wild.Load() || !s.dark.Load() }

// lights lets datagrams pass, or not. The children repeat their PROBEs until one has passed.
func (s *storm) lights(on bool) {
	s.dark.Store(!on)
	s.wires.setCut(!on)
	if on {
		s.wires.probe()
	}
}

func (s *storm) cuts(roll func(n int) int) {
	s.cutAt(func(m session.Message) bool {
		switch m.(type) {
		case session.Rekey, session.RekeyReply, session.RekeyDone, session.Reiv, session.ReivReply, session.ReivDone:
		default:
			return false
		}
		if roll(100) >= int(s.breaks.Load()) || !s.mayBreak() {
			return false
		}
		s.broken.Add(1)
		return true
	})
}

func (s *storm) step() {
	switch s.random.IntN(8) {
	case 0:
		s.lights(s.dark.Load())
	case 1:
		s.breaks.Store(int64(s.random.IntN(100)))
	case 2:
		if s.mayBreak() {
			s.cutSessions()
		}
	case 3, 4:
		rotate(s.random.IntN(2), true)(s.two)
	case 5:
		rotate(s.random.IntN(2), false)(s.two)
	case 6:
		s.wires.probe()
	case 7:
		time.Sleep(time.Duration(s.random.IntN(15)) * time.Second)
	}
	time.Sleep(time.Duration(s.random.IntN(500)) * time.Millisecond)
}

// Whatever breaks while datagrams pass, each side holds what the other one sends in. Whatever breaks at any
// time, the children are never given more than they may hold (the fake one panics), and a new key is had at
// the end.
func TestWhatASideSendsInIsHeldWhileDatagramsPass(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTwo(t, func(side int, c *config.Peer) {
					c.KeyLifetime = 24 * time.Hour // nothing ends by its age
					if seed%2 == 0 {
						bothDial(side, c)
					}
				})
				w.takes(5 * time.Millisecond)
				s := &storm{two: w, random: rand.New(rand.NewPCG(seed, 2))}
				rolls := make(chan *rand.Rand, 1)
				rolls <- rand.New(rand.NewPCG(seed, 3))
				s.cuts(func(n int) int {
					r := <-rolls
					defer func() { rolls <- r }()
					return r.IntN(n)
				})
				w.start(0, 1)
				defer w.finish()
				w.await(5*time.Second, ctl.StateUp, 0, 1)
				for range 200 {
					s.step()
					w.mustWork()
				}
				s.wild.Store(true)
				for range 200 {
					s.step()
				}
				if s.broken.Load() < 20 {
					t.Errorf("only %d sessions were broken", s.broken.Load())
				}
				s.breaks.Store(0)
				s.lights(true)
				time.Sleep(time.Minute)
				w.wires.probe()
				time.Sleep(5 * time.Minute)
				w.await(time.Minute, ctl.StateUp, 0, 1)
				if age := w.status(0).EpochAgeS; age >= 300 {
					t.Errorf("the key is %d s old", age)
				}
				w.mustWork()
			})
		})
	}
}
