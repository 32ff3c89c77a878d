package main

// metric is one number that a measurement yields.
type metric struct {
	key, title, unit string
	digits           int  // after the point, in the report
	less             bool // less is better
	idle             bool // nothing that depends on the wire
}

// metrics are all of them, in the order of the report. Both ends run on the machine that is
// measured, with the generator and the sink of the traffic.
var metrics = overBothWires([]metric{
	{key: "tcp1", title: "TCP, one stream", unit: "Gbit/s", digits: 2},
	{key: "cpu", title: "CPU time of the whole machine under one TCP stream", unit: "s/GB", digits: 2, less: true},
	{key: "switches", title: "Switches from one thread to another under one TCP stream", unit: "thousands/GB", digits: 1, less: true},
	{key: "tcp4", title: "TCP, four streams", unit: "Gbit/s", digits: 2},
	{key: "reverse", title: "TCP, one stream, from the side that was dialled", unit: "Gbit/s", digits: 2},
	{key: "both", title: "TCP, one stream each way at once, sum", unit: "Gbit/s", digits: 2},
	{key: "udp64", title: "UDP, 64 bytes, highest rate with at most 0.5 % loss", unit: "kpps", digits: 1},
	{key: "udp1200", title: "UDP, 1200 bytes, highest rate with at most 0.5 % loss", unit: "Gbit/s", digits: 3},
	{key: "burst", title: "Bursts of 64 UDP packets of 64 bytes, lost of all", unit: "%", digits: 2, less: true},
	{key: "ping-idle", title: "Ping, idle, p50", unit: "µs", digits: 0, less: true, idle: true},
	{key: "ping-p50", title: "Ping beside one TCP stream, p50", unit: "ms", digits: 2, less: true},
	{key: "ping-p99", title: "Ping beside one TCP stream, p99", unit: "ms", digits: 2, less: true},
	{key: "ping-lost", title: "Ping beside one TCP stream, lost", unit: "%", digits: 2, less: true},
	{key: "loss-cubic", title: "TCP cubic, 1 % of what crosses the wire lost", unit: "Mbit/s", digits: 0},
	{key: "loss-bbr", title: "TCP bbr, 1 % of what crosses the wire lost", unit: "Mbit/s", digits: 0},
	{key: "pss-idle", title: "PSS idle, all processes of both ends", unit: "MB", digits: 1, less: true, idle: true},
	{key: "pss-loaded", title: "PSS under TCP both ways, all processes of both ends", unit: "MB", digits: 1, less: true},
	{key: "carrier-idle", title: "PSS idle, the one process that moves the packets", unit: "MB", digits: 1, less: true, idle: true},
	{key: "carrier-loaded", title: "PSS under TCP both ways, the one process that moves the packets", unit: "MB", digits: 1, less: true},
	{key: "frame", title: "Bytes to a packet on the wire, one TCP stream", unit: "bytes", digits: 0},
})

// overBothWires adds to each metric that depends on the wire the same over the wire that
// segments.
func overBothWires(over []metric) []metric {
	var both []metric
	for _, m := range over {
		both = append(both, m)
		if !m.idle {
			m.key, m.title = onSegmenting+m.key, m.title+", segmenting wire"
			both = append(both, m)
		}
	}
	return both
}
