package session

import (
	"fmt"
	"slices"
	"time"

	"tund/internal/keys"
)

// onHello decides whether the two nodes fit together. What it refuses is told to both
// administrators.
func (s *Session) onHello(m Hello, data []byte) error {
	s.hellos.theirs = data
	version, refusal := s.agree(m)
	if refusal != nil {
		return refusal
	}
	now := time.Now()
	s.live.nextPing = now.Add(pingInterval)
	s.transition(stateOpen)
	s.emit(Established{Hello: m, Version: version, AEAD: s.aead, At: now})
	return nil
}

func (s *Session) agree(theirs Hello) (uint16, error) {
	ours := s.o.Hello
	version, ok := commonVersion(ours.Versions, theirs.Versions)
	switch {
	case !ok:
		return 0, refuse(CloseVersion, "no protocol version in common: %v at one end, %v at the other", ours.Versions, theirs.Versions)
	case ours.Instance == theirs.Instance:
		return 0, refuse(CloseSelf, "both ends are the same program")
	case ours.Mode != theirs.Mode:
		return 0, refuse(CloseMode, "mode differs: %q at one end, %q at the other", ours.Mode, theirs.Mode)
	}
	preferred, other := ours.AEADs, theirs.AEADs
	if s.peer.Compare(s.self) < 0 {
		preferred, other = other, preferred
	}
	s.aead, ok = commonAEAD(preferred, other)
	if !ok {
		return 0, refuse(CloseAEAD, "no aead in common: %v at one end, %v at the other", ours.AEADs, theirs.AEADs)
	}
	return version, nil
}

func refuse(code CloseCode, format string, args ...any) error {
	return &CloseError{Code: code, Text: fmt.Sprintf(format, args...)}
}

// commonVersion is the highest that both speak.
func commonVersion(ours, theirs []uint16) (highest uint16, ok bool) {
	for _, v := range ours {
		if slices.Contains(theirs, v) && (!ok || v > highest) {
			highest, ok = v, true
		}
	}
	return highest, ok
}

// commonAEAD is the first of the preferred list that stands in the other, too.
func commonAEAD(preferred, other []keys.AEAD) (keys.AEAD, bool) {
	for _, a := range preferred {
		if a.Valid() && slices.Contains(other, a) {
			return a, true
		}
	}
	return 0, false
}
