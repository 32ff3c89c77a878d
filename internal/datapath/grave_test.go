package datapath

import (
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/aead"
	"tund/internal/keys"
	"tund/internal/pipe"
)

// mortal is an engine whose ciphers note that they were wiped.
type mortal struct {
	aead.Engine
	made []*mortalCipher
}

type mortalCipher struct {
	aead.Cipher
	wiped bool
}

func (m *mortal) New(a keys.AEAD, key *keys.Secret) (aead.Cipher, error) {
	c, err := m.Engine.New(a, key)
	m.made = append(m.made, &mortalCipher{Cipher: c})
	return m.made[len(m.made)-1], err
}

func (c *mortalCipher) Wipe() { c.wiped = true }

func (m *mortal) wiped() (n int) {
	for _, c := range m.made {
		if c.wiped {
			n++
		}
	}
	return n
}

func TestEndedKeysAreOverwritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		engine := p.a.engine
		for id := keys.KeyID(1); id <= 3; id++ {
			p.rekey(id)
			p.reiv(id, 1)
		}
		p.a.tell(pipe.Retire{KeyID: 2, Generation: 1})
		synctest.Wait()
		if n := engine.wiped(); n != 2 || !engine.made[0].wiped || !engine.made[1].wiped {
			t.Errorf("%d ciphers were wiped, want the two of the first key", n)
		}
		deliver(t, p.a, p.b, packet(""))
		p.a.tell(pipe.Stop{})
		if err := p.a.end(); err != nil {
			t.Error(err)
		}
		if n := engine.wiped(); n != len(engine.made) {
			t.Errorf("%d of %d ciphers were wiped at the end", n, len(engine.made))
		}
	})
}

// A batch that is in work is finished with its key, which is overwritten afterwards.
func TestAKeyInUseIsOverwrittenLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		engine := p.a.engine
		p.rekey(1)
		let := make(chan struct{})
		p.a.socket.link(func([]byte) { <-let })
		p.a.device.put(packet(""))
		synctest.Wait()
		p.a.tell(pipe.Wipe{Seq: 1})
		time.Sleep(time.Second)
		if n := engine.wiped(); n != 0 {
			t.Errorf("%d ciphers were wiped while in use", n)
		}
		close(let)
		time.Sleep(time.Second)
		synctest.Wait()
		if n := engine.wiped(); n != 2 {
			t.Errorf("%d ciphers were wiped", n)
		}
	})
}
