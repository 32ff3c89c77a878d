package session

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"
)

// Refuse tells the other end of a connection that no session has begun on why there will be
// none, and closes it. It takes at most two seconds.
func (c *Conn) Refuse(ctx context.Context, code CloseCode, text string) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	lastWord(c.stream, Close{Code: code, Text: fitText(text)})
	_ = c.Close()
}

// lastWord sends a CLOSE as the only message, and waits until the other end has read it: a
// reset could overtake it. What that goes on sending is read for as long as it is little.
func lastWord(stream net.Conn, message Close) {
	data, err := Encode(message)
	if err != nil {
		panic(fmt.Sprintf("session: internal error: %v", err))
	}
	if stream.SetDeadline(time.Now().Add(lingerLimit)) != nil {
		return
	}
	if _, err := stream.Write(frame(data)); err != nil || closeWrite(stream) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, stream, discardBytes) // ends at the deadline
}
