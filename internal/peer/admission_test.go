package peer_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/config"
	"tund/internal/ctl"
	"tund/internal/keys"
	"tund/internal/session"
)

// hostile is another implementation of the protocol that has the key of a side.
type hostile struct {
	w    *two
	side int // whose key it has
	open atomic.Int64
	deaf atomic.Bool       // it answers no PING
	told [256]atomic.Int64 // CLOSEs by their code
}

// connect opens a session with the other side and keeps it open as long as that does.
func (h *hostile) connect() net.Conn {
	near, far := net.Pipe()
	_, conn := session.PipeOver(near, far, h.w.nodes[h.side].identity.Public(), h.w.nodes[1-h.side].identity.Public())
	h.open.Add(1)
	go h.listen(near)
	go h.w.peers[1-h.side].Accept(context.Background(), conn)
	return near
}

// listen reads until the other side closes.
func (h *hostile) listen(conn net.Conn) {
	defer h.open.Add(-1)
	defer func() { _ = conn.Close() }()
	for {
		var head [4]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		data := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(conn, data); err != nil {
			return
		}
		m, err := session.Decode(data)
		if err != nil {
			continue
		}
		switch m := m.(type) {
		case session.Close:
			h.told[m.Code].Add(1)
		case session.Ping:
			if h.deaf.Load() {
				continue
			}
			h.send(conn, session.Pong(m))
		}
	}
}

func (h *hostile) send(conn net.Conn, m session.Message) {
	data, err := session.Encode(m)
	if err != nil {
		h.w.t.Error(err)
		return
	}
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...))
}

func (h *hostile) hello(conn net.Conn, instance byte) {
	h.send(conn, session.Hello{
		Versions: []uint16{session.Version}, Instance: [16]byte{instance}, Mode: config.ModeTUN, MTU: 1400, UDPPort: 7900,
		AEADs: []keys.AEAD{keys.AES256GCM},
	})
}

// lonely starts the right side alone, which listens, and the holder of the left one's key.
func lonely(t *testing.T, f func(t *testing.T, w *two, h *hostile)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newTwo(t, nil)
		w.start(1)
		defer w.finish()
		f(t, w, &hostile{w: w})
	})
}

func TestSilentSessionsOfAPeerAreFew(t *testing.T) {
	lonely(t, func(t *testing.T, w *two, h *hostile) {
		most := int64(0)
		for range 20_000 {
			h.connect()
			time.Sleep(time.Millisecond)
			most = max(most, h.open.Load())
		}
		if most > 10 {
			t.Errorf("%d connections were open at a time", most)
		}
		if h.told[session.CloseLimit].Load() == 0 {
			t.Error("nobody was told why")
		}
		w.start(0)
		w.await(time.Minute, ctl.StateUp, 0, 1)
		w.mustWork()
	})
}

func TestSessionsThatAreEstablishedOneAfterAnotherAreFew(t *testing.T) {
	lonely(t, func(t *testing.T, _ *two, h *hostile) {
		most := int64(0)
		for range 20_000 {
			conn := h.connect()
			go h.hello(conn, 9)
			time.Sleep(time.Millisecond)
			most = max(most, h.open.Load())
		}
		if most > 80 {
			t.Errorf("%d connections were open at a time", most)
		}
	})
}

// Whoever has exceeded what is granted is not heard for a while, each time longer, and then is.
func TestAPeerThatExceedsItsAllowanceIsShutOutForAWhile(t *testing.T) {
	lonely(t, func(t *testing.T, w *two, h *hostile) {
		for _, pause := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute} {
			conn := h.connect()
			h.hello(conn, 9)
			for range 1000 {
				h.send(conn, session.Ping{})
				time.Sleep(time.Millisecond)
			}
			time.Sleep(5 * time.Second)
			if n := h.open.Load(); n != 0 {
				t.Fatalf("%d connections are open", n)
			}
			if h.told[session.CloseLimit].Swap(0) == 0 {
				t.Error("it was not told why")
			}
			h.connect()
			time.Sleep(3 * time.Second)
			if h.open.Load() != 0 || h.told[session.CloseLimit].Swap(0) == 0 {
				t.Error("a session is accepted at once")
			}
			time.Sleep(pause)
		}
		w.start(0)
		w.await(5*time.Minute, ctl.StateUp, 0, 1)
	})
}

// watchLimits counts the CLOSEs over a limit that two peers send each other.
func (w *two) watchLimits() *atomic.Int64 {
	count := new(atomic.Int64)
	w.cutAt(func(m session.Message) bool {
		if c, ok := m.(session.Close); ok && c.Code == session.CloseLimit {
			count.Add(1)
		}
		return false
	})
	return count
}

