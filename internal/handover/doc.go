// Package handover carries a tund's tunnels over to the tund that takes its place, so
// that a planned restart loses no packet.
//
// Two things outlive a process. Descriptors of devices and sockets do: the service
// manager keeps duplicates of them from the moment they exist, or they are inherited over an
// execve. They are a [Shelf]; they also survive a crash. And at a planned end there is a
// [Record] of what each data child knew: keys, packet numbers, replay windows.
//
//	old tund   children stop ─► Record.Seal ─► memfd "state" ─► store, or execve
//	new tund   Take: TAKEN ─► read ─► zero ─► remove from the store ─► children go on
//
// A record is single-use, since two children that went on from the same packet number would
// seal different bytes with the same nonce. The memfd is one piece of memory for
// everybody who holds a descriptor of it: Take marks it there, by one atomic exchange,
// before anything is read, and overwrites it before anything is used. Where there is
// any doubt (several records, one that was taken, another format, another boot) all is
// discarded, and new epochs are agreed on.
//
// It runs in the parent and starts no goroutine. A memfd can be swapped out like any
// memory of a process; it holds keys for the time between two processes only.
package handover
