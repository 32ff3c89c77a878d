// Package sandbox takes away from a data child everything that it does not need, and
// keeps a process's secrets out of core dumps.
//
// Capabilities belong to threads, and the Go runtime has started several before main
// runs; a parent's ambient capabilities would reach every one of them. So a child is
// executed twice:
//
//	parent    starts  tund datapath-start NAME     with the parent's privileges
//	stage 1   [Drop]: one thread gives up everything and executes itself:
//	stage 2           tund datapath NAME           no thread ever had a privilege
//	          [Enter]: checks that, or refuses to go on
//	          the program loads its engine and looks at its descriptors
//	          [Confine]: limits, no files, a list of system calls
//	          the first byte is read
//
// The roles are told apart by their word in argv alone. Nothing is won by starting
// stage 2 directly: it refuses to run with any privilege.
//
// After Confine a child has no capability and cannot gain one (no_new_privs), is not root
// unless its parent had not the right to change that, cannot be traced or dumped, and has the descriptors 0 to 6 only. It opens and
// makes nothing: no file, socket, pipe or process. Three walls stand one behind the other: it has
// no right to most of it, Landlock forbids it to all of its threads, and a filter (seccomp)
// refuses the system calls. docs/architecture.md says what is left to it.
//
// # The descriptors of a child
//
// The Go runtime opens an epoll and an event descriptor at the first timer, at the
// first os.Open, os.Pipe, socket of package net or crypto/rand.Read, and when the scavenger follows a
// collection of garbage; it keeps the files of a cgroup's CPU limit open unless
// GODEBUG=containermaxprocs=0. A child's code must therefore use none of them: it waits
// in poll (package await) or for an [Alarm], and is stopped by a [Hangup], whose event takes the place of
// standard input.
// The supervisor sets the environment accordingly. Nothing breaks where the two
// descriptors of the runtime appear later: Confine leaves room for them.
//
// Functions here that run in a child use plain system calls for the same reason.
package sandbox
