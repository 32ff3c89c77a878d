package datapath

import (
	"math"
	"slices"
	"time"

	"tund/internal/pipe"
	"tund/internal/wire"
)

// Times of the probes.
const (
	testInterval = 200 * time.Millisecond // between the requests of one SendProbe
	testPatience = time.Second            // until it has failed
	maxTests     = 16                     // SendProbes at once; more fail at once
	never        = time.Duration(math.MaxInt64)
)

// confirmSteps are the pauses between probes in a slot in which nothing was received
// yet; the last one repeats.
var confirmSteps = [...]time.Duration{
	250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
}

// prober sends probes and takes their answers, for three purposes:
//
//   - to confirm a slot after sending was switched to it, until it is heard
//   - to keep the way open, and know that it is, when nothing else was sent or came for
//     a while
//   - to measure, when the parent asks
//
// It belongs to control, which calls tick whenever next is reached.
type prober struct {
	*shared
	in    *inboundCounters
	probe sealed

	keepalive time.Duration // 0: none
	asked     time.Duration // when a request was last tried

	confirming *slot // nil: none
	step       int
	confirmAt  time.Duration

	requests [32]request // the last ones, by id
	lastID   uint64
	tests    []test
	rtt      time.Duration // last measured
}

// request is a probe that may still be answered.
type request struct {
	id   uint64
	at   time.Duration
	test bool
	of   uint64 // the SendProbe it belongs to, if test
}

// test is a SendProbe that is under way.
type test struct {
	id    uint64
	again time.Duration
	end   time.Duration
}

// switched begins to confirm the slot that is now sent with.
func (p *prober) switched(s *slot, now time.Duration) {
	p.confirming, p.step, p.confirmAt = s, 0, now
}

// measure begins a SendProbe. It is false if too many are under way.
func (p *prober) measure(id uint64, now time.Duration) bool {
	if len(p.tests) >= maxTests {
		return false
	}
	p.tests = append(p.tests, test{id: id, again: now, end: now + testPatience})
	return true
}

// next returns when tick has something to do.
func (p *prober) next() time.Duration {
	at := never
	if p.confirming != nil {
		at = p.confirmAt
	}
	for _, t := range p.tests {
		at = min(at, t.again, t.end)
	}
	return min(at, p.keepaliveAt())
}

// keepaliveAt returns when silence has lasted long enough, either way: a peer that only
// listens gives a sign of life by its answer.
func (p *prober) keepaliveAt() time.Duration {
	if p.keepalive == 0 || p.table.Load().send == nil {
		return never
	}
	silent := min(p.lastSent.Load(), p.in.last.Load())
	return max(time.Duration(silent), p.asked) + p.keepalive
}

// tick sends what is due and returns the tests that have failed.
func (p *prober) tick(now time.Duration) []pipe.ProbeResult {
	p.confirm(now)
	failed := p.retest(now)
	if now >= p.keepaliveAt() {
		p.ask(request{at: now})
	}
	return failed
}

// confirm probes in a new slot until it was heard or is no longer the sending one.
func (p *prober) confirm(now time.Duration) {
	if p.confirming == nil || now < p.confirmAt {
		return
	}
	if p.confirming != p.table.Load().send || p.step > 0 && p.confirming.heard.Load() {
		p.confirming = nil
		return
	}
	p.ask(request{at: now})
	p.confirmAt = now + confirmSteps[min(p.step, len(confirmSteps)-1)]
	p.step++
}

func (p *prober) retest(now time.Duration) []pipe.ProbeResult {
	var failed []pipe.ProbeResult
	p.tests = slices.DeleteFunc(p.tests, func(t test) bool {
		over := now >= t.end
		if over {
			failed = append(failed, p.result(t.id))
		}
		return over
	})
	for i := range p.tests {
		if t := &p.tests[i]; now >= t.again {
			t.again = now + testInterval
			p.ask(request{at: now, test: true, of: t.id})
		}
	}
	return failed
}

// ask sends one request in the sending slot, if there is one.
func (p *prober) ask(r request) {
	p.asked = r.at
	t := p.table.Load()
	if t.send == nil || t.expired(t.send.epoch, r.at) {
		return
	}
	p.lastID++
	r.id = p.lastID
	p.requests[r.id%uint64(len(p.requests))] = r
	datagram, ok := p.probe.seal(p.shared, t.send, wire.Probe{
		Kind: wire.ProbeRequest, ID: r.id, Stamp: uint64(r.at),
		Received: p.in.received.Load(), Missing: p.in.missing.Load(),
	})
	if ok {
		p.transmit(datagram, r.at)
	}
}

// answer takes an answer. It returns true with the result of a test that it ends.
func (p *prober) answer(a answered) (pipe.ProbeResult, bool) {
	r := &p.requests[a.probe.ID%uint64(len(p.requests))]
	if r.id == 0 || r.id != a.probe.ID || uint64(r.at) != a.probe.Stamp {
		return pipe.ProbeResult{}, false
	}
	p.rtt = max(a.at-r.at, 1) // 0 would mean unknown
	ended := *r
	*r = request{}
	of := func(t test) bool { return ended.test && t.id == ended.of }
	if !slices.ContainsFunc(p.tests, of) {
		return pipe.ProbeResult{}, false
	}
	p.tests = slices.DeleteFunc(p.tests, of)
	m := p.result(ended.of)
	m.OK, m.RTT = true, p.rtt
	m.Received, m.Missing = a.probe.Received, a.probe.Missing
	return m, true
}

// result is a failed test's, with this side's totals.
func (p *prober) result(id uint64) pipe.ProbeResult {
	return pipe.ProbeResult{ID: id, LocalReceived: p.in.received.Load(), LocalMissing: p.in.missing.Load()}
}
