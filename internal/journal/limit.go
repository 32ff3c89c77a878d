package journal

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The limits of lines that say the same of the same subject.
const (
	burst    = 100              // so many at any time
	interval = 6 * time.Second  // and then one each
	subjects = 4096             // are told apart; more share one bucket
	idle     = burst * interval // after so long without a line a bucket is full again
)

// subjectKeys name what a line is about, as far as configuration and kernel give the names. A
// peer can't choose them, and so can't get another bucket.
var subjectKeys = []string{"addr", "from", "iface", "peer", "uid"}

// limits keeps a token bucket for each sentence and subject, so that whatever a peer, an unknown source or a
// child does causes a few lines only.
type limits struct {
	mu      sync.Mutex // guards what follows
	buckets map[string]*bucket
	owed    int       // buckets with a count that was not said
	swept   time.Time // when full buckets were last looked for
}

// A bucket is what is known of one sentence about one subject.
type bucket struct {
	rate     *rate.Limiter
	last     time.Time // when a line came
	about    about
	withheld uint64
}

// about is what a line says, and of whom.
type about struct {
	level    slog.Level
	sentence string
	subject  []slog.Attr
}

func newLimits() *limits { return &limits{buckets: map[string]*bucket{}} }

// subjectOf returns the attributes that name what a record is about.
func subjectOf(attrs []slog.Attr) []slog.Attr {
	var subject []slog.Attr
	for _, a := range attrs {
		if slices.Contains(subjectKeys, a.Key) {
			subject = append(subject, a)
		}
	}
	return subject
}

// free tells whether a line has no limit: one of an order that somebody with the right to do so has given.
func (a about) free() bool {
	return a.level == slog.LevelInfo && slices.ContainsFunc(a.subject, func(s slog.Attr) bool { return s.Key == "uid" })
}

func (a about) id() string {
	var b strings.Builder
	b.WriteString(a.sentence)
	for _, s := range a.subject {
		b.WriteString("\x00" + s.Key + "=" + s.Value.Resolve().String())
	}
	return b.String()
}

// allow tells whether a line may be written, and counts it otherwise. first says that it is the
// first that is not said.
func (l *limits) allow(now time.Time, a about) (ok, first bool) {
	if a.free() {
		return true, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucket(now, a)
	b.last = now
	if b.rate.AllowN(now, 1) {
		return true, false
	}
	if b.withheld++; b.withheld == 1 {
		l.owed++
	}
	return false, b.withheld == 1
}

// bucket finds or makes one. There is never more than one for those that find no place.
func (l *limits) bucket(now time.Time, a about) *bucket {
	id := a.id()
	if b := l.buckets[id]; b != nil {
		return b
	}
	if len(l.buckets) >= subjects && now.Sub(l.swept) >= interval {
		l.swept = now
		maps.DeleteFunc(l.buckets, func(_ string, b *bucket) bool { return b.withheld == 0 && now.Sub(b.last) >= idle })
	}
	if len(l.buckets) >= subjects {
		id, a = "", about{level: a.level, sentence: "others"}
		if b := l.buckets[id]; b != nil {
			return b
		}
	}
	b := &bucket{rate: rate.NewLimiter(rate.Every(interval), burst), about: a}
	l.buckets[id] = b
	return b
}

// owing tells whether there is a count to say.
func (l *limits) owing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.owed > 0
}

// withheld is how many lines about something were not written.
type withheld struct {
	about
	count uint64
}

// take returns all counts, and begins to count anew.
func (l *limits) take() []withheld {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owed == 0 {
		return nil
	}
	l.owed = 0
	var all []withheld
	for _, id := range slices.Sorted(maps.Keys(l.buckets)) {
		if b := l.buckets[id]; b.withheld > 0 {
			all = append(all, withheld{b.about, b.withheld})
			b.withheld = 0
		}
	}
	return all
}
