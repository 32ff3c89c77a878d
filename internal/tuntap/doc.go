// Package tuntap opens TUN and TAP devices and moves packets through them.
//
// It has two sides. The parent calls [Open], which makes or attaches to a device,
// and keeps the [Device]: its descriptor holds the interface, with its addresses and
// routes, over the life of any child. A child inherits a duplicate of the descriptor
// and wraps it by [FromFD] in a [Port], which reads and writes packets (TUN) or frames
// (TAP) without allocating.
//
// Every device is attached with IFF_VNET_HDR, so each packet crosses the kernel's
// border behind a virtio-net header of ten bytes, which this package passes on as it
// is. Where offloads are in force it may say that the packet is a super-packet, to be
// cut into many, or that its checksum is not complete. Addresses, MTU and routes are
// not set here but by package netcfg.
//
// Nothing here starts a goroutine. Package tuntaptest has an in-memory Port.
package tuntap
