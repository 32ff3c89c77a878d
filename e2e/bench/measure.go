package main

import (
	"errors"
	"fmt"
	"time"

	"tund/e2e/lab"
)

const (
	// How many requests are sent, and how far apart.
	idlePings     = 100
	idleDistance  = 10 * time.Millisecond
	loadDistance  = 5 * time.Millisecond
	loadLead      = 500 * time.Millisecond // until a stream has found its rate
	bursts        = 20
	burstSize     = 64
	lossPercent   = 1
	segmentedMost = 1514 // bytes of a packet on a wire that segments, with its Ethernet header
)

// measurement yields some metrics of the system that is up.
type measurement struct {
	name string
	take func(*take) error
}

func (m measurement) id() string { return m.name }

// measurements returns all of them in the order in which they are taken: what idle
// means is asked before the first load, and losses come last: where a system lets the
// wire carry IP fragments, incomplete ones fill the receiver's memory for half a minute.
func measurements() []measurement {
	return []measurement{
		{"idle", idle},
		{"tcp1", tcpOne},
		{"tcp4", tcp("tcp4", "-P", "4")},
		{"reverse", tcp("reverse", "-R")},
		{"both", bothWays},
		{"load", pingUnderLoad},
		{"profile", profile},
		{"udp64", udp("udp64", 64, 1e-3)},
		{"udp1200", udp("udp1200", 1200, 1200*8/1e9)},
		{"burst", burst},
		{"segmented", segmented(tcpSegmented)},
		{"segmented-tcp4", segmented(tcp("tcp4", "-P", "4"))},
		{"segmented-reverse", segmented(tcp("reverse", "-R"))},
		{"segmented-both", segmented(bothWays)},
		{"segmented-load", segmented(pingUnderLoad)},
		{"segmented-udp64", segmented(udp("udp64", 64, 1e-3))},
		{"segmented-udp1200", segmented(udp("udp1200", 1200, 1200*8/1e9))},
		{"segmented-burst", segmented(burst)},
		{"loss", loss},
		{"segmented-loss", segmented(loss)},
	}
}

// take is one system in one round, being measured.
type take struct {
	*bed
	results *results
	system  system
	round   int
	seconds int
	wire    string // what metrics begin with: onSegmenting, or nothing
}

// onSegmenting is how the names of metrics begin that are taken over a wire that segments.
const onSegmenting = "segmented-"

// found notes a value.
func (t *take) found(key string, value float64) {
	t.results.add(t.system.name, t.wire+key, t.round, value)
}

// last returns the value that was noted last in this round or one before, 0 if none was.
func (t *take) last(key string) float64 { return t.results.last(t.system.name, t.wire+key) }

// failed notes that a measurement has no value.
func (t *take) failed(what string, err error) {
	if t.stage.ctx.Err() != nil {
		return // interrupted: everything fails
	}
	problem := fmt.Sprintf("%s, round %d, %s: %v", t.system.name, t.round+1, what, err)
	t.stage.say("FAILED: %s", problem)
	t.results.problems = append(t.results.problems, problem)
}

func idle(t *take) error {
	times, lost := t.pair.Alpha.PingTimes(t.system.address(t.bed), idlePings, idleDistance)
	if len(times) == 0 {
		return errors.New("no ping was answered")
	}
	t.found("ping-idle", micros(percentile(times, 50)))
	if err := t.memory("idle"); err != nil {
		return err
	}
	if lost > 0 {
		return fmt.Errorf("%d of %d pings lost; the values count", lost, idlePings)
	}
	return nil
}

// memory measures the processes of the tunnel: all together, and the one at alpha that
// moves packets, which is tund's child, and the only one where there are no children.
func (t *take) memory(state string) error {
	sum, carrier := uint64(0), uint64(0)
	for _, n := range []*lab.Node{t.pair.Alpha, t.pair.Beta} {
		for _, pid := range t.tunnelProcesses(n) {
			pss, err := lab.PSS(pid)
			if err != nil {
				return err
			}
			sum += pss
			if n == t.pair.Alpha && (carrier == 0 || isChild(pid)) {
				carrier = pss
			}
		}
	}
	if sum > 0 { // without a tunnel there is none
		t.found("pss-"+state, float64(sum)/1e6)
		t.found("carrier-"+state, float64(carrier)/1e6)
	}
	return nil
}

// tcpOne measures one stream, what it costs, and what the wire carries.
func tcpOne(t *take) error {
	before, err := switches()
	if err != nil {
		return err
	}
	received, err := t.costs()
	if err != nil {
		return err
	}
	after, err := switches()
	if err != nil {
		return err
	}
	t.found("switches", float64(after-before)/1e3/received)
	return nil
}

func tcpSegmented(t *take) error {
	if err := tcpOne(t); err != nil {
		return err
	}
	if size := t.last("frame"); size > segmentedMost {
		return fmt.Errorf("the wire does not segment: %.0f bytes to a packet", size)
	}
	return nil
}

