package peer_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/config"
	"tund/internal/ctl"
)

func bothDial(_ int, c *config.Peer) {
	c.Endpoints = []config.Endpoint{{Host: "192.0.2.2", Port: 7900}}
}

func TestTwoDialsMayCrossInAnyWay(t *testing.T) {
	for later := -200 * time.Millisecond; later <= 200*time.Millisecond; later += 5 * time.Millisecond {
		t.Run(later.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTwo(t, bothDial)
				w.takes(10 * time.Millisecond)
				w.late = [2]time.Duration{max(later, 0), max(-later, 0)}
				w.start(0, 1)
				defer w.finish()
				w.await(time.Second, ctl.StateUp, 0, 1)
				for range 20 {
					time.Sleep(time.Second)
					w.await(100*time.Millisecond, ctl.StateUp, 0, 1)
				}
				w.mustWork()
				if n := w.connections(); n > 2 {
					t.Errorf("%d connections", n)
				}
			})
		})
	}
}

func TestARestartedNodeReplacesTheSessionThatNobodyClosed(t *testing.T) {
	for name, adjust := range map[string]func(int, *config.Peer){
		"both dial": bothDial,
		"it dials": func(side int, c *config.Peer) {
			c.Endpoints = nil
			if side == 1 {
				bothDial(side, c)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for range 4 { // either may have the smaller key
				synctest.Test(t, func(t *testing.T) {
					w := newTwo(t, adjust)
					w.latency = func() time.Duration { return 10 * time.Millisecond }
					w.start(0, 1)
					defer w.finish()
					w.await(time.Second, ctl.StateUp, 0, 1)
					w.gag()
					cfg := w.peers[1].Config()
					w.stop[1](nil)
					<-w.ended[1]
					w.nodes[1].instance[0] = 77
					w.peers[1] = w.newPeer(1, cfg)
					w.start(1)
					w.await(time.Second, ctl.StateUp, 1, 0)
					time.Sleep(20 * time.Second)
					w.await(0, ctl.StateUp, 0, 1)
					w.mustWork()
				})
			}
		})
	}
}

// The session may be there before a child is, which then has no key. The first exchange
// brings one to both sides, whoever waits for it: none is left to be begun.
func TestTheFirstExchangeServesBothSides(t *testing.T) {
	for side := range 2 {
		for late := time.Duration(0); late <= 150*time.Millisecond; late += 5 * time.Millisecond {
			t.Run(fmt.Sprintf("the child of side %d is there after %s", side, late), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newTwo(t, bothDial)
					w.takes(10 * time.Millisecond)
					w.wires.delay = func(of int) time.Duration {
						if of == side {
							return late
						}
						return 0
					}
					w.start(0, 1)
					defer w.finish()
					w.await(time.Second, ctl.StateUp, 0, 1)
					time.Sleep(30 * time.Second)
					for s := range 2 {
						if epoch := w.status(s).Epoch; epoch != 1 {
							t.Errorf("side %d: epoch %d", s, epoch)
						}
					}
				})
			})
		}
	}
}
