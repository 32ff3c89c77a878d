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
- a twelfth into waking threads and switching between them, half of what it was when the Go scheduler took
  part in each wait and each direction had a thread of its own;
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
left; and it lets less wait in queues, which keeps pings short. An eighth of the processors' time
and more stays idle: the scheduler puts both ends on one processor for milliseconds at a time. With
each end tied to a processor of its own the rate was 13 % higher. To ask again and again in place of
sleeping, shorter time slices, the batch policy, and more super-packets written in a row were tried:
none of them gave a higher rate.

Small packets are bound by one read of the device each: a TUN device gives no more at a time. What
is lost of them when the rate is too high is lost in the receive buffer of iperf3, which has to
share the processors: the tunnel loses none. At 103,000 packets of 64 bytes a second iperf3 had 54 %
of the processors' time and both ends of tund 29 %; the bare wire, with both processors for iperf3
alone, stands beside the bar. An idle ping wakes three programs that have slept for 10 ms, and what
it takes is the first touch of code and data that no cache holds any more. A ping beside a stream
waits for the processor and behind what TCP has under way, between 0.7 and 1.2 MB, which is kept
that short by early loss. It can be had shorter at a price: early loss at the sender's device as
well, at more than twice the pace, and a receiver that makes way after each super-packet gave half
of it, 0.66 ms, for 12 % of the rate and 15 % more processor time; shorter turns on top of that 0.41
ms, for 24 % and 27 %. A loop for each direction in place of one for both took a third of it away,
for 17 % of the rate and 29 % more processor time.
`
