package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
)

// lengthSize is the length before each message.
const lengthSize = 4

// envelope is a message as it stands on the wire.
type envelope struct {
	_    struct{} `cbor:",toarray"`
	Type Type
	Body cbor.RawMessage
}

var (
	encoding = mustEncoding()
	strict   = mustDecoding(cbor.ExtraDecErrorUnknownField)
	lenient  = mustDecoding(cbor.ExtraDecErrorNone)
)

func mustEncoding() cbor.EncMode {
	o := cbor.CoreDetEncOptions()
	o.NilContainers = cbor.NilContainerAsEmpty
	mode, err := o.EncMode()
	if err != nil {
		panic("session: internal error: " + err.Error())
	}
	return mode
}

func mustDecoding(extra cbor.ExtraDecErrorCond) cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		MaxNestedLevels:   8,
		MaxArrayElements:  maxList,
		MaxMapPairs:       maxList,
		ExtraReturnErrors: extra,
	}.DecMode()
	if err != nil {
		panic("session: internal error: " + err.Error())
	}
	return mode
}

// Encode gives the one encoding of m, without the length before it. It refuses what Decode
// would refuse.
func Encode(m Message) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.Type(), err)
	}
	body, err := encoding.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.Type(), err)
	}
	data, err := encoding.Marshal(envelope{Type: m.Type(), Body: body})
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.Type(), err)
	}
	if len(data) > MaxMessage {
		return nil, fmt.Errorf("encode %s: %d bytes are too many", m.Type(), len(data))
	}
	return data, nil
}

// Decode gives the message that data holds, a value of one of the types of the catalogue.
func Decode(data []byte) (Message, error) {
	if len(data) > MaxMessage {
		return nil, fmt.Errorf("decode message: %d bytes are too many", len(data))
	}
	var e envelope
	if err := strict.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("decode message: %w", err)
	}
	m, err := decodeBody(e)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", e.Type, err)
	}
	if e.Type == TypeHello {
		return m, nil
	}
	// One encoding only: this also finds missing keys and byte strings of a wrong length.
	if again, err := Encode(m); err != nil || !bytes.Equal(again, data) {
		return nil, fmt.Errorf("decode %s: not the deterministic encoding", e.Type)
	}
	return m, nil
}

func decodeBody(e envelope) (Message, error) {
	switch e.Type {
	case TypeHello:
		return decodeHello(e.Body)
	case TypeRekey:
		return decodeAs[Rekey](e.Body)
	case TypeRekeyReply:
		return decodeAs[RekeyReply](e.Body)
	case TypeRekeyDone:
		return decodeAs[RekeyDone](e.Body)
	case TypeReiv:
		return decodeAs[Reiv](e.Body)
	case TypeReivReply:
		return decodeAs[ReivReply](e.Body)
	case TypeReivDone:
		return decodeAs[ReivDone](e.Body)
	case TypeAbort:
		return decodeAs[Abort](e.Body)
	case TypePing:
		return decodeAs[Ping](e.Body)
	case TypePong:
		return decodeAs[Pong](e.Body)
	case TypeShutdown:
		return decodeAs[Shutdown](e.Body)
	case TypeClose:
		return decodeAs[Close](e.Body)
	default:
		return nil, errors.New("unknown type")
	}
}

func decodeAs[T Message](body []byte) (Message, error) {
	var m T
	if err := strict.Unmarshal(body, &m); err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	return m, nil
}

// decodeHello takes a HELLO with keys of later versions, but with the known ones exactly as
// this version writes them.
func decodeHello(body []byte) (Message, error) {
	var m Hello
	if err := lenient.Unmarshal(body, &m); err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	var got, want map[any]cbor.RawMessage
	known, err := encoding.Marshal(m)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(lenient.Unmarshal(body, &got), lenient.Unmarshal(known, &want)); err != nil {
		return nil, err
	}
	for key, value := range want {
		if !bytes.Equal(got[key], value) {
			return nil, fmt.Errorf("key %v missing or not in its deterministic encoding", key)
		}
	}
	return m, nil
}

// encodeBody gives the bytes of a reply's body, which stand in the REKEY_REPLY and in the
// transcript.
func encodeBody(b ReplyBody) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("encode reply body: %w", err)
	}
	return encoding.Marshal(b)
}

func decodeReplyBody(data []byte) (ReplyBody, error) {
	var b ReplyBody
	if err := strict.Unmarshal(data, &b); err != nil {
		return ReplyBody{}, fmt.Errorf("decode reply body: %w", err)
	}
	again, err := encodeBody(b)
	if err != nil {
		return ReplyBody{}, fmt.Errorf("decode reply body: %w", err)
	}
	if !bytes.Equal(again, data) {
		return ReplyBody{}, errors.New("decode reply body: not the deterministic encoding")
	}
	return b, nil
}

// frame puts the length before a message.
func frame(message []byte) []byte {
	out := make([]byte, 0, lengthSize+len(message))
	out = binary.BigEndian.AppendUint32(out, uint32(len(message)))
	return append(out, message...)
}

// readFrame reads one message, without looking into it. A length that is not allowed is
// refused before a byte is allocated for it.
func readFrame(r io.Reader) ([]byte, error) {
	var length [lengthSize]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n == 0 || n > MaxMessage {
		return nil, &frameError{length: n}
	}
	message := make([]byte, n)
	if _, err := io.ReadFull(r, message); err != nil {
		return nil, err
	}
	return message, nil
}

type frameError struct{ length uint32 }

func (e *frameError) Error() string {
	return fmt.Sprintf("message of %d bytes: not between 1 and %d", e.length, MaxMessage)
}
