package session

import (
	"hash/maphash"
	"net/netip"
	"time"

	"golang.org/x/time/rate"
)

// What the TLS handshakes of those who have not authenticated may cost: each takes half a
// millisecond of a processor for key agreement and signature, and its client has answerLimit to
// answer. The two rates together are a tenth of a processor.
const (
	handshakesPerSecond = 64
	handshakeBurst      = 128
	preferredPerSecond  = 128
	preferredBurst      = 128

	hostPerSecond = 4 // of one IPv4 address or IPv6 /64
	hostBurst     = 16
	sitePerSecond = 16 // of one IPv6 /48
	siteBurst     = 64

	answerSeconds = 2
	// answerLimit is the time from our answer to the client's last message.
	answerLimit = answerSeconds * time.Second
)

// sourceBuckets is how many token buckets the sources share, so that strangers with many addresses
// need no memory. Which one a source has is a secret of this run.
const sourceBuckets = 512

// budget bounds how many handshakes begin: of one source, and of all. It is safe for concurrent
// use.
type budget struct {
	all   *rate.Limiter
	hosts buckets
	sites buckets
}

func newBudget(perSecond rate.Limit, burst int) *budget {
	return &budget{
		all:   rate.NewLimiter(perSecond, burst),
		hosts: newBuckets(hostPerSecond, hostBurst),
		sites: newBuckets(sitePerSecond, siteBurst),
	}
}

// take asks for one handshake. What a source has used up it takes from nobody else.
func (b *budget) take(s source) bool {
	return b.hosts.take(s.host) && (!s.site.IsValid() || b.sites.take(s.site)) && b.all.Allow()
}

type buckets struct {
	seed maphash.Seed
	of   [sourceBuckets]*rate.Limiter
}

func newBuckets(perSecond rate.Limit, burst int) buckets {
	b := buckets{seed: maphash.MakeSeed()}
	for i := range b.of {
		b.of[i] = rate.NewLimiter(perSecond, burst)
	}
	return b
}

func (b *buckets) take(p netip.Prefix) bool {
	return b.of[maphash.Comparable(b.seed, p)%sourceBuckets].Allow()
}
