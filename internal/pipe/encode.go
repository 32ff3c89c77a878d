package pipe

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"time"

	"tund/internal/keys"
	"tund/internal/wire"
)

// These bound the strings on the pipe, in bytes. Longer ones are cut when sent.
const (
	maxText = 1024
	maxName = 64
)

// big is the byte order of everything on the pipe.
var big = binary.BigEndian

func (m Hello) appendBody(dst []byte) []byte {
	dst = big.AppendUint16(dst, m.Version)
	return big.AppendUint32(dst, m.PID)
}

func (m Configure) appendBody(dst []byte) []byte {
	dst = big.AppendUint64(dst, m.Seq)
	dst = append(dst, byte(m.Mode))
	dst = appendDuration(dst, m.Keepalive)
	dst = appendDuration(dst, m.KeyLifetime)
	dst = big.AppendUint16(dst, uint16(m.Offloads))
	dst = appendBool(dst, m.Await)
	dst = big.AppendUint32(dst, uint32(len(m.AllowedIPs)))
	for _, p := range m.AllowedIPs {
		dst = appendPrefix(dst, p)
	}
	return dst
}

func (m Configured) appendBody(dst []byte) []byte { return big.AppendUint64(dst, m.Seq) }

func (m *InstallKey) appendBody(dst []byte) []byte {
	dst = big.AppendUint64(dst, uint64(m.KeyID))
	dst = big.AppendUint32(dst, uint32(m.Epoch))
	dst = append(dst, byte(m.AEAD))
	dst = appendDataKey(dst, &m.Send)
	dst = appendDataKey(dst, &m.Receive)
	dst = appendSlot(dst, m.SendIndex, m.ReceiveIndex, m.Activate)
	return appendBool(dst, m.PartialCsum)
}

func (m InstallIV) appendBody(dst []byte) []byte {
	dst = appendGeneration(dst, m.KeyID, m.Generation)
	return appendSlot(dst, m.SendIndex, m.ReceiveIndex, m.Activate)
}

func (m Installed) appendBody(dst []byte) []byte {
	dst = appendGeneration(dst, m.KeyID, m.Generation)
	return appendText(dst, m.Err)
}

func (m Activate) appendBody(dst []byte) []byte {
	return appendGeneration(dst, m.KeyID, m.Generation)
}

func (m KeyActive) appendBody(dst []byte) []byte {
	return appendGeneration(dst, m.KeyID, m.Generation)
}

func (m Retire) appendBody(dst []byte) []byte {
	return appendGeneration(dst, m.KeyID, m.Generation)
}

func (m Drop) appendBody(dst []byte) []byte {
	return appendGeneration(dst, m.KeyID, m.Generation)
}

func (m Displace) appendBody(dst []byte) []byte {
	return appendGeneration(dst, m.KeyID, m.Generation)
}

func (m Displaced) appendBody(dst []byte) []byte {
	return appendBool(appendGeneration(dst, m.KeyID, m.Generation), m.Kept)
}

func (m Wipe) appendBody(dst []byte) []byte     { return big.AppendUint64(dst, m.Seq) }
func (m Wiped) appendBody(dst []byte) []byte    { return big.AppendUint64(dst, m.Seq) }
func (m GetStats) appendBody(dst []byte) []byte { return big.AppendUint64(dst, m.Seq) }

func (m Stats) appendBody(dst []byte) []byte {
	dst = appendUint64s(dst, m.Seq, m.RxBytes, m.TxBytes, m.RxPackets, m.TxPackets)
	dst = appendDrops(dst, m.Drops)
	dst = appendUint64s(dst, m.Received, m.Missing)
	dst = appendGeneration(dst, m.SendKey, m.SendGeneration)
	dst = append(dst, m.ReceiveSlots)
	dst = appendDuration(dst, m.LastReceived)
	dst = appendDuration(dst, m.RTT)
	dst = appendPrintable(dst, m.Engine, maxName)
	dst = big.AppendUint16(dst, uint16(m.Offloads))
	dst = append(dst, byte(m.Sandbox))
	return appendFallbacks(dst, m.Fallbacks)
}

func (m SendProbe) appendBody(dst []byte) []byte { return big.AppendUint64(dst, m.ID) }

func (m ProbeResult) appendBody(dst []byte) []byte {
	dst = big.AppendUint64(dst, m.ID)
	dst = appendBool(dst, m.OK)
	dst = appendDuration(dst, m.RTT)
	dst = big.AppendUint64(dst, m.Received)
	dst = big.AppendUint64(dst, m.Missing)
	dst = big.AppendUint64(dst, m.LocalReceived)
	return big.AppendUint64(dst, m.LocalMissing)
}

func (m RekeyDue) appendBody(dst []byte) []byte {
	dst = big.AppendUint64(dst, uint64(m.KeyID))
	return append(dst, byte(m.Reason))
}

func (m Urgent) appendBody(dst []byte) []byte { return big.AppendUint32(dst, m.Thread) }

func (m Stop) appendBody(dst []byte) []byte  { return dst }
func (m Fatal) appendBody(dst []byte) []byte { return appendText(dst, m.Reason) }

// appendGeneration appends what names one generation of one key.
func appendGeneration(dst []byte, id keys.KeyID, g keys.Generation) []byte {
	dst = big.AppendUint64(dst, uint64(id))
	return big.AppendUint32(dst, uint32(g))
}

// appendSlot appends what InstallKey and InstallIV have in common.
func appendSlot(dst []byte, send, receive wire.Index, activate bool) []byte {
	dst = big.AppendUint32(dst, uint32(send))
	dst = big.AppendUint32(dst, uint32(receive))
	return appendBool(dst, activate)
}

func appendDataKey(dst []byte, k *keys.DataKey) []byte {
	dst = append(dst, k.Key[:]...)
	return append(dst, k.IV[:]...)
}

func appendDrops(dst []byte, d Drops) []byte {
	return appendUint64s(dst, d.Auth, d.Replay, d.Malformed, d.Unknown, d.Queue, d.Source, d.Device, d.Send, d.NoKey)
}

func appendFallbacks(dst []byte, f Fallbacks) []byte {
	return appendUint64s(dst, f.Sends, f.Writes, f.Checksums)
}

func appendUint64s(dst []byte, numbers ...uint64) []byte {
	for _, n := range numbers {
		dst = big.AppendUint64(dst, n)
	}
	return dst
}

func appendDuration(dst []byte, d time.Duration) []byte {
	return big.AppendUint64(dst, uint64(d))
}

func appendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func appendText(dst []byte, s string) []byte { return appendPrintable(dst, s, maxText) }

// appendPrintable cuts s, drops what is not UTF-8, and writes a space for what is not printable.
func appendPrintable(dst []byte, s string, limit int) []byte {
	if len(s) > limit {
		s = s[:limit]
	}
	s = strings.Map(func(r rune) rune {
		if unprintable(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	dst = big.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

// appendPrefix appends the address's length in bytes, the address and the prefix's
// length in bits. An invalid prefix gets length 0, which the other side refuses.
func appendPrefix(dst []byte, p netip.Prefix) []byte {
	addr := p.Addr().AsSlice()
	dst = append(dst, byte(len(addr)))
	dst = append(dst, addr...)
	return append(dst, byte(p.Bits()))
}
