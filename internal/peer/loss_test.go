package peer

import (
	"encoding/binary"
	"math"
	"testing"

	"tund/internal/ctl"
	"tund/internal/pipe"
)

// counted is a child's counters.
func counted(received, missing uint64) pipe.Stats {
	return pipe.Stats{Received: received, Missing: missing}
}

func TestLossIsTheShareOfWhatWasSentSinceTheSessionBegan(t *testing.T) {
	const none = -1
	tests := []struct {
		name       string
		begin, now pipe.Stats
		lost       uint64
		share      float64
	}{
		{"nothing was sent", counted(0, 0), counted(0, 0), 0, none},
		{"nothing since", counted(70, 30), counted(70, 30), 0, none},
		{"all arrived", counted(70, 30), counted(80, 30), 0, 0},
		{"one of four", counted(70, 30), counted(73, 31), 1, 0.25},
		{"all lost", counted(0, 0), counted(0, 5), 5, 1},
		{"late ones of before arrive", counted(70, 30), counted(90, 10), 0, 0},
		{"only late ones", counted(70, 30), counted(70, 10), 0, none},
		{"a leap of the numbers", counted(10, 0), counted(11, 1<<62), 1 << 62, 1},
		{"a sum beyond 64 bits", counted(0, 0), counted(1<<62, math.MaxInt64), math.MaxInt64, 2. / 3},
		{"a total beyond 64 bits", counted(0, math.MaxUint64), counted(2, 1), 2, 0.5},
		{"the greatest numbers", counted(0, 0), counted(math.MaxUint64, math.MaxUint64), 0, none},
		{"counters that fall", counted(1000, 1000), counted(1, 1), 0, none},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var l loss
			l.take(tt.begin)
			l.take(tt.now) // no new beginning
			lost, share := l.since(tt.now)
			got := float64(none)
			if share != nil {
				got = *share
			}
			if lost != tt.lost || math.Abs(got-tt.share) > 1e-9 {
				t.Errorf("%d lost, %v, want %d, %v", lost, got, tt.lost, tt.share)
			}
		})
	}
}

func TestLossIsUnknownBeforeTheFirstCounters(t *testing.T) {
	if lost, share := (loss{}).since(counted(5, 5)); lost != 0 || share != nil {
		t.Errorf("%d lost, %v", lost, share)
	}
}

func FuzzLossStaysBetweenNothingAndAll(f *testing.F) {
	f.Add(make([]byte, 32))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x01\xff\xff\xff\xff\xff\xff\xff\xfe\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x07"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) != 32 {
			return
		}
		n := func(i int) uint64 { return binary.BigEndian.Uint64(data[8*i:]) }
		l := loss{known: true, begin: counted(n(0), n(1))}
		var s ctl.PeerStatus
		count(&s, counted(n(2), n(3)), l)
		if s.Loss != nil && !(*s.Loss >= 0 && *s.Loss <= 1) || s.Lost > math.MaxInt64 {
			t.Errorf("%d lost, %v", s.Lost, *s.Loss)
		}
		lostByRotation(&ctl.PeerResult{}, pipe.ProbeResult{Missing: n(0), LocalMissing: n(1)}, pipe.ProbeResult{Missing: n(2), LocalMissing: n(3)})
	})
}

func TestLostByARotationIsUnknownWhereItCannotBe(t *testing.T) {
	tests := []struct {
		name          string
		before, after pipe.ProbeResult
		rx, tx        uint64
		unknown       bool
	}{
		{"nothing", pipe.ProbeResult{Missing: 5, LocalMissing: 7}, pipe.ProbeResult{Missing: 5, LocalMissing: 7}, 0, 0, false},
		{"both ways", pipe.ProbeResult{Missing: 5, LocalMissing: 7}, pipe.ProbeResult{Missing: 6, LocalMissing: 9}, 2, 1, false},
		{"totals that fall", pipe.ProbeResult{Missing: 5, LocalMissing: 7}, pipe.ProbeResult{}, 0, 0, false},
		{"totals beyond 64 bits", pipe.ProbeResult{Missing: math.MaxUint64}, pipe.ProbeResult{Missing: 1}, 0, 2, false},
		{"too many of ours", pipe.ProbeResult{}, pipe.ProbeResult{Missing: 1 << 40}, 0, 0, true},
		{"too many of the peer's", pipe.ProbeResult{}, pipe.ProbeResult{LocalMissing: 1 << 62}, 0, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r ctl.PeerResult
			if got := lostByRotation(&r, tt.before, tt.after); got != (tt.rx+tt.tx > 0) {
				t.Errorf("some are lost: %t", got)
			}
			switch {
			case tt.unknown:
				if r.Lost != nil || r.LostRx != nil || r.LostTx != nil {
					t.Errorf("%+v", r)
				}
			case r.Lost == nil || *r.LostRx != tt.rx || *r.LostTx != tt.tx || *r.Lost != tt.rx+tt.tx:
				t.Errorf("%+v", r)
			}
		})
	}
}
