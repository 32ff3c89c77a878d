package datapath

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"tund/internal/aead"
	"tund/internal/pipe"
	"tund/internal/segment"
)

// extend puts a header of destination options, of so many bytes, behind the IPv6 header.
func extend(i item, size int) item {
	extension := make([]byte, size)
	extension[0], extension[1] = i.bytes[6], byte(size/8-1)
	i.bytes = slices.Insert(slices.Clone(i.bytes), 40, extension...)
	i.bytes[6] = 60
	binary.BigEndian.PutUint16(i.bytes[4:], uint16(len(i.bytes)-40))
	i.header.ChecksumStart += uint16(size)
	if i.header.Type != segment.GSONone {
		i.header.HeaderLen += uint16(size)
	}
	return i
}

// Packets with IPv6 extension headers cross as the kernel would have sent them, also where
// their headers are longer than a job of a batch can have, and between other packets.
func TestPacketsWithExtensionHeadersCross(t *testing.T) {
	for _, size := range []int{8, 128, aead.MaxHead - 40 - 8, aead.MaxHead - 40, 600} {
		for _, partial := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d bytes, partial checksums %t", size, partial), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := superPair(t, allOffloads, partial)
					var want [][]byte
					seq := uint32(1 << 20)
					for _, protocol := range []int{6, 17} {
						for _, length := range []int{100, 1301, 30 * 1301, 20*1301 + 7} {
							extended := extend(flowOf(6, protocol, 80, seq, noise(length), 1301), size)
							other := flowOf(6, protocol, 81, seq, noise(5*1301), 1301)
							for _, i := range []item{other, extended, other} {
								want = append(want, cut(i.header, slices.Clone(i.bytes))...)
								p.a.device.putItem(i)
							}
							seq += uint32(length)
						}
					}
					synctest.Wait()
					got := p.b.device.got()
					if !slices.EqualFunc(got, want, bytes.Equal) {
						t.Errorf("%d packets came, want %d, or they differ", len(got), len(want))
					}
					a, b := p.a.stats(), p.b.stats()
					completed := uint64(8)
					if !partial {
						completed *= 3
					}
					if a.Fallbacks != (pipe.Fallbacks{Checksums: completed}) || a.Drops != (pipe.Drops{}) || b.Drops != (pipe.Drops{}) {
						t.Errorf("a %+v, dropped %+v; b dropped %+v; want %d checksums completed", a.Fallbacks, a.Drops, b.Drops, completed)
					}
				})
			})
		}
	}
}