func TestAdministratorsWhoRotateInALoopMeetNoLimit(t *testing.T) {
	for name, rotate := range map[string]func(w *two, side int){
		"keys": func(w *two, side int) { w.peers[side].RotateKey(context.Background()) },
		"IVs":  func(w *two, side int) { w.peers[side].RotateIV(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTwo(t, bothDial)
				w.latency = func() time.Duration { return time.Millisecond }
				limits := w.watchLimits()
				w.start(0, 1)
				defer w.finish()
				w.await(5*time.Second, ctl.StateUp, 0, 1)
				sessions := w.connections()
				end := time.Now().Add(10 * time.Minute)
				done := make(chan struct{}, 2)
				for side := range 2 {
					go func() {
						for time.Now().Before(end) {
							rotate(w, side)
							time.Sleep(time.Millisecond)
						}
						done <- struct{}{}
					}()
				}
				<-done
				<-done
				if n := limits.Load(); n != 0 || w.connections() != sessions {
					t.Errorf("%d sessions were closed for a limit, %d were made", n, w.connections()-sessions)
				}
				w.await(time.Minute, ctl.StateUp, 0, 1)
			})
		})
	}
}

// An exchange that fails leaves no slot behind, whose room the next one would have to wait for.
func TestAnAdministratorWhoseRotationsFailMeetsNoLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwo(t, nil)
		w.latency = func() time.Duration { return time.Millisecond }
		limits := w.watchLimits()
		w.start(0, 1)
		defer w.finish()
		w.await(5*time.Second, ctl.StateUp, 0, 1)
		psk := keys.Secret{7}
		c := w.config(0, func(c *config.Peer) { c.PresharedKey = &psk })
		if err := w.peers[0].Update(t.Context(), c, live("preshared_key_file")); err != nil {
			t.Fatal(err)
		}
		failed := 0
		for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if w.peers[0].RotateKey(t.Context()).Result == ctl.ResultFailed {
				failed++
			}
		}
		if n := limits.Load(); n != 0 || w.connections() != 1 {
			t.Errorf("%d sessions were closed for a limit, %d were made", n, w.connections())
		}
		if failed < 60 {
			t.Errorf("only %d rotations have had an answer", failed)
		}
		w.mustWork()
	})
}

// A network that breaks each session soon after its first exchange makes both dial again and again.
func TestASessionThatBreaksAgainAndAgainMeetsNoLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwo(t, bothDial)
		w.latency = func() time.Duration { return time.Millisecond }
		limits := w.watchLimits()
		w.start(0, 1)
		defer w.finish()
		for range 3000 {
			time.Sleep(100 * time.Millisecond)
			w.cutSessions()
		}
		if n := limits.Load(); n != 0 {
			t.Errorf("%d sessions were closed for a limit", n)
		}
		w.await(time.Minute, ctl.StateUp, 0, 1)
		w.mustWork()
	})
}

// Each start is a program that knows nothing of the sessions of the one before.
func TestRestartsInALoopMeetNoLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwo(t, bothDial)
		w.latency = func() time.Duration { return time.Millisecond }
		limits := w.watchLimits()
		w.start(0, 1)
		defer w.finish()
		for instance := range byte(200) {
			time.Sleep(200 * time.Millisecond) // a program that starts, and its child, take longer
			w.wires.probe()
			w.await(10*time.Second, ctl.StateUp, 0)
			cfg := w.peers[0].Config()
			w.stop[0](errors.New("restart"))
			<-w.ended[0]
			w.nodes[0].instance[0] = instance + 10
			w.peers[0] = w.newPeer(0, cfg)
			w.start(0)
		}
		if n := limits.Load(); n != 0 {
			t.Errorf("%d sessions were closed for a limit", n)
		}
		w.await(time.Minute, ctl.StateUp, 0, 1)
	})
}

func TestAChildThatCrashesAgainAndAgainMeetsNoLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwo(t, nil)
		w.latency = func() time.Duration { return time.Millisecond }
		limits := w.watchLimits()
		w.start(0, 1)
		defer w.finish()
		w.await(5*time.Second, ctl.StateUp, 0, 1)
		for range 200 { // a supervisor starts no more
			w.wires.end(0).crash()
			time.Sleep(10 * time.Second)
		}
		if n := limits.Load(); n != 0 || w.connections() != 1 {
			t.Errorf("%d sessions were closed for a limit, %d were made", n, w.connections())
		}
		w.await(time.Minute, ctl.StateUp, 0, 1)
	})
}
