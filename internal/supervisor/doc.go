// Package supervisor keeps the data child of one peer alive: it starts it, greets it,
// carries messages to and from it, notices when it hangs or dies, and starts the next.
//
//	    +------------------ back-off ------------------+
//	    v                                              |
//	starting --Hello--> configuring --Configured--> running --HandOver--> handing
//	    |                    |   \                    ^ |                    |
//	    |                    |    `-> resuming -------' |                    |
//	    |                    |           |              |                    |
//	    +---- 5 s over ------+-----------+--- exit, EOF, garbage, no heartbeat, full queue
//	                         |                                               |
//	                         v                                               v
//	                       ending --exit--> Exited event          exit: HandOver returns
//
// It runs in the parent. Nothing is kept from one child to the next: each incarnation has
// a number, and a message for an earlier one is refused. What a child must know is
// up to the owner, who learns of each new child by a Started event. The one exception is
// a planned restart: what HandOver got from the last child of one Supervisor, the first
// child of another one, in general of another process, goes on from.
//
// Many supervisors that begin at the same time share a Gate, so that their children do not
// all start at once.
//
// Run owns all of a child: four goroutines for it (write, read, wait, and one that logs its standard
// error) begin and end within one incarnation. A child is told to end by Stop on its pipe; that its parent is gone it
// learns from the end of that pipe, never from a signal (Pdeathsig is bound to a thread).
package supervisor
