// Package pipe is everything that a parent and one of its data children say to
// each other: the messages, their bytes, and who may send which.
//
// The two talk through two ordinary pipes, one for each direction, inherited at the
// descriptors [FDIn] and [FDOut]. Every message is one frame: its length in four
// bytes, its type in one, then its body; integers are big-endian. No packet ever
// crosses these pipes, and no descriptor does.
//
// Parsing is strict. A body of the wrong length, a value out of range, a text that is not
// printable, an unknown type or a message in the wrong direction is an error, and the conversation cannot
// go on after it. So is, from a child, an answer to nothing, a second last word, or more than its
// budget of what it may send unasked. The end of the pipe is io.EOF from [Conn.Receive]: the other
// process is gone.
//
// Key bytes pass through here. They are wiped from the buffers of this package as
// soon as they are written or parsed; the messages themselves are wiped by whoever
// holds them.
//
// The package is used by both processes. It imports keys, replay and wire for their types
// and nothing else of tund.
package pipe
