package datapath

import (
	"errors"
	"unsafe"

	"tund/internal/aead"
	"tund/internal/segment"
	"tund/internal/tuntap"
)

// drain writes all that the chain holds.
func (i *inbound) drain() error {
	for p := i.chain.Take(); p != nil; p = i.chain.Take() {
		if err := i.write(p); err != nil {
			return err
		}
	}
	return nil
}

// write writes p, a packet or super-packet behind its virtio header. An error means that
// the device is lost.
func (i *inbound) write(p []byte) error {
	h, err := segment.ParseVirtioHeader(p[:segment.VirtioSize])
	if err != nil {
		panic("datapath: internal error: " + err.Error())
	}
	count, bytes := 1, len(p)-segment.VirtioSize
	if h.Type != segment.GSONone {
		payload := bytes - int(h.HeaderLen)
		count = (payload + int(h.Size) - 1) / int(h.Size)
		bytes = payload + count*int(h.HeaderLen)
	}
	switch _, err := i.device.Write(p); {
	case err == nil:
		i.counters.packets.Add(uint64(count))
		i.counters.bytes.Add(uint64(bytes))
	case errors.Is(err, tuntap.ErrGone):
		return errDeviceGone
	case errors.Is(err, tuntap.ErrRefused) && count > 1:
		i.counters.writes.Add(1)
		return i.writeSingly(h, p)
	default:
		i.counters.device.Add(uint64(count))
	}
	return nil
}

// writeSingly writes the packets of a super-packet that the device has refused as a whole,
// each behind a header that goes over the end of the one before.
func (i *inbound) writeSingly(h segment.VirtioHeader, p []byte) error {
	mode := segment.Mode(i.mode)
	if i.splitter.Begin(mode, h, p[segment.VirtioSize:], true) != nil {
		i.counters.device.Add(1)
		return nil
	}
	for at := 0; ; at += int(h.Size) {
		packet, ok := i.splitter.Next()
		if !ok {
			return nil
		}
		single := segment.VirtioHeader{}
		if i.splitter.Partial() {
			single, _ = segment.Accept(mode, packet) // found: the splitter has seen to that
		}
		single.Append(p[at:at])
		if err := i.write(p[at : at+segment.VirtioSize+len(packet)]); err != nil {
			return err
		}
	}
}

// flat is the heads of a group as one piece.
func flat(heads *[maxJobs][aead.MaxHead]byte) []byte {
	return unsafe.Slice(&heads[0][0], maxJobs*aead.MaxHead)
}
