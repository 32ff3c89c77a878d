package peer

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"tund/internal/config"
	"tund/internal/keys"
	"tund/internal/pipe"
)

func TestNothingThatHoldsAKeyCanBePrinted(t *testing.T) {
	p, _ := bare()
	psk := keys.Secret{0xab, 0xcd, 0xef, 0x12}
	secret := keys.DataKey{Key: psk, IV: [12]byte{0xab, 0xcd, 0xef, 0x12}}
	var message pipe.Message = &pipe.InstallKey{Send: secret, Receive: secret}
	o := order{message: &message}
	p.cfg = config.Peer{PresharedKey: &psk}
	p.o.Config = p.cfg
	p.psk.Store(&psk)
	p.child.waiting, p.child.pending = []order{o}, []order{o}
	for _, value := range []any{
		p,
		&p.child, p.child, o, &o, p.child.waiting, &p.cfg, p.cfg, &p.o, p.o,
		&p.links, bareLink(testIdentity()), &p.ring, &p.psk,
		&try{identity: testIdentity()},
		try{identity: testIdentity()},
	} {
		texts := []string{logged(value)}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			texts = append(texts, fmt.Sprintf(verb, value))
		}
		for _, text := range texts {
			for _, mark := range []string{"171 205 239", "abcdef12", "ABCDEF12", "0xab, 0xcd", "q83vE"} {
				if strings.Contains(text, mark) {
					t.Errorf("%T shows a key: %.200s", value, text)
				}
			}
		}
	}
}

func logged(value any) string {
	var text strings.Builder
	slog.New(slog.NewTextHandler(&text, nil)).Info("value", "value", value)
	slog.New(slog.NewJSONHandler(&text, nil)).Info("value", "value", value)
	return text.String()
}
