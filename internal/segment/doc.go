// Package segment turns the super-packets of a device with offloads into datagram-sized
// packets and back.
//
// The kernel hands a program that asks for it up to 64 KB of one flow as one packet, with a
// [VirtioHeader] in front, and takes the same from it. Everything between is one
// datagram per packet, as each must be delivered whatever becomes of the others. So
// outbound a [Splitter] makes the packets that the kernel would have made, and
// inbound a [Chain] joins what the kernel would have joined. Neither ever moves or
// adds up payload, with exceptions that are named below.
//
// The package is pure: no I/O, no goroutine, no clock, no allocation per packet, and it
// builds on any system. It runs in the child; the Splitter belongs to the outbound
// goroutine, the Chain to the inbound one. It knows nothing of datagrams and keys.
//
// # Out: the headers go over the tail of the segment before
//
//	                |<-- size -->|<-- size -->|
//	   +------------+------------+------------+-------+
//	   | headers    | payload 0  | payload 1  | 2     |   as read
//	   +------------+------------+------------+-------+
//	1. | headers 0  | payload 0  |                        Next, seal into another buffer
//	   +------------+------------+------------+
//	2.              | headers 1  | payload 1  |           Next: over sealed bytes; seal
//	                +------------+------------+-------+
//	3.                           | headers 2  | 2     |   and so on
//	                             +------------+-------+
//
// Segment k lies at k*size in the packet, header and payload in one piece. It may be sealed
// or sent, but not read, after the next call of Next. Headers longer than a segment's
// payload go over more than one, all of them sealed. An engine that seals many
// segments in one call collects the headers with NextAside and copies each to its
// place between two seals.
//
// # In: each packet opens behind the last payload
//
//	     start                              end = behind the last payload
//	+----+-----------+-----------+----------+
//	| vh | headers 0 | payload 0 | payload 1|           vh: room for the virtio header
//	+----+-----------+-----------+----------+
//	                           at|<-overlap>|            Room(n) saves these bytes
//	                             +----------+-----------+
//	                             | headers 2| payload 2 |   opened to at, n bytes
//	                             +----------+-----------+
//	+----+-----------+-----------+----------+-----------+
//	| vh | headers 0 | payload 0 | payload 1| payload 2 |   continues: put back, end moves
//	+----+-----------+-----------+----------+-----------+
//
// A packet that does not open, or is a replay, leaves nothing: the bytes are put back, end
// stays, and nothing behind end is ever read. A packet that continues nothing is put
// aside for its first overlap bytes, until Take has given what was finished to the
// device; then it is the base of the next chain, where it lies. So a Chain moves
// through its buffer, and begins again at its start when it is empty, or when
// the buffer is at its end.
//
// There is one chain at a time. A peer with offloads sends a whole super-packet of one flow
// in a row, so with flows of their own super-packets there is nothing to gain from more;
// single packets of many flows mixed one by one stay single. Several chains at a time
// would need a copy of the payload, as a packet must be opened before its flow is
// known, and would hold packets back behind others that came later.
//
// # Checksums
//
// A partial checksum crosses the tunnel as it is, flagged, and only where [Locate] finds it
// from the packet alone. The receiver takes everything it tells the kernel from its own
// parsing, and the sum of the pseudo-header from its own addition. Payload is added up
// in these cases only: the Splitter completes a checksum that may not cross partial
// (no such feature in the peer; not where Locate finds it; extension headers; or not
// the sum that the receiver would write), and the Chain verifies complete ones before
// it joins two packets, as the joined packet's are made anew by the kernel, which would
// repair damage.
package segment
