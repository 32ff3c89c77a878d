package session

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestSourcesAreForgottenWhenTheyHaveTheirShareAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBuckets(hostPerSecond, hostBurst)
		for n := range maxSources {
			b.take(sourceOf(addr4(n)).host)
		}
		for range hostBurst {
			b.take(sourceOf(addr4(1)).host)
		}
		if b.take(sourceOf(addr4(1)).host) || !b.take(sourceOf(addr4(maxSources)).host) {
			t.Error("a source beyond its burst got something, or a new one nothing")
		}
		if len(b.of) != maxSources {
			t.Errorf("%d sources are told apart", len(b.of))
		}
		time.Sleep(time.Hour)
		b.take(sourceOf(addr4(5)).host)
		if len(b.of) != 1 {
			t.Errorf("%d sources are still remembered", len(b.of))
		}
	})
}

func TestEachSourceHasABucketOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1000, 1_000_000)
		for n := range 2000 {
			for take := range hostBurst + 1 {
				if got := b.take(sourceOf(addr4(n))); got != (take < hostBurst) {
					t.Fatalf("source %d, take %d: %t", n, take, got)
				}
			}
		}
	})
}
