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
//
// The roles are told apart by their word in argv alone. Nothing is won by starting
// stage 2 directly: it refuses to run with any privilege.
//
// After Enter a child has no capability and cannot gain one (no_new_privs), is not
// root, cannot be traced or dumped, and has the descriptors 0 to 6 only. It can still
// open files that anybody may read, and, where tund itself does not run as root, those of
// its own user; closing that (seccomp, Landlock) is to be added in Enter.
//
// # The descriptors of a child
//
// The Go runtime opens an epoll and an event descriptor at the first timer, at the
// first os.Open, os.Pipe, socket of package net or crypto/rand.Read, and when the scavenger follows a
// collection of garbage; it keeps the files of a cgroup's CPU limit open unless
// GODEBUG=containermaxprocs=0. A child's code must therefore use none of them: it waits
// in poll (package await) or for an [Alarm], and is stopped by a [Hangup], whose event takes the place of
// standard input.
// The supervisor sets the environment accordingly. Nothing breaks where a
// descriptor of the runtime's appears later, but a filter of system calls must
// allow for it.
//
// Functions here that run in a child use plain system calls for the same reason.
package sandbox
