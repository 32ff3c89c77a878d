package aead

// Batch is payloads and the datagrams they are sealed in, to be sealed or opened by one
// call. Plain and Sealed must not overlap, but for jobs that have a payload at the very
// bytes where it is sealed.
type Batch struct {
	Plain  []byte // holds the payloads
	Sealed []byte // holds the datagrams
	Heads  []byte // holds heads; see Job
	Jobs   []Job
}

// Job is one datagram of a [Batch]. Offsets count from the start of the slice named.
//
//	Sealed:   ... | associated data, ADSize | ciphertext, Size | tag, TagSize | ...
//	                                        ^ Job.Sealed
//	Plain:                              ... | payload, Size                   | ...
//	                                        ^ Job.Plain
//
// The associated data is input to both directions, the tag is part of the datagram.
//
// Jobs are done in their order, so that packets of one super-packet need no copy of
// their payloads: the first HeadSize bytes of a payload, the head, may lie over the tail
// of the payload before it, which by then is sealed, or is put back after opening.
//
//	SealBatch  writes the head from Heads into Plain, then seals.
//	OpenBatch  opens, then moves the head to Heads and puts back what it lay over.
//	           The head of a job that was not authentic is zeroed in Heads.
//
// The layout is shared with C (multibuffer.h).
type Job struct {
	Plain    int
	Sealed   int
	Size     int // of the payload
	Head     int // in Heads
	HeadSize int // at most MaxHead and Size; 0: the payload lies in Plain as it is
	Nonce    [NonceSize]byte
	OK       bool // result of OpenBatch: the datagram was authentic
}

// MaxHead is the largest head of a job: more than the headers of any packet that is
// split or joined.
const MaxHead = 256

// check panics unless every job stays within its buffers: C does not look.
func (b *Batch) check() {
	for i := range b.Jobs {
		j := &b.Jobs[i]
		if !within(j.Plain, j.Size, len(b.Plain)) ||
			j.Sealed < ADSize || !within(j.Sealed, j.Size, len(b.Sealed)-TagSize) ||
			!within(j.Head, j.HeadSize, len(b.Heads)) || j.HeadSize > min(MaxHead, j.Size) {
			panic("aead: internal error: a job reaches beyond its buffer")
		}
	}
}

// within says whether size bytes from an offset lie in a buffer.
func within(offset, size, buffer int) bool {
	return offset >= 0 && size >= 0 && size <= buffer && offset <= buffer-size
}
