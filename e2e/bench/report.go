package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// overview are the metrics of the table that shows all systems at once.
var overview = []struct{ key, head string }{
	{"tcp1", "TCP 1 stream Gbit/s"},
	{"tcp4", "4 streams"},
	{"reverse", "reverse"},
	{"both", "both ways"},
	{"cpu", "CPU s/GB"},
	{"udp64", "UDP 64 kpps"},
	{"udp1200", "UDP 1200 Gbit/s"},
	{"ping-idle", "ping idle µs"},
	{"ping-p50", "under TCP p50 ms"},
	{"ping-p99", "p99 ms"},
	{"segmented-tcp1", "segmenting wire Gbit/s"},
	{"segmented-loss-cubic", "1 % loss cubic Mbit/s"},
	{"segmented-loss-bbr", "bbr"},
	{"burst", "burst lost %"},
	{"pss-loaded", "PSS loaded MB"},
}

const introduction = `# Performance

Made by a program, ` + "`e2e/bench`" + `, from what it measured; not to be edited by hand.

Two network namespaces on one machine, joined by a veth pair with an MTU of 1500. Both ends of
the tunnel, iperf3 as generator and as sink, and ping share the machine's processors. Every round
measures every system in turn, and begins with another one. Absolute figures drift with the
machine; ratios hold better: each is the median of the ratios within the rounds.

`

const method = `
## What is measured

- TCP: iperf3, as the receiver counts. *Reverse* flows from the side that was dialled to the one that dialled.
- CPU: all that every processor did (` + "`/proc/stat`" + `) while one stream flowed, generator and sink included, by GB received.
- Where the time goes: ` + "`perf record -a -e cpu-clock -F 999`" + ` during a stream, by the function that ran. Where
  interrupts were off, the sample falls on the function that lets them through again: what it takes to wake a
  halted processor counts as waking.
- UDP: the highest rate, as received, at which iperf3 counts at most 0.5 % loss in a second; found by bisection.
- Ping: 100 requests, 10 ms apart, on the idle tunnel; beside a TCP stream, 5 ms apart. Lost ones are in no percentile.
- Bursts: 20 of 64 packets of 64 bytes, sent as fast as one program can.
- Segmenting wire: both ends of the veth with gso, tso and tx-udp-segmentation off. *Bytes to a packet* shows what it did.
  What is idle is measured over the other wire only: nothing of it is long enough to be cut.
- Loss: nftables discards 1 % of what arrives at the receiver's ingress. On the GSO-capable wire that is a
  whole super-packet at a time, on the segmenting one a single packet.
- PSS: ` + "`smaps_rollup`" + `; shared pages count by their share.
`

// report returns the whole text in Markdown.
func (r *results) report() string {
	text := &strings.Builder{}
	text.WriteString(introduction)
	r.head(text)
	r.overview(text)
	r.bars(text)
	r.profileTable(text)
	for _, m := range metrics {
		r.metric(text, m)
	}
	text.WriteString(method)
	r.failures(text)
	return text.String()
}

// head tells what ran where.
func (r *results) head(text *strings.Builder) {
	table(text, []string{"", ""})
	for _, f := range r.facts {
		row(text, f.name, f.value)
	}
	row(text, "rounds", fmt.Sprintf("%d, streams of %d s; %v in all", r.plan.rounds, r.plan.seconds, r.took.Round(time.Second)))
	text.WriteString("\n")
	table(text, []string{"system", "version", "configuration"})
	for _, s := range systems() {
		if why, out := r.leftOut[s.name]; out {
			row(text, s.name, "left out", why)
		} else if r.versions[s.name] != "" {
			row(text, s.name, r.versions[s.name], or(r.notes[s.name], "did not come up"))
		}
	}
}

