package datapath

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"tund/internal/pipe"
)

func TestKeysOfTheKeyringAreNeverPrinted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		synctest.Wait()
		c := p.a.path.control
		s := c.keyring.sending
		e := s.epoch
		secrets := [][]byte{e.send.key.Key[:6], e.receive.key.Key[16:22], e.send.key.IV[6:]}
		ring := keyring{slots: []*slot{s}, sending: s, dead: []*epoch{e}}
		all := []any{
			s, e, &e.send, &e.receive,
			[]*slot{s},
			[]*epoch{e},
			map[int]*slot{1: s},
			struct{ S *slot }{s},
			struct{ s *slot }{s},
			&ring,
			struct{ K *keyring }{&ring},
			c.table.Load(),
			&group{slot: s},
			grave{epoch: e},
			&grave{epoch: e},
			[]grave{{epoch: e}},
			c,
			p.a.path,
			struct{ D *Datapath }{p.a.path},
		}
		for _, v := range all {
			for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%X", "%s", "%q", "%d", "%o", "%b", "%U", "%t", "%e", "%z"} {
				if text := fmt.Sprintf(verb, v); shows(text, secrets) {
					t.Errorf("%s of %T shows a key: %.200s", verb, v, text)
				}
			}
		}
	})
}

// shows says whether a text has the bytes of a secret in it, in any way that fmt may write them.
func shows(text string, secrets [][]byte) bool {
	for _, secret := range secrets {
		for _, form := range []string{"%d", "%x", "%X", "%#x", "% x", "%s", "%q", "%o", "%b", "%U", "%v", "%#v", "%t", "%e", "%z"} {
			printed := strings.Trim(strings.TrimPrefix(fmt.Sprintf(form, secret), "[]byte"), "[]{}\"")
			if len(printed) > 3 && strings.Contains(text, printed) {
				return true
			}
		}
	}
	return false
}
