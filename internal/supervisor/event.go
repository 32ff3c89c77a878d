package supervisor

import (
	"time"

	"tund/internal/pipe"
)

// An Event is something that happened to one child.
type Event struct {
	Child uint64 // the incarnation, counted from 1
	PID   int    // 0 if it could not even be started
	Body  Body
}

// Body is Started, Received or Exited.
type Body interface{ body() }

// Started says that the child has its configuration and waits for keys, or goes on with
// those of Options.Resume.
type Started struct {
	Resumed bool
	Refused error // why it did not resume; nil also if there was nothing to resume
}

// Received is a message from the child. Stats come also as answers to the supervisor's own
// heartbeats, with a Seq that has its highest bit set.
type Received struct{ Message pipe.Message }

// Exited says that the child is gone, and with it all that it knew. The next is started after
// RestartIn. There may have been no Started before it.
type Exited struct {
	Err       error // never nil: nobody asked it to end
	RestartIn time.Duration
}

func (Started) body()  {}
func (Received) body() {}
func (Exited) body()   {}
