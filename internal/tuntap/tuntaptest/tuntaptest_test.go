package tuntaptest_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"tund/internal/tuntap"
	"tund/internal/tuntap/tuntaptest"
)

func TestWaitBlocksDurablyUntilSomethingHappens(t *testing.T) {
	tests := []struct {
		name string
		act  func(p *tuntaptest.Port)
		want error
	}{
		{"a packet", func(p *tuntaptest.Port) { p.Send([]byte("packet")) }, nil},
		{"stop", (*tuntaptest.Port).Stop, tuntap.ErrStopped},
		{"removal", (*tuntaptest.Port).Remove, tuntap.ErrGone},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, err := tuntaptest.New()
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = p.Close() }()
				ended := make(chan error)
				go func() { ended <- p.Wait(-1) }()
				synctest.Wait()
				tt.act(p)
				if err := <-ended; !errors.Is(err, tt.want) {
					t.Errorf("wait: %v; want %v", err, tt.want)
				}
			})
		})
	}
}

func TestReceiveEndsWithNilWhenNothingCanCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := tuntaptest.New()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = p.Close() }()
		if _, err := p.Write([]byte("the headerlast")); err != nil {
			t.Fatal(err)
		}
		received := make(chan []byte)
		go func() {
			received <- p.Receive()
			received <- p.Receive()
		}()
		if got := <-received; string(got) != "last" {
			t.Errorf("received %q", got)
		}
		p.Stop()
		if got := <-received; got != nil {
			t.Errorf("received %q after the end", got)
		}
	})
}
