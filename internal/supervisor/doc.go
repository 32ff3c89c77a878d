// Package supervisor keeps the data child of one peer alive: it starts it, greets it,
// carries messages to and from it, notices when it hangs or dies, and starts the next.
//
//	    +------------------ back-off ------------------+
//	    v                                              |
//	starting --Hello--> configuring --Configured--> running
//	    |                    |                         |
//	    +---- 5 s over ------+--- exit, EOF, garbage, no heartbeat, full queue
//	                         |
//	                         v
//	                       ending --exit--> Exited event
//
// It runs in the parent. Nothing is kept from one child to the next: each incarnation has
// a number, and a message for an earlier one is refused. What a child must know is
// up to the owner, who learns of each new child by a Started event.
//
// Run owns all of a child: three goroutines for it (write, read, wait) begin and end within
// one incarnation. A child is told to end by Stop on its pipe; that its parent is gone it
// learns from the end of that pipe, never from a signal (Pdeathsig is bound to a thread).
package supervisor
