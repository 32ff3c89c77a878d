package session

import (
	"maps"
	"net/netip"
	"sync"
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

// maxSources is how many hosts, or sites, are told apart. Only so many that try at a time come
// beyond it that the limit for all has long been reached.
const maxSources = 4096

// budget bounds how many handshakes begin: of one source, and of all. It is safe for concurrent
// use.
type budget struct {
	all   *rate.Limiter
	hosts *buckets
	sites *buckets
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

// buckets hold a token bucket for each source that has taken something of late. Safe for
// concurrent use.
type buckets struct {
	perSecond rate.Limit
	burst     int

	mu    sync.Mutex
	of    map[netip.Prefix]*rate.Limiter
	swept time.Time
}

func newBuckets(perSecond rate.Limit, burst int) *buckets {
	return &buckets{perSecond: perSecond, burst: burst, of: make(map[netip.Prefix]*rate.Limiter)}
}

// take asks the bucket of a source. One that can't be told apart any more has all it wants here.
func (b *buckets) take(p netip.Prefix) bool {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sweepLocked(now)
	l := b.of[p]
	if l == nil {
		if len(b.of) >= maxSources {
			return true
		}
		l = rate.NewLimiter(b.perSecond, b.burst)
		b.of[p] = l
	}
	return l.AllowN(now, 1)
}

// sweepLocked forgets the buckets that are full again, as new ones are.
func (b *buckets) sweepLocked(now time.Time) {
	refill := time.Duration(float64(b.burst) / float64(b.perSecond) * float64(time.Second))
	if now.Sub(b.swept) < refill {
		return
	}
	b.swept = now
	maps.DeleteFunc(b.of, func(_ netip.Prefix, l *rate.Limiter) bool { return l.TokensAt(now) >= float64(b.burst) })
}
