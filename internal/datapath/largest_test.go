package datapath

import (
	"testing"

	"tund/internal/tuntap"
	"tund/internal/udp"
)

// sends is a tape that keeps what was sent last.
type sends struct {
	*tape
	calls int
	runs  []udp.Run
}

func (s *sends) SendRuns(runs []udp.Run) (int, error) {
	s.calls++
	s.runs = append(s.runs[:0], runs...)
	return s.tape.SendRuns(runs)
}

// A super-packet as large as the device gives is one message of UDP_SEGMENT, whatever the
// MTU that it is cut for. Of one that is not, what is left over is sent, received and
// written alone, each time.
func TestTheLargestSuperPacketIsOneMessage(t *testing.T) {
	const segments = 64 // more take another message
	o, _, d := newSuperLoops(t, 1, 1400)
	s := &sends{tape: d}
	o.socket = s
	for mtu := 1280; mtu <= 9000-28-28; mtu += 20 {
		for _, f := range []struct{ version, protocol, headers int }{{4, 6, 40}, {6, 6, 60}, {4, 17, 28}, {6, 17, 48}} {
			super := flowOf(f.version, f.protocol, 80, 0, noise(tuntap.DefaultSuperPacket-f.headers), mtu-f.headers)
			d.packet, d.header, d.packets, s.calls = super.bytes, super.header, 1, 0
			if err := o.work(); err != nil {
				t.Fatal(err)
			}
			if s.calls != 1 || len(s.runs) != 1 || len(s.runs[0].Bytes) > maxDatagram || s.runs[0].Count() > segments {
				t.Fatalf("MTU %d, IPv%d, protocol %d: %d calls, %d runs, the first of %d datagrams, %d bytes",
					mtu, f.version, f.protocol, s.calls, len(s.runs), s.runs[0].Count(), len(s.runs[0].Bytes))
			}
		}
	}
}
