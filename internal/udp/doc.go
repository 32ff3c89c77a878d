// Package udp has the sockets that carry a peer's datagrams, and the door that
// stands on the same port for everybody else.
//
// Many peers share one UDP port. The parent binds it once, unconnected, with
// SO_REUSEPORT: the [Door]. Each peer has a [Socket] of its own on the same port,
// connected to its peer's address, so that the kernel hands a known peer's datagrams
// straight to its child. The parent opens, binds and connects; the child inherits
// the descriptor and only sends and receives, through a [Port].
//
//	stranger --> Door    (parent; everything dropped and counted by the kernel)
//	peer a   --> Socket  (connected by the parent) --> Port (child of a)
//	peer b   --> Socket  (connected by the parent) --> Port (child of b)
//
// A socket that is bound but not connected would take strangers' datagrams away
// from the door. So a filter that drops everything stands from its birth until it
// is connected:
//
//	filter -> bind -> connect -> drain -> no filter
//
// and again around a later connect elsewhere (filter, connect to AF_UNSPEC, connect,
// no filter), which keeps the port and chooses the source address anew.
//
// Sockets are AF_INET6 and carry IPv4 as mapped addresses, so that one kind of
// socket stands beside a door on [::]; where the kernel has no IPv6 they are AF_INET.
// O_NONBLOCK is neither set nor relied upon: it belongs to the open file
// description, which parent and child share.
package udp
