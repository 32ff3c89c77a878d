// Package ctl is the local control API of tund: HTTP and JSON over a Unix
// socket, the server in the daemon and the client in tunctl.
//
// It moves requests and decides who may make them; what a request does is
// decided by the [Backend] that the daemon gives it. It knows neither the
// configuration nor peers' sessions nor children, and it must not be confused
// with package session, which talks to other nodes.
//
// The catalogue of requests and replies is api.go, the table of routes with the
// access each needs is routes.go. A reply never holds a secret: nothing in the
// catalogue has a field for one.
//
// [Listen] opens the socket, [Server.Run] serves it with one goroutine for each
// connection (and waits for all of them before it returns). A [Client] may be
// used by many goroutines.
package ctl
