package peer_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/config"
	"tund/internal/ctl"
	"tund/internal/keys"
)

// chaos does harm to two peers, as a row of random numbers says.
type chaos struct {
	*two
	random  *rand.Rand
	wg      sync.WaitGroup
	ended   chan struct{}
	reloads chan struct{} // room for one at a time, as in a daemon; a lock would stop the clock
}

// upTo is a random time, mostly a short one.
func (c *chaos) upTo(limit time.Duration) time.Duration {
	return time.Duration(float64(limit) * c.random.Float64() * c.random.Float64())
}

// harms are what may happen, each to a side.
func (c *chaos) harm(side int) string {
	switch c.random.IntN(10) {
	case 0:
		c.cutSessions()
		return "cut sessions"
	case 1, 2:
		c.crash(side)
		return "crash"
	case 3, 4:
		c.background(func(ctx context.Context) { c.peers[side].RotateKey(ctx) })
		return "rotate key"
	case 5:
		c.background(func(ctx context.Context) { c.peers[side].RotateIV(ctx) })
		return "rotate iv"
	case 6:
		c.wires.mu.Lock()
		defer c.wires.mu.Unlock()
		c.wires.cut = !c.wires.cut
		return fmt.Sprintf("data cut: %t", c.wires.cut)
	case 7:
		lifetime := time.Hour + time.Duration(c.random.IntN(1000))*time.Second
		c.reload(func(cfg *config.Peer) { cfg.KeyLifetime = lifetime }, side)
		return "key lifetime"
	case 8:
		psk := keys.GenerateSecret()
		c.reload(func(cfg *config.Peer) { cfg.PresharedKey = &psk }, side, 1-side)
		return "pre-shared key"
	default:
		port := uint16(1 + c.random.IntN(60000))
		c.reload(func(cfg *config.Peer) { cfg.Endpoints = []config.Endpoint{{Host: "192.0.2.2", Port: port}} }, 0)
		return "endpoint"
	}
}

// reload changes one side after the other.
func (c *chaos) reload(change func(*config.Peer), sides ...int) {
	c.background(func(ctx context.Context) {
		c.reloads <- struct{}{}
		defer func() { <-c.reloads }()
		for _, side := range sides {
			if err := c.peers[side].Update(ctx, c.config(side, change), live()); err != nil {
				c.t.Error(err)
			}
		}
	})
}

// background does not wait for an answer.
func (c *chaos) background(f func(context.Context)) {
	c.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
		defer cancel()
		f(ctx)
	})
}

// crash kills a child; the next one comes after a while.
func (c *chaos) crash(side int) {
	end := c.wires.end(side)
	if end == nil || !end.alive() {
		return
	}
	end.die()
	pause := c.upTo(400 * time.Millisecond)
	c.wg.Go(func() {
		time.Sleep(pause)
		end.revive()
	})
}

func (t *fakeTunnel) alive() bool {
	t.pair.mu.Lock()
	defer t.pair.mu.Unlock()
	return t.number != 0
}

// live counts the indexes of a node that are taken, while all else stands still. Giving
// back none takes the lock, so that the race detector sees an order.
func (n *fakeNode) live() (count int) {
	n.indexes.Release(0)
	defer n.indexes.Release(0)
	taken := reflect.ValueOf(n.indexes).Elem().FieldByName("taken")
	for i := taken.MapRange(); i.Next(); {
		if i.Value().Bool() {
			count++
		}
	}
	return count
}

// mustBeWell is what must hold soon after the last harm. Where so many keys came that
// all slots are taken, an exchange is in flight until one is retired.
func (c *chaos) mustBeWell() {
	c.t.Helper()
	for _, pause := range []time.Duration{0, 15 * time.Second} { // all that is old has been retired then
		time.Sleep(pause)
		c.eventually("pass data", func(side int) bool {
			s := c.status(side).State
			return s == ctl.StateUp || s == ctl.StateRekeying
		})
		c.mustWork()
	}
	c.eventually("have an index for each slot", func(side int) bool {
		synctest.Wait()
		slots, _, _ := c.two.end(side)
		return c.nodes[side].live() == slots // but while an exchange is in flight
	})
	for side := range 2 {
		if end := c.wires.end(side); end.inForce.KeyLifetime != end.configured.KeyLifetime {
			c.t.Errorf("side %d: the child has a configuration that is not in force", side)
		}
	}
}

// eventually waits up to 5 s for both sides.
func (c *chaos) eventually(what string, well func(side int) bool) {
	c.t.Helper()
	for side := range 2 {
		for tries := 0; !well(side); tries++ {
			if tries == 50 {
				s := c.status(side)
				c.t.Errorf("side %d does not %s: %s (%s)", side, what, s.State, s.LastError)
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// newChaos starts two peers of which everything takes up to 20 ms.
func newChaos(t *testing.T, seed uint64) *chaos {
	c := &chaos{random: rand.New(rand.NewPCG(seed, 0)), ended: make(chan struct{}), reloads: make(chan struct{}, 1)}
	pause := rand.New(rand.NewPCG(seed, 1))
	var mu sync.Mutex
	delay := func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(pause.IntN(20)) * time.Millisecond
	}
	c.two = newTwo(t, func(_ int, cfg *config.Peer) {
		if seed%2 == 0 { // both dial
			cfg.Endpoints = []config.Endpoint{{Host: "192.0.2.2", Port: 7900}}
		}
		cfg.RekeyInterval = time.Duration(5+c.random.IntN(60)) * time.Second
	})
	c.latency, c.wires.delay = delay, func(int) time.Duration { return delay() }
	c.start(0, 1)
	c.wg.Go(c.probe)
	return c
}

// probe lets the children send now and then, until the end.
func (c *chaos) probe() {
	for {
		select {
		case <-c.ended:
			return
		case <-time.After(250 * time.Millisecond):
			c.wires.probe()
		}
	}
}

// round does harm for some seconds, then looks whether all is well again.
func (c *chaos) round() {
	var done []string
	for range 1 + c.random.IntN(8) {
		time.Sleep(c.upTo(500 * time.Millisecond))
		side := c.random.IntN(2)
		done = append(done, fmt.Sprintf("%d %s", side, c.harm(side)))
	}
	c.wires.mu.Lock()
	c.wires.cut = false
	c.wires.mu.Unlock()
	time.Sleep(500 * time.Millisecond) // the next child is there
	c.mustBeWell()
	if c.t.Failed() {
		c.t.Fatalf("after %q", done)
	}
}

func (c *chaos) end() {
	close(c.ended)
	c.wg.Wait()
	c.finish()
	synctest.Wait()
	for side := range 2 {
		if live := c.nodes[side].live(); live != 0 {
			c.t.Errorf("side %d: %d indexes are taken after the end", side, live)
		}
	}
}

func TestWhateverHappensBothComeUpAgain(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newChaos(t, seed)
				defer c.end()
				for range 10 {
					c.round()
				}
			})
		})
	}
}