// overview shows the medians of all systems.
func (r *results) overview(text *strings.Builder) {
	text.WriteString("\n## Medians\n\n")
	heads := []string{"system"}
	for _, column := range overview {
		heads = append(heads, column.head)
	}
	table(text, heads)
	for _, s := range r.plan.systems {
		cells := []string{s.name}
		for _, column := range overview {
			cell := "–"
			if values := r.values[s.name][column.key].values(); len(values) > 0 {
				cell = number(median(values), metricOf(column.key).digits)
			}
			cells = append(cells, cell)
		}
		row(text, cells...)
	}
}

// bars compares with what tund shall reach, and shows what the way there would give
// without a tunnel's work, with no more of it than the cipher, and without a tunnel.
func (r *results) bars(text *strings.Builder) {
	text.WriteString("\n## Bars\n\n")
	table(text, []string{"metric", "system", "bar", "measured", "", "plain", "plain with the cipher", "bare wire"})
	for _, b := range bars() {
		m := metricOf(b.metric)
		with := plainAES
		if b.system == "tund-go" {
			with = plainGo
		}
		verdict := "not measured"
		switch value, ok := b.measured(r); {
		case ok && b.met(value):
			verdict = "met"
		case ok:
			verdict = "**not met**"
		}
		row(text, m.title, b.system, b.text(m.unit), b.value(r), verdict, b.of(plainName).value(r), b.of(with).value(r), b.of(bareName).value(r))
	}
}

// metric shows median, minimum, maximum and ratio of one metric for all systems.
func (r *results) metric(text *strings.Builder, m metric) {
	if !slices.ContainsFunc(r.plan.systems, func(s system) bool { return len(r.values[s.name][m.key]) > 0 }) {
		return
	}
	better := "more is better"
	if m.less {
		better = "less is better"
	}
	if strings.HasSuffix(m.key, "frame") {
		better = "neither is better"
	}
	fmt.Fprintf(text, "\n## %s\n\n%s; %s.\n\n", m.title, m.unit, better)
	table(text, []string{"system", "median", "min", "max", "ratio to " + reference})
	for _, s := range r.plan.systems {
		own := r.values[s.name][m.key]
		values := own.values()
		if len(values) == 0 {
			row(text, s.name, "–", "–", "–", "–")
			continue
		}
		ratio := "–"
		if ratios := own.ratios(r.values[reference][m.key]); len(ratios) > 0 {
			ratio = number(median(ratios), 2)
		}
		row(text, s.name, number(median(values), m.digits), number(slices.Min(values), m.digits), number(slices.Max(values), m.digits), ratio)
	}
}

// failures names everything that went wrong.
func (r *results) failures(text *strings.Builder) {
	text.WriteString("\n## What failed\n\n")
	var all []string
	for _, s := range systems() {
		if why, out := r.leftOut[s.name]; out {
			all = append(all, s.name+", left out: "+why)
		}
	}
	all = append(all, r.problems...)
	if len(all) == 0 {
		text.WriteString("Nothing.\n")
	}
	for _, problem := range all {
		fmt.Fprintf(text, "- %s\n", strings.Join(strings.Fields(problem), " "))
	}
}

// metricOf returns the metric with a key, which is one.
func metricOf(key string) metric {
	return metrics[slices.IndexFunc(metrics, func(m metric) bool { return m.key == key })]
}

// table writes the head of a table.
func table(text *strings.Builder, heads []string) {
	row(text, heads...)
	rules := make([]string, len(heads))
	for i := range rules {
		rules[i] = "---"
	}
	row(text, rules...)
}

// row writes one row of a table.
func row(text *strings.Builder, cells ...string) {
	clean := make([]string, len(cells))
	for i, cell := range cells {
		clean[i] = strings.ReplaceAll(cell, "|", "\\|")
	}
	fmt.Fprintf(text, "| %s |\n", strings.Join(clean, " | "))
}

// number prints a value with so many digits after the point.
func number(value float64, digits int) string { return strconv.FormatFloat(value, 'f', digits, 64) }