// costs runs one stream and notes its rate, the CPU time to a GB, and bytes to a packet. It
// returns the GB received.
func (t *take) costs() (float64, error) {
	packets, bytes, err := t.pair.Alpha.Sent(t.pair.Link)
	if err != nil {
		return 0, err
	}
	before, err := busyTime()
	if err != nil {
		return 0, err
	}
	f, err := t.stream("cubic")
	if err != nil {
		return 0, err
	}
	after, err := busyTime()
	if err != nil {
		return 0, err
	}
	morePackets, moreBytes, err := t.pair.Alpha.Sent(t.pair.Link)
	if err != nil {
		return 0, err
	}
	t.found("tcp1", f.rate/1e9)
	if f.bytes == 0 {
		return 0, errors.New("nothing arrived")
	}
	t.found("cpu", (after-before).Seconds()/(f.bytes/1e9))
	t.found("frame", float64(moreBytes-bytes)/float64(max(1, morePackets-packets)))
	return f.bytes / 1e9, nil
}

// tcp returns a measurement of the sum of what these options of iperf3 make flow.
func tcp(key string, options ...string) func(*take) error {
	return func(t *take) error {
		f, err := t.stream("cubic", options...)
		if err == nil {
			t.found(key, f.rate/1e9)
		}
		return err
	}
}

// beside does something while a stream flows for so many seconds, after a lead. It
// returns the stream when both have ended.
func (t *take) beside(seconds int, lead time.Duration, do func(), options ...string) (flow, error) {
	longer := *t
	longer.seconds = seconds
	var f flow                     // belongs to the goroutine until it has sent
	flowing := make(chan error, 1) // one result, read below
	go func() {
		var err error
		f, err = longer.stream("cubic", options...)
		flowing <- err
	}()
	select {
	case err := <-flowing:
		return f, errors.Join(err, errors.New("the stream ended too early"))
	case <-time.After(lead):
	}
	do()
	err := <-flowing
	return f, err
}

// bothWays measures a stream each way and, shortly before they end, the memory.
func bothWays(t *take) error {
	var memory error
	end := time.Duration(t.seconds) * time.Second
	f, err := t.beside(t.seconds, end-loadLead/2, func() { memory = t.memory("loaded") }, "--bidir")
	if err == nil {
		t.found("both", f.rate/1e9)
	}
	return errors.Join(err, memory)
}

// pingUnderLoad pings beside a stream that began before and ends after it.
func pingUnderLoad(t *take) error {
	count := int(time.Duration(t.seconds) * time.Second / loadDistance)
	var times []time.Duration
	lost := 0
	_, err := t.beside(t.seconds+1, loadLead, func() {
		times, lost = t.pair.Alpha.PingTimes(t.system.address(t.bed), count, loadDistance)
	})
	if err != nil {
		return err
	}
	if len(times) == 0 {
		return errors.New("no ping was answered")
	}
	t.found("ping-p50", millis(percentile(times, 50)))
	t.found("ping-p99", millis(percentile(times, 99)))
	t.found("ping-lost", float64(lost)*100/float64(count))
	return nil
}

// udp returns a search for the highest rate of datagrams of a size; scale makes the
// metric of packets a second.
func udp(key string, size int, scale float64) func(*take) error {
	return func(t *take) error {
		hint := t.last(key) / scale
		best, err := search(hint, func(rate float64) (trial, error) { return t.datagrams(size, rate) })
		if err == nil {
			t.found(key, best*scale)
		}
		return err
	}
}

// burst sends small packets as fast as a program can, and counts.
func burst(t *take) error {
	lost := 0
	for range bursts {
		arrived, err := t.pair.Alpha.Burst(t.pair.Beta, lab.Addr(t.system.address(t.bed)), burstSize, burstSize)
		if err != nil {
			return err
		}
		lost += burstSize - arrived
	}
	t.found("burst", float64(lost)*100/float64(bursts*burstSize))
	return nil
}

// loss measures streams while beta loses some of what comes in from the wire.
func loss(t *take) error {
	restore, err := t.pair.Beta.Lose(t.pair.Link, lossPercent)
	if err != nil {
		return err
	}
	for _, congestion := range []string{"cubic", "bbr"} {
		f, failure := t.stream(congestion)
		if failure != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", congestion, failure))
			continue
		}
		t.found("loss-"+congestion, f.rate/1e6)
	}
	return errors.Join(err, restore())
}

// segmented returns a measurement that is taken over a wire that segments.
func segmented(inner func(*take) error) func(*take) error {
	return func(t *take) error {
		if err := t.pair.Link.Segment(true); err != nil {
			return errors.Join(err, t.pair.Link.Segment(false))
		}
		over := *t
		over.wire = onSegmenting
		err := t.stage.attempt(func() error { return inner(&over) })
		return errors.Join(err, t.pair.Link.Segment(false))
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
