package pipe

import (
	"errors"
	"fmt"
)

// StateVersion is the version of what EncodeState writes, which another version of the
// program may read. Increase when KeyState or HandedOver changes.
const StateVersion = 1

// EncodeState returns what a child has handed over as bytes: the frames of its KeyStates
// and of HandedOver, as they were on the pipe. They hold keys; the caller wipes them.
func EncodeState(states []*KeyState, end HandedOver) ([]byte, error) {
	p := make([]byte, 0, (len(states)+1)*(headSize+maxKeyState)) // room for all, so that no copy is left behind
	var err error
	for _, m := range states {
		if p, err = appendFrame(p, m); err != nil {
			break
		}
	}
	if err == nil {
		p, err = appendFrame(p, end)
	}
	if err != nil {
		clear(p)
		return nil, fmt.Errorf("encode state: %w", err)
	}
	return p, nil
}

// DecodeState reads what EncodeState wrote, and nothing else. It keeps no part of p.
func DecodeState(p []byte) ([]*KeyState, HandedOver, error) {
	var states []*KeyState
	for {
		m, rest, err := parseFrame(p)
		if err != nil {
			return nil, HandedOver{}, refuse(states, err)
		}
		switch m := m.(type) {
		case *KeyState:
			states, p = append(states, m), rest
		case HandedOver:
			if len(rest) != 0 || int(m.Keys) != len(states) {
				return nil, HandedOver{}, refuse(states, errMalformed)
			}
			return states, m, nil
		default:
			return nil, HandedOver{}, refuse(states, ErrDirection)
		}
		if len(states) > MaxStates {
			return nil, HandedOver{}, refuse(states, errMalformed)
		}
	}
}

func refuse(states []*KeyState, err error) error {
	for _, m := range states {
		m.Wipe()
	}
	return fmt.Errorf("decode state: %w", err)
}

// parseFrame reads the first message of p.
func parseFrame(p []byte) (m Message, rest []byte, err error) {
	if len(p) < headSize {
		return nil, nil, errors.New("cut short")
	}
	length, t := int(big.Uint32(p)), Type(p[4])
	if length == 0 || length-1 > maxBody(t) || length > len(p)-headSize+1 {
		return nil, nil, fmt.Errorf("message of type %d: bad length %d", t, length)
	}
	end := headSize + length - 1
	m, err = parse(t, p[headSize:end])
	return m, p[end:], err
}
