package main

// bounds says what the table of shares means. Its own figures are of one profile by call
// chains, which the report does not have, and of one look at the switches of one stream.
const bounds = `
What bounds one TCP stream here is the sum of the work on both ends, as all processors share it. A
super-packet of 59 KB crosses the tunnel by one system call each for reading, sending, receiving and writing;
43 datagrams carry it. In a profile by call chains, of the time that was not idle,

- a quarter went into six copies between kernel and programs, four of them the tunnel's: read from one device,
  send, receive, write to the other. A TUN device knows no other way, and a veth would copy what is sent
  without a copy;
- a seventh into AES-256-GCM by libipsec-mb, 1.4 KB in 234 ns, once at each end: 0.34 s/GB;
- a third into TCP twice, UDP, two devices, the veth, the memory of their packets, and entering the kernel;
- a twelfth into waking threads and switching between them, before loops had real-time priority, and half of what
  it was when the Go scheduler took part in each wait and each direction had a thread of its own;
- a twelfth into the program's own code, with what it takes to call the kernel: some 100 ns for each datagram at
  each end, of which BenchmarkOwnCode, where nothing is cold, has half.

iperf3's part, a quarter of all, is among the copies and TCP. What is left without a line of tund's
own code is what *plain* does, a program that only carries super-packets between the device and a
socket, and *plain-aes* and *plain-aes-go* with the cipher of tund and of tund-go: no keys, no
packet numbers, no look at a packet, no early loss, and a run that lacks a datagram is lost as a
whole. Their figures for streams without loss are the bound, on this kernel, of whatever carries
packets through a process, without and with a cipher. A bar beyond that bound is out of reach here,
and most of those that are not met are. What tund takes beyond it is its own code and further system
calls: it asks for readiness, looks at the socket's memory, and reads the device until nothing is
left; and it lets less wait in queues, which keeps pings short.

Loops of tund have real-time priority while they carry bulk, and their turns begin 150 µs apart.
Side by side with priority for the sender alone, without intervals, in six and eight rounds, one
stream was 0.97 times as fast, one the other way 0.94 times, four 1.06 times; over the segmenting
wire one 1.05 and four 1.08 times; a GB took 0.96 to 1.00 times the processor time; pings beside a
stream took 0.56 of their time, over the segmenting wire 0.79; streams whose data was hashed at both
ends were 1.01 and 1.03 times as fast. With priority for both and no intervals those were 0.93 times
as fast, as each super-packet was handed over by itself. Priority for the sender alone, against the
fair scheduler, had made one stream 1.09 and four streams 1.14 times as fast. To ask again and again
in place of sleeping, shorter time slices, the batch policy, and more super-packets written in a row
were tried before: none of them gave a higher rate.

Small packets are bound by one read of the device each: a TUN device gives no more at a time. What
is lost of them when the rate is too high is lost in the receive buffer of iperf3, which has to
share the processors: the tunnel loses none. At 103,000 packets of 64 bytes a second iperf3 had 54 %
of the processors' time and both ends of tund 29 %; the bare wire, with both processors for iperf3
alone, stands beside the bar. An idle ping wakes three programs that have slept for 10 ms, and what
it takes is the first touch of code and data that no cache holds any more.
`
